"""AsyncClient and AsyncJob: the same service, asked without blocking the loop."""

import asyncio
import contextlib
import gc
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits import AsyncClient, AsyncJob, Client, Job, Outcome
from openbits.api import aio_connection, following, locate
from openbits.api.notifications import ServerCertificate
from openbits.api.wire import JobInfo
from openbits.core import codes
from openbits.core.enums import JobState, Priority, TokenFlags
from openbits.core.errors import BitsError

Test = Callable[[AsyncClient], Awaitable[None]]

NOT_FOR_LOOPS = {
    Client: {"notifier", "connect_again", "open_connection", "rejoin"},
    Job: {"set_subscriber", "set_certificate_subscriber", "open_again"},
}
"""Public names of the blocking classes that serve their threads."""


@pytest.fixture
def run(service: FakeService) -> Callable[[Test], None]:
    """Run a coroutine function with a connected client, on a loop of its own."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with AsyncClient(socket=str(service.path)) as client:
                await asyncio.wait_for(test(client), 30)

        asyncio.run(main())

    return run


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(following, "_LAST_WORDS_SECONDS", 0.1)
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.3)
    monkeypatch.setattr(locate, "_start", lambda _: "not in this test")
    return iter([None])


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the other side is a thread and sets nothing
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("twin", "blocking"), [(AsyncClient, Client), (AsyncJob, Job)])
def test_each_twin_has_every_method_with_the_same_parameters(twin: type, blocking: type) -> None:
    for name in dir(blocking):
        if name.startswith("_") or name in NOT_FOR_LOOPS[blocking]:
            continue
        method, theirs = inspect.getattr_static(blocking, name), inspect.getattr_static(twin, name)
        if isinstance(method, property) and not isinstance(theirs, property):
            assert inspect.iscoroutinefunction(theirs), name
        elif callable(method):
            assert list(inspect.signature(theirs).parameters) == list(inspect.signature(method).parameters), name


def test_a_job_from_creation_to_completion(run: Callable[[Test], None], service: FakeService) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("nightly", priority=Priority.FOREGROUND, auto_complete=False)
        await job.add_file("https://h/a", "/srv/a")
        await job.resume()
        assert await job.state() is JobState.QUEUED
        assert [file["remote_name"] for file in await job.files()] == ["https://h/a"]
        service.change(job.id, state="transferred")
        assert await job.complete() == codes.S_OK
        with pytest.raises(BitsError) as caught:
            await job.suspend()
        assert caught.value.hresult == 0x80200002
        with pytest.raises(BitsError) as caught:
            await client.job(job.id)
        assert caught.value.hresult == 0x80200001

    run(story)


def test_a_job_whose_properties_are_refused_is_cancelled(run: Callable[[Test], None], service: FakeService) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(codes.E_NOTIMPL)

    service.overrides["SetProperties"] = refuse

    async def story(client: AsyncClient) -> None:
        with pytest.raises(BitsError):
            await client.create_job("x", auto_complete=True)
        assert [job["state"] for job in service.jobs.values()] == ["cancelled"]

    run(story)


def test_a_token_travels_with_the_calls_of_the_task_that_impersonates_it(
    run: Callable[[Test], None], service: FakeService
) -> None:
    service.passwords["backup"] = "pw"

    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        entered, other_done = asyncio.Event(), asyncio.Event()

        async def impersonating() -> None:
            with await client.logon_user("backup", "pw") as token, token.impersonate():
                assert (await client.token_info(token))["name"] == "backup"
                entered.set()
                await other_done.wait()
                await job.set_helper_token()

        async def other() -> None:
            await entered.wait()
            await client.create_job("mine")
            other_done.set()

        await asyncio.gather(impersonating(), other())
        await job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
        assert (await job.info())["helper_name"] == "backup"

    run(story)
    by_method = {call.method: call.token for call in service.calls}
    assert (by_method["CreateJob"], by_method["SetHelperToken"]) == (None, "backup")


def test_a_cancelled_call_leaves_the_connection_to_the_others(
    run: Callable[[Test], None], service: FakeService
) -> None:
    gate = threading.Event()

    def slow(_: Values) -> Values:
        gate.wait(10)
        return {"job": {"state": "late"}}

    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        service.overrides["GetJob"] = slow
        asked = asyncio.ensure_future(job.info())
        await eventually(lambda: service.methods()[-1] == "GetJob")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        del service.overrides["GetJob"]
        following_call = asyncio.ensure_future(job.info())
        gate.set()
        assert (await following_call)["state"] == "suspended"

    run(story)


def test_a_dropped_answer_closes_its_descriptors(run: Callable[[Test], None], service: FakeService) -> None:
    gate = threading.Event()
    service.passwords["backup"] = "pw"

    async def story(client: AsyncClient) -> None:
        before = open_descriptors()

        def slow(_: Values) -> Values:
            gate.wait(10)
            return {"token": 0, "descriptors": [os.memfd_create("token")]}

        service.overrides["OpenProcessToken"] = slow
        asked = asyncio.ensure_future(client.open_process_token())
        await eventually(lambda: service.methods()[-1:] == ["OpenProcessToken"])
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        gate.set()
        await client.job_infos()
        assert open_descriptors() <= before + 1  # the fake service keeps its own copy

    run(story)


def test_calls_of_many_tasks_get_their_own_answers(run: Callable[[Test], None]) -> None:
    async def story(client: AsyncClient) -> None:
        jobs = await asyncio.gather(*(client.create_job(f"job {number}") for number in range(50)))
        infos = await asyncio.gather(*(job.info() for job in jobs))
        assert [info["properties"]["display_name"] for info in infos] == [f"job {number}" for number in range(50)]

    run(story)


def test_a_request_larger_than_the_socket_buffer_is_sent_whole(run: Callable[[Test], None]) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        pairs = [(f"https://h/{'u' * 500}{number}", f"/srv/{number}") for number in range(1000)]
        await asyncio.gather(job.add_files(pairs), job.info())
        assert len(await job.files()) == 1000
        with pytest.raises(BitsError, match="the limit is 1048576") as caught:
            await job.add_files(pairs * 2)
        assert caught.value.hresult == codes.E_INVALIDARG

    run(story)


def test_who_reads_events_slowly_is_not_flooded(
    run: Callable[[Test], None], service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_connection, "MAX_UNREAD_REPLIES", 4)

    def emit(job_id: str) -> None:
        for number in range(9000):
            service.emit({"kind": "changed", "job_id": job_id, "state": str(number)})

    async def story(client: AsyncClient) -> None:
        job_id = service.add_job("x")
        async with await client.events() as events:
            emitter = threading.Thread(target=emit, args=(job_id,))
            emitter.start()
            await eventually(lambda: events._replies.is_full)
            assert not events._connection._is_reading
            for number in range(9000):
                event = await events.next(5)
                assert event is not None
                assert event.get("state") == str(number)
            assert await events.next(0.01) is None
            emitter.join()

    run(story)


def test_waiting_outlasts_a_restart(run: Callable[[Test], None], service: FakeService) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x", auto_complete=True)
        waiting = asyncio.ensure_future(job.wait(20))
        await eventually(lambda: service.methods().count("Subscribe") == 1)
        service.disconnect()
        await eventually(lambda: service.methods().count("Subscribe") == 2)
        service.change(job.id, state="acknowledged")
        assert await waiting is Outcome.ACKNOWLEDGED

    run(story)


def test_a_job_that_ended_while_nobody_answered_is_found_in_the_events(
    run: Callable[[Test], None], service: FakeService
) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x", auto_complete=True)
        waiting = asyncio.ensure_future(job.wait(20))
        await eventually(lambda: service.methods().count("Subscribe") == 1)
        await eventually(lambda: service.methods()[-1] == "GetJob")
        with service.silence():
            service.change(job.id, state="acknowledged")
            service.emit({"kind": "removed", "job_id": str(job.id), "state": "acknowledged"})
        assert await waiting is Outcome.ACKNOWLEDGED

    run(story)


def test_waiting_ends_with_its_time(run: Callable[[Test], None]) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        assert await job.wait(0.05) is Outcome.TIMEOUT

    run(story)


def test_a_hundred_waits_go_on_at_once(run: Callable[[Test], None], service: FakeService) -> None:
    """More than any pool of threads would carry."""

    async def story(client: AsyncClient) -> None:
        jobs = [await client.create_job("x") for _ in range(100)]
        waits = [asyncio.ensure_future(job.wait(20)) for job in jobs]
        await eventually(lambda: service.methods().count("Subscribe") == 100)
        for job in jobs:
            service.change(job.id, state="error")
        assert set(await asyncio.gather(*waits)) == {Outcome.ERROR}

    run(story)


def test_a_coroutine_is_called_until_it_takes_the_notice(run: Callable[[Test], None], service: FakeService) -> None:
    async def story(client: AsyncClient) -> None:
        seen: list[str] = []

        async def callback(job: AsyncJob, info: JobInfo) -> None:
            assert info["state"] == "transferred"
            seen.append((await job.info())["state"])
            if len(seen) == 1:
                raise ValueError("not now")

        job = await client.create_job("x")
        await job.notify(callback)
        service.change(job.id, state="transferred")
        service.notice(job.id, "transferred")
        await eventually(lambda: len(service.acknowledged) == 1)
        service.notice(job.id, "transferred")
        await eventually(lambda: len(service.acknowledged) == 2)
        assert seen == ["transferred", "transferred"]
        assert [hresult for _, hresult in service.acknowledged] == [codes.E_FAIL, codes.S_OK]

    run(story)


def test_a_certificate_callback_is_a_coroutine_of_the_loop(run: Callable[[Test], None], service: FakeService) -> None:
    async def story(client: AsyncClient) -> None:
        asked = []

        async def check(certificate: ServerCertificate) -> None:
            await asyncio.sleep(0)
            asked.append(certificate.server)
            if len(asked) == 1:
                raise BitsError(codes.E_ACCESSDENIED, "not this one")

        job = await client.create_job("x")
        await job.set_certificate_callback(check)
        for number in (1, 2):
            service.ask(job.id, number, "h:443", b"leaf", [])
        await eventually(lambda: len(service.certificate_answers) == 2)
        assert service.certificate_answers == [(1, codes.E_ACCESSDENIED), (2, codes.S_OK)]
        await job.set_certificate_callback(None)
        assert service.certificate_targets == {}

    run(story)


def test_a_lost_service_fails_every_call_under_way(run: Callable[[Test], None], service: FakeService) -> None:
    def go_away(_: Values) -> Values:
        service.disconnect()
        return {}

    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        service.overrides["GetJob"] = go_away
        results = await asyncio.gather(*(job.info() for _ in range(3)), return_exceptions=True)
        assert {type(result).__name__ for result in results} == {"ConnectionLostError"}
        assert client.is_closed

    run(story)


def test_a_handle_is_let_go_with_its_job(run: Callable[[Test], None], service: FakeService) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.create_job("x")
        del job
        gc.collect()
        await client.job_infos()
        assert "ReleaseJob" in service.methods()

    run(story)


def test_nobody_there_is_said_as_in_the_blocking_client(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(socket=str(tmp_path / "none.sock")):
            pass

    with pytest.raises(BitsError, match=r"cannot reach the service at .*none\.sock") as caught:
        asyncio.run(story())
    assert caught.value.hresult == codes.RPC_S_SERVER_UNAVAILABLE
