"""The power is cut at every failpoint of the server: what the kernel had not written is gone (§5.4, §6, §9.5).

The disk is a real ext4 that is shut down as by a power cut; what it had by then is mounted anew, and the machine counts
as started anew. What the client was told lasts: an Ack of the final fragment means that nothing has to be sent again.
"""

import fcntl
import os
import shutil
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.points import SERVER_POINTS
from tests.server.upload_program import DATA, FRAGMENT, HOOK, TOTAL
from tests.server.uploading import INBOX, NOT_FOUND, Application, Desk, field, story

from openbits import failpoints
from openbits.core.packets import Header
from openbits.server import receiving
from openbits.server.model import Commit, Outcome, RefusedError

pytestmark = pytest.mark.root

MEBIBYTE = 1024 * 1024
A_DAY_SECONDS = 86_400
REPLY = b"thank you\n" * 1000
DIRECTORIES = {"final": INBOX, "close": replace(INBOX, commit=Commit.CLOSE), "application": HOOK}

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_AS_BY_A_POWER_CUT = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH


class Machine:
    """A disk that the power can be cut of, and is there again as it was then."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.starts = 0
        self.is_on = False
        self._image = base / "image-0"
        with self._image.open("wb") as image:
            image.truncate(16 * MEBIBYTE)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", str(self._image)], check=True)

    @property
    def disk(self) -> Path:
        """Where the file system is now."""
        return self.base / f"disk-{self.starts}"

    def start(self) -> None:
        self.starts += 1
        self.disk.mkdir()
        subprocess.run(["mount", "-o", "loop", str(self._image), self.disk], check=True)
        self.is_on = True
        with suppress(sqlite3.OperationalError), closing(self._records()) as records:
            records.execute("UPDATE boot SET boot_id = 'an earlier one'")
            records.commit()

    def cut_power(self) -> None:
        """Nothing reaches the disk from now on."""
        folder = os.open(self.disk, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _AS_BY_A_POWER_CUT))
        os.close(folder)
        self.is_on = False
        before, self._image = self._image, self.base / f"image-{self.starts}"
        shutil.copyfile(before, self._image)

    def close(self) -> None:
        for number in range(1, self.starts + 1):
            subprocess.run(["umount", "--lazy", self.base / f"disk-{number}"], check=True)

    def _records(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.disk}/spool/sessions.db?mode=rw", uri=True)


class Client:
    """Knows what it was told while the machine was on."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.session_id = ""
        self.offset = 0
        self.has_heard_of_reply = False

    async def upload(self, desk: Desk) -> None:
        """From what it knows to the final Ack."""
        while self.offset < TOTAL:
            if not self.session_id:
                session_id = await desk.create()
                self._listen()
                self.session_id, self.offset = session_id, 0
            first = self.offset
            try:
                ack = await desk.send(desk.packet(self.session_id), first, DATA[first : first + FRAGMENT], TOTAL)
            except RefusedError as refusal:
                self._listen()
                if refusal.hresult == NOT_FOUND:
                    self.session_id = ""
                elif refusal.status == 416:
                    self.offset = refusal.received or 0
                else:
                    raise
            else:
                self._listen()
                self.offset = int(field(ack, Header.RECEIVED))
                self.has_heard_of_reply = Header.REPLY_URL in dict(ack.fields)

    async def close(self, desk: Desk) -> None:
        """§5.5: after the final Ack a session that is not there is one that was closed."""
        try:
            await desk.sessions.close(desk.packet(self.session_id))
        except RefusedError as refusal:
            if refusal.hresult != NOT_FOUND:
                raise

    def _listen(self) -> None:
        """What is said without power nobody hears."""
        if not self._machine.is_on:
            raise ConnectionResetError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(receiving, "SYNC_BYTES", FRAGMENT // 2)
    machine = Machine(tmp_path)
    machine.start()
    yield machine
    failpoints.arm(lambda _name: None)
    machine.close()


def desk_on(machine: Machine, kind: str) -> Desk:
    application = Application(Outcome(status=200, has_to_be_copied=True, has_reply=True), reply=REPLY)
    return Desk(machine.disk, DIRECTORIES[kind], application=application)


async def until_the_power_is_cut(machine: Machine, kind: str, client: Client) -> None:
    """Upload and close; if it was not cut before, it is now."""
    desk = desk_on(machine, kind)
    with suppress(RefusedError, OSError):
        await client.upload(desk)
        await client.close(desk)
    if machine.is_on:
        machine.cut_power()
    with suppress(Exception):
        await desk.sessions.stop()


@pytest.mark.parametrize("kind", DIRECTORIES)
@pytest.mark.parametrize("point", SERVER_POINTS)
@story
async def test_s6_after_a_power_cut_the_client_goes_on(machine: Machine, point: str, kind: str) -> None:
    client = Client(machine)

    def cut(passed: str) -> None:
        if passed == point and machine.starts == 1 and machine.is_on:
            machine.cut_power()

    failpoints.arm(cut)
    await until_the_power_is_cut(machine, kind, client)
    was_told_all = client.offset == TOTAL
    machine.start()
    async with desk_on(machine, kind) as desk:
        published = desk.inbox / "a.bin"
        assert published.exists() is False or published.read_bytes() == DATA
        if was_told_all and kind != "close":
            assert published.exists()
        await client.upload(desk)
        await client.close(desk)
        assert published.read_bytes() == DATA
        assert [path.name for path in desk.inbox.iterdir()] == ["a.bin"]
        await desk.sessions.clean_up(time.time() + A_DAY_SECONDS)  # of a session that was forgotten files may be there
        assert (published.stat().st_nlink, desk.spooled, desk.sessions.count) == (1, [], 0)


@pytest.mark.parametrize("kind", DIRECTORIES)
@story
async def test_s6_what_the_final_ack_has_told_is_there_after_a_power_cut(machine: Machine, kind: str) -> None:
    client = Client(machine)
    desk = desk_on(machine, kind)
    await client.upload(desk)
    machine.cut_power()
    with suppress(Exception):
        await desk.sessions.stop()
    machine.start()
    async with desk_on(machine, kind) as desk:
        if client.has_heard_of_reply:
            packet = desk.packet(client.session_id)
            reply = await desk.sessions.open_reply(desk.directory, client.session_id, packet.user)
            assert os.pread(reply.descriptor, len(REPLY) + 1, 0) == REPLY
            os.close(reply.descriptor)
        await desk.sessions.close(desk.packet(client.session_id))
        assert (desk.inbox / "a.bin").read_bytes() == DATA
