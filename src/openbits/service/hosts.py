"""Servers that want to be left alone for a while: what one job was told holds for all of its network identity.

Values in, values out; `now` is the boot clock. In memory alone: after a restart each server is asked once more
(reliability.md §5 row 56).

1. A server that answers 429 or 503 is not asked before the time that it asks for. If it names none it is asked ever
   less often: from the first 429 on, but of 503, which may concern one file alone, from the fifth in a row.
2. A server that cannot be reached again and again is left alone, too.
3. Nothing of this holds for another identity: a user could keep a server from the others by having it refuse him, or
   see whom they ask (P9). For another uid the way may be open, and the server may mean one client alone.
4. Only what was asked directly counts: what a proxy answers, a user may have made up. An answer that is accepted ends
   all of it. Who resumes a job that waits for this asks the server all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError

MOST_SECONDS: Final = 300.0
"""Longest time between two questions to a server that says nothing about time."""

TOLERATED: Final = 4
"""So many failures in a row are none of our business: jobs try again with delays of their own."""

MOST_PEERS: Final = 1024
"""So many servers are remembered of one identity."""

_ASKING: Final = frozenset({codes.HTTP_STATUS_429, codes.BG_E_HTTP_ERROR_503})
_UNREACHED: Final = frozenset({codes.ERROR_WINHTTP_CANNOT_CONNECT, codes.ERROR_WINHTTP_NAME_NOT_RESOLVED})


class HeldBackError(BitsError):
    """The server is not asked now. `wait_seconds`: for how long."""

    def __init__(self, hresult: int, text: str, wait_seconds: float) -> None:
        super().__init__(hresult, text, context=codes.lookup(hresult).context or ErrorContext.GENERAL_TRANSPORT)
        self.wait_seconds = wait_seconds


@dataclass(slots=True)
class Hold:
    """What an identity was told by a server: `failures` in a row, and to leave it alone until `until`."""

    failures: int = 0
    hresult: int = 0
    until: float = 0.0


class Hosts:
    """All that was heard from servers. `peer`: scheme, host and port."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._holds: dict[tuple[str, int], Hold] = {}

    def check(self, peer: str, uid: int) -> None:
        """Raises HeldBackError if the server is to be left alone by this identity now."""
        now, hold = self._now(), self._holds.get((peer, uid))
        if hold is None or hold.until <= now:
            return
        why = "asked for time" if hold.hresult in _ASKING else f"could not be reached {hold.failures} times in a row"
        raise HeldBackError(hold.hresult, f"it was not asked now, because it {why}", hold.until - now)

    def failed(self, peer: str, uid: int, hresult: int, retry_after_seconds: float | None) -> None:
        """An attempt of this identity failed; of what says nothing about the server nothing is kept."""
        if not peer or hresult not in _ASKING | _UNREACHED:
            return
        hold = self._remembered(peer, uid)
        hold.failures = hold.failures + 1 if hold.hresult == hresult else 1
        hold.hresult = hresult
        doublings = hold.failures - 1 - (0 if hresult == codes.HTTP_STATUS_429 else TOLERATED)
        silence = 0.0 if doublings < 0 else min(2.0 ** min(doublings, 10), MOST_SECONDS)
        hold.until = self._now() + (silence if retry_after_seconds is None else retry_after_seconds)

    def answered(self, peer: str, uid: int) -> None:
        """The server answered this identity as it should."""
        self._holds.pop((peer, uid), None)

    def _remembered(self, peer: str, uid: int) -> Hold:
        """What is known of the server; what was heard first makes room, of the same identity."""
        own = [key for key in self._holds if key[1] == uid]
        if (peer, uid) not in self._holds and len(own) >= MOST_PEERS:
            del self._holds[own[0]]
        return self._holds.setdefault((peer, uid), Hold())
