"""Sends files to clients that download: the answer of `files` as messages of ASGI."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from openbits.core import packets
from openbits.server import files
from openbits.server.access import CHALLENGE
from openbits.server.answers import Send
from openbits.server.log import Entry
from openbits.server.model import RefusedError
from openbits.server.request import Request

METHODS: Final = ("GET", "HEAD")

_TYPE: Final = ("content-type", "application/octet-stream")
"""Of every file: what somebody has uploaded is never shown as a page of this server (§13)."""


async def send(
    request: Request, file: files.OpenFile, entry: Entry, send_message: Send, passed: Callable[[int], Awaitable[None]]
) -> None:
    """Answer with the file, or the range of it. Raises ConnectionError: client gone, file shorter now."""
    answer = files.answer(request.fields, file, now=time.time())
    entry.status = answer.status
    fields = [*answer.fields, ("x-content-type-options", "nosniff")]
    if answer.status != HTTPStatus.NOT_MODIFIED:
        fields += [_TYPE, ("content-length", str(answer.length))]
    await _start(send_message, answer.status, fields)
    left = answer.length if request.method == "GET" else 0
    at = answer.first
    while left:
        piece = await _read(file.descriptor, min(left, files.PIECE_BYTES), at)
        if not piece:
            # The length is promised already; only the end of the connection says that it was wrong.
            raise ConnectionAbortedError("the file has become shorter")
        at, left = at + len(piece), left - len(piece)
        await send_message({"type": "http.response.body", "body": piece, "more_body": True})
        entry.body_bytes += len(piece)
        await passed(len(piece))
    await send_message({"type": "http.response.body", "body": b""})


async def refuse(request: Request, refusal: RefusedError, send_message: Send) -> None:
    """Say no in a word for people."""
    phrase = HTTPStatus(refusal.status).phrase
    body = f"{refusal.status} {phrase}\n".encode()
    fields = [("content-type", "text/plain"), ("content-length", str(len(body)))]
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        fields.append(("www-authenticate", CHALLENGE))
    if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields.append(("allow", ", ".join([*METHODS, packets.METHOD])))
    if refusal.retry_after_seconds is not None:
        fields.append(("retry-after", str(refusal.retry_after_seconds)))
    await _start(send_message, refusal.status, fields)
    await send_message({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


async def _start(send_message: Send, status: int, fields: list[tuple[str, str]]) -> None:
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in fields]
    await send_message({"type": "http.response.start", "status": status, "headers": headers})


async def _read(descriptor: int, length: int, at: int) -> bytes:
    """What the kernel has in memory is read at once; only for the disk a thread waits."""
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], at, os.RWF_NOWAIT)
    except OSError:  # it would have to wait, or the file system cannot say that
        return await asyncio.to_thread(os.pread, descriptor, length, at)
    return bytes(buffer) if count == length else bytes(memoryview(buffer)[:count])
