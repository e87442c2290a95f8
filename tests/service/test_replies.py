"""GetReplyData: which identity reads the reply, and what its caller hears when it cannot (jobs.md §7.4, OPEN-23)."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from openbits.core import codes
from openbits.core.enums import ErrorContext, JobState, JobType, Priority, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.model import Directory, Identity, Job, ReplyFile, Temporary
from openbits.service import replies
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.record import Record, Shelf
from openbits.service.spawner_link import Held, Token
from openbits.service.spawner_link import Record as TokenRecord

ALICE, BOB = Identity(uid=1000, gid=1000), Identity(uid=1001, gid=1001)
CALLER = "the caller's connection"
HERE = Directory(path="/srv", dev=1, ino=2)
MIB = 1 << 20


class FakeBroker:
    """Gives what the test put there."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, int]] = []
        self.answer: tuple[int, int | None] | Exception = (0, None)

    async def snapshot(self, _directory: Directory, source: object, most: int) -> tuple[int, int | None]:
        self.asked.append((source, most))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class FakeChildren:
    """One broker for whoever is asked for."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.identities: list[tuple[int, object]] = []

    async def with_broker(self, uid: int, by: object, act: Callable[[Broker], Awaitable[Any]]) -> Any:
        self.identities.append((uid, by))
        return await act(cast("Broker", self.broker))


@pytest.fixture
def children() -> FakeChildren:
    return FakeChildren()


def a_temporary(uid: int = ALICE.uid, *, by_helper: bool = False) -> Temporary:
    return Temporary(name=".BIT00000001.tmp", dev=1, ino=3, birth_ns=4, uid=uid, by_helper=by_helper)


PUBLISHED = replace(a_temporary(), name="answer")


def a_record(state: JobState = JobState.TRANSFERRED, **reply: Any) -> Record:
    file = ReplyFile(local_name="/srv/answer", directory=HERE, name="answer", **{"size_bytes": 5, **reply})
    job = Job(
        job_id=uuid.uuid4(),
        type=JobType.UPLOAD_REPLY,
        state=state,
        owner=ALICE,
        created_at=0.0,
        modified_at=0.0,
        state_since=0.0,
        reply=file,
    )
    record = Record(Shelf(lambda _: job), 1, job.job_id, ALICE.uid, state, Priority.NORMAL)
    record.job = job
    return record


def read(record: Record, children: FakeChildren) -> int | None:
    return asyncio.run(replies.read(record, CALLER, cast("Children", children)))


def refusal(record: Record, children: FakeChildren) -> BitsError:
    with pytest.raises(BitsError) as caught:
        read(record, children)
    return caught.value


def test_before_complete_the_maker_reads_the_temporary(children: FakeChildren) -> None:
    children.broker.answer = (5, 77)
    record = a_record(temporary=a_temporary())
    assert read(record, children) == 77
    assert children.identities == [(ALICE.uid, CALLER)]
    assert children.broker.asked == [(a_temporary(), MIB)]


def test_after_complete_the_owner_reads_the_file(children: FakeChildren) -> None:
    children.broker.answer = (5, 77)
    assert read(a_record(JobState.ACKNOWLEDGED, is_published=True, published=PUBLISHED), children) == 77
    assert children.broker.asked == [(PUBLISHED, MIB)]
    assert children.identities == [(ALICE.uid, CALLER)]


def with_helper(record: Record) -> Record:
    token = Token(TokenRecord(cookie="9", identity=BOB), Held(os.open("/dev/null", os.O_RDONLY)))
    record.helper_token = token
    return record


def test_what_the_helper_made_is_read_by_the_helper(children: FakeChildren) -> None:
    record = with_helper(a_record(temporary=a_temporary(BOB.uid, by_helper=True)))
    children.broker.answer = (5, 77)
    assert read(record, children) == 77
    published = with_helper(a_record(JobState.ACKNOWLEDGED, is_published=True, published=PUBLISHED))
    published.job = replace(published.job, helper_token_flags=TokenFlags.LOCAL_FILE)
    assert read(published, children) == 77
    for each in (record, published):
        each.drop_token()
    assert read(published, children) == 77, "the token went with the job, and the kernel decides about the owner"
    assert children.identities == [(BOB.uid, "9"), (BOB.uid, "9"), (ALICE.uid, CALLER)]


def test_without_the_helper_nobody_reads_it(children: FakeChildren) -> None:
    error = refusal(a_record(temporary=a_temporary(BOB.uid, by_helper=True)), children)
    assert (error.hresult, error.context) == (codes.BG_E_TOKEN_REQUIRED, ErrorContext.LOCAL_FILE)
    assert children.identities == []


def test_no_file_no_data(children: FakeChildren) -> None:
    assert read(a_record(size_bytes=None), children) is None
    assert children.identities == []


def test_the_service_does_not_ask_in_a_state_without_a_reply(children: FakeChildren) -> None:
    error = refusal(a_record(JobState.TRANSFERRING, temporary=a_temporary()), children)
    assert (error.hresult, children.identities) == (0x80200002, [])


def test_a_file_that_has_grown_too_large_is_refused_with_its_size(children: FakeChildren) -> None:
    children.broker.answer = (MIB + 1, None)
    error = refusal(a_record(JobState.ACKNOWLEDGED, is_published=True, published=PUBLISHED), children)
    assert error.hresult == 0x80200020
    assert str(MIB + 1) in error.text


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (BrokerError({"errno": 13, "step": "read", "subject": "/srv/answer", "text": "cannot read"}), 0x80070005),
        (BrokerError({"errno": 2, "step": "read", "subject": "/srv/answer", "text": "cannot read"}), 0x80070002),
        (ChildLostError("the broker ended"), None),
    ],
)
def test_why_it_cannot_be_read_is_told(failure: Exception, code: int | None, children: FakeChildren) -> None:
    children.broker.answer = failure
    record = a_record(JobState.ACKNOWLEDGED, is_published=True, published=PUBLISHED)
    error = refusal(record, children)
    assert error.text.startswith("cannot read the reply of ")
    assert str(record.job.job_id) in error.text
    assert error.context is ErrorContext.LOCAL_FILE
    assert code in {None, error.hresult}
