"""What the fault tests have in common: jobs created as their owner, watched and driven as the administrator."""

import contextlib
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User, _add_user, _remove_user
from tests.real.conftest import Service, Site, run_as

from openbits.api.wire import ErrorInfo, FileInfo, JobInfo

Pair = tuple[str, Path]


@contextlib.contextmanager
def running_service(config: str = "", policies: str = "") -> Iterator[Service]:
    """A service of the machine's kind for all tests of a module."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    made = Service(folder, 0)
    made.configure(config)
    made.set_policies(policies)
    made.start()
    try:
        yield made
    finally:
        try:
            made.close()
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def real_user() -> Iterator[User]:
    """An account for all tests of a module; nobody can log on as it."""
    user = _add_user(None, ())
    try:
        yield user
    finally:
        _remove_user(user.name, user.uid)


def cancel_all(service: Service) -> None:
    """Leave no job to the next test: one that is active would hold the slot of all."""
    with service.client() as client:
        for job in client.jobs(all_users=True):
            job.cancel()


class Job:
    """A job of a user, seen by root: every call is a connection of its own, so it outlasts any restart."""

    def __init__(self, service: Service, job_id: str) -> None:
        self.service = service
        self.id = job_id

    def info(self) -> JobInfo:
        with self.service.client() as client:
            return client.job(self.id).info()

    @property
    def state(self) -> str:
        return self.info()["state"]

    @property
    def error(self) -> ErrorInfo:
        error = self.info()["error"]
        assert error is not None, f"job {self.id} has no error"
        return error

    @property
    def code(self) -> tuple[str, int, str]:
        """State, code and context of a job that failed, from one look."""
        info = self.info()
        error = info["error"]
        assert error is not None, f"job {self.id} is {info['state']} and has no error"
        return info["state"], error["hresult"], error["context"]

    def files(self) -> list[FileInfo]:
        with self.service.client() as client:
            return client.job(self.id).files()

    def suspend(self) -> None:
        with self.service.client() as client:
            client.job(self.id).suspend()

    def resume(self) -> None:
        with self.service.client() as client:
            client.job(self.id).resume()

    def cancel(self) -> int:
        with self.service.client() as client:
            return client.job(self.id).cancel()

    def complete(self) -> int:
        with self.service.client() as client:
            return client.job(self.id).complete()

    def set(self, **properties: object) -> None:
        with self.service.client() as client:
            client.job(self.id).set(**properties)

    def is_gone(self) -> bool:
        """True if it is not in the queue any more."""
        with self.service.client() as client:
            return self.id not in {info["job_id"] for info in client.job_infos(all_users=True)}

    def reaches(self, *states: str, seconds: float = 15) -> JobInfo:
        """Wait for one of the states; fails with what the job says instead."""
        deadline = time.monotonic() + seconds
        while (info := self.info())["state"] not in states:
            if time.monotonic() > deadline:
                error = info["error"]
                pytest.fail(f"{info['state']} instead of {states} after {seconds} s: {error and error['message']}")
            time.sleep(0.01)
        return info

    def saves(self, size: int, seconds: float = 15) -> None:
        """Wait until so many bytes of the files are committed as being on the disk."""
        deadline = time.monotonic() + seconds
        query = "SELECT sum(transferred_bytes) FROM files JOIN jobs ON files.job = jobs.id WHERE jobs.job_id = ?"
        with contextlib.closing(sqlite3.connect(self.service.state / "queue" / "queue.db")) as store:
            while (store.execute(query, (self.id,)).fetchone()[0] or 0) < size:  # NULL before the first commit
                assert time.monotonic() < deadline, f"{size} bytes were not saved"
                time.sleep(0.01)

    def receives(self, size: int, seconds: float = 15) -> None:
        """Wait until so many bytes are in the temporary file."""
        deadline = time.monotonic() + seconds
        while self.info()["bytes_transferred"] < size:
            assert time.monotonic() < deadline, f"{self.info()['bytes_transferred']} bytes instead of {size}"
            time.sleep(0.01)


def create(service: Service, user: Any, pairs: Iterable[Pair], *, is_resumed: bool = True, **properties: Any) -> Job:
    """A job of `user`."""

    def as_owner() -> str:
        with service.client() as client:
            job = client.create_job("story", **properties)
            job.add_files(pairs)
            if is_resumed:
                job.resume()
            return str(job.id)

    return Job(service, run_as(user, as_owner))


def transferred(service: Service, site: Site, user: Any, folder: Path) -> Job:
    """A job of ten small files, `0` to `9`, that waits for Complete."""
    url = site.put("/file", secrets.token_bytes(20_000))
    job = create(service, user, [(url, folder / str(number)) for number in range(10)])
    job.reaches("transferred")
    return job


def names(folder: Path) -> list[str]:
    """What is in the folder."""
    return sorted(path.name for path in folder.iterdir())


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
