"""A network worker that was taken over: tries what it can, and writes what came of it into the file it was handed."""

import json
import mmap
import os
import socket
from pathlib import Path

from tests.real.compromised.attempts import TARGETS, connected, executed, linked, opened, privileges, tried

from openbits import channel


def run(control: socket.socket) -> None:
    """Answer every transfer with a report as the body of the file."""
    while True:
        try:
            order, descriptors = channel.receive(control)
        except channel.ChannelClosedError:
            return
        if order["op"] != "transfer":
            channel.close_all(descriptors)
            continue
        (descriptor,) = descriptors
        body = report(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, body, 0)
        os.close(descriptor)
        about = {"transfer": order["transfer"], "size_bytes": len(body)}
        head = {"etag": None, "last_modified": None, "media_type": None, "offset": 0, "note": ""}
        way = {"headers": "", "peer": "", "remote_name": ""}
        channel.send(control, {"event": "connected", **about, **head, **way})
        channel.send(control, {"event": "transferred", **about, "modified_at": None})


def report(descriptor: int) -> bytes:
    """Identity, environment, and the outcome of every attempt."""
    itself = f"/proc/self/fd/{descriptor}"
    folder, uid = TARGETS["owner_folder"], int(TARGETS["owner_uid"])
    with_descriptor = {
        "truncate": lambda: os.ftruncate(descriptor, 0),
        "write": lambda: os.pwrite(descriptor, b"x", 0),
        "ask for the size": lambda: os.fstat(descriptor),
        "sync": lambda: os.fdatasync(descriptor),
        "read": lambda: os.pread(descriptor, 1, 0),
        "map": lambda: mmap.mmap(descriptor, 1, prot=mmap.PROT_READ),
        "change the mode": lambda: os.fchmod(descriptor, 0o777),
        "change the owner": lambda: os.fchown(descriptor, os.getuid(), os.getgid()),
        "set times": lambda: os.utime(descriptor, (1, 1)),
        "set an attribute": lambda: os.setxattr(descriptor, "user.x", b"x"),
        "reopen to read": lambda: opened(itself),
        "reopen to write": lambda: opened(itself, os.O_WRONLY),
        "give it another name": lambda: linked(descriptor, f"{folder}/name"),
    }
    with_paths = {
        "open the owner's file": lambda: opened(f"{folder}/private"),
        "list the owner's folder": lambda: list(Path(folder).iterdir()),
        "create in the owner's folder": lambda: opened(f"{folder}/new", os.O_WRONLY | os.O_CREAT),
        "remove the owner's file": lambda: Path(folder, "private").unlink(),
        "open a file of its own user": lambda: opened(TARGETS["own_file"]),
        "create in a folder that everybody may write": lambda: opened(TARGETS["new_file"], os.O_WRONLY | os.O_CREAT),
        "open the store": lambda: opened(TARGETS["store"]),
        "read name-service files": lambda: opened("/etc/nsswitch.conf"),
        "connect by TCP": connected,
        "execute a program": executed,
    }
    results = tried({**with_descriptor, **with_paths, **privileges(uid)})
    about = {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "environ": sorted(os.environ)}
    return json.dumps({"results": results, **about}).encode()
