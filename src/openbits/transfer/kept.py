"""Which descriptors libcurl has its kept connections under.

libcurl tells of a connection after an exchange, and never when it closes one: its number may be another file's then, so
the inode of the socket is compared before a number is believed.
"""

import os


class Kept:
    """Of one engine; no more than there are descriptors."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int | None]] = {}
        """Local port and inode, by descriptor."""

    def keep(self, descriptor: int, local_port: int) -> None:
        """The connection had an exchange and is open."""
        self._known[descriptor] = local_port, _inode(descriptor)

    def forget(self, local_port: int) -> None:
        """The connection from this port may be closed."""
        self._known = {number: known for number, known in self._known.items() if known[0] != local_port}

    def find(self, local_port: int) -> int | None:
        """The descriptor of the kept connection from this port, None if none is known to be open."""
        for descriptor, (port, inode) in self._known.items():
            if port == local_port and inode is not None and _inode(descriptor) == inode:
                return descriptor
        return None


def _inode(descriptor: int) -> int | None:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None
