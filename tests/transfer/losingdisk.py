"""An ext4 file system on a disk that loses what is written to certain places of it, and works well elsewhere."""

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 4096
SIZE_BYTES = 16 * 1024 * 1024

_FIBMAP = 1
_PUNCH_HOLE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class LosingDisk:
    """The file system is at `folder`. Its image is in a memory file system, which has no room for what is missing."""

    def __init__(self, memory: Path, image: Path, folder: Path) -> None:
        self.folder = folder
        self._memory = memory
        self._image = image

    def lost(self, name: str, size: int) -> int:
        """A write-only descriptor of a new file of so many zeros; what replaces them never reaches the disk."""
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.pwrite(descriptor, bytes(size), 0)
        os.fsync(descriptor)
        with self._image.open("r+b") as image:
            for number in range(-(-size // BLOCK_BYTES)):
                (block,) = struct.unpack("I", fcntl.ioctl(descriptor, _FIBMAP, struct.pack("I", number)))
                assert block > 0
                assert _libc.fallocate64(image.fileno(), _PUNCH_HOLE, block * BLOCK_BYTES, BLOCK_BYTES) == 0
        with contextlib.suppress(OSError), (self._memory / f"for {name}").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(BLOCK_BYTES))
        return descriptor


@contextlib.contextmanager
def losing_disk(base: Path) -> Iterator[LosingDisk]:
    """One of SIZE_BYTES in folders of `base`; needs root."""
    memory, folder = base / "memory", base / "disk"
    memory.mkdir()
    folder.mkdir()
    with contextlib.ExitStack() as ending:
        size = f"size={SIZE_BYTES + 2 * 1024 * 1024}"
        _mount(ending, memory, "-t", "tmpfs", "-o", size, "tmpfs")
        image = memory / "image"
        with image.open("wb") as made:
            made.truncate(SIZE_BYTES)
        subprocess.run(
            ["/usr/sbin/mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-E", "nodiscard", image], check=True
        )
        with image.open("r+b") as dense:  # a hole is a place that will be lost
            for offset in range(0, SIZE_BYTES, BLOCK_BYTES):
                os.pwrite(dense.fileno(), os.pread(dense.fileno(), BLOCK_BYTES, offset), offset)
        _mount(ending, folder, "-o", "loop,nodiscard,noinit_itable", str(image))
        yield LosingDisk(memory, image, folder)


def _mount(ending: contextlib.ExitStack, folder: Path, *arguments: str) -> None:
    subprocess.run(["mount", *arguments, folder], check=True)
    ending.callback(lambda: subprocess.run(["umount", "--lazy", folder], check=True))
