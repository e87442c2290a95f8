"""Uploads to BITS servers: carries out what `upload` decides, with a flow for the network and the file to read.

No decision about the protocol is taken here. What is here: the way to the host of the session, who may be told there
who we are, the news, and the file, which must stay the one that it was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from openbits.core import packets
from openbits.core.enums import ErrorContext, SecurityFlags
from openbits.core.model import Range
from openbits.core.packets import Header, PacketType
from openbits.transfer import upload_hosts
from openbits.transfer.decisions import Ask, Body, Decision, Fail, Finish, failure
from openbits.transfer.flow import BREAK_OFF, DRAIN_BYTES, Flow
from openbits.transfer.fragment_sizes import QUICK_SECONDS
from openbits.transfer.headers import Head
from openbits.transfer.request import Breakage
from openbits.transfer.route import Route
from openbits.transfer.transport import UploadOrder, last_word
from openbits.transfer.upload import Acknowledge, Memory, Moment, Upload
from openbits.transfer.upload_packets import Fields, Packet, Terms
from openbits.transfer.upload_source import Source
from openbits.transfer.urls import Target
from openbits.transfer.way import Way
from openbits.version import VERSION

USER_AGENT: Final = f"openbits/{VERSION} (BITS upload 1.5)"

DRAIN_SECONDS: Final = 5.0
"""What follows the head of an answer means nothing: it is read for the sake of the connection, and no longer (H3)."""

_RESERVED: Final = ("bits-", "content-", "transfer-encoding", "expect", "connection", "keep-alive")
"""How names of fields begin that a packet has of its own or must not have; a job's fields of these names stay away."""

_REDIRECT_FLAGS: Final = (
    SecurityFlags.REDIRECT_ALLOW_REPORT | SecurityFlags.REDIRECT_DISALLOW | SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP
)
"""They are about downloads (jobs.md §9.4)."""

_DOING: Final = {
    PacketType.CREATE_SESSION: "opening an upload session: ",
    PacketType.PING: "going back to the upload session: ",
    PacketType.FRAGMENT: "",
    PacketType.CLOSE_SESSION: "closing the upload session: ",
    PacketType.CANCEL_SESSION: "cancelling the upload session: ",
}

_FOLLOWED: Final = frozenset({PacketType.PING, PacketType.CREATE_SESSION})
"""D24: packets that may be sent on by the same server."""


