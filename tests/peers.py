"""Who is at the other end of a loopback connection, by the kernel's word."""

import socket
from pathlib import Path


def uid_of_peer(connection: socket.socket) -> int:
    """Column 8 of /proc/net/tcp for the client's end; -1 if it is gone.

    Both ports count: an earlier connection from the same port to another server may linger there as nobody's.
    """
    ends = [f"0100007F:{port:04X}" for _, port in (connection.getpeername(), connection.getsockname())]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1:3] == ends:
            return int(columns[7])
    return -1
