"""A manager that was taken over: has programs run as users who are not there, writes down what came of it, and ends."""

import json
import os
import socket
from pathlib import Path

from tests.real.compromised.attempts import TARGETS

from openbits import channel, commandline
from openbits.channel import Message

PROGRAM = "/usr/bin/touch"


def run(control: socket.socket) -> None:
    """The report is `report.json` in the folder of the store."""
    configured, _ = channel.receive(control)
    attempt = Attempts(control, str(TARGETS["job_id"]), int(TARGETS["uid"]))
    set_one, own = f"touch {TARGETS['folder']}/allowed", f"touch {TARGETS['folder']}/foreign"
    report = {
        "the command that was set": attempt.to_run(set_one, told=set_one),
        "another program": attempt.to_run(set_one, told=set_one, program="/bin/true"),
        "other parameters": attempt.to_run(own, told=own),
        "another text for the recorded name": attempt.to_run(set_one, told=own),
        "the command as another user": attempt.to_run(set_one, told=set_one, uid=int(TARGETS["other_uid"])),
        "the command as root": attempt.to_run(set_one, told=set_one, uid=0),
        "a new command without a connection": attempt.to_record(own),
    }
    Path(configured["store_dir"], "report.json").write_text(json.dumps(report))
    os._exit(1)


class Attempts:
    """Requests to the spawner and to what it starts."""

    def __init__(self, control: socket.socket, job_id: str, uid: int) -> None:
        self._control, self._job_id, self._uid = control, job_id, uid

    def to_run(self, recorded: str, *, told: str, program: str = PROGRAM, uid: int | None = None) -> str:
        """Start a runner for the command with these parameters, and tell it others: the first word of what came."""
        name = commandline.name(self._job_id, program, recorded)
        answer, descriptors = self._ask("start", program="notify", uid=self._uid if uid is None else uid, command=name)
        if not answer["ok"]:
            return str(answer["refused"])
        with socket.socket(fileno=descriptors[0]) as runner:
            channel.receive(runner)
            channel.send(runner, {"op": "run", "job_id": self._job_id, "program": program, "parameters": told})
            first, _ = channel.receive(runner)
            if first["event"] == "started":
                channel.receive(runner)
            return str(first["event"])

    def to_record(self, parameters: str) -> str:
        """Have a new command recorded."""
        name = commandline.name(self._job_id, PROGRAM, parameters)
        return str(self._ask("allow-command", uid=self._uid, command=name, by="1")[0]["refused"])

    def _ask(self, op: str, **fields: object) -> tuple[Message, list[int]]:
        channel.send(self._control, {"op": op, "id": 1, **fields})
        return channel.receive(self._control)
