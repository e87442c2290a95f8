"""One input at a time: what a target may not do is raise another error, or take a second of CPU time."""

import signal
from typing import Final, NoReturn

from tests.fuzz.targets import Target

HANG_SECONDS: Final = 1.0
"""Of CPU time: what others do on the machine does not count."""


class HangError(Exception):
    """An input kept the CPU busy for too long."""


def _hung(_number: int, _frame: object) -> NoReturn:
    raise HangError(f"more than {HANG_SECONDS:g} s of CPU time")


def play(target: Target, data: bytes) -> None:
    """Raises whatever the target may not raise, and HangError. For the main thread."""
    before = signal.signal(signal.SIGPROF, _hung)
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    try:
        target.run(data)
    except target.errors:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
