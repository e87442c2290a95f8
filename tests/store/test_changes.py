"""Coalescing a batch changes what is written, never what is stored in the end."""

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from openbits.core.model import Identity, Job, JobId
from openbits.store import AppendEvent, Change, ForgetJob, SaveJob, StoredEvent
from openbits.store.changes import coalesce

Stored = dict[JobId, Job]


def carried_out(changes: list[Change], stored: Stored) -> tuple[Stored, list[int]]:
    """What the changes mean, one by one; a save that does not fit is a fault of the batch."""
    stored, events = dict(stored), []
    for change in changes:
        match change:
            case SaveJob(before=before, after=after):
                assert stored.get(after.job_id) == before
                stored[after.job_id] = after
            case ForgetJob(job_id):
                stored.pop(job_id, None)
            case AppendEvent(event):
                events.append(event.seq)
    return stored, events


def job(number: int) -> Job:
    return Job(job_id=UUID(int=number), owner=Identity(uid=1, gid=1), created_at=0.0, modified_at=0.0, state_since=0.0)


@given(
    present=st.sets(st.integers(0, 3)),
    steps=st.lists(st.tuples(st.sampled_from(["save", "forget", "event"]), st.integers(0, 3))),
)
def test_a_coalesced_batch_means_the_same(present: set[int], steps: list[tuple[str, int]]) -> None:
    before = {UUID(int=number): job(number) for number in present}
    stored, batch = dict(before), list[Change]()
    for seq, (kind, number) in enumerate(steps, 1):
        old = stored.get(UUID(int=number))
        if kind == "save":
            stored[UUID(int=number)] = new = replace(old or job(number), notice_seq=seq)
            batch.append(SaveJob(before=old, after=new))
        elif kind == "forget":
            stored.pop(UUID(int=number), None)
            batch.append(ForgetJob(UUID(int=number)))
        else:
            event = StoredEvent(seq=seq, at=0.0, kind="state", job_id=UUID(int=number), owner_uid=1)
            batch.append(AppendEvent(event))

    coalesced = coalesce(batch)

    assert carried_out(coalesced, before) == carried_out(batch, before)
    saved = [change.after.job_id for change in coalesced if isinstance(change, SaveJob)]
    assert len(saved) == len(set(saved))
