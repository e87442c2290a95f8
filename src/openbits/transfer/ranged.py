"""The decisions of an HTTP download in parts: what was answered comes in, what to do next comes out.

Values in, values out, as in `download`. A file is fetched in parts because it is made of ranges (jobs.md §8.7), because
a client wants some bytes first, or no others (§8.9), or because several flows fetch it at a time. `Fetch` knows which
version it is and what is missing; each flow has a `Lane`, what it asks for and what came.

1. The size comes first: of HEAD, or of the Content-Range of the first byte. Ranges outside the file end the job (R5).
2. Small pieces are asked for together, as multipart/byteranges; parts may come in any order, but a server that makes
   one of several has broken the rules (R6).
3. Every request carries the condition of the version, and every answer is compared with it (§9.3). A server without
   a time stamp and an ETag is known by the size alone.
4. A server that ignores ranges is asked without the condition, then for one range at a time; that is noted, and under
   `strict` not done. What then still comes as a whole cannot be used here, but perhaps as a whole file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes, ranges
from openbits.core.model import Range, Validators
from openbits.transfer import headers, multipart, version
from openbits.transfer.decisions import Ask, Decision, Finish, Restart, failure
from openbits.transfer.download import RESTART_BUDGET
from openbits.transfer.headers import BadResponseError, ContentRange, Head
from openbits.transfer.multipart import Multipart
from openbits.transfer.pieces import LOT_RANGES, Layout, Lot, Piece, Plan, Stretch
from openbits.transfer.request import Breakage
from openbits.transfer.version import HEAD_REFUSED, WHOLE, Doubt, Tag

NEARLY_BYTES: Final = 64 * 1024
"""Who has so little left to receive does not break off for something else: that would cost a connection."""

_FIRST_BYTE: Final = Ask("GET", (("Range", "bytes=0-0"),))
"""Asks a server that does not answer HEAD for the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is to be fetched: the whole file unless it is made of `parts`; on demand nothing but `wanted`."""

    parts: tuple[Range, ...] = ()
    wanted: tuple[Range, ...] = ()
    here: tuple[Range, ...] = ()
    is_on_demand: bool = False
    is_strict: bool = False
    asks_head: bool = True

    @property
    def may_be_whole(self) -> bool:
        """True if a server without ranges will do, too."""
        return not self.parts and not self.is_on_demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Decision):
    """The version that there is: every byte from now on belongs to it."""

    validators: Validators
    note: str


@dataclass(frozen=True, slots=True)
class Proceed(Decision):
    """The body that follows is what was asked for."""


@dataclass(frozen=True, slots=True)
class GoWhole(Decision):
    """There is no way to parts of the file, but it can be fetched as a whole."""

    note: str


class WrongRangeError(BadResponseError):
    """A part was answered that was not asked for."""


class OtherSizeError(BadResponseError):
    """A part is of a file of another size."""


class Lane:
    """What one flow asks for, and what came of it."""

    def __init__(self) -> None:
        self.question = Ask("HEAD")
        self.lot: Lot = []
        self._size_bytes: int | None = None
        self._asked: dict[int, tuple[int, Stretch]] = {}
        self._multipart: Multipart | None = None
        self._current: Stretch | None = None
        self.came_bytes = 0
        self.ignored_bytes = 0

    @property
    def left_bytes(self) -> int:
        """What of the lot has not come yet."""
        return sum(stretch.left_bytes for stretch in self.lot)

    @property
    def next_local(self) -> int:
        """Where in the local file the next byte goes, of a lot of one range that has not come yet."""
        return self.lot[0].next_local

    def ask(self, condition: Sequence[tuple[str, str]], size_bytes: int | None) -> Ask:
        """The question for the bytes of the lot, of a remote file of this size."""
        self._size_bytes = size_bytes
        self._asked = {stretch.position: (stretch.end - 1, stretch) for stretch in self.lot}
        wanted = ",".join(f"{first}-{last}" for first, (last, _) in self._asked.items())
        self.question = Ask("GET", (("Range", f"bytes={wanted}"), *condition))
        self._multipart = self._current = None
        self.came_bytes = self.ignored_bytes = 0
        return self.question

    def begin(self, part: ContentRange) -> None:
        """The single part that was answered begins. Raises WrongRangeError."""
        self._current = self._of(part)

    def begin_several(self, boundary: str) -> None:
        """Several parts follow."""
        self._multipart = Multipart(boundary)

    def feed(self, data: bytes) -> Iterator[tuple[Piece, bytes]]:
        """Bytes of the body, and where in the local file they go. Raises BadResponseError."""
        taken = 0
        for item in [data] if self._multipart is None else self._multipart.feed(data):
            if isinstance(item, ContentRange):
                self._current = self._of(item)
            elif self._current is not None:
                for piece, here in self._current.take(item):
                    taken += len(here)
                    self.came_bytes += len(here)
                    yield piece, here
        if self._multipart is None or self._multipart.is_over:
            self.ignored_bytes += len(data) - taken

    def rest(self) -> list[Piece]:
        """What did not come; the lane is free."""
        rest = [piece for stretch in self.lot for piece in stretch.rest()]
        self.lot = []
        return rest

    @property
    def is_cut_short(self) -> bool:
        """True if all that is still wanted came, and more of the body follows: somebody else has taken it."""
        return self.left_bytes == 0 and any(last >= stretch.end for last, stretch in self._asked.values())

    def _of(self, part: ContentRange) -> Stretch:
        """What was asked for and is answered by this part: from its first byte on, perhaps not up to its end."""
        if part.first is None or part.last is None:
            raise WrongRangeError("a part without a range")
        if part.total not in {None, self._size_bytes}:
            raise OtherSizeError(f"the file changed on the server (size {self._size_bytes} -> {part.total})")
        last, stretch = self._asked.get(part.first, (-1, None))
        if stretch is None or part.last > last or stretch.position != part.first:
            wanted = ", ".join(f"{first}-{last}" for first, (last, _) in self._asked.items())
            shown = headers.printable(wanted, 100)
            raise WrongRangeError(f"the range {part.first}-{part.last}, which is none of those asked for ({shown})")
        return stretch


class Fetch:
    """One file in parts: its version, its size, what is missing."""

    def __init__(self, parts: Parts, known: Validators) -> None:
        self._parts = parts
        self._known = known
        self._layout: Layout | None = None
        self._plan: Plan | None = None
        self._wanted = parts.wanted
        self._conditions: list[str | None] = [None]
        self._most = LOT_RANGES
        self._notes: list[str] = []
        self._restarts = 0
        self._doubt = Doubt()
        self._told_note: str | None = None

    # -- what there is --------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int | None:
        """Of the local file, None as long as it is not known."""
        return None if self._layout is None else self._layout.size_bytes

    @property
    def arrived_bytes(self) -> int:
        """What is there of the local file."""
        return 0 if self._plan is None else self._plan.arrived_bytes

    @property
    def finish(self) -> Finish | None:
        """The end, if nothing is missing."""
        if self._plan is None or not self._plan.is_whole:
            return None
        modified = self._known.last_modified
        return Finish(
            size_bytes=self._plan.arrived_bytes,
            modified_at=headers.instant(modified) if modified is not None else None,
        )

    @property
    def version(self) -> Validators:
        """What is known of the remote file."""
        return self._known

    def arrived(self, count: int) -> None:
        """So many bytes were written."""
        self._present_plan.arrived(count)

    def noted(self, note: str) -> None:
        """What people should know."""
        if note not in self._notes:
            self._notes.append(note)

    # -- questions ------------------------------------------------------------------------------------------------

    def begin(self, lane: Lane) -> list[Decision]:
        """What to ask first; nothing but what is known if `assign` can say it.

        A file that was too small for its ranges may be another one now.
        """
        size = self._known.size_bytes
        if size is not None and (self._parts.here or self._outside(size) is None):
            return self._learn(self._known)
        lane.lot = []
        lane.question = Ask("HEAD") if self._parts.asks_head else _FIRST_BYTE
        return [lane.question]

    def assign(self, lane: Lane, others: Iterable[Lane]) -> bool:
        """Give a free lane something to ask for: what is missing, or a share of what others fetch."""
        if self._plan is None:
            return False
        lane.lot = self._plan.take(self._most)
        if not lane.lot:
            lane.lot = self._plan.share(other.lot[0] for other in others if len(other.lot) == 1)
        return bool(lane.lot)

    def question(self, lane: Lane) -> Ask:
        """What a lane asks that was assigned something."""
        return lane.ask(self._condition, self._known.size_bytes)

    def give_up(self, lane: Lane) -> None:
        """What the lane has not got is asked for by somebody else."""
        if self._plan is not None:
            self._plan.give_back(lane.rest())

    def reposition(self, wanted: Sequence[Range], lanes: Sequence[Lane]) -> list[Lane]:
        """Have `wanted` fetched first from now on; those of all `lanes` that have to break off what they are at.

        Those go on that are at something that is due now, up to its end, and those that are nearly done.
        """
        self._wanted = tuple(wanted)
        if self._plan is None:
            return []
        busy = [lane for lane in lanes if len(lane.lot) == 1 and lane.left_bytes > NEARLY_BYTES]
        due = self._plan.due(wanted, [piece for lane in busy for piece in lane.lot[0].rest()])
        ends = {item.offset: item.offset + (item.length_bytes or 0) for item in due[: len(lanes)]}
        broken = []
        for lane in busy if due else ():
            end = ends.get(lane.next_local)
            if end is None:
                broken.append(lane)
                self.give_up(lane)
            else:
                self._plan.give_back(lane.lot[0].cut(end))
        self._plan.reorder(wanted)
        return broken

    @property
    def _present_plan(self) -> Plan:
        if self._plan is None:
            raise AssertionError("bytes came before the version was known")
        return self._plan

    @property
    def _condition(self) -> tuple[tuple[str, str], ...]:
        value = self._conditions[0]
        return () if value is None else (("If-Range", value),)

    # -- answers --------------------------------------------------------------------------------------------------

    def answered(self, lane: Lane, head: Head, wall: float) -> list[Decision]:
        """The response to the question of this lane; `wall` is the time of day. Raises BadResponseError."""
        if lane.question.method == "HEAD":
            return self._head_answered(lane, head, wall)
        coding = headers.content_encoding(head)
        if coding is not None and head.status in WHOLE | {206}:
            raise BadResponseError(f"Content-Encoding {coding!r}, although identity was asked for")
        if head.status == 206:
            return self._part(lane, head)
        if head.status in WHOLE:
            return self._whole(lane, head)
        if head.status == 416:
            return self._out_of_range(lane, head)
        if head.status == 412:
            return self._begin_again(lane, "the server says that the file is not the one we began with")
        return [version.refused(head, lane.question.step, wall)]

    def ended(self, lane: Lane) -> list[Decision]:
        """The body is over. What it lacks is asked for again, unless nothing came (reliability.md §5 row 11)."""
        asked, rest = len(lane.lot), lane.rest()
        if not rest:
            return []
        self._present_plan.give_back(rest)
        if lane.came_bytes == 0:
            words = "the body ended before its first byte"
            return [failure(codes.ERROR_WINHTTP_CONNECTION_ERROR, lane.question.step, words)]
        if asked > 1:
            self._one_at_a_time("answered not all of several ranges")
        return []

    def broke(self, lane: Lane, breakage: Breakage, step: str) -> list[Decision]:
        """There is no whole answer. A server that hangs up on HEAD may still answer GET."""
        if lane.question.method == "HEAD" and breakage.is_unanswered and not self._parts.is_strict:
            return [self._without_head(lane, "no answer")]
        self.give_up(lane)
        return [failure(breakage.hresult, step, breakage.words)]

    def accepted(self) -> list[Decision]:
        """What is to be told before the first byte, and when there is more to be noted."""
        note = "; ".join(self._notes)
        if note == self._told_note:
            return []
        self._told_note = note
        return [Known(validators=self._known, note=note)]

    def unreadable(self, lane: Lane, error: BadResponseError) -> list[Decision]:
        """The body is not what it has to be."""
        self.give_up(lane)
        if isinstance(error, OtherSizeError):
            return self._begin_again(lane, str(error))
        if isinstance(error, WrongRangeError) and self._parts.may_be_whole:
            return [GoWhole(f"fetched as a whole, the server answered {error}")]
        return [failure(codes.BG_E_INVALID_SERVER_RESPONSE, lane.question.step, f"the server answered {error}")]

    def _head_answered(self, lane: Lane, head: Head, wall: float) -> list[Decision]:
        seen = version.seen_in(head)
        if head.status in HEAD_REFUSED and not self._parts.is_strict:
            return [self._without_head(lane, str(head.status))]
        if head.status not in WHOLE | {204}:
            return [version.refused(head, lane.question.step, wall)]
        if seen.size_bytes is None and self._parts.is_strict:
            words = f"HEAD has no Content-Length, and strict is set ({head.status_line}{version.answerer(head)})"
            return [failure(codes.BG_E_MISSING_FILE_SIZE, lane.question.step, words)]
        if seen.size_bytes is None:
            lane.question = _FIRST_BYTE
            return [lane.question]
        return self._learn(seen)

    def _without_head(self, lane: Lane, why: str) -> Ask:
        self.noted(f"HEAD refused ({why}), GET works")
        lane.question = _FIRST_BYTE
        return lane.question

    def _learn(self, known: Validators) -> list[Decision]:
        """The version is known; its size says where everything is. A range outside the file ends the job (R5)."""
        self._known = known
        size = known.size_bytes or 0
        told = Known(validators=known, note="; ".join(self._notes))
        outside = self._outside(size)
        if outside is not None:
            words = f"the range {ranges.shown(outside)} is not inside the file, which has {size} bytes"
            return [told, failure(codes.BG_E_INVALID_RANGE, "Range", words)]
        if not version.is_resumable(known):
            self.noted("the server names no version (neither ETag nor Last-Modified); its size alone is compared")
        self._layout = Layout(self._parts.parts, size)
        on_demand = self._parts.is_on_demand
        self._plan = Plan(self._layout, self._parts.here, self._wanted, is_on_demand=on_demand)
        guard = version.guard(known)
        self._conditions = [None] if guard is None else [guard, None]
        return [told]

    def _outside(self, size: int) -> Range | None:
        return ranges.first_outside((*self._parts.parts, *self._wanted), size)

    def _part(self, lane: Lane, head: Head) -> list[Decision]:
        """206: one part or several."""
        boundary = multipart.boundary_of(head)
        part = None if boundary is not None else headers.content_range(head)
        total = None if part is None else part.total
        seen = replace(version.seen_in(head), size_bytes=self._known.size_bytes if total is None else total)
        if not lane.lot:
            return self._first_byte(lane, head, seen)
        other = self._other(lane, seen)
        if other is not None:
            return other
        if boundary is not None:
            lane.begin_several(boundary)
            return [Proceed()]
        if part is None or part.first is None or part.last is None:
            return self._unsupported(lane, "206 without a usable Content-Range", head)
        length = headers.content_length(head)
        if length not in {None, part.last + 1 - part.first}:
            raise BadResponseError(f"{length} bytes for the range {part.first}-{part.last}")
        try:
            lane.begin(part)
        except WrongRangeError as error:
            return self.unreadable(lane, error)
        if len(lane.lot) > 1:
            self._one_at_a_time("answered one of several ranges")
        return [Proceed()]

    def _first_byte(self, lane: Lane, head: Head, seen: Validators) -> list[Decision]:
        """The size of a server that does not answer HEAD, or not with a size."""
        if seen.size_bytes is not None:
            return self._learn(seen)
        if self._parts.may_be_whole:
            return [GoWhole(_no_parts("the server does not tell the size", head))]
        words = f"neither HEAD nor Content-Range tells the size ({head.status_line}{version.answerer(head)})"
        return [failure(codes.BG_E_MISSING_FILE_SIZE, lane.question.step, words)]

    def _whole(self, lane: Lane, head: Head) -> list[Decision]:
        """The whole file, although a part was asked for: it changed, or the server has no ranges, or not such ones."""
        seen = version.seen_in(head)
        if version.is_portal(self._known, seen):
            words = f"a web page came in place of {self._known.media_type}"
            return [failure(codes.HTTP_STATUS_511, lane.question.step, words)]
        other = self._other(lane, seen) if lane.lot else None
        if other is not None:
            return other
        if len(self._conditions) > 1 and lane.lot and not self._parts.is_strict:
            self._conditions.pop(0)  # perhaps the condition was not understood
            self.give_up(lane)
            return []
        if len(lane.lot) > 1 and not self._parts.is_strict:
            self._one_at_a_time(f"answered {head.status} to several ranges")
            self.give_up(lane)
            return []
        return self._unsupported(lane, f"{lane.question.step} got {head.status}", head)

    def _out_of_range(self, lane: Lane, head: Head) -> list[Decision]:
        """416, although the ranges are inside the file that we know."""
        part = headers.content_range(head)
        total = None if part is None else part.total
        named = Validators(size_bytes=total, etag=headers.etag(head), last_modified=headers.last_modified(head))
        if not lane.lot:
            return self._learn(named) if total == 0 else self._unsupported(lane, "bytes=0-0 got 416", head)
        other = self._other(lane, named)
        if other is not None:
            return other
        if len(lane.lot) > 1 and not self._parts.is_strict:
            self._one_at_a_time("answered 416 to several ranges")
            self.give_up(lane)
            return []
        if self._parts.may_be_whole:
            return self._unsupported(lane, f"{lane.question.step} got 416", head)
        return [failure(codes.BG_E_INVALID_RANGE, lane.question.step, f"the server answered {head.status_line}")]

    def _other(self, lane: Lane, seen: Validators) -> list[Decision] | None:
        """What to do if the answer is not, or perhaps not, of the version that we know."""
        tag = self._doubt.of(self._known, seen)
        if tag is Tag.DOUBTFUL:
            self.give_up(lane)
            return []
        if tag is Tag.TELLS_NOTHING:
            self.noted(version.TELLS_NOTHING_NOTE)
            self._known = replace(self._known, etag=None)
            self._conditions = [self._known.last_modified, None]
        difference = version.difference(self._known, seen)
        return None if difference is None else self._begin_again(lane, difference)

    # -- outcomes -------------------------------------------------------------------------------------------------

    def _one_at_a_time(self, why: str) -> None:
        self._most = 1
        self.noted(f"one range per request (the server {why})")

    def _unsupported(self, lane: Lane, why: str, head: Head) -> list[Decision]:
        """There are no parts to be had. Strictly, an order of bytes that was asked for has to be kept, too."""
        if self._parts.may_be_whole and not (self._parts.is_strict and self._wanted):
            return [GoWhole(_no_parts(why, head))]
        is_random = not self._parts.parts
        code = codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED if is_random else codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
        words = f"the server does not honour ranges ({head.status_line}{version.answerer(head)})"
        return [failure(code, lane.question.step, words)]

    def _begin_again(self, lane: Lane, reason: str) -> list[Decision]:
        """Another version is on the server. Who counts bytes of the former one already is told, and does it."""
        self._restarts += 1
        if self._restarts > RESTART_BUDGET:
            words = f"began again {RESTART_BUDGET} times; {reason}"
            return [failure(codes.BG_E_REMOTE_FILE_CHANGED, lane.question.step, words)]
        self.noted(f"{reason}; begun again")
        return [Restart(reason)]

    def forget(self) -> None:
        """Begin again with the version that the server has now, as GET tells it: HEAD may be wrong. Nothing is here."""
        self._known = Validators()
        self._parts = replace(self._parts, here=(), asks_head=False)
        self._plan = self._layout = None
        self._doubt = Doubt()


def _no_parts(why: str, head: Head) -> str:
    return f"fetched as a whole, ranges are not possible with this server ({why}{version.answerer(head)})"
