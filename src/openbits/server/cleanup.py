"""The clean-up of directories (upload-protocol.md §11): when it is due, and one run of it in bounded steps.

A run ends expired sessions, the most recent ones above a user's limit, tombstones, and what the spool has of no
session. It never touches published files, nor a session that somebody asks about at the moment.
"""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from openbits.server.entries import Entries
from openbits.server.model import CleanupUnits, Directory
from openbits.server.storage import Storage
from openbits.server.store import BATCH, Store

DEFAULT_PERIOD_SECONDS: Final = 12 * 3600
ORPHAN_SECONDS: Final = 3600
"""What the spool has of no session is left alone for so long."""

_SECONDS: Final[Mapping[CleanupUnits, int]] = {
    CleanupUnits.MINUTES: 60,
    CleanupUnits.HOURS: 3600,
    CleanupUnits.DAYS: 86_400,
}


def period_seconds(directory: Directory) -> float:
    """The time between two runs for a directory."""
    if directory.cleanup_use_default:
        return DEFAULT_PERIOD_SECONDS
    return _SECONDS[directory.cleanup_units] * directory.cleanup_count


class Schedule:
    """When each directory was cleaned last, in this run of the server."""

    def __init__(self) -> None:
        self._cleaned_at: dict[str, float] = {}

    def due(self, directories: Mapping[str, Directory], now: float) -> list[Directory]:
        """Those whose period is over, and those that were never cleaned; they count as cleaned from now on."""
        due = [one for one in directories.values() if self._is_due(one, now)]
        self._cleaned_at |= dict.fromkeys((one.url_path for one in due), now)
        return due

    def _is_due(self, directory: Directory, now: float) -> bool:
        cleaned_at = self._cleaned_at.get(directory.url_path)
        return cleaned_at is None or now >= cleaned_at + period_seconds(directory)


async def clean(directory: Directory, store: Store, entries: Entries, now: float) -> int:
    """End the expired and the surplus sessions of a directory; how many these were."""
    ended = await _until_none(
        lambda: store.expired(directory.url_path, now - directory.session_timeout_seconds), entries
    )
    if directory.session_limit_enable:
        ended += await _until_none(lambda: store.excess(directory.url_path, directory.session_limit), entries)
    return ended


async def sweep(store: Store, storage: Storage, entries: Entries, now: float) -> None:
    """Remove old tombstones, and what the spool has of no session."""
    await store.forget_tombstones(now)
    found = storage.entries(now - ORPHAN_SECONDS)
    while names := await entries.in_thread(lambda: list(itertools.islice(found, BATCH))):
        await entries.retire(await store.unknown(names))


async def _until_none(find: Callable[[], Awaitable[list[str]]], entries: Entries) -> int:
    """Stops where all that is found is in use: the next run will find it."""
    ended = 0
    while (found := await find()) and (gone := await entries.retire(found)):
        ended += gone
    return ended
