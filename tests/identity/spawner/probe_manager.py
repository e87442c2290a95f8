"""A manager that hands its channel to the first client: that client, a test, is the manager from then on."""

import json
import socket

from openbits import channel


def run(control: socket.socket) -> None:
    """Wait for a client, give it the channel and what came before, and live until it goes."""
    seen = []
    while True:
        message, descriptors = channel.receive(control)
        seen.append(message)
        if descriptors:
            break
        channel.send(control, {"op": "ready", "id": 0})
    with socket.socket(fileno=descriptors[0]) as client:
        socket.send_fds(client, [json.dumps(seen).encode()], [control.fileno()])
        client.recv(1)
