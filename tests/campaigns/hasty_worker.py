"""The network worker for files of a second: many checkpoints, and several connections for one of them if asked for."""

from openbits.transfer import http, pieces, sink, worker
from openbits.transfer.worker import run

__all__ = ["run"]

sink.SYNC_SECONDS = 0.05
worker.TICK_SECONDS = 0.03  # type: ignore[misc]
http.SEGMENTED_BYTES = 200_000
pieces.SEGMENT_BYTES = 50_000  # type: ignore[misc]
