"""A server and its client in one process, to be killed: `upload_program.py BASE [POINT PASS]`.

It goes on where the run before it ended: what the client was told is in `BASE/told`, one line per Ack. It dies when
POINT is passed for the PASSth time.
"""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.server.uploading import INBOX, NOT_FOUND, Application, Desk, field

from openbits import failpoints
from openbits.core.packets import Header
from openbits.server.model import Notification, Outcome, Packet, RefusedError

TOTAL, FRAGMENT = 700_000, 300_000
DATA = bytes(number * number % 251 for number in range(1000)) * (TOTAL // 1000)
HOOK = replace(INBOX, notification=Notification.BY_REFERENCE)


class Counting(Application):
    """Notes each call in a file."""

    def __init__(self, calls: Path) -> None:
        super().__init__(Outcome(status=200, has_to_be_copied=True))
        self._calls = calls

    async def notify(self, *arguments: object) -> Outcome:
        outcome = await super().notify(*arguments)  # type: ignore[arg-type]
        note(self._calls, "whole" if self.seen == [DATA] else "broken")
        return outcome


def note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


async def upload(base: Path) -> None:
    """From what the client knows to the Ack of Close."""
    told = base / "told"
    lines = told.read_text().splitlines() if told.exists() else []
    async with Desk(base, HOOK, application=Counting(base / "calls")) as desk:
        if not lines:
            lines = [await desk.create(), "0"]
            note(told, "\n".join(lines))
        offset = int(lines[-1])
        try:
            await go_on(desk, desk.packet(lines[0]), told, offset)
        except RefusedError as refusal:
            if refusal.hresult != NOT_FOUND or offset != TOTAL:  # §5.5: Close after the final Ack: that is a success
                raise


async def go_on(desk: Desk, packet: Packet, told: Path, offset: int) -> None:
    """Fragments from the acknowledged offset, then Close."""
    while offset < TOTAL:
        ack = await desk.send(packet, offset, DATA[offset : offset + FRAGMENT], TOTAL)
        offset = int(field(ack, Header.RECEIVED))
        note(told, str(offset))
    await desk.sessions.close(packet)


def arm(point: str, passes: int) -> None:
    left = passes

    def passed(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(passed)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        arm(sys.argv[2], int(sys.argv[3]))
    asyncio.run(upload(Path(sys.argv[1])))
