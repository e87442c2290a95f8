"""The decisions of one upload to a BITS server: what was answered comes in, which packet is next comes out.

Values in, values out: no socket, file, clock or libcurl in here (upload-protocol.md §7). The driver (`upload_http`)
sends the packets and reads the file.

1. Nothing is believed that the server has not acknowledged, and nothing is skipped: the next fragment begins where the
   server says that it wants to go on, which may be before what it had (§7.2).
2. No answer makes a tight loop: what brings no byte beyond the farthest is counted, and ends the attempt.
3. An answer that nobody can understand is transient, and fatal after the third in a row, over all attempts (D25).
4. A host that the server has named is asked in place of the origin, until it was out of reach for as long as the
   server said (§12). The packet that opens a session always goes to the origin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from openbits.core import codes, packets
from openbits.core.codes import CodeClass
from openbits.core.enums import ErrorContext
from openbits.core.model import UploadSession
from openbits.core.packets import ContentRange, Header, Origin, PacketType
from openbits.transfer import headers, upload_errors, upload_hosts, upload_packets
from openbits.transfer.decisions import Decision, Fail, Finish
from openbits.transfer.fragment_sizes import LEAST_BYTES, FragmentSizes
from openbits.transfer.headers import Head
from openbits.transfer.transport import UploadStep
from openbits.transfer.upload_answers import OUT_OF_STEP, Answer, BadAnswerError
from openbits.transfer.upload_errors import Verdict
from openbits.transfer.upload_packets import Packet, Terms
from openbits.transfer.urls import Target

MOST_INVALID: Final = 3
"""Answers in a row that break the protocol, before the job gives up."""

MOST_STANDSTILLS: Final = 3
"""Answers in a row that want the very same byte."""

MOST_SETBACKS: Final = 3
"""How often a server may go back, or forget the session, before a byte comes beyond the farthest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The present. `wall`: time of day; `boot`: a clock that only goes on.

    `budget_bytes`: what a limited rate lets through while a fragment is sent; None: no limit.
    """

    wall: float
    boot: float
    budget_bytes: int | None = None


@dataclass(slots=True)
class Memory:
    """What the attempts of one upload leave to the next ones, as long as the worker lives."""

    sizes: FragmentSizes = field(default_factory=FragmentSizes)
    invalid_answers: int = 0
    """In a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge(Decision):
    """The server has so many bytes under this session; None: it has none. `note`: for people."""

    session: UploadSession | None
    offset: int
    note: str = ""


