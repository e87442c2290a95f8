"""A network worker that was taken over and attacks the manager: what it says of a transfer is what its URL asks for."""

import base64
import itertools
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from openbits import channel
from openbits.channel import Message

_WAY: Message = {"headers": "", "peer": "", "remote_name": ""}
_VERSION: Message = {"size_bytes": 1, "etag": None, "last_modified": None, "media_type": None}
_CONNECTED: Message = {"event": "connected", **_VERSION, "offset": 0, "note": "", **_WAY}
_KIND: Message = {"hresult": 0x80072EE2, "context": "remote_file", "is_transient": False, "is_fatal": False}
_FAILED: Message = {"event": "failed", "detail": "", **_KIND, **_WAY}
_PROGRESSED: Message = {"event": "progressed", "transferred_bytes": 1, "durable_bytes": 1}

LIES: dict[str, Message] = {
    "more-than-a-store-holds": {**_PROGRESSED, "durable_bytes": 2**70},
    "less-than-nothing": {**_PROGRESSED, "durable_bytes": -1},
    "size-of-no-file": {**_CONNECTED, "size_bytes": 2**64},
    "no-field": {"event": "failed"},
    "no-number": {**_FAILED, "retry_after_seconds": float("nan"), "durable_bytes": 0},
    "no-context": {**_FAILED, "context": "_missing_", "retry_after_seconds": None, "durable_bytes": 0},
    "no-certificate": {"event": "certificate", "number": 1, "server": "a:1", "certificate": "%", "chain": []},
    "parts-of-no-file": {"event": "filled", "ranges": [[2**63, 2**63]], "transferred_bytes": 1},
    "no-event": {"event": "done"},
    "no-transfer": {"event": "phase", "text": "x", "transfer": None},
}

_SESSION: Message = {
    "session_id": "{1}",
    "host": "",
    "fallback_seconds": None,
    "host_failed_at": None,
    "is_received": False,
    "reply_url": "",
}
_KNOWN: Message = {"event": "acknowledged", "note": "", "headers": "", "peer": "", "session": _SESSION}
_RECEIVED: Message = {**_KNOWN, "session": {**_SESSION, "is_received": True}, "acknowledged_bytes": 1}
_WHOLE: Message = {"event": "transferred", "size_bytes": 1, "modified_at": None}

UPLOAD_LIES: dict[str, list[Message]] = {
    "more-than-the-file": [{**_KNOWN, "acknowledged_bytes": 2**63 - 1}, {**_WHOLE, "size_bytes": 2**63 - 1}],
    "less-than-a-byte": [{**_KNOWN, "acknowledged_bytes": -1}],
    "session-of-a-kilobyte": [{**_KNOWN, "session": {**_SESSION, "session_id": "x" * 1024}, "acknowledged_bytes": 0}],
    "session-of-two-lines": [{**_KNOWN, "session": {**_SESSION, "session_id": "a\nb"}, "acknowledged_bytes": 0}],
    "host-with-a-path": [{**_KNOWN, "session": {**_SESSION, "host": "a/b"}, "acknowledged_bytes": 0}],
    "reply-of-this-machine": [{**_RECEIVED, "session": {**_RECEIVED["session"], "reply_url": "file:///etc/passwd"}}],
    "whole-without-a-session": [_WHOLE],
    "whole-and-then-not": [_RECEIVED, _WHOLE, {**_KNOWN, "acknowledged_bytes": 0}, {**_KNOWN, "acknowledged_bytes": 0}],
    "whole-twice": [_RECEIVED, _WHOLE, _WHOLE, _RECEIVED],
    "parts-of-an-upload": [_CONNECTED, {"event": "filled", "ranges": [[0, 1]], "transferred_bytes": 1}],
    "begun-again": [_CONNECTED, {"event": "restarted", "reason": "", "hresult": 0}, _PROGRESSED, _WHOLE],
    "no-session-at-all": [_RECEIVED, {**_KNOWN, "session": None, "acknowledged_bytes": 1}, _WHOLE],
}
"""Of an upload, one after the other; the form of some is right."""

_THOUSAND = 1000


def _parts() -> Iterator[Message]:
    """Ever more parts of a file, none beside the other."""
    for first in itertools.count(0, 2 * _THOUSAND):
        parts = [[first + 2 * number + 1, 1] for number in range(_THOUSAND)]
        yield {"event": "filled", "ranges": parts, "transferred_bytes": 1}


def _questions() -> Iterator[Message]:
    """Ever more certificates."""
    for number in itertools.count(1):
        shown = base64.b64encode(str(number).encode()).decode()
        yield {"event": "certificate", "number": number, "server": "a:1", "certificate": shown, "chain": []}


def _acknowledgements() -> Iterator[Message]:
    """Ever another session, each with a note as long as it may be."""
    for number in itertools.count(1):
        session = {**_SESSION, "session_id": f"{{{number}}}"}
        yield {**_KNOWN, "session": session, "acknowledged_bytes": 0, "note": "x" * 20_000}


FLOODS = {
    "acknowledgements": _acknowledgements,
    "phases": lambda: itertools.repeat({"event": "phase", "text": "x"}),
    "parts": _parts,
    "questions": _questions,
}
"""What never ends, and never looks up."""


def run(control: socket.socket) -> None:
    """Lie about every transfer."""
    while True:
        try:
            order, descriptors = channel.receive(control)
            channel.close_all(descriptors)
            if order["op"] == "transfer":
                _lie(control, order)
        except channel.ChannelClosedError:
            return


def _lie(control: socket.socket, order: Any) -> None:
    name = urlsplit(order["url"]).path[1:]
    for lie in FLOODS[name]() if name in FLOODS else UPLOAD_LIES.get(name) or [LIES[name]]:
        channel.send(control, {"transfer": order["transfer"], **lie})
