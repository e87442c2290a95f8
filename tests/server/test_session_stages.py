"""The state table of upload-protocol.md §5.3, cell for cell, and D8."""

import pytest
from tests.server.uploading import INBOX

from openbits.core.packets import PacketType
from openbits.server.model import Destination, Packet, Session, Stage, User
from openbits.server.session import ACTS, Act, is_expired, is_of

# "RECEIVING | §6 | discard data, 200, end | discard, 200, end", and so on, in the words of the page
TABLE = {
    Stage.RECEIVING: (Act.RECEIVE, Act.END, Act.END),
    Stage.NOTIFY: (Act.WAIT, Act.WAIT, Act.DISOWN),
    Stage.WAIT_FOR_CLOSE: (Act.REPLAY, Act.FINISH, Act.END),
}
COLUMNS = (PacketType.FRAGMENT, PacketType.CLOSE_SESSION, PacketType.CANCEL_SESSION)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_an_act_for_every_packet_with_a_session(stage: Stage) -> None:
    assert tuple(ACTS[stage, column] for column in COLUMNS) == TABLE[stage]


def test_packets_without_a_session_are_not_in_the_table() -> None:
    assert {packet_type for _, packet_type in ACTS} == set(COLUMNS)


def session(**changes: object) -> Session:
    values: dict[str, object] = {
        "session_id": "{S}",
        "directory": "/inbox/",
        "path": "inbox/a.bin",
        "url": "https://h/inbox/a.bin?x=1",
        "user": "ann",
        "fingerprint": "f",
        "created_at": 0.0,
        "progressed_at": 100.0,
    }
    return Session(**{**values, **changes})  # type: ignore[arg-type]


def packet(url: str = "https://h/inbox/a.bin?x=1", path: str = "inbox/a.bin", user: User | None = None) -> Packet:
    owner = user or User(name="ann", fingerprint="f")
    return Packet(directory=INBOX, destination=Destination(url=url, path=path), user=owner)  # type: ignore[arg-type]


def test_d8_the_host_part_may_differ() -> None:
    assert is_of(packet("http://node3:8080/inbox/a.bin?x=1"), session())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(session(directory="/"), id="D8-directory"),
        pytest.param(session(path="inbox/b.bin"), id="D8-destination"),
        pytest.param(session(url="https://h/inbox/a.bin?x=2"), id="D8-query"),
        pytest.param(session(user="bob"), id="D8-user"),
        pytest.param(session(user=""), id="D8-anonymous"),
        pytest.param(session(fingerprint="g"), id="D8-certificate"),
    ],
)
def test_d8_anything_else_may_not(other: Session) -> None:
    assert is_of(packet(), session())
    assert not is_of(packet(), other)


def test_a_session_expires_when_nothing_has_progressed_for_longer_than_its_time_out() -> None:
    assert not is_expired(session(), 50, 150.0)
    assert is_expired(session(), 50, 150.5)
