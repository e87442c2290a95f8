"""What a small file holds, as a sealed copy in memory: GetReplyData gives it to a client (jobs.md §7.4).

A descriptor of the file itself would show what somebody writes into it later; and who waits for the contents of a
file on a slow or stopped file system is its own broker, not the manager.
"""

import fcntl
import os

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_copy(descriptor: int, most: int) -> tuple[int, int | None]:
    """Size of the file, and descriptor of the copy; None if the file has more than `most` bytes. Raises OSError."""
    size = os.fstat(descriptor).st_size
    if size > most:
        return size, None
    memory = os.memfd_create("snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        done = 0
        while piece := os.pread(descriptor, most - done, done):
            done += os.pwrite(memory, piece, done)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memory)
        raise
    return done, memory
