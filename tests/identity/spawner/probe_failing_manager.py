"""A manager that cannot serve."""

import socket

from openbits import channel


def run(control: socket.socket) -> None:
    """Say so instead of `ready`."""
    channel.receive(control)
    channel.send(control, {"op": "failed", "id": 0, "text": "cannot open the store in /x: no space"})
    control.recv(1)