class HttpUpload:
    """One step of an upload, and the connections that were lent for it."""

    def __init__(self, way: Way, wanted: UploadOrder, memory: Memory, give_back: Callable[[], None]) -> None:
        own = tuple((name, value) for name, value in way.order.headers if not name.lower().startswith(_RESERVED))
        flags = way.order.security_flags & ~_REDIRECT_FLAGS
        self._way = replace(way, order=replace(way.order, headers=own, security_flags=flags))
        self._source = None if way.order.source is None else Source(way.order.source, way.order.validators)
        self._give_back: Callable[[], None] | None = give_back
        known = way.order.validators.size_bytes
        terms = Terms(
            step=wanted.step,
            origin=way.origin,
            size_bytes=wanted.acknowledged_bytes if known is None else known,
            name=wanted.name,
            is_reply_wanted=wanted.is_reply_wanted,
            is_strict=way.settings.is_strict,
        )
        self._wanted, self._terms, self._memory = wanted, terms, memory
        self._upload = self._new_upload()
        self._packet: Packet | None = None
        """The one that is under way, or was last."""
        self._flow = self._flow_to(way.origin)
        self._head: Head | None = None
        """Of its answer."""
        self._head_at = 0.0
        self._drained_bytes = 0
        self._is_connected = self._is_over = False
        self._phase = ""
        self._session_id = "" if wanted.session is None else wanted.session.session_id
        """The one that was told last."""
        self._held: list[Decision] = []
        """What is decided, and waits until the row has that session."""

    def begin(self) -> None:
        """See Transfer."""
        if self._source is not None:
            fail = self._source.look()
            if fail is not None:
                self._end(fail)
                return
            self._terms = replace(self._terms, size_bytes=self._source.size_bytes)
            self._upload = self._new_upload()
        self._carry_out(self._upload.begin(self._now))

    def tick(self, now: float) -> None:
        """See Transfer."""
        self._flow.tick(now)
        if self._head is not None and now - self._head_at >= DRAIN_SECONDS and not self._is_over:
            self._flow.cancel()
            self.ended()
        if self._is_over or self._packet is None:
            return
        behind = " and of the application behind it" if self._packet.is_application_awaited else ""
        text = f"{_DOING[self._packet.type]}{self._flow.step}{behind if self._flow.is_waiting else ''}"
        if text != self._phase:
            self._phase = text
            self._way.news.phase(text)

    def cancel(self) -> None:
        """See Transfer."""
        self._is_over = True
        self._flow.cancel()
        if self._source is not None:
            self._source.close()
        if self._give_back is not None:
            self._give_back()
            self._give_back = None

    def reposition(self, wanted: Sequence[Range]) -> None:
        """See Transfer: uploads have one order."""

    def kept(self) -> None:
        """The row has the session that was told last: now something may be sent that must not be sent twice."""
        held, self._held = self._held, []
        if not self._is_over:
            self._carry_out(held)

    # -- decisions ------------------------------------------------------------------------------------------------

    def _new_upload(self) -> Upload:
        return Upload(self._terms, self._wanted.session, self._wanted.acknowledged_bytes, self._memory)

    @property
    def _now(self) -> Moment:
        rate = self._flow.bytes_per_second
        budget = None if rate is None else int(rate * QUICK_SECONDS)
        return Moment(wall=time.time(), boot=time.monotonic(), budget_bytes=budget)

    def _carry_out(self, decisions: list[Decision]) -> None:
        """What may happen only between exchanges: not inside libcurl's callbacks."""
        for number, decision in enumerate(decisions, 1):
            match decision:
                case Acknowledge(session=session, offset=offset, note=note):
                    self._way.news.acknowledged(session, offset, note)
                    if session is not None and session.session_id != self._session_id:
                        self._session_id, self._held = session.session_id, decisions[number:]
                        return
                case Packet():
                    self._send(decision)
                case Finish() | Fail():
                    self._end(decision)

    def _send(self, packet: Packet) -> None:
        """The file is looked at before each part of it that goes out (§7.1)."""
        fail = self._source.look() if self._source is not None and packet.type is PacketType.FRAGMENT else None
        if fail is not None:
            self._end(fail)
            return
        if packet.target != self._target:
            self._flow.cancel()
            self._flow = self._flow_to(packet.target)
        self._packet = packet
        self._head = None
        self._drained_bytes = 0
        self._flow.ask(self._question(packet))

    def _question(self, packet: Packet) -> Ask:
        limits = self._way.settings.limits
        body = None
        if self._source is not None and packet.part.length > 0:
            body = Body(read=self._source.read, offset=packet.part.first, length=packet.part.length)
        return Ask(
            packets.METHOD,
            self._fields_of(packet.type, packet.fields),
            body=body,
            answer_seconds=limits.application_seconds if packet.is_application_awaited else limits.answer_seconds,
            opening=self._fields_of(PacketType.PING, ()),
            is_followed=packet.type in _FOLLOWED,
        )

    def _fields_of(self, kind: PacketType, fields: Fields) -> Fields:
        has_agent = any(name.lower() == "user-agent" for name, _ in self._way.order.headers)
        agent = () if has_agent else (("User-Agent", USER_AGENT),)
        return (*agent, (Header.PACKET_TYPE.value, kind.value), *fields)

    def _flow_to(self, target: Target) -> Flow:
        """To the origin, or the host that its server has named, which is told who we are only if that is safe (D27)."""
        way = self._way
        is_ours = way.given == way.origin.origin and upload_hosts.may_know_us(way.origin, target)
        self._target = target
        return way.flow(way.route(target, target.origin if is_ours else None), self)

    @property
    def _route(self) -> Route:
        return self._flow.route

    # -- the answers, told by the flow ----------------------------------------------------------------------------

    def responded(self, head: Head) -> None:
        """See Asker."""
        self._head = None
        self._way.news.responded(head.block)

    def answered(self, head: Head) -> int | None:
        """See Asker. What it means is asked when the exchange is over: the request may have to go out again."""
        self._head = head
        self._head_at = time.monotonic()
        return None

    def body(self, data: bytes) -> int | None:
        """See Asker: an answer has none, and if it has one it means nothing (H3)."""
        self._drained_bytes += len(data)
        return BREAK_OFF if self._drained_bytes > DRAIN_BYTES else None

    def ended(self) -> None:
        """See Asker."""
        head, self._head = self._head, None
        if head is None:
            return
        decisions = self._upload.answered(head, self._now)
        fail = self._source.look() if self._source is not None and _is_finished(decisions) else None
        self._way.news.went(self._route.peer, "")
        self._tell_connected(decisions)
        self._carry_out([fail] if fail is not None else decisions)

    def broke(self, breakage: Breakage, step: str) -> None:
        """See Asker. A head that is whole is an answer, whatever became of what follows it."""
        if breakage.is_unread and self._source is not None:
            self._end(self._source.unread(breakage.hresult, breakage.words))
        elif self._head is not None:
            self.ended()
        else:
            sent = "" if self._packet is None else f"{self._packet.step}, "
            self.failed(failure(breakage.hresult, f"{sent}{step}", breakage.words))

    def failed(self, fail: Fail) -> None:
        """See Asker."""
        self._carry_out(self._upload.broke(fail, self._now))

    def _tell_connected(self, decisions: list[Decision]) -> None:
        """With the first answer that was accepted."""
        is_accepted = not any(isinstance(decision, Fail) for decision in decisions)
        if is_accepted and not self._is_connected and self._source is not None:
            self._is_connected = True
            self._way.tell_accepted(self._route, self._source.version, self._upload.offset, "")

    def _end(self, outcome: Finish | Fail) -> None:
        """The last word; the first one counts."""
        if self._is_over:
            return
        self._is_over = True
        self._flow.cancel()
        if isinstance(outcome, Fail):
            self._way.news.went(self._route.peer, "")
            is_local = outcome.context is ErrorContext.LOCAL_FILE
            outcome = outcome if is_local else self._way.placed(self._route, outcome)
        elif self._source is not None:
            outcome = replace(outcome, modified_at=self._source.modified_at)
        last_word(outcome, self._way.news)


def _is_finished(decisions: list[Decision]) -> bool:
    return any(isinstance(decision, Finish) for decision in decisions)
