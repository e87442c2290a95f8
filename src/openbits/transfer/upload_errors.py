"""What an answer to a packet of an upload means that is none of success (upload-protocol.md §9.4, §10.2).

One table, read from the top: the first row that fits counts. Pure; what is done about it is known by `upload`.
"""

import enum
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from openbits.core import codes
from openbits.core.packets import Origin, PacketType

MEDIA_FULL: Final = 0x80070112
"""What the protocol prints for a full disk and for the time-out of an application (§15); no code of ours."""


class Verdict(enum.Enum):
    """What an error means for the upload."""

    FORGOTTEN = enum.auto()
    """The server has no such session: a new one, from byte 0."""
    TOO_LARGE = enum.auto()
    """A smaller fragment may be taken."""
    FATAL = enum.auto()
    TRANSIENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Row:
    """None: any."""

    verdict: Verdict
    statuses: Container[int] | None = None
    codes: Container[int] | None = None
    packet: PacketType | None = None
    origin: Origin | None = None

    def fits(self, packet: PacketType, status: int, code: int, origin: Origin) -> bool:
        """True if the row speaks of this answer."""
        return (
            (self.statuses is None or status in self.statuses)
            and (self.codes is None or code in self.codes)
            and self.packet in {None, packet}
            and self.origin in {None, origin}
        )


_REDIRECTS: Final = frozenset({300, 301, 302, 303, 304, 305, 307})
_REFUSALS: Final = range(400, 500)
_INCAPABLE: Final = frozenset({501, 505})

_FATAL_CODES: Final = frozenset(
    {
        codes.BG_E_TOO_LARGE,
        codes.E_INVALIDARG,
        codes.E_ACCESSDENIED,
        codes.BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH,
        codes.BG_E_SERVER_EXECUTE_ENABLE,
    }
)
_FULL_CODES: Final = frozenset({codes.ERROR_DISK_FULL, MEDIA_FULL})

ROWS: Final = (
    # §9.4: what the application behind the server said
    Row(Verdict.FATAL, statuses=_REDIRECTS, origin=Origin.APPLICATION),
    Row(Verdict.TRANSIENT, statuses={408, 409}, origin=Origin.APPLICATION),
    Row(Verdict.FATAL, statuses=_REFUSALS, origin=Origin.APPLICATION),
    Row(Verdict.FATAL, statuses=_INCAPABLE, origin=Origin.APPLICATION),
    Row(Verdict.TRANSIENT, origin=Origin.APPLICATION),
    # §10.2: what the server said itself, or an intermediary
    Row(Verdict.FORGOTTEN, codes={codes.BG_E_SESSION_NOT_FOUND}),
    Row(Verdict.TOO_LARGE, statuses={413}, packet=PacketType.FRAGMENT),
    Row(Verdict.FATAL, codes=_FATAL_CODES),
    Row(Verdict.TRANSIENT, codes=_FULL_CODES),
    Row(Verdict.FATAL, statuses={409}, packet=PacketType.CREATE_SESSION),  # the file is there and stays there
    Row(Verdict.TRANSIENT, statuses={408, 409, 425, 429}),
    Row(Verdict.FATAL, statuses=_REDIRECTS),
    Row(Verdict.FATAL, statuses=_REFUSALS),
    Row(Verdict.FATAL, statuses=_INCAPABLE),
    Row(Verdict.TRANSIENT),
)


def verdict(packet: PacketType, status: int, code: int, origin: Origin) -> Verdict:
    """Of an answer to this packet; `code`: of BITS-Error-Code, 0 if there is none."""
    return next(row.verdict for row in ROWS if row.fits(packet, status, code, origin))


@dataclass(frozen=True, slots=True)
class Hint:
    """What an answer probably means, and what helps. None: any; a code of 0: none was sent."""

    statuses: Container[int]
    packet: PacketType | None
    codes: Container[int] | None
    meaning: str
    next_step: str

    def fits(self, packet: PacketType, status: int, code: int) -> bool:
        """True if it speaks of this answer."""
        is_code = self.codes is None or code in self.codes
        return status in self.statuses and self.packet in {None, packet} and is_code


_SAYS_IT: Final = frozenset({codes.BG_E_TOO_LARGE, codes.BG_E_SERVER_EXECUTE_ENABLE})
"""Codes that need no further words."""

_HINTS: Final = (
    Hint(
        range(400, 600),
        None,
        _FULL_CODES,
        "the disk of the server is full, or a quota there is used up",
        "have space made there, or the quota raised",
    ),
    Hint(
        {400},
        PacketType.CREATE_SESSION,
        {codes.E_INVALIDARG},
        "the name may be that of a folder there",
        "add the name of the file to the URL",
    ),
    Hint(
        {404},
        PacketType.CREATE_SESSION,
        None,
        "the folder does not exist there, or uploads are not enabled for it",
        "name another folder, or have it made or enabled at the server (BITSUploadEnabled)",
    ),
    Hint(
        {400, 404, 405, 501},
        None,
        None,
        "perhaps uploads are not enabled there, or it is no upload server",
        "name another folder, or have uploads enabled there (BITSUploadEnabled)",
    ),
    Hint(
        {403},
        PacketType.CREATE_SESSION,
        None,
        "no permission, or the file exists and may not be overwritten",
        "use another name or user, or have the server allow it (BITSAllowOverwrites)",
    ),
    Hint({409}, PacketType.CREATE_SESSION, None, "the file exists and may not be overwritten", "use another name"),
)


def hint(packet: PacketType, status: int, code: int, origin: Origin) -> Hint | None:
    """For people; None if the code of the error says it itself, or if an application has said it, of its own things."""
    if code in _SAYS_IT or origin is Origin.APPLICATION:
        return None
    return next((one for one in _HINTS if one.fits(packet, status, code)), None)
