"""The certificate callback of a job: who is asked, what is asked again, what happens without one (jobs.md §9.8)."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from tests.service.noticebench import NoticeBench, heard

from openbits.core import codes, events
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.service import certificate_checks
from openbits.service.certificate_checks import CertificateChecks, refusal
from openbits.service.events import Subscriber
from openbits.service.record import Record

REQUIRED = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED

Story = Callable[[NoticeBench, CertificateChecks], Awaitable[None]]


def run(story: Story) -> None:
    """Tell a story with a bench of its own."""

    async def main() -> None:
        bench = NoticeBench()
        async with asyncio.timeout(10):
            await story(bench, CertificateChecks(bench.engine))

    asyncio.run(main())


async def checked(bench: NoticeBench, checks: CertificateChecks, sees: int | None = None) -> tuple[Record, Subscriber]:
    """A suspended job with a callback."""
    record, ear = bench.job(), bench.subscriber()
    await choose(bench, checks, record, ear, sees)
    return record, ear


async def choose(
    bench: NoticeBench, checks: CertificateChecks, record: Record, ear: Subscriber | None, sees: int | None = None
) -> None:
    setting = asyncio.ensure_future(checks.set(record, ear, sees))
    await bench.commits()
    await setting


async def asked(
    bench: NoticeBench, checks: CertificateChecks, record: Record, server: str = "h:443", certificate: bytes = b"leaf"
) -> "asyncio.Task[int]":
    asking = asyncio.ensure_future(checks.ask(record, 0, server, certificate, [b"ca"]))
    await bench.settle()
    return asking


def question(ear: Subscriber) -> int:
    (event,) = heard(ear)
    given = event["question"]
    assert event["kind"] == "certificate"
    assert given is not None
    return given["number"]


def test_the_callback_is_asked_with_the_certificate_and_its_code_is_the_answer() -> None:
    """V2."""

    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        (event,) = heard(ear)
        assert event["job_id"] == str(record.job_id)
        given = event["question"]
        assert given is not None
        assert (given["server"], given["file_index"]) == ("h:443", 0)
        assert (base64.b64decode(given["certificate"]), base64.b64decode(given["chain"][0])) == (b"leaf", b"ca")
        checks.answer(given["number"], 1000, codes.E_ACCESSDENIED)
        assert await asking == codes.E_ACCESSDENIED

    run(story)


def test_a_success_other_than_s_ok_does_not_accept() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        checks.answer(question(ear), 1000, codes.S_FALSE)
        assert await asking == codes.E_FAIL

    run(story)


def test_what_was_accepted_is_not_asked_again_and_what_was_refused_is() -> None:
    """V4: by server, port and certificate."""

    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        checks.answer(question(ear), 1000, codes.E_FAIL)
        assert await asking == codes.E_FAIL
        asking = await asked(bench, checks, record)
        checks.answer(question(ear), 1000, codes.S_OK)
        assert await asking == codes.S_OK
        assert await (await asked(bench, checks, record)) == codes.S_OK
        assert heard(ear) == []
        for server, certificate in (("h:444", b"leaf"), ("g:443", b"leaf"), ("h:443", b"renewed")):
            asking = await asked(bench, checks, record, server, certificate)
            checks.answer(question(ear), 1000, codes.S_OK)
            assert await asking == codes.S_OK

    run(story)


def test_setting_a_callback_forgets_what_was_accepted() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        number = question(ear)
        await choose(bench, checks, record, ear)
        checks.answer(number, 1000, codes.S_OK)  # to what was asked before
        assert await asking == codes.S_OK
        asking = await asked(bench, checks, record)
        checks.answer(question(ear), 1000, codes.S_OK)
        assert await asking == codes.S_OK

    run(story)


def test_without_somebody_to_ask_the_answer_is_that_one_is_required() -> None:
    """V3: never set since the start, gone before, gone while it was asked."""

    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record = bench.job()
        assert await checks.ask(record, 0, "h:443", b"leaf", []) == REQUIRED
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        question(ear)
        bench.engine.stream.drop(ear)
        checks.gone(ear)
        assert await asking == REQUIRED
        assert await checks.ask(record, 0, "h:443", b"leaf", []) == REQUIRED

    run(story)


def test_one_that_does_not_return_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_checks, "ANSWER_SECONDS", 0.0)

    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        assert await checks.ask(record, 0, "h:443", b"leaf", []) == REQUIRED
        with pytest.raises(BitsError):
            checks.answer(question(ear), 1000, codes.S_OK)
        assert record.certificate_callback is not None
        assert record.certificate_callback.accepted == set()

    run(story)


def test_nobody_answers_for_another_user_or_twice() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        asking = await asked(bench, checks, record)
        number = question(ear)
        for uid, wrong in ((1001, number), (1000, number + 1)):
            with pytest.raises(BitsError) as caught:
                checks.answer(wrong, uid, codes.S_OK)
            assert caught.value.hresult == codes.E_INVALIDARG
        assert not asking.done()
        checks.answer(number, 1000, codes.E_FAIL)
        with pytest.raises(BitsError):
            checks.answer(number, 1000, codes.S_OK)
        assert await asking == codes.E_FAIL

    run(story)


def test_the_callback_of_an_owner_who_lost_the_job_is_not_asked() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks, sees=1000)
        bench.engine.apply(record, events.TakeOwnership(owner=Identity(uid=0, gid=0)))
        await bench.commits()
        assert await checks.ask(record, 0, "h:443", b"leaf", []) == REQUIRED
        assert [event for event in heard(ear) if event["kind"] == "certificate"] == []

    run(story)


def test_several_files_that_want_to_know_the_same_ask_once() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        first, second, other = [await asked(bench, checks, record, server) for server in ("h:443", "h:443", "g:443")]
        numbers = [event["question"]["number"] for event in heard(ear) if event["question"] is not None]
        assert len(numbers) == 2
        first.cancel()  # its file was stopped; the other one still wants to know
        await bench.settle()
        checks.answer(numbers[0], 1000, codes.S_OK)
        checks.answer(numbers[1], 1000, codes.E_FAIL)
        assert (await second, await other) == (codes.S_OK, codes.E_FAIL)
        assert await (await asked(bench, checks, record)) == codes.S_OK
        assert heard(ear) == []

    run(story)


def test_no_tls_connection_is_made_while_nobody_could_check_it() -> None:
    """V3, V6."""

    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record = bench.job()
        assert refusal(bench.engine, record) is None
        ear = bench.subscriber()
        await choose(bench, checks, record, ear)
        assert refusal(bench.engine, record) is None
        bench.engine.stream.drop(ear)
        refused = refusal(bench.engine, record)
        assert refused is not None
        assert (refused.hresult, refused.context) == (REQUIRED, ErrorContext.SERVER_CERTIFICATE_CALLBACK)
        await choose(bench, checks, record, None)
        assert refusal(bench.engine, record) is None

    run(story)


def test_a_callback_that_is_refused_leaves_the_one_before() -> None:
    async def story(bench: NoticeBench, checks: CertificateChecks) -> None:
        record, ear = await checked(bench, checks)
        bench.engine.apply(record, events.Resume())
        await bench.commits()
        with pytest.raises(BitsError) as caught:
            await checks.set(record, None, None)
        assert caught.value.hresult == codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE
        asking = await asked(bench, checks, record)
        checks.answer(question(ear), 1000, codes.S_OK)
        assert await asking == codes.S_OK

    run(story)
