"""A manager that was taken over: tries what it can, leaves the report in its store, and ends."""

import ctypes
import json
import os
import socket
import struct
from pathlib import Path

from tests.real.compromised.attempts import TARGETS, call, connected, executed, opened, privileges, tried

from openbits import channel

_IO_URING_SETUP = 425


def run(control: socket.socket) -> None:
    """The report is `report.json` in the folder of the store."""
    configured, _ = channel.receive(control)
    store = configured["store_dir"]
    attempts = {
        "use the store": lambda: opened(f"{store}/made", os.O_RDWR | os.O_CREAT | os.O_TRUNC),
        "read a file that everybody may read": lambda: opened("/etc/passwd"),
        "list processes": lambda: list(Path("/proc").iterdir()),
        "make a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "open a private file of a user": lambda: opened(TARGETS["own_file"]),
        "create in a folder that everybody may write": lambda: opened(TARGETS["new_file"], os.O_WRONLY | os.O_CREAT),
        "write a file that everybody may write": lambda: opened(TARGETS["open_file"], os.O_WRONLY),
        "truncate a file that everybody may write": lambda: os.truncate(TARGETS["open_file"], 0),
        "rename its store": lambda: Path(store, "made").rename(TARGETS["new_file"]),
        "make a link in the store": lambda: Path(store, "link").symlink_to("/etc/passwd"),
        "connect by TCP": connected,
        "make a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "make an IPv6 socket": lambda: socket.socket(socket.AF_INET6).close(),
        "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
        "make a socket to the hypervisor": lambda: socket.socket(socket.AF_VSOCK).close(),
        "make a ring that makes sockets": lambda: call("syscall", _IO_URING_SETUP, 1, ctypes.byref(_ring())),
        "execute a program": executed,
    }
    report = tried({**attempts, **privileges(int(TARGETS["owner_uid"]))})
    Path(store, "report.json").write_text(json.dumps(report))


def _ring() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.calcsize("=30I"))
