"""The answer to a packet of an upload, read by its fields (upload-protocol.md §3).

Values in, values out. Tolerant where servers in the field are wrong in a way that can be understood; what cannot be is
a BadAnswerError, and never a guess.
"""

from dataclasses import dataclass
from typing import Final

from openbits.core import codes, packets
from openbits.core.packets import MISSPELLED_RECEIVED, Header, Origin, PacketError, PacketType
from openbits.transfer.headers import BadResponseError, Head, printable
from openbits.transfer.version import answerer

SUCCESS: Final = frozenset({200, 201})

OUT_OF_STEP: Final = 416

_FAILURE_BIT: Final = 0x80000000


class BadAnswerError(Exception):
    """The answer breaks the protocol (BG_E_INVALID_SERVER_RESPONSE); the text says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. What it says is read when it is asked for, since a field that nobody needs may be wrong."""

    head: Head

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.head.status

    @property
    def is_success(self) -> bool:
        """True if it says so; whether a BITS server says it is another question."""
        return self.status in SUCCESS

    @property
    def is_ack(self) -> bool:
        """False if somebody answered who does not know the protocol (D25)."""
        return any(packets.packet_type(value) is PacketType.ACK for value in self._values(Header.PACKET_TYPE))

    @property
    def error_code(self) -> int:
        """What the server says of its error: an HRESULT; 0: nothing that anybody could understand (D6)."""
        for name in (Header.ERROR_CODE, Header.ERROR):
            for value in self._values(name):
                try:
                    code = packets.error_code(value)
                except PacketError:
                    continue
                if code & _FAILURE_BIT:
                    return code
        return 0

    @property
    def origin(self) -> Origin:
        """Who found the error."""
        values = self._values(Header.ERROR_CONTEXT)
        return packets.error_context(values[0]) if values else Origin.SERVER

    @property
    def received(self) -> int | None:
        """The next byte the server wants, None if it does not say. Raises BadAnswerError."""
        return self.number(Header.RECEIVED, MISSPELLED_RECEIVED)

    @property
    def session_id(self) -> str | None:
        """Of which session it speaks, None if it does not say. Raises BadAnswerError."""
        return self.text(Header.SESSION_ID)

    def number(self, *names: str) -> int | None:
        """The first of these fields that is there. Raises BadAnswerError."""
        for name in names:
            value = self.text(name)
            if value is not None:
                try:
                    return packets.number(name, value)
                except PacketError as error:
                    raise BadAnswerError(str(error)) from None
        return None

    def text(self, name: str) -> str | None:
        """A field that may be there once, None if it is missing or empty. Raises BadAnswerError."""
        try:
            return self.head.value(name.lower()) or None
        except BadResponseError as error:
            raise BadAnswerError(str(error)) from None

    @property
    def words(self) -> str:
        """Who answered what, for people."""
        who = "the application behind the server" if self.origin is Origin.APPLICATION else "the server"
        said = f"{who} answered {self.head.status_line}"
        if self.error_code:
            said += f", {Header.ERROR_CODE} {codes.label(self.error_code)}"
        elif values := self._values(Header.ERROR_CODE):
            said += f", {Header.ERROR_CODE} {printable(values[0], 20)}"
        return f"{said}{answerer(self.head)}"

    def _values(self, name: str) -> list[str]:
        return self.head.values(name.lower())
