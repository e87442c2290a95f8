"""How much of a file the next fragment of an upload carries (upload-protocol.md §7.4).

Values in, values out. The size grows while the server takes fragments quickly, falls when it does not, and never goes
beyond what the server once refused as too large.
"""

from typing import Final

LEAST_BYTES: Final = 5 * 1024

FIRST_BYTES: Final = 256 * 1024

MOST_BYTES: Final = 13 * 1024 * 1024

QUICK_SECONDS: Final = 2.0
"""A fragment that took less is followed by one of twice its size; a limited rate may fill so much time with one."""

SLOW_SECONDS: Final = 10.0


class FragmentSizes:
    """The sizes of one upload, over all its attempts."""

    def __init__(self) -> None:
        self._size = FIRST_BYTES
        self._ceiling = MOST_BYTES

    def next(self, remaining: int, budget_bytes: int | None) -> int:
        """Of the next fragment, if so much is left; `budget_bytes`: what a limited rate lets through meanwhile."""
        size = self._size if budget_bytes is None else min(self._size, max(budget_bytes, LEAST_BYTES))
        return min(size, remaining)

    def took(self, length: int, seconds: float) -> None:
        """A fragment of this length was acknowledged after so long; the rest of a file says little about sizes."""
        if seconds > SLOW_SECONDS:
            self.broke()
        elif seconds < QUICK_SECONDS and length >= self._size:
            self._size = min(2 * self._size, self._ceiling)

    def broke(self) -> None:
        """A fragment was too slow, or got no answer at all."""
        self._size = max(self._size // 2, LEAST_BYTES)

    def refused(self, length: int) -> bool:
        """The server does not take so much at once (413); False: there is nothing smaller to try."""
        if length <= LEAST_BYTES:
            return False
        self._ceiling = self._size = max(length // 2, LEAST_BYTES)
        return True

    def forget_ceiling(self) -> None:
        """It was that of another session."""
        self._ceiling = MOST_BYTES
