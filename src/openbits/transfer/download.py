"""The decisions of one file's HTTP download: what was answered comes in, what to do next comes out.

Values in, values out: no socket, file, clock or libcurl in here. The driver (`http`) carries the decisions out; how a
question gets to its answer is not known here (`route`), what makes a version of the file is in `version`.

1. Nothing here yet: one plain GET, for background jobs a HEAD before it (jobs.md §9.2). A refused HEAD is no failure,
   the GET decides (design §8).
2. Bytes are here: the ladder of reliability.md §5 note A. A 206 counts only if it starts where we stopped, and if the
   condition or a common validator proves the version; a 200 of the same version is read past what is here. Everything
   else begins again at 0: bytes of two versions are never mixed.
3. `strict` restores the documented errors where 1 and 2 are kinder (jobs.md §9.1).
4. What a server makes as it sends it (DYNAMIC_CONTENT), and answers to another method, cannot be continued at all.
"""

from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes
from openbits.core.model import Validators
from openbits.transfer import headers, version
from openbits.transfer.decisions import Accept, Ask, Decision, Fail, Finish, Restart, failure
from openbits.transfer.headers import BadResponseError, Head
from openbits.transfer.request import Breakage
from openbits.transfer.version import HEAD_REFUSED, WHOLE, Doubt, Fields, Tag

RESTART_BUDGET: Final = 3
"""How often one run begins the file again before it gives up (jobs.md OPEN-44)."""

RELIEF_BYTES: Final = 2 * 1024**3
"""Foreground files below this need neither ranges nor a size (jobs.md §9.1)."""

_CHANGED: Final = codes.BG_E_REMOTE_FILE_CHANGED
_NO_RANGES: Final = codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
"""Why a file begins again, and what the error is in the end if it does so too often."""

