"""ExplainProxy from both clients: as the caller, and as a job."""

import asyncio

from tests.api.fakeservice import FakeService

import openbits


def asked(service: FakeService) -> list[dict[str, object]]:
    return [dict(call.parameters) for call in service.calls if call.method == "ExplainProxy"]


def test_the_caller_asks_for_himself_and_for_a_job(service: FakeService) -> None:
    job_id = service.add_job("nightly")
    with openbits.Client() as client:
        assert client.explain_proxy("http://h/a")["choice"] == ["direct"]
        assert client.job(job_id).explain_proxy("http://h/b")["url"] == "http://h/b"
    mine, of_job = asked(service)
    assert mine == {"url": "http://h/a"}
    assert (of_job["url"], "handle" in of_job) == ("http://h/b", True)


def test_the_asyncio_twin_asks_the_same(service: FakeService) -> None:
    job_id = service.add_job("nightly")

    async def run() -> list[str]:
        async with openbits.AsyncClient() as client:
            mine = await client.explain_proxy("http://h/a")
            of_job = await (await client.job(job_id)).explain_proxy("http://h/b")
            return [mine["url"], of_job["url"]]

    assert asyncio.run(run()) == ["http://h/a", "http://h/b"]
    mine, of_job = asked(service)
    assert ("handle" in mine, "handle" in of_job) == (False, True)
