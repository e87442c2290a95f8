"""The varlink framing without I/O: requests to bytes, bytes and descriptors to replies, replies to answers.

The blocking and the asyncio connection share it. Received descriptors belong to whoever takes the message; those
nobody can own are closed at once.
"""

import array
import json
import socket
from typing import Any

from openbits.api.wire import FAILED, INTERFACE, MAX_MESSAGE_BYTES
from openbits.channel import MAX_DESCRIPTORS, close_all, descriptors_in
from openbits.core import codes
from openbits.core.errors import BitsError

Parameters = dict[str, Any]

CHUNK_BYTES = 64 * 1024
RIGHTS_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)

_STANDARD_ERRORS = {
    "org.varlink.service.InvalidParameter": codes.E_INVALIDARG,
    "org.varlink.service.PermissionDenied": codes.E_ACCESSDENIED,
    "org.varlink.service.MethodNotFound": codes.E_NOTIMPL,
    "org.varlink.service.MethodNotImplemented": codes.E_NOTIMPL,
}


class BrokenPeerError(Exception):
    """The other end does not keep to the protocol, or has gone; the text completes "the connection ended: …"."""


class Frames:
    """Collects what was received and cuts it into messages. What belongs to an unfinished one stays."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._searched = 0

    def feed(self, data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        """One result of recvmsg. Raises BrokenPeerError at its end and for too many descriptors."""
        self._descriptors += descriptors_in(ancillary)
        if not data:
            raise BrokenPeerError("the service ended the connection")
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > MAX_DESCRIPTORS:
            raise BrokenPeerError(f"it sent more than {MAX_DESCRIPTORS} descriptors")
        self._buffer += data

    def next(self) -> tuple[Parameters, list[int]] | None:
        """The next whole message and its descriptors; None if it is not here yet. Raises BrokenPeerError."""
        end = self._buffer.find(b"\0", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_MESSAGE_BYTES:
                raise BrokenPeerError(f"it sent a message above the limit of {MAX_MESSAGE_BYTES} bytes")
            return None
        data = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        descriptors, self._descriptors = self._descriptors, []
        try:
            message = json.loads(data)
        except (ValueError, RecursionError) as error:
            close_all(descriptors)
            raise BrokenPeerError(f"it sent a malformed message ({error})") from error
        if not isinstance(message, dict):
            close_all(descriptors)
            raise BrokenPeerError("it sent a message that is not an object")
        return message, descriptors

    def close(self) -> None:
        """Close the descriptors of a message that will never be whole."""
        close_all(self._descriptors)
        self._descriptors = []


def request(method: str, parameters: Parameters | None, *, has_more: bool = False) -> bytes:
    """A call as bytes; `has_more` asks for several replies. Raises E_INVALIDARG above the limit of a message."""
    message: Parameters = {"method": f"{INTERFACE}.{method}", "parameters": parameters or {}}
    if has_more:
        message["more"] = True
    data = json.dumps(message, separators=(",", ":")).encode() + b"\0"
    if len(data) > MAX_MESSAGE_BYTES:
        raise BitsError(
            codes.E_INVALIDARG,
            f"cannot send {len(data)} bytes in one call: the limit is {MAX_MESSAGE_BYTES}; use several calls",
        )
    return data


def answer(reply: Parameters, received: list[int], *, wants_descriptors: bool = True) -> Parameters:
    """The parameters of a reply; an error reply is raised as BitsError. Descriptors nobody wants are closed."""
    error = reply.get("error")
    parameters: Parameters = reply.get("parameters") or {}
    if error is None and wants_descriptors:
        return parameters
    close_all(received)
    if error is None:
        return parameters
    if error == FAILED and isinstance(parameters.get("hresult"), int):
        raise BitsError(parameters["hresult"] & 0xFFFFFFFF, str(parameters.get("message", "")))
    detail = ", ".join(f"{name} {value}" for name, value in parameters.items())
    raise BitsError(
        _STANDARD_ERRORS.get(str(error), codes.E_FAIL), f"the service refused the call: {error} {detail}".rstrip()
    )


def continues(reply: Parameters) -> bool:
    """True if more replies to the same call follow."""
    return reply.get("continues") is True
