"""A broker or worker that does what a test asks: open a file, connect, list descriptors and environment."""

import os
import socket
import sys
from pathlib import Path

from openbits import channel
from openbits.channel import Message


def run(control: socket.socket) -> None:
    """Answer until the channel closes."""
    while True:
        try:
            request, descriptors = channel.receive(control)
        except channel.ChannelClosedError:
            return
        channel.close_all(descriptors)
        try:
            answer = answers[request["do"]](request)
        except OSError as error:
            answer = {"errno": error.errno}
        channel.send(control, answer)


def _open(request: Message) -> Message:
    os.close(os.open(request["path"], request["flags"], 0o666))
    return {"errno": 0}


def _rename(request: Message) -> Message:
    Path(request["path"]).rename(request["to"])
    return {"errno": 0}


def _connect(request: Message) -> Message:
    with socket.create_connection(("127.0.0.1", request["port"]), timeout=5):
        return {"errno": 0}


def _look(_: Message) -> Message:
    """What this process has: environment, descriptors that are open, umask, parent."""
    umask = os.umask(0o077)
    descriptors = []
    for descriptor in range(1024):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        descriptors.append(descriptor)
    return {"environ": dict(os.environ), "descriptors": descriptors, "umask": umask, "parent": os.getppid()}


def _carries(request: Message) -> Message:
    return {"errno": 0, "is_carried": request["module"] in sys.modules}


answers = {"carries": _carries, "open": _open, "rename": _rename, "connect": _connect, "look": _look}
