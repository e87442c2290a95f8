"""The identity registry: what the kernel said of each connection when it was accepted, and the tokens made from it.

Nothing else vouches for an identity, and nothing the manager says changes an entry. Standard library only.
"""

import ctypes
import errno
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from openbits import channel
from openbits.channel import Message

MAX_CONNECTIONS = 64
"""Connections of one uid (identity.md S10)."""
MAX_TOKENS = 512
"""Tokens of one uid."""
MAX_GROUPS = 4096
"""Who has more is not served: a record must fit into a message."""
IMPERSONATE = 3
"""The lowest level at which a token says more than who somebody is (identity.md §8)."""
SO_COOKIE, _SO_PEERGROUPS, _SO_PEERPIDFD = 57, 59, 77
_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """A request of the manager that is not granted: one of the reasons of docs/processes.md and a text."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.answer = {"ok": False, "refused": reason, "text": text}


class Entry(NamedTuple):
    """A connection or token, with the sockets of ours whose far ends make it: one gone, and it has ended.

    A connection has a copy of itself, a token our end of its pair and the channel to the logon helper if there is one.
    """

    record: Message
    ends: tuple[socket.socket, ...]

    @property
    def is_token(self) -> bool:
        """True for a token; only tokens have a level."""
        return "level" in self.record


class Registry:
    """Live connections and tokens by cookie: the SO_COOKIE of the descriptor that the manager or the client holds."""

    def __init__(self, own_uid: int) -> None:
        self._own_uid = own_uid
        self.entries: dict[str, Entry] = {}

    def add_connection(self, connection: socket.socket) -> tuple[str, Entry, list[int]]:
        """Judge and record a new connection; the list has the peer's pidfd, or nothing where the kernel does not tell.

        Raises RefusedError for the 65th of a uid, OSError, also for a peer that has gone already.
        """
        pid, uid, gid = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self._count(uid, MAX_CONNECTIONS, is_token=False)
        record = {"uid": uid, "gid": gid, "groups": _groups(connection), "name": ""}
        process = _peer(connection)
        try:
            record["is_foreign_userns"] = any(_is_foreign(each, pid) for each in process)
        except OSError:
            channel.close_all(process)
            raise
        return *self._add(connection, Entry(record, (connection,))), process

    def add_token(self, record: Message, level: int, *helper: socket.socket) -> tuple[str, Entry, socket.socket]:
        """A new token of the identity of a record, at a level not above its own, and its client end."""
        if not 1 <= level <= record.get("level", 4):
            raise RefusedError(
                "broken", f"cannot make a token of level {level} from one of level {record.get('level')}"
            )
        if len(record["groups"]) > MAX_GROUPS:
            raise RefusedError("broken", f"uid {record['uid']} is in more than {MAX_GROUPS} groups")
        self._count(record["uid"], MAX_TOKENS, is_token=True)
        token = {**{field: record[field] for field in ("uid", "gid", "groups", "name")}, "level": level}
        if record.get("ccache"):  # the ticket cache that the logon has made, or that of the token this one is made of
            token["ccache"] = record["ccache"]
        ours, theirs = channel.pair()
        return *self._add(theirs, Entry(token, (ours, *helper))), theirs

    def find(self, cookie: object) -> Entry:
        """The entry that vouches. Raises RefusedError if there is none, or it is of another user namespace."""
        entry = self.entries.get(cookie) if isinstance(cookie, str) else None
        if entry is None:
            raise RefusedError("unknown-cookie", "the connection or token has ended")
        if entry.record.get("is_foreign_userns"):
            raise RefusedError("unknown-cookie", "a process in another user namespace cannot vouch for an identity")
        return entry

    def voucher(self, cookie: object) -> Message:
        """The record of an entry that lets us act for its uid, which a token that only identifies it does not.

        Raises RefusedError.
        """
        record = self.find(cookie).record
        if record.get("level", IMPERSONATE) < IMPERSONATE:
            raise RefusedError("level-too-low", "a token below level IMPERSONATE lets nobody act for its user")
        return record

    def judge(self, uid: int, by: object, *, is_admitted: bool, has_landlock: bool) -> Message:
        """Whether a child may start under `uid`, vouched for by a cookie or by the admitted entry of `uid`.

        Returns gid and groups (None: those of the account), whether the entry confines it, and the name of the ticket
        cache if it is one of the token; raises RefusedError.
        """
        voucher = None if by is None else self.voucher(by)
        if self._own_uid not in (0, uid):
            raise RefusedError("own-service", f"this service serves uid {self._own_uid} alone")
        if voucher is not None and voucher["uid"] == uid:
            cache = {"ccache": voucher["ccache"]} if "ccache" in voucher else {}
            return {"gid": voucher["gid"], "groups": voucher["groups"], "is_confined": False, **cache}
        if voucher is not None and voucher["uid"] != 0:
            text = f"uid {voucher['uid']} cannot act for uid {uid}; only that uid itself and root can"
            raise RefusedError("not-admitted", text)
        if not is_admitted:
            raise RefusedError("not-admitted", f"uid {uid} is neither connected nor admitted; it must connect once")
        if voucher is None and uid == 0 and not has_landlock:
            raise RefusedError("no-landlock", "jobs of root wait for its next connection: this kernel has no Landlock")
        live: Message = {} if voucher else next(self._connections(uid), {})
        return {"gid": live.get("gid"), "groups": live.get("groups"), "is_confined": voucher is None}

    def _connections(self, uid: int) -> Iterator[Message]:
        records = (entry.record for entry in self.entries.values() if not entry.is_token)
        return (record for record in records if record["uid"] == uid and not record["is_foreign_userns"])

    def _count(self, uid: int, limit: int, *, is_token: bool) -> None:
        if sum(e.is_token == is_token and e.record["uid"] == uid for e in self.entries.values()) >= limit:
            raise RefusedError("broken", f"uid {uid} has {limit} {'tokens' if is_token else 'connections'} already")

    def _add(self, marked: socket.socket, entry: Entry) -> tuple[str, Entry]:
        cookie = str(*struct.unpack("=Q", marked.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)))
        self.entries[cookie] = entry
        return cookie, entry


def _groups(connection: socket.socket) -> list[int]:
    """Supplementary groups of the peer; the call of the standard library stops at 256 (S11)."""
    found, size = (ctypes.c_uint32 * MAX_GROUPS)(), ctypes.c_uint32(4 * MAX_GROUPS)
    arguments = connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, found, ctypes.byref(size)
    if _libc.getsockopt(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "SO_PEERGROUPS")
    return list(found)[: size.value // 4]


def _peer(connection: socket.socket) -> list[int]:
    try:
        return list(struct.unpack("=i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)))
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:  # a kernel before 6.5
            return []
        raise


def _is_foreign(process: int, pid: int) -> bool:
    """True if the peer is provably in another user namespace; one that is not ours to look at is not.

    Raises OSError for one that is gone: nobody knows where those are to whom it left the connection.
    """
    try:
        is_same = Path(f"/proc/{pid}/ns/user").samefile("/proc/self/ns/user")
    except PermissionError:
        return False
    end = select.poll()
    end.register(process, select.POLLIN)
    if end.poll(0):  # perhaps the pid was another's meanwhile
        raise ProcessLookupError(errno.ESRCH, "the peer is gone")
    return not is_same
