"""Named points at which a test may have a process die: `failpoint("store.committed")`.

Nothing happens there in production: no setting, variable or message reaches this module. A point is passed in silence
unless a test program has called `arm` in this very process or in the one that it was forked from. Standard library
only; what must hold after a death at each point is the table of `tests/campaigns/points.py`.
"""

from collections.abc import Callable

_passed: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Pass the point `name`, which is unique in the sources."""
    if _passed is not None:
        _passed(name)


def arm(passed: Callable[[str], None]) -> None:
    """Call `passed` with the name of every point from now on: for test programs alone; it may not return."""
    global _passed  # noqa: PLW0603  # one per process is the point
    _passed = passed
