"""The network worker with checkpoints every few hundredths of a second: many of them in files of a second."""

from openbits.transfer import sink, worker
from openbits.transfer.worker import run

__all__ = ["run"]

sink.SYNC_SECONDS = 0.05
worker.TICK_SECONDS = 0.03  # type: ignore[misc]
