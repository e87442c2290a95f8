"""A hostile file system in user space: an empty directory of one user, in which every answer may be a lie or missing.

Spoken to the kernel directly (/dev/fuse), since all that is needed is to answer a few requests, and to keep silent.
"""

import ctypes
import errno
import itertools
import os
import select
import stat
import struct
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

LOOKUP, GETATTR, SETATTR, UNLINK, OPEN, WRITE, STATFS, RELEASE, FSYNC = 1, 3, 4, 10, 14, 16, 17, 18, 20
FLUSH, INIT, FSYNCDIR, CREATE, RENAME2 = 25, 26, 30, 35, 45
_WITHOUT_ANSWER = {2, 36, 42}
"""FORGET, INTERRUPT, BATCH_FORGET."""
_ACKNOWLEDGED = {UNLINK, RENAME2, RELEASE, FSYNC, FSYNCDIR, FLUSH}
_STATISTICS = struct.pack("=5Q10I", *[1 << 20] * 5, 4096, 255, 4096, *[0] * 7)
_ROOT, _FILE = 1, 2
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2

_libc = ctypes.CDLL(None, use_errno=True)


class Fuse:
    """Serves one mount on a thread. Requests of the kinds `silent` are never answered.

    A file that is created there takes all bytes and forgets them, and has another inode number at every look.
    """

    def __init__(self, uid: int, silent: AbstractSet[int]) -> None:
        self.seen: list[int] = []
        """Opcodes of all requests."""
        self._uid, self._silent = uid, silent
        self._inodes = itertools.count(1000)
        self._has_file = False
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def mount(self, place: Path) -> None:
        """As root, for everybody."""
        options = f"fd={self._device},rootmode=40000,user_id={self._uid},group_id={self._uid},allow_other"
        _check(_libc.mount(b"hostile", bytes(place), b"fuse", _MS_NOSUID | _MS_NODEV, options.encode()))
        self._thread.start()

    def unmount(self, place: Path) -> None:
        """Whoever waits for an answer gets an error."""
        _check(_libc.umount2(bytes(place), _MNT_DETACH))
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._device)
        os.close(self._wake)

    def _serve(self) -> None:
        poller = select.poll()
        for descriptor in (self._device, self._wake):
            poller.register(descriptor, select.POLLIN)
        while self._wake not in [descriptor for descriptor, _ in poller.poll()]:
            try:
                request = os.read(self._device, 1 << 17)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ENOENT:  # whoever asked has gone
                    continue
                return
            _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
            self.seen.append(opcode)
            if opcode not in self._silent | _WITHOUT_ANSWER:
                self._reply(unique, self._answer(opcode, node, request[40:]))

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        if opcode == INIT:
            return struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 0, 0, 0, *[0] * 7)
        if opcode == LOOKUP:
            return self._entry() if self._has_file else errno.ENOENT
        if opcode in {GETATTR, SETATTR}:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(node)
        if opcode in {CREATE, OPEN}:
            opened = struct.pack("=QII", 7, 0, 0)
            self._has_file = True
            return self._entry() + opened if opcode == CREATE else opened
        if opcode in {UNLINK, RENAME2}:
            self._has_file = False
        written = struct.unpack_from("=QQI", body)[2] if opcode == WRITE else 0
        fixed = {WRITE: struct.pack("=II", written, 0), STATFS: _STATISTICS}
        return fixed.get(opcode, b"" if opcode in _ACKNOWLEDGED else errno.ENOSYS)

    def _entry(self) -> bytes:
        return struct.pack("=4Q2I", _FILE, 1, 0, 0, 0, 0) + self._attributes(_FILE)

    def _attributes(self, node: int) -> bytes:
        is_root = node == _ROOT
        mode = stat.S_IFDIR | 0o700 if is_root else stat.S_IFREG | 0o600
        inode = 1 if is_root else next(self._inodes)
        return struct.pack("=6Q10I", inode, *[0] * 5, 0, 0, 0, mode, 1, self._uid, self._uid, 0, 4096, 0)

    def _reply(self, unique: int, answer: bytes | int) -> None:
        payload, error = (answer, 0) if isinstance(answer, bytes) else (b"", -answer)
        try:
            os.write(self._device, struct.pack("=IiQ", 16 + len(payload), error, unique) + payload)
        except OSError:  # whoever asked has gone
            return


@contextmanager
def mounted(place: Path, uid: int, silent: AbstractSet[int] = frozenset()) -> Iterator[Fuse]:
    """The file system at `place`, which belongs to `uid`."""
    fuse = Fuse(uid, silent)
    fuse.mount(place)
    try:
        yield fuse
    finally:
        fuse.unmount(place)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
