"""The enumerators: snapshots of a list with a position (jobs.md §7.10)."""

from collections.abc import Sequence
from typing import Generic, Self, TypeVar

from openbits.com.unknown import IUnknown, number
from openbits.core import codes

Item = TypeVar("Item")


class Snapshot(IUnknown, Generic[Item]):
    """What all enumerators do. The set of items is that of the moment it was made; the items' values are live."""

    def __init__(self, items: Sequence[Item], position: int = 0) -> None:
        self._items = tuple(items)
        self._position = position

    def Next(self, celt: int) -> list[Item]:
        """Up to `celt` items; fewer at the end."""
        found = self._items[self._position : self._position + number(celt, "celt")]
        self._position += len(found)
        return list(found)

    def Skip(self, celt: int) -> int:
        """Pass over `celt` items: S_OK, or S_FALSE if fewer were left."""
        left = len(self._items) - self._position
        self._position += min(number(celt, "celt"), left)
        return codes.S_OK if celt <= left else codes.S_FALSE

    def Reset(self) -> int:
        """Back to the start of the same snapshot."""
        self._position = 0
        return codes.S_OK

    def Clone(self) -> Self:
        """An independent copy at the same position."""
        return type(self)(self._items, self._position)

    def GetCount(self) -> int:
        """How many items the snapshot has, not how many are left."""
        return len(self._items)
