"""The one thread that commits, so that the manager's loop never waits for the disk.

What was submitted while a commit ran becomes the next one, as a single transaction: one sync serves everybody who
waits. Futures complete in the order of the submissions, after the commit that holds them, in the writer's thread; their
callbacks must be cheap (`asyncio.wrap_future` is). A failed commit fails its whole batch and everything submitted
later: memory is ahead of the store then, and only a new start brings them together again.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from openbits.failpoints import failpoint
from openbits.store.changes import Change, StoreError


class Committer(Protocol):
    """What the writer needs of a store."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Carry out all changes durably or none of them."""


@dataclass(frozen=True, slots=True)
class _Submission:
    changes: tuple[Change, ...]
    done: Future[None] = field(default_factory=Future)


class Writer:
    """Commits to one store until it is closed or a commit fails."""

    def __init__(self, store: Committer) -> None:
        self._store = store
        self._waiting: list[_Submission] = []
        self._refusal: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        """Have the changes committed; the future is done when they are on the disk, or holds the StoreError.

        It cannot be cancelled: whoever stops waiting has submitted all the same.
        """
        submission = _Submission(tuple(changes))
        submission.done.set_running_or_notify_cancel()
        with self._changed:
            refusal = self._refusal
            if refusal is None:
                self._waiting.append(submission)
                self._changed.notify()
        if refusal is not None:
            submission.done.set_exception(refusal)
        return submission.done

    def close(self) -> None:
        """Commit what waits, then end the thread; later submissions fail. Twice is no error."""
        with self._changed:
            self._refusal = self._refusal or StoreError("cannot write the store: it is closed; start the service again")
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._store.commit([change for submission in batch for change in submission.changes])
            except Exception as error:  # noqa: BLE001  # also a broken invariant must reach those who wait
                self._fail(batch, error)
            else:
                for submission in batch:
                    submission.done.set_result(None)
                    failpoint("store.submission-answered")

    def _next_batch(self) -> list[_Submission]:
        """Everything that waits; empty when closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._refusal)
            batch, self._waiting = self._waiting, []
        failpoint("store.batch-taken")
        return batch

    def _fail(self, batch: list[_Submission], error: Exception) -> None:
        with self._changed:
            self._refusal = error
            batch += self._waiting
            self._waiting = []
        for submission in batch:
            submission.done.set_exception(error)
