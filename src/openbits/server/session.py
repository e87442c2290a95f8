"""What a packet does to a session in each stage (upload-protocol.md §5.3), and whose session it is (D8). Pure."""

import enum
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from openbits.core.packets import PacketType
from openbits.server.model import Directory, Packet, Session, Stage, User


class Act(enum.Enum):
    """What is to be done."""

    RECEIVE = enum.auto()
    """§6, then completion if that was the last byte."""
    REPLAY = enum.auto()
    """§6 finds all bytes known: the cached Ack of the final fragment."""
    END = enum.auto()
    """Data in the spool, reply and record go; a partial upload is never published, a published one stays."""
    FINISH = enum.auto()
    """END, after what still has to be published is."""
    WAIT = enum.auto()
    """For the end of the notification (§5.1 step 11)."""
    DISOWN = enum.auto()
    """The record goes at once; the application is not interrupted, what it answers is dropped."""


ACTS: Final[Mapping[tuple[Stage, PacketType], Act]] = {
    (Stage.RECEIVING, PacketType.FRAGMENT): Act.RECEIVE,
    (Stage.RECEIVING, PacketType.CLOSE_SESSION): Act.END,
    (Stage.RECEIVING, PacketType.CANCEL_SESSION): Act.END,
    (Stage.NOTIFY, PacketType.FRAGMENT): Act.WAIT,
    (Stage.NOTIFY, PacketType.CLOSE_SESSION): Act.WAIT,
    (Stage.NOTIFY, PacketType.CANCEL_SESSION): Act.DISOWN,
    (Stage.WAIT_FOR_CLOSE, PacketType.FRAGMENT): Act.REPLAY,
    (Stage.WAIT_FOR_CLOSE, PacketType.CLOSE_SESSION): Act.FINISH,
    (Stage.WAIT_FOR_CLOSE, PacketType.CANCEL_SESSION): Act.END,
}
"""Create-Session makes another session whatever there is, and Ping knows none. No session: SESSION_NOT_FOUND."""


def is_of_user(session: Session, directory: Directory, user: User) -> bool:
    """Directory and owner are the same."""
    return (session.directory, session.user, session.fingerprint) == (directory.url_path, user.name, user.fingerprint)


def is_of(packet: Packet, session: Session) -> bool:
    """D8: the session belongs to this directory, this user and this destination, whose host alone may differ."""
    return (
        is_of_user(session, packet.directory, packet.user)
        and session.path == str(packet.destination.path)
        and urlsplit(session.url).query == urlsplit(packet.destination.url).query
    )


def is_expired(session: Session, timeout_seconds: int, now: float) -> bool:
    """Nothing has progressed for longer than the session time-out (§7.3)."""
    return now - session.progressed_at > timeout_seconds
