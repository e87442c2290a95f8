"""What Job and AsyncJob ask the service about files, and what they make of the answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FakeService, Values

from openbits.api.aio import AsyncClient
from openbits.api.client import Client, Job

RANGES = [{"offset": 5, "length": 10}, {"offset": 20, "length": None}]

CALLS: dict[str, tuple[tuple[Any, ...], str, Values, Values, Any]] = {
    "set_remote_name": ((1, "http://h/b"), "SetRemoteName", {"file_index": 1, "remote_name": "http://h/b"}, {}, None),
    "replace_remote_prefix": (
        ("http://h/", "http://i/"),
        "ReplaceRemotePrefix",
        {"old_prefix": "http://h/", "new_prefix": "http://i/"},
        {"files_changed": 3},
        3,
    ),
    "set_validation_state": ((0, False), "SetValidationState", {"file_index": 0, "is_valid": False}, {}, None),
    "request_ranges": (
        (0, [(5, 10), (20, None)]),
        "RequestFileRanges",
        {"file_index": 0, "ranges": RANGES},
        {},
        None,
    ),
    "update_download_position": ((2, 7), "UpdateDownloadPosition", {"file_index": 2, "offset": 7}, {}, None),
    "filled_ranges": ((0,), "GetFilledFileRanges", {"file_index": 0}, {"ranges": RANGES}, [(5, 10), (20, None)]),
    "response_headers": (
        (0,),
        "GetResponseHeaders",
        {"file_index": 0},
        {"headers": "HTTP/1.1 200 OK"},
        "HTTP/1.1 200 OK",
    ),
}
"""Method: arguments, what is called with which parameters, what the service answers, what comes back."""


def blocking(client: Client, name: str, *arguments: Any) -> Any:
    return getattr(client.create_job("x"), name)(*arguments)


def awaited(client: Client, name: str, *arguments: Any) -> Any:
    async def story() -> Any:
        async with AsyncClient() as twin:
            return await getattr(await twin.create_job("x"), name)(*arguments)

    assert not client.is_closed
    return asyncio.run(story())


@pytest.mark.parametrize("way", [blocking, awaited])
@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_one_of_the_wire(client: Client, service: FakeService, way: Callable[..., Any], name: str) -> None:
    arguments, method, parameters, answer, result = CALLS[name]
    service.overrides[method] = lambda _: answer
    assert way(client, name, *arguments) == result
    (call,) = [call for call in service.calls if call.method == method]
    assert {key: value for key, value in call.parameters.items() if key != "handle"} == parameters


@pytest.mark.parametrize("way", [blocking, awaited])
def test_a_file_with_ranges_is_one_file_to_add(client: Client, service: FakeService, way: Callable[..., Any]) -> None:
    way(client, "add_file_with_ranges", "http://h/a", "/srv/a", iter([(5, 10), (20, None)]))
    (call,) = [call for call in service.calls if call.method == "AddFiles"]
    assert call.parameters["files"] == [{"remote_name": "http://h/a", "local_name": "/srv/a", "ranges": RANGES}]


def test_without_ranges_it_may_not_pass_for_a_whole_file(client: Client, service: FakeService) -> None:
    job: Job = client.create_job("x")
    job.add_file_with_ranges("http://h/a", "/srv/a", [])
    (call,) = [call for call in service.calls if call.method == "AddFiles"]
    assert call.parameters["files"][0]["ranges"] == []
