"""A file broker that was taken over: resolves like the real one, then tries what it can and reports it as a failure."""

import errno
import json
import os
import socket
from pathlib import Path

from tests.real.compromised.attempts import TARGETS, connected, executed, opened, privileges, tried

from openbits import channel
from openbits.channel import Message
from openbits.identity import broker
from openbits.identity.filecalls import choose_opener


def run(control: socket.socket) -> None:
    """Answer `resolve` as the real broker does, everything else with a report."""
    opener = choose_opener()
    while True:
        try:
            request, _ = channel.receive(control)
        except channel.ChannelClosedError:
            return
        if request["op"] == "resolve" and not request["path"].endswith("attack"):
            channel.send(control, broker.answer(request, opener)[0])
            continue
        failure = {"ok": False, "errno": errno.EACCES, "step": "create", "subject": "attack", "text": report()}
        message: Message = {"reply": request["id"], **failure}
        channel.send(control, message)


def report() -> str:
    """The outcome of every attempt, as JSON between two words."""
    folder, uid = TARGETS["owner_folder"], int(TARGETS["owner_uid"])
    attempts = {
        "use the directory of the job": lambda: opened(f"{TARGETS['job_folder']}/made", os.O_WRONLY | os.O_CREAT),
        "open a file of its own user": lambda: opened(TARGETS["own_file"]),
        "open the private file of another user": lambda: opened(f"{folder}/private"),
        "list the private folder of another user": lambda: list(Path(folder).iterdir()),
        "create in the private folder of another user": lambda: opened(f"{folder}/new", os.O_WRONLY | os.O_CREAT),
        "create in a folder that everybody may write": lambda: opened(TARGETS["new_file"], os.O_WRONLY | os.O_CREAT),
        "read a file that everybody may read": lambda: opened("/etc/passwd"),
        "open the store": lambda: opened(TARGETS["store"]),
        "connect by TCP": connected,
        "execute a program": executed,
    }
    results = tried({**attempts, **privileges(uid)})
    return f"report {json.dumps(results)} end"
