"""The reply methods of Job and AsyncJob (jobs.md §7.4)."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.fakeservice import FakeService, Values

from openbits import AsyncClient, Client
from openbits.core.errors import BitsError

Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, service: FakeService) -> Ask:
    """Call a method of the only job, the one way or the other."""

    def by_thread(method: str, *arguments: object) -> Any:
        with Client(socket=str(service.path)) as client:
            (job,) = client.jobs()
            return getattr(job, method)(*arguments)

    async def in_loop(method: str, *arguments: object) -> Any:
        async with AsyncClient(socket=str(service.path)) as client:
            (job,) = await client.jobs()
            return await getattr(job, method)(*arguments)

    def by_loop(method: str, *arguments: object) -> Any:
        return asyncio.run(in_loop(method, *arguments))

    return by_thread if request.param == "blocking" else by_loop


def test_name_and_progress_are_those_of_the_job(ask: Ask, service: FakeService) -> None:
    reply = {"local_name": "/srv/answer", "bytes_total": None, "bytes_transferred": 0}
    service.add_job("x", type="upload_reply", reply=reply)
    assert ask("reply_file_name") == "/srv/answer"
    assert ask("reply_progress") == (None, 0)
    reply.update(bytes_total=2**40, bytes_transferred=5)
    assert ask("reply_progress") == (2**40, 5)


def test_another_type_has_no_reply(ask: Ask, service: FakeService) -> None:
    job_id = service.add_job("x")
    for method in ("reply_file_name", "reply_progress"):
        with pytest.raises(BitsError, match=f'{job_id} "x" is of type DOWNLOAD and has no reply; ') as caught:
            ask(method)
        assert caught.value.hresult == 0x80004001


def test_the_name_is_sent_with_the_directory_as_we_see_it(ask: Ask, service: FakeService, tmp_path: Path) -> None:
    service.add_job("x", type="upload_reply")
    service.overrides["SetReplyFileName"] = lambda _: {}
    ask("set_reply_file_name", tmp_path / "answer")
    found = tmp_path.stat()
    sent = service.calls[-1].parameters
    assert sent["local_name"] == f"{tmp_path}/answer"
    assert sent["directories"] == {str(tmp_path): {"dev": found.st_dev, "ino": found.st_ino}}
    ask("set_reply_file_name", None)
    assert set(service.calls[-1].parameters) == {"handle"}


@pytest.mark.parametrize("content", [b"", b"answer \0\xff" * 1000])
def test_data_are_read_from_the_descriptor_from_its_start(ask: Ask, service: FakeService, content: bytes) -> None:
    service.add_job("x", type="upload_reply")

    def give(_: Values) -> Values:
        memory = os.memfd_create("reply")
        os.write(memory, content)  # which leaves the offset at its end
        service._keep.append(memory)
        return {"data": 0, "descriptors": [memory]}

    service.overrides["GetReplyData"] = give
    assert ask("reply_data") == content
    assert memory_files() == 1, "that of the service alone is left"


def memory_files() -> int:
    """How many descriptors there are of what `give` made."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += "memfd:reply" in str(link.readlink())
    return count


def test_no_reply_is_no_data(ask: Ask, service: FakeService) -> None:
    service.add_job("x", type="upload_reply")
    service.overrides["GetReplyData"] = lambda _: {"data": None}
    assert ask("reply_data") == b""
