"""Turns: of the transfers of an attempt so many have the network at a time, the others wait in the order they came.

The manager orders files ahead; their turns come here, so nobody waits for a word from it in between. A turn ends with
the last byte: while that is brought to the disk the next transfer begins. What was restarted keeps its turn until it is
ordered anew: its place is before those that wait.

A failure is told after the ends of the files that only wait for the disk: they are whole, and came before it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Begin = Callable[[], None]


@dataclass(slots=True)
class _Line:
    at_a_time: int = 1
    has_failed: bool = False
    moving: set[str] = field(default_factory=set)
    restarted: set[str] = field(default_factory=set)
    saving: set[str] = field(default_factory=set)
    waiting: deque[tuple[str, Begin]] = field(default_factory=deque)
    held_back: list[Begin] = field(default_factory=list)


class Turns:
    """The turns of all attempts; a line is what an attempt is called, a key what a transfer is called."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._line_of: dict[str, _Line] = {}

    def enter(self, name: str, key: str, at_a_time: int, begin: Begin) -> None:
        """Call `begin` when its turn has come, perhaps now; `at_a_time` holds for the line from now on."""
        line = self._lines.setdefault(name, _Line())
        line.at_a_time = at_a_time
        self._line_of[key] = line
        if key in line.restarted:
            line.restarted.discard(key)
            line.waiting.appendleft((key, begin))
        else:
            line.waiting.append((key, begin))
        self._go_on(line)

    def save(self, key: str) -> None:
        """All its bytes have come, and are not on the disk yet."""
        line = self._line_of[key]
        line.moving.discard(key)
        line.saving.add(key)
        self._go_on(line)

    def restart(self, key: str) -> None:
        """It is over and will be ordered anew."""
        line = self._line_of[key]
        line.restarted.add(key)
        self.leave(key)

    def leave(self, key: str) -> None:
        """It is over; it may have left before."""
        line = self._line_of.pop(key, None)
        if line is None:
            return
        if key not in line.moving | line.saving:
            line.waiting = deque(one for one in line.waiting if one[0] != key)
        line.moving.discard(key)
        line.saving.discard(key)
        if not line.saving:
            held_back, line.held_back = line.held_back, []
            for tell in held_back:
                tell()
        self._go_on(line)
        if not (line.moving or line.saving or line.waiting):
            self._lines = {name: one for name, one in self._lines.items() if one is not line}

    def fail(self, key: str, tell: Begin) -> None:
        """It has failed: no other of its line begins. Call `tell` when none waits for the disk, perhaps now."""
        line = self._line_of[key]
        line.has_failed = True
        line.held_back.append(tell)
        self.leave(key)

    @staticmethod
    def _go_on(line: _Line) -> None:
        while line.waiting and len(line.moving) + len(line.restarted) < line.at_a_time and not line.has_failed:
            key, begin = line.waiting.popleft()
            line.moving.add(key)
            begin()
