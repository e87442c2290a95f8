"""How the C library keeps memory in a worker that lives for weeks and meets many servers."""

import ctypes
from typing import Final

LARGE_BYTES: Final = 256 * 1024
"""What is as large has pages of its own, which the kernel has back when it is freed: libcurl's buffer of each pool of
connections. By itself glibc would take such buffers from the heap after the first, and the heap does not shrink behind
whatever small lies above them."""

RESERVE_BYTES: Final = 1024 * 1024
"""Free at the end of the heap before it shrinks: more than is gathered for a write, or it would shrink for each."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""


def give_back() -> None:
    """From now on give large pieces back to the kernel; C libraries without mallopt do as they like."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, RESERVE_BYTES)
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
