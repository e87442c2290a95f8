"""What the kernel knows of a connection that libcurl has: asked by its descriptor, which stays libcurl's."""

import fcntl
import select
import socket
import sys
import termios
from typing import Final

_RECEIVED_AT: Final = 128
"""Where struct tcp_info has tcpi_bytes_received."""


def has_input(descriptor: int | None) -> bool:
    """True if the connection has something to read, or its end."""
    if descriptor is None:
        return False
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in waiting.poll(0))


def read_bytes(descriptor: int) -> int:
    """How many bytes were read from this TCP connection so far. Raises OSError if it is none."""
    received = _received_bytes(descriptor)
    while True:
        waiting = _counted(descriptor, termios.FIONREAD)
        before, received = received, _received_bytes(descriptor)
        if received == before:  # else some came in between
            return received - waiting


def unsent_bytes(descriptor: int) -> int:
    """How many bytes the kernel has taken that the other side's has not. Raises OSError if it is no connection."""
    return _counted(descriptor, termios.TIOCOUTQ)


def _counted(descriptor: int, which: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, which, bytes(4)), sys.byteorder)


def _received_bytes(descriptor: int) -> int:
    """How many bytes came over this TCP connection, whether they were read or not. Raises OSError if it is none."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + 8)
    finally:
        connection.detach()
    return int.from_bytes(information[_RECEIVED_AT:], sys.byteorder)
