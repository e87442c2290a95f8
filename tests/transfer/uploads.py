"""The pure side of an upload as a conversation: a test says what the server answers, and reads what the client does."""

from collections.abc import Mapping
from typing import Any

from tests.transfer.heads import answer

from openbits.core.enums import ErrorContext
from openbits.core.model import UploadSession
from openbits.core.packets import PacketType
from openbits.transfer import urls
from openbits.transfer.decisions import Decision, Fail, Finish
from openbits.transfer.headers import Head
from openbits.transfer.transport import UploadStep
from openbits.transfer.upload import Acknowledge, Memory, Moment, Upload
from openbits.transfer.upload_packets import Packet, Terms

ORIGIN = "https://files.example.net/inbox/report%2017.bin?tenant=42"
SESSION = "{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}"
PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"
KIB = 1024
FIRST = 256 * KIB
"""The first fragment (§7.4)."""
SIZE = 900_001
PLAIN = {"accept_encoding", "retry_after", "server"}
"""Fields that no `BITS-` is before."""

CREATE, PING, FRAGMENT, CLOSE, CANCEL = (
    PacketType.CREATE_SESSION,
    PacketType.PING,
    PacketType.FRAGMENT,
    PacketType.CLOSE_SESSION,
    PacketType.CANCEL_SESSION,
)


def ack(status: int = 200, **fields: str | int) -> Head:
    """An Ack; field names with underscores, without `BITS-`."""
    return _ack_of(status, fields)


def _ack_of(status: int, fields: Mapping[str, str | int]) -> Head:
    named = [(name if name in PLAIN else f"bits-{name}", str(value)) for name, value in fields.items()]
    return answer(status, *((name.replace("_", "-"), value) for name, value in named), bits_packet_type="Ack")


def opened(**fields: str | int) -> Head:
    """The Ack of Create-Session."""
    return _ack_of(200, {"protocol": PROTOCOL, "session_id": SESSION, **fields})


def received(offset: int | str, status: int = 200, **fields: str | int) -> Head:
    """The Ack of a fragment."""
    return ack(status, session_id=SESSION, received_content_range=offset, **fields)


def refused(status: int, code: str = "", context: str = "", **fields: str | int) -> Head:
    """An Ack of an error."""
    said: dict[str, str | int] = {"error_code": code, "error_context": context, **fields}
    return _ack_of(status, {name: value for name, value in said.items() if value != ""})


FORGOTTEN = refused(500, "0x8020001F", "0x5")


def session(**changes: Any) -> UploadSession:
    return UploadSession(**{"session_id": SESSION, **changes})


class Client:
    """One run, and what came of it; `seconds` go by between a packet and its answer."""

    def __init__(
        self,
        *,
        step: UploadStep = UploadStep.SEND,
        size: int = SIZE,
        known: UploadSession | None = None,
        offset: int = 0,
        url: str = ORIGIN,
        memory: Memory | None = None,
        wall: float = 1000.0,
        budget_bytes: int | None = None,
        **terms: Any,
    ) -> None:
        self.memory = memory or Memory()
        self.wall, self.boot, self.budget_bytes = wall, 5.0, budget_bytes
        self.seconds = 3.0
        """Neither quick nor slow (§7.4)."""
        self.packets: list[Packet] = []
        self.told: list[Acknowledge] = []
        self.end: Finish | Fail | None = None
        given = Terms(step=step, origin=urls.parse(url), size_bytes=size, **terms)
        self.upload = Upload(given, known, offset, self.memory)
        self._take(self.upload.begin(self.moment))

    @property
    def moment(self) -> Moment:
        return Moment(wall=self.wall, boot=self.boot, budget_bytes=self.budget_bytes)

    def hears(self, *heads: Head) -> "Client":
        """One answer after the other, each to the packet that is under way."""
        for head in heads:
            assert self.end is None, self.end
            self.boot += self.seconds
            self.wall += self.seconds
            self._take(self.upload.answered(head, self.moment))
        return self

    def loses(self, hresult: int = 0x80072EFE, context: ErrorContext = ErrorContext.GENERAL_TRANSPORT) -> "Client":
        """There is no answer."""
        self._take(self.upload.broke(Fail(hresult=hresult, context=context, detail="cut"), self.moment))
        return self

    def _take(self, decisions: list[Decision]) -> None:
        for index, decision in enumerate(decisions):
            is_last = index == len(decisions) - 1
            match decision:
                case Acknowledge():
                    self.told.append(decision)
                case Packet():
                    assert is_last
                    self.packets.append(decision)
                case Finish() | Fail():
                    assert is_last
                    self.end = decision
                case _:
                    raise AssertionError(decision)

    @property
    def sent(self) -> list[PacketType]:
        return [packet.type for packet in self.packets]

    @property
    def packet(self) -> Packet:
        """The one that is under way."""
        assert self.end is None, self.end
        return self.packets[-1]

    @property
    def part(self) -> tuple[int, int]:
        """First and last byte of the fragment that is under way."""
        assert self.packet.type is FRAGMENT, self.packet
        return self.packet.part.first, self.packet.part.last

    @property
    def fail(self) -> Fail:
        assert isinstance(self.end, Fail), self.end
        return self.end

    @property
    def is_over(self) -> bool:
        return self.end is not None

    @property
    def is_finished(self) -> bool:
        return isinstance(self.end, Finish)

    @property
    def session(self) -> UploadSession | None:
        """As it was told last."""
        return self.told[-1].session

    @property
    def offset(self) -> int:
        return self.told[-1].offset


def sending(**options: Any) -> Client:
    """A new session, the first fragment is under way."""
    return Client(**options).hears(opened())


def resumed(offset: int = FIRST, **options: Any) -> Client:
    """An old session, its server was pinged."""
    return Client(known=session(), offset=offset, **options).hears(ack())