class Upload:
    """The state of one run: the session, how far it is, what was sent last."""

    def __init__(self, terms: Terms, session: UploadSession | None, offset: int, memory: Memory) -> None:
        self._terms = terms
        self._session = session
        self._offset = self._farthest = min(offset, terms.size_bytes) if session is not None else 0
        self._memory = memory
        self._sent = upload_packets.ping(terms.origin)
        self._sent_at = 0.0
        self._is_resumed = session is not None
        self._standstills = self._setbacks = 0

    def begin(self, moment: Moment) -> list[Decision]:
        """The first packet, or the end if there is nothing to send."""
        if self._session is None:
            return [self._create() if self._terms.step is UploadStep.SEND else self._finish()]
        if self._terms.step is UploadStep.SEND and self._session.is_received:
            return [self._finish()]
        try:
            self._target()
        except BadAnswerError:  # it was checked when it was told; who keeps it has it wrong
            return [*self._leave_host("the host of the session is no host name"), self._first()]
        return [*self._fallen_back(moment), self._first()]

    def answered(self, head: Head, moment: Moment) -> list[Decision]:
        """The answer to the last packet."""
        answer = Answer(head)
        told = self._reached() if answer.is_ack or answer.is_success else self._unreached(answer.status, moment)
        try:
            decisions = self._understood(answer, moment)
        except BadAnswerError as error:
            decisions = [self._invalid(str(error), answer)]
        return [*told, *decisions]

    def broke(self, fail: Fail, moment: Moment) -> list[Decision]:
        """There is no answer; `fail` says why. After its time the origin is asked in place of the host (§7.3)."""
        if self._is_settled(fail):
            return self._settle(fail.detail)
        if fail.hresult == codes.BG_E_INVALID_SERVER_RESPONSE:
            return [replace(fail, context=ErrorContext.REMOTE_FILE, code_class=self._count_invalid())]
        if self._sent.type is PacketType.FRAGMENT:
            self._memory.sizes.broke()
        if fail.hresult in _ANSWERED or self._session is None or not self._session.host:
            return [fail]
        told = self._mark_failed(moment)
        left = self._fallen_back(moment)
        return [*left, self._first()] if left else [*told, fail]

    # -- packets --------------------------------------------------------------------------------------------------

    def _first(self) -> Packet:
        """Of a run that has a session, and after a change of the host."""
        match self._terms.step:
            case UploadStep.SEND:
                return self._send(upload_packets.ping(self._target()))
            case UploadStep.CLOSE:
                return self._send(upload_packets.close(self._target(), self._session_id, self._terms))
            case UploadStep.CANCEL:
                return self._send(upload_packets.cancel(self._target(), self._session_id))

    def _create(self) -> Packet:
        return self._send(upload_packets.create(self._terms.origin))

    def _fragment(self, moment: Moment) -> Packet:
        """From where the server goes on; the last byte again if it has all of them and has not said so rightly."""
        size = self._terms.size_bytes
        first = min(self._offset, max(size - 1, 0))
        length = self._memory.sizes.next(size - first, moment.budget_bytes)
        is_resumed, self._is_resumed = self._is_resumed, False
        if is_resumed and first + length < size:  # the server may have more than the row knows, and says so now
            length = min(length, LEAST_BYTES)
        part = ContentRange(first, first + length - 1, size)
        self._sent_at = moment.boot
        packet = upload_packets.fragment(self._target(), self._session_id, self._terms, part, is_resumed=is_resumed)
        return self._send(packet)

    def _send(self, packet: Packet) -> Packet:
        self._sent = packet
        return packet

    @property
    def _session_id(self) -> str:
        return self._session.session_id if self._session is not None else ""

    # -- answers --------------------------------------------------------------------------------------------------

    def _understood(self, answer: Answer, moment: Moment) -> list[Decision]:
        """Raises BadAnswerError."""
        kind = self._sent.type
        if answer.is_success:
            if not answer.is_ack:
                words = "somebody else answers in place of an upload server"
                raise BadAnswerError(f"no {Header.PACKET_TYPE}: {PacketType.ACK.value}, {words}")
            self._check_session(answer)
            return _SUCCEEDED[kind](self, answer, moment)
        is_step = kind is PacketType.FRAGMENT and answer.status == OUT_OF_STEP
        if is_step and answer.origin is Origin.SERVER:
            self._check_session(answer)
            return self._out_of_step(answer, moment)
        return self._refused(answer, moment)

    def _check_session(self, answer: Answer) -> None:
        """D4: an answer need not name the session, but no other one."""
        named, sent = answer.session_id, self._session
        is_created = self._sent.type in {PacketType.CREATE_SESSION, PacketType.PING}
        if is_created or named is None or sent is None:
            return
        if named.lower() != sent.session_id.lower():
            raise BadAnswerError(f"{Header.SESSION_ID} is another one")

    def _created(self, answer: Answer, moment: Moment) -> list[Decision]:
        protocol, session_id = answer.text(Header.PROTOCOL), answer.session_id
        if protocol is not None and not packets.is_protocol(protocol):
            words = f"the server speaks protocol {headers.printable(protocol, 40)}, not {packets.PROTOCOL}"
            return [self._fail(codes.BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH, words, is_fatal=True)]
        if session_id is None or not packets.is_session_id(session_id):
            raise BadAnswerError(f"no usable {Header.SESSION_ID}")
        host, seconds = answer.text(Header.HOST_ID) or "", answer.number(Header.FALLBACK_TIMEOUT)
        is_elsewhere = host != "" and upload_hosts.at_host(self._terms.origin, host).origin != self._terms.origin.origin
        self._session = UploadSession(
            session_id=session_id,
            host=host if is_elsewhere else "",
            fallback_seconds=seconds if is_elsewhere and seconds != packets.NEVER_SECONDS else None,
        )
        self._offset = self._memory.invalid_answers = 0
        return [self._acknowledged(), self._first() if is_elsewhere else self._fragment(moment)]

    def _pinged(self, _answer: Answer, moment: Moment) -> list[Decision]:
        return [self._fragment(moment)]

    def _taken(self, answer: Answer, moment: Moment) -> list[Decision]:
        """A fragment was acknowledged; a server that does not say how far has all of it (D17)."""
        part = self._sent.part
        received = answer.received
        if part.length:
            self._memory.sizes.took(part.length, moment.boot - self._sent_at)
        return self._goes_on(part.last + 1 if received is None else received, answer, moment)

    def _out_of_step(self, answer: Answer, moment: Moment) -> list[Decision]:
        received = answer.received
        if received is None:
            raise BadAnswerError(f"416 without {Header.RECEIVED}")
        return self._goes_on(received, answer, moment)

    def _goes_on(self, received: int, answer: Answer, moment: Moment) -> list[Decision]:
        """The server wants to go on from here (§7.2)."""
        before, size = self._offset, self._terms.size_bytes
        if received > size:
            raise BadAnswerError(f"{Header.RECEIVED} {received} is beyond the file of {size} bytes")
        if received == size:
            url = answer.text(Header.REPLY_URL)
            is_asked_for = answer.is_success and self._sent.part.last + 1 == size  # what answers the last byte names it
            if is_asked_for or url is not None or not self._terms.is_reply_wanted:
                return self._received(url)
        self._offset = received
        if received > self._farthest:
            self._farthest = received
            self._setbacks = self._memory.invalid_answers = 0
        self._standstills = self._standstills + 1 if received == before else 0
        self._setbacks += received < before
        told = self._acknowledged(f"the server went back to byte {received}" if received < before else "")
        if self._standstills >= MOST_STANDSTILLS:
            words = f"{self._standstills} times in a row the server wanted byte {received} and did not go on"
        elif self._setbacks > MOST_SETBACKS:
            words = f"the server went back {self._setbacks} times, and never came beyond byte {self._farthest}"
        else:
            return [told, self._fragment(moment)]
        return [told, self._fail(codes.BG_E_NO_PROGRESS, words, is_fatal=False)]

    def _received(self, url: str | None) -> list[Decision]:
        """The server has all of it. A reply that is not there is none, unless that is taken strictly (D19)."""
        if self._session is None:
            raise BadAnswerError("the file is complete without a session")
        reply = ""
        if self._terms.is_reply_wanted and url is not None:
            reply = upload_hosts.reply_url(self._terms.origin, self._sent.target, url)
        elif self._terms.is_reply_wanted and self._terms.is_strict:
            words = f"the server has the file and named no reply ({Header.REPLY_URL}), and strict is set"
            return [self._fail(codes.BG_E_INVALID_SERVER_RESPONSE, words, is_fatal=True)]
        self._offset = self._terms.size_bytes
        self._memory.invalid_answers = 0
        self._session = replace(self._session, is_received=True, reply_url=reply)
        return [self._acknowledged(), self._finish()]

    def _ended(self, _answer: Answer, _moment: Moment) -> list[Decision]:
        return [self._finish()]

    # -- refusals -------------------------------------------------------------------------------------------------

    def _refused(self, answer: Answer, moment: Moment) -> list[Decision]:
        kind, code = self._sent.type, answer.error_code
        if self._terms.step is not UploadStep.SEND:
            return self._not_ended(answer, moment)
        match upload_errors.verdict(kind, answer.status, code, answer.origin):
            case Verdict.FORGOTTEN:
                return self._forgotten(answer)
            case Verdict.TOO_LARGE:
                if self._memory.sizes.refused(self._sent.part.length):
                    return [self._fragment(moment)]
                return [self._fail(codes.from_http_status(answer.status), answer.words, is_fatal=True)]
            case verdict:
                return [self._refusal(answer, moment, is_fatal=verdict is not Verdict.TRANSIENT)]

    def _not_ended(self, answer: Answer, moment: Moment) -> list[Decision]:
        """Close and Cancel are over unless the server itself has failed (§5.5, §7.1)."""
        is_forgotten = answer.error_code == codes.BG_E_SESSION_NOT_FOUND
        if is_forgotten or (answer.status < 500 and answer.status != 407):
            return [self._finish()] if is_forgotten else self._settle(answer.words)
        return [self._refusal(answer, moment, is_fatal=False)]

    def _forgotten(self, answer: Answer) -> list[Decision]:
        """From byte 0 in a new session; a server that forgets again and again is left alone for a while."""
        self._session = None
        self._offset = 0
        self._setbacks += 1
        self._memory.sizes.forget_ceiling()
        told = self._acknowledged("the server has forgotten the session, begun again")
        if self._setbacks > MOST_SETBACKS:
            words = f"{self._setbacks} sessions were forgotten, and none came beyond byte {self._farthest}"
            said = f"{words}; {answer.words}"
            return [told, self._fail(codes.BG_E_SESSION_NOT_FOUND, said, is_fatal=False)]
        return [told, self._create()]

    def _refusal(self, answer: Answer, moment: Moment, *, is_fatal: bool) -> Fail:
        hint = upload_errors.hint(self._sent.type, answer.status, answer.error_code, answer.origin)
        words = answer.words if hint is None else f"{answer.words} ({hint.meaning}); {hint.next_step}"
        fail = self._fail(answer.error_code or codes.from_http_status(answer.status), words, is_fatal=is_fatal)
        is_application = answer.origin is Origin.APPLICATION
        return replace(
            fail,
            context=ErrorContext.REMOTE_APPLICATION if is_application else ErrorContext.REMOTE_FILE,
            retry_after_seconds=None if is_fatal else headers.retry_after(answer.head, moment.wall),
        )

    def _invalid(self, words: str, answer: Answer) -> Fail:
        """§7.2, D25: it may have been an accident, but not for ever."""
        is_fatal = self._count_invalid() is CodeClass.FATAL
        said = f"the answer breaks the upload protocol: {words} ({answer.words})"
        return self._fail(codes.BG_E_INVALID_SERVER_RESPONSE, said, is_fatal=is_fatal)

    def _count_invalid(self) -> CodeClass:
        self._memory.invalid_answers += 1
        return CodeClass.FATAL if self._memory.invalid_answers > MOST_INVALID else CodeClass.TRANSIENT

    def _fail(self, hresult: int, words: str, *, is_fatal: bool) -> Fail:
        return Fail(
            hresult=hresult,
            context=ErrorContext.REMOTE_FILE,
            detail=f"{self._sent.step}: {words}",
            code_class=CodeClass.FATAL if is_fatal else CodeClass.TRANSIENT,
        )

    def _is_settled(self, fail: Fail) -> bool:
        """Close and Cancel were refused on the way by the server itself, for want of a login."""
        return self._terms.step is not UploadStep.SEND and fail.hresult in _ANSWERED

    def _settle(self, words: str) -> list[Decision]:
        """The server will not hear it; what it has it keeps (§7.1 CLOSE)."""
        note = f"{self._sent.step} was refused, which changes nothing for the file: {words}"
        return [self._acknowledged(note), self._finish()]

    # -- the host -------------------------------------------------------------------------------------------------

    def _target(self) -> Target:
        """Raises BadAnswerError."""
        host = self._session.host if self._session is not None else ""
        return upload_hosts.at_host(self._terms.origin, host) if host else self._terms.origin

    def _reached(self) -> list[Decision]:
        """The host of the session answers, if it was asked."""
        if self._session is None or self._session.host_failed_at is None:
            return []
        self._session = replace(self._session, host_failed_at=None)
        return [self._acknowledged()]

    def _unreached(self, status: int, moment: Moment) -> list[Decision]:
        """Somebody on the way has answered that the host does not."""
        if status not in _GATEWAY or self._session is None or not self._session.host:
            return []
        return self._mark_failed(moment)

    def _mark_failed(self, moment: Moment) -> list[Decision]:
        """Its time runs from the first failure; a clock that was put back begins it anew."""
        session = self._session
        if session is None or (session.host_failed_at is not None and session.host_failed_at <= moment.wall):
            return []
        self._session = replace(session, host_failed_at=moment.wall)
        return [self._acknowledged()]

    def _fallen_back(self, moment: Moment) -> list[Decision]:
        """Back to the origin, if the host was out of reach for too long; the session id stays (§7.3)."""
        session = self._session
        if session is None or session.host_failed_at is None or session.fallback_seconds is None:
            return []
        if moment.wall - session.host_failed_at < session.fallback_seconds:
            return []
        waited = f"{session.fallback_seconds} s"
        return self._leave_host(f"{session.host} was out of reach for {waited}: asking {self._terms.origin.host} again")

    def _leave_host(self, note: str) -> list[Decision]:
        if self._session is not None:
            self._session = replace(self._session, host="", fallback_seconds=None, host_failed_at=None)
        return [self._acknowledged(note)]

    # -- values ---------------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """So many bytes the server has acknowledged."""
        return self._offset

    def _acknowledged(self, note: str = "") -> Acknowledge:
        return Acknowledge(session=self._session, offset=self._offset, note=note)

    def _finish(self) -> Finish:
        return Finish(size_bytes=self._terms.size_bytes, modified_at=None)


_GATEWAY: Final = frozenset({502, 503, 504})

_ANSWERED: Final = frozenset(codes.from_http_status(status) for status in range(400, 500) if status != 407)
"""A failure on the way that is the answer of the server; 407 is the word of a proxy."""

_SUCCEEDED: Final[Mapping[PacketType, Callable[[Upload, Answer, Moment], list[Decision]]]] = {
    PacketType.CREATE_SESSION: Upload._created,  # noqa: SLF001  # the table of the class itself
    PacketType.PING: Upload._pinged,  # noqa: SLF001
    PacketType.FRAGMENT: Upload._taken,  # noqa: SLF001
    PacketType.CLOSE_SESSION: Upload._ended,  # noqa: SLF001
    PacketType.CANCEL_SESSION: Upload._ended,  # noqa: SLF001
}
