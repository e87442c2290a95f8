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
_FAILED: Message = {"event": "failed", "hresult": 0x80072EE2, "context": "remote_file", "detail": "", **_WAY}
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


FLOODS = {
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
    for lie in FLOODS[name]() if name in FLOODS else [LIES[name]]:
        channel.send(control, {"transfer": order["transfer"], **lie})
