"""Messages between the processes of the service: one JSON object per SEQPACKET datagram, with descriptors.

Standard library only: the spawner, which runs as root, reads its control messages with it. A datagram arrives whole
or not at all, so there is no framing to get wrong; the kernel's socket buffer bounds its size. What each pair of
processes says to each other is listed in docs/processes.md.
"""

import array
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MESSAGE_BYTES = 64 * 1024
"""Longest datagram either side sends; a longer one is a broken peer."""

MAX_DESCRIPTORS = 4
"""Most of one message, unless its receiver asked for more."""

Message = dict[str, Any]


class ChannelClosedError(ConnectionError):
    """The peer process is gone, or broke the protocol and is treated as gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of message sockets, close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(message: Message) -> bytes:
    """The datagram of a message. Raises ValueError if it is longer than a channel takes."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MESSAGE_BYTES:
        raise ValueError(f"message of {len(data)} bytes exceeds the channel limit of {MESSAGE_BYTES}")
    return data


def send(channel: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message; the descriptors stay open on this side.

    Raises ChannelClosedError if the peer is gone, BlockingIOError if a non-blocking channel is full.
    """
    send_encoded(channel, encode(message), descriptors)


def send_encoded(channel: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send what `encode` made, as `send` does."""
    ancillary = []
    if descriptors:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)))
    try:
        channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError) as error:
        raise ChannelClosedError("the peer process has ended") from error


def receive(channel: socket.socket, *, most_descriptors: int = MAX_DESCRIPTORS) -> tuple[Message, list[int]]:
    """Receive one message and the descriptors that came with it, which then belong to the caller.

    Raises ChannelClosedError at end of file and on anything that is not one whole JSON object with at most
    `most_descriptors` descriptors; BlockingIOError if a non-blocking channel has nothing.
    """
    space = socket.CMSG_SPACE(most_descriptors * array.array("i").itemsize)
    try:
        data, ancillary, flags, _ = channel.recvmsg(MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError as error:
        raise ChannelClosedError("the peer process has ended") from error
    descriptors = descriptors_in(ancillary)
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(descriptors)
        raise ChannelClosedError("the peer process has ended" if not data else "truncated message")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        close_all(descriptors)
        raise ChannelClosedError(f"malformed message: {error}") from error
    if not isinstance(message, dict):
        close_all(descriptors)
        raise ChannelClosedError("malformed message: not an object")
    return message, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody wants; closed ones are not an error."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """What recvmsg received by SCM_RIGHTS; it belongs to the caller."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