_MADE: Final = WHOLE | {201, 207}
"""Success with content of other methods than GET: POST and PUT create, PROPFIND and REPORT answer 207."""

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say that they have no body, else servers ask for its length (RFC 9110 §8.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the job, and the settings of the service, say about the requests for a file."""

    method: str = "GET"
    asks_head: bool = False
    is_foreground: bool = True
    is_strict: bool = False
    is_dynamic: bool = False
    size_limit_bytes: int | None = None
    """Largest size of this file that the job may download."""

    @property
    def is_resumable(self) -> bool:
        """False if what came is of no use to a later request (jobs.md §9.9 M4, §13)."""
        return self.method == "GET" and not self.is_dynamic


class Download:
    """The state of one run: what is here, which version it belongs to, what was asked last."""

    def __init__(self, offset: int, validators: Validators, terms: Terms | None = None) -> None:
        self._terms = terms or Terms()
        self._position = offset
        self._known = validators
        self._question = Ask(self._terms.method)
        self._rungs: list[Fields] = []
        self._doubt = Doubt()
        self._restarts = 0
        self._notes: list[str] = []
        self._is_head = False
        self._told_by_head = Validators()
        self._body_offset = 0
        self.has_refused_head = False
        """True if the server does not answer HEAD, but may answer GET."""

    def begin(self) -> list[Decision]:
        """The first request, or the end if there is nothing to ask."""
        if self._position == 0:
            return [self._ask_head() if self._terms.asks_head else self._ask_all()]
        if not self._terms.is_resumable:
            return self._begin_again("resume not possible (what the server sends is made for each request)", _NO_RANGES)
        if self._position == self._known.size_bytes:
            self._notes.append("all bytes were here already")
            return [self._accept(self._known, offset=self._position, end=self._position), self._finish()]
        if not version.is_resumable(self._known):
            return self._begin_again(
                "resume not possible (neither ETag nor Last-Modified proves the version)", _NO_RANGES
            )
        return [self._ask_rest()]

    def answered(self, head: Head, wall: float) -> list[Decision]:
        """The response to the question arrived; `wall` is the time of day. Raises BadResponseError."""
        return self._head_answered(head, wall) if self._is_head else self._get_answered(head, wall)

    def body_ended(self, position: int) -> list[Decision]:
        """The accepted body came in whole; `position` is where the file ends now."""
        size = self._known.size_bytes
        self._position = position
        if size is None or position == size:
            return [self._finish()]
        is_growing = position > self._body_offset and self._terms.is_resumable
        if is_growing and version.is_resumable(self._known):
            return [self._ask_rest()]  # a 206 may end early (reliability.md §5 row 11)
        words = f"the body ended at byte {position} of {size}"
        return [failure(codes.ERROR_WINHTTP_CONNECTION_ERROR, self._step, words)]

    def broke(self, breakage: Breakage, step: str) -> list[Decision]:
        """There is no whole answer. A server that hangs up on HEAD may still answer GET."""
        if self._is_head and breakage.is_unanswered and not self._terms.is_strict:
            return [self._without_head("no answer")]
        return [failure(breakage.hresult, step, breakage.words)]

    def overflowed(self, position: int) -> Fail | None:
        """The end of the attempt, if the file has more bytes than the job may download (MAX_DOWNLOAD_SIZE)."""
        most = self._terms.size_limit_bytes
        return None if most is None or position <= most else self._too_large(f"{position} bytes came")

    @property
    def size_bytes(self) -> int | None:
        """How large the file is, as far as that is known."""
        return self._known.size_bytes

    # -- requests -------------------------------------------------------------------------------------------------

    @property
    def _step(self) -> str:
        return self._question.step

    @property
    def _is_part_asked(self) -> bool:
        return any(name == "Range" for name, _ in self._question.fields)

    def _ask(self, fields: Fields) -> Ask:
        self._is_head = False
        self._question = Ask(self._terms.method, fields)
        return self._question

    def _ask_head(self) -> Ask:
        self._is_head = True
        self._question = Ask("HEAD")
        return self._question

    def _ask_all(self) -> Ask:
        """From the first byte on. Strictly, a server has to prove at once that it honours ranges (jobs.md §9.1)."""
        if self._needs_ranges and self._told_by_head.size_bytes:
            return self._ask((("Range", "bytes=0-"),))
        return self._ask((("Content-Length", "0"),) if self._terms.method in _WITH_BODY else ())

    def _ask_rest(self) -> Ask:
        """From where the file ends on, the surest way first."""
        self._rungs = version.ladder(self._known, self._position)
        return self._ask(self._rungs.pop(0))

    @property
    def _needs_ranges(self) -> bool:
        """`strict`: whether there is no relief for this file."""
        terms = self._terms
        size = self._known.size_bytes or self._told_by_head.size_bytes or 0
        is_relieved = terms.is_foreground and size < RELIEF_BYTES
        return terms.is_strict and terms.is_resumable and not is_relieved

    # -- answers --------------------------------------------------------------------------------------------------

    def _head_answered(self, head: Head, wall: float) -> list[Decision]:
        is_success = head.status in WHOLE or head.status == 204
        if head.status in HEAD_REFUSED and not self._terms.is_strict:
            return [self._without_head(str(head.status))]
        if not is_success:
            return [version.refused(head, self._step, wall)]
        self._told_by_head = version.seen_in(head)
        if self._told_by_head.size_bytes is None and self._needs_ranges:
            return [self._unsupported(codes.BG_E_MISSING_FILE_SIZE, "no Content-Length", head)]
        return [self._ask_all()]

    def _without_head(self, why: str) -> Ask:
        self.has_refused_head = True
        self._notes.append(f"HEAD refused ({why}), GET works; HEAD skipped from now on for this host")
        return self._ask_all()

    def _get_answered(self, head: Head, wall: float) -> list[Decision]:
        whole = WHOLE if self._terms.method == "GET" else _MADE
        coding = headers.content_encoding(head)
        if coding is not None and head.status in whole | {206}:
            raise BadResponseError(f"Content-Encoding {coding!r}, although identity was asked for")
        if head.status in whole:
            return self._whole(head)
        if head.status == 204 and self._told_by_head.size_bytes == 0:
            return [self._accept(replace(version.seen_in(head), size_bytes=0), offset=0, end=0)]
        if self._is_part_asked and head.status in {206, 416}:
            return self._part(head) if head.status == 206 else self._out_of_range(head)
        if head.status == 206:
            raise BadResponseError("a part of the file (206), although the whole was asked for")
        if self._position > 0 and head.status == 412:
            return self._begin_again("the server says that the file is not the one we began with", _CHANGED)
        return [version.refused(head, self._step, wall)]

    def _whole(self, head: Head) -> list[Decision]:
        """The body is the whole file, whatever was asked."""
        seen = version.seen_in(head)
        before = self._known if self._position > 0 else self._told_by_head
        if version.is_portal(before, seen):
            return [self._portal(before, seen)]
        if self._is_part_asked and self._needs_ranges:
            return [self._unsupported(_NO_RANGES, "the range was ignored", head)]
        return self._whole_again(seen, head) if self._position > 0 else [self._from_start(seen)]

    def _whole_again(self, seen: Validators, head: Head) -> list[Decision]:
        """The whole file, although bytes are here: on down the ladder, past what is here, or from the start."""
        if self._is_doubtful(seen):
            return [self._question]
        why = f"{self._step} got {head.status}"
        difference = version.difference(self._known, seen)
        if difference is not None:
            return self._begin_again(difference, _CHANGED, seen)
        if not version.is_same(self._known, seen):
            return self._begin_again(_no_resume(f"{why}, which names no version", head), _NO_RANGES, seen)
        if len(self._rungs) > 1 and head.values("accept-ranges") != ["none"]:
            return [self._ask(self._rungs.pop(0))]
        if self._is_part_asked:
            self._notes.append(_no_resume(why, head))
        self._notes.append(f"the first {self._position} bytes come again and are left out")
        return [self._accept(self._known, offset=self._position, end=seen.size_bytes, skip=self._position)]

    def _from_start(self, seen: Validators) -> Decision:
        if seen.size_bytes is None:
            self._notes.append("size unknown (the server sent no Content-Length)")
        return self._accept(seen, offset=0, end=seen.size_bytes)

    def _part(self, head: Head) -> list[Decision]:
        """206 to our range."""
        seen = headers.content_range(head)
        length = headers.content_length(head)
        if seen is None or seen.first is None or seen.last is None:
            return self._unusable("206 without a usable Content-Range", head)
        size = seen.total if seen.total is not None else self._known.size_bytes
        part = replace(version.seen_in(head), size_bytes=size)
        other = self._other(part)
        if other is not None:
            return other
        is_sound = seen.first == self._position and length in {None, seen.last + 1 - seen.first}
        if not is_sound or size is None or seen.last >= size:
            return self._unusable(f"{self._step} got {head.value('content-range')}", head)
        if self._position == 0:  # all of it, asked for as a range (strict)
            return [self._from_start(part)]
        was_guarded = any(name == "If-Range" for name, _ in self._question.fields)
        if not was_guarded and not version.is_same(self._known, part):
            return self._unusable("206 without ETag and Last-Modified", head)
        known = replace(self._known, size_bytes=size)
        return [self._accept(known, offset=self._position, end=seen.last + 1)]

    def _out_of_range(self, head: Head) -> list[Decision]:
        """416: the file is whole already, or shorter than it was."""
        seen = headers.content_range(head)
        total = seen.total if seen is not None else None
        named = Validators(size_bytes=total, etag=headers.etag(head), last_modified=headers.last_modified(head))
        other = self._other(named)
        if other is not None:
            return other
        if total == self._position:
            known = replace(self._known, size_bytes=total)
            return [self._accept(known, offset=total, end=total), self._finish()]
        return self._unusable(f"{self._step} got 416", head)

    def _other(self, seen: Validators) -> list[Decision] | None:
        """What to do if the answer is not, or perhaps not, of the version that is here."""
        if self._is_doubtful(seen):
            return [self._question]
        difference = version.difference(self._known, seen)
        return None if difference is None else self._begin_again(difference, _CHANGED)

    def _is_doubtful(self, seen: Validators) -> bool:
        """True if the same has to be asked again."""
        tag = self._doubt.of(self._known, seen)
        if tag is Tag.TELLS_NOTHING:
            self._notes.append(version.TELLS_NOTHING_NOTE)
            self._known = replace(self._known, etag=None)
            self._rungs = version.ladder(self._known, self._position)
        return tag is Tag.DOUBTFUL

    def _unusable(self, why: str, head: Head) -> list[Decision]:
        """The part cannot be used; the whole file may be, if it is of the same version."""
        if self._needs_ranges:
            return [self._unsupported(_NO_RANGES, why, head)]
        self._notes.append(_no_resume(why, head))
        self._rungs = []
        return [self._ask(())]

    # -- outcomes -------------------------------------------------------------------------------------------------

    def _unsupported(self, hresult: int, why: str, head: Head) -> Fail:
        """`strict`: what BITS needs is missing. HTTP/1.0 is tolerated as long as nothing is (jobs.md §9.1)."""
        is_old = head.status_line.startswith("HTTP/1.0")
        code = codes.BG_E_INSUFFICIENT_HTTP_SUPPORT if is_old else hresult
        return failure(code, self._step, f"{why}, and strict is set ({head.status_line}{version.answerer(head)})")

    def _portal(self, known: Validators, seen: Validators) -> Fail:
        size = "unknown size" if seen.size_bytes is None else f"{seen.size_bytes} bytes"
        words = f"a web page of {size} came in place of {known.size_bytes} bytes of {known.media_type}"
        return failure(codes.HTTP_STATUS_511, self._step, words)

    def _too_large(self, what: str) -> Fail:
        words = f"{what}, the job may download {self._terms.size_limit_bytes} more (max_download_size)"
        return failure(codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED, self._step, words)

    def _accept(self, validators: Validators, *, offset: int, end: int | None, skip: int = 0) -> Decision:
        most, size = self._terms.size_limit_bytes, validators.size_bytes
        if most is not None and size is not None and size > most:
            return self._too_large(f"the file has {size} bytes")
        self._known = validators
        self._position = offset
        self._body_offset = offset
        return Accept(offset=offset, end=end, validators=validators, note="; ".join(self._notes), skip_bytes=skip)

    def _finish(self) -> Finish:
        modified = self._known.last_modified
        return Finish(
            size_bytes=self._position, modified_at=headers.instant(modified) if modified is not None else None
        )

    def _begin_again(self, reason: str, hresult: int, seen: Validators | None = None) -> list[Decision]:
        """Another version is on the server, or the bytes that are here cannot be continued.

        `seen`: of the whole file, which comes with this answer; without it the file is asked for.
        """
        self._restarts += 1
        if self._restarts > RESTART_BUDGET:
            return [failure(hresult, self._step, f"began again {RESTART_BUDGET} times; {reason}")]
        self._notes.append(f"{reason}; begun again")
        self._position = 0
        self._known = Validators()
        self._doubt = Doubt()
        return [Restart(reason, hresult), self._ask_all() if seen is None else self._from_start(seen)]


def _no_resume(why: str, head: Head) -> str:
    """A note that names the hop: whose software answered, and through what."""
    return f"resume not possible with this server ({headers.printable(why, 120)}{version.answerer(head)})"
