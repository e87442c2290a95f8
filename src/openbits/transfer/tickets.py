"""The Kerberos tickets of a worker: a private cache in its memory, filled by the orders (identity.md §13).

The libraries of Kerberos know the cache by the environment alone, so a process has one: a worker has one identity. The
copy that comes with an order replaces the one before only if it is another; service tickets that were got meanwhile
stay as long as it is the same. Root has no cache of its own here but the keytab of the machine, with which the library
gets tickets by itself, into a cache that ends with the worker.

`owner` reads what a file of tickets says of itself, for messages: format 4 of MIT's file caches, bytes in, values out.
"""

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Final

from openbits.core.wording import instant

MAX_BYTES: Final = 1 << 20
MACHINE_KEYTAB: Final = "FILE:/etc/krb5.keytab"

_VERSION: Final = b"\x05\x04"
_MAX_COMPONENTS: Final = 16


class BadTicketsError(ValueError):
    """These bytes are no ticket cache of a form that is known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose tickets they are, `anna@EXAMPLE.ORG`, and when the ticket for getting others ends; None without one."""

    principal: str
    ends_at: float | None


class TicketCache:
    """What KRB5CCNAME of this process names."""

    def __init__(self) -> None:
        self._given = b""
        self._memory: int | None = None
        self.name = ""
        """What the order called the cache, for messages; empty if there is none."""
        self.problem = ""
        """Why there are no tickets, or none that is good."""

    def use(self, name: str, problem: str, copy: int | None, now: float) -> None:
        """Use the tickets that came with an order; `copy`: descriptor of the file, closed here. Raises OSError.

        `now`: wall clock, which says whether they are still good.
        """
        self.name, self.problem = name, problem
        if copy is not None:
            with os.fdopen(copy, "rb") as file:
                self._fill(os.pread(file.fileno(), MAX_BYTES, 0))  # other orders have the same one
            known = self.owner()
            if known is not None and known.ends_at is not None and known.ends_at <= now:
                self.problem = f"those of {known.principal} in {name} expired on {instant(known.ends_at)}"
        elif os.geteuid() == 0 and not name:
            _export("KRB5_CLIENT_KTNAME", MACHINE_KEYTAB)
            _export("KRB5CCNAME", "MEMORY:openbits")
        else:
            self._given = b""
            _export("KRB5CCNAME", name or "MEMORY:none")

    def owner(self) -> Owner | None:
        """Of the tickets that came in a file and can be read."""
        try:
            return owner(self._given)
        except BadTicketsError:
            return None

    def _fill(self, tickets: bytes) -> None:
        if self._memory is None:
            self._memory = os.memfd_create("openbits-tickets", os.MFD_CLOEXEC)
        if tickets != self._given:
            _lock(self._memory, fcntl.F_WRLCK)
            os.ftruncate(self._memory, 0)
            os.pwrite(self._memory, tickets, 0)
            _lock(self._memory, fcntl.F_UNLCK)
            self._given = tickets
        _export("KRB5CCNAME", f"FILE:/proc/self/fd/{self._memory}")


def _export(name: str, value: str) -> None:
    """Say it in the environment, which the library may be reading in another thread: only what is new."""
    if os.environ.get(name) != value:
        os.environ[name] = value


def _lock(descriptor: int, kind: int) -> None:
    """As the library locks a file of tickets while it reads or adds one; it may do so in another thread."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0))


def owner(tickets: bytes) -> Owner:
    """Principal of a file of tickets, and the end of its ticket-granting ticket. Raises BadTicketsError."""
    reader = _Reader(tickets)
    if reader.take(2) != _VERSION:
        raise BadTicketsError("another version")
    reader.take(reader.number("H"))  # fields of the head: offset of the KDC's clock
    _, realm, principal = reader.principal()
    ends_at = None
    while not reader.is_at_end:
        server, ended = reader.credential()
        if server == f"krbtgt/{realm}":
            ends_at = ended
    return Owner(principal=f"{principal}@{realm}", ends_at=ends_at)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise BadTicketsError("cut short")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, form: str) -> int:
        (value,) = struct.unpack(f">{form}", self.take(struct.calcsize(form)))
        return int(value)

    def counted(self) -> bytes:
        return self.take(self.number("I"))

    def principal(self) -> tuple[int, str, str]:
        """Type, realm and name."""
        kind, count = self.number("I"), self.number("I")
        if count > _MAX_COMPONENTS:
            raise BadTicketsError("a name of too many parts")
        realm, *parts = (self.counted().decode("utf-8", "backslashreplace") for _ in range(count + 1))
        return kind, realm, "/".join(parts)

    def credential(self) -> tuple[str, float]:
        """Name of the service, and when the ticket ends."""
        self.principal()
        _, _, server = self.principal()
        self.take(2)
        self.counted()  # session key
        _, _, ends_at, _ = struct.unpack(">IIII", self.take(16))
        self.take(5)
        for _ in range(2):  # addresses, authorization data
            for _ in range(self.number("I")):
                self.take(2)
                self.counted()
        self.counted()  # the ticket, and a second one
        self.counted()
        return server, float(ends_at)
