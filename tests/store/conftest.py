"""A directory as the spawner makes it, a store in it, and jobs to keep."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from openbits.core.model import Directory, File, Identity, Job
from openbits.store import Store, StoredEvent, open_store


class MakeJob(Protocol):
    """Makes a new job of uid `owner_uid` with so many files."""

    def __call__(self, files: int = 1, *, owner_uid: int = 1000) -> Job: ...


class MakeEvent(Protocol):
    """Makes the event with this number."""

    def __call__(self, seq: int, job: Job) -> StoredEvent: ...


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`queue/` of the state directory."""
    path = tmp_path / "queue"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """A new, empty store."""
    store = open_store(directory)
    store.load()
    yield store
    store.close()


@pytest.fixture
def make_job() -> MakeJob:
    def make(files: int = 1, *, owner_uid: int = 1000) -> Job:
        place = Directory(path="/srv/in", dev=2049, ino=2**64 - 1)
        return Job(
            job_id=uuid.uuid4(),
            owner=Identity(uid=owner_uid, gid=100, groups=(100, 27), name="alice"),
            created_at=1_700_000_000.25,
            modified_at=1_700_000_000.25,
            state_since=1_700_000_000.25,
            files=tuple(
                File(
                    remote_name=f"https://cdn.example/{index}",
                    local_name=f"/srv/in/{index}",
                    directory=place,
                    name=str(index),
                )
                for index in range(files)
            ),
        )

    return make


@pytest.fixture
def make_event() -> MakeEvent:
    def make(seq: int, job: Job) -> StoredEvent:
        return StoredEvent(
            seq=seq,
            at=1_700_000_000.5 + seq,
            kind="state",
            job_id=job.job_id,
            owner_uid=job.owner.uid,
            file_index=None,
            data={"state": "queued", "n": seq},
        )

    return make
