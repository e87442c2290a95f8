"""The decisions of one file's HTTP download: what was answered comes in, what to do next comes out.

Values in, values out: no socket, file, clock or libcurl in here. The driver (`http`) carries the decisions out.

1. Nothing here yet: HEAD, then one plain GET. A refused HEAD is no failure, the GET decides (jobs.md §9.2, design §8).
2. Bytes are here: GET with an open range, guarded by If-Range. Bytes of two versions are never mixed: a 206 counts only
   if it starts where we stopped, and if If-Range or a common validator proves the version (jobs.md §9.3); everything
   else begins again at 0.
3. Every request follows its own redirects, each hop a fresh request (§9.4); a signed target may be good for one
   method only, so the target of the HEAD is not used for the GET.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.core.proxies import DIRECT, Proxies, Proxy
from openbits.transfer import headers, urls
from openbits.transfer.headers import BadResponseError, Head
from openbits.transfer.urls import Target

MAX_REDIRECTS: Final = 10

RESTART_BUDGET: Final = 3
"""How often one run begins the file again before it gives up (jobs.md OPEN-44)."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_HEAD_REFUSED: Final = frozenset({400, 403, 404, 405, 406, 411, 500, 501})
"""Answers to HEAD after which the GET may still work; anything else would be the same for the GET."""

_WHOLE: Final = frozenset({200, 203})

_PROOFS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Custom headers that are for one server: scheme, host and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request without body. No `proxy`: directly.

    `headers`: besides those that every request has, or in place of them; there may be secrets in it.
    """

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """An exchange ended without being whole: code, what the library said, whether not one byte was answered.

    `is_proxy_dead`: the proxy of the request could not be reached.
    """

    hresult: int
    words: str
    is_unanswered: bool = False
    is_proxy_dead: bool = False


class Decision:
    """Base of what the driver is told to do."""


@dataclass(frozen=True, slots=True)
class Send(Decision):
    """Send this request next, when the present exchange is over."""

    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(Decision):
    """Write the body that follows from `offset` on, at most up to `end`; the file has nothing beyond `offset`."""

    offset: int
    end: int | None
    validators: Validators
    note: str


@dataclass(frozen=True, slots=True)
class Restart(Decision):
    """What was written cannot be continued: the file begins again, before anything that follows in the list."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Decision):
    """The file is whole."""

    size_bytes: int
    modified_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Decision):
    """The attempt is over."""

    hresult: int
    context: ErrorContext
    detail: str
    retry_after_seconds: float | None = None


class Download:
    """The state of one run: what is here, which version it belongs to, what was asked last."""

    def __init__(
        self,
        origin: Target,
        offset: int,
        validators: Validators,
        proxies: Proxies = DIRECT,
        custom: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._origin = origin
        self._custom = custom
        self._position = offset
        self._known = validators
        self._proxies = proxies
        self._dead_proxies: set[Proxy] = set()
        self._request = Request(method="HEAD" if offset == 0 else "GET", target=origin)
        self._visited: set[str] = set()
        self._restarts = 0
        self._notes = [proxies.note] if proxies.note else []
        self._head_length: int | None = None
        self._body_offset = 0

    def begin(self) -> list[Decision]:
        """The first request, or the end if there is nothing to ask."""
        if self._position == 0:
            return [self._ask("HEAD")]
        if self._position == self._known.size_bytes:
            self._notes.append("all bytes were here already")
            return [self._accept(self._known, offset=self._position, end=self._position), self._finish()]
        if not _is_resumable(self._known):
            return self._begin_again("resume not possible (neither ETag nor Last-Modified proves the version)")
        return [self._ask("GET")]

    def answered(self, head: Head, wall: float) -> list[Decision]:
        """A final response head arrived; `wall` is the time of day for Retry-After dates."""
        try:
            headers.check_framing(head)
            if head.status in _REDIRECTS and (location := head.value("location")) is not None:
                return [self._follow(location)]
            if self._is_head:
                return self._head_answered(head, wall)
            return self._get_answered(head, wall)
        except BadResponseError as error:
            return [self.bad_response(error)]

    def body_ended(self, position: int) -> list[Decision]:
        """The accepted body came in whole; `position` is where the file ends now."""
        size = self._known.size_bytes
        self._position = position
        if size is None or position == size:
            return [self._finish()]
        if position > self._body_offset and _is_resumable(self._known):
            return [self._ask("GET")]  # a 206 may end early (reliability.md §5 row 11)
        words = f"the body ended at byte {position} of {size}"
        return [self.failed(Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words=words), self._step)]

    def broke(self, breakage: Breakage, step: str) -> list[Decision]:
        """The exchange broke. The next proxy may live; a server that hangs up on HEAD may still answer GET."""
        if breakage.is_proxy_dead and self._request.proxy is not None:
            self._dead_proxies.add(self._request.proxy)
            if self._proxy_for(self._request.target) not in self._dead_proxies:
                return [self._send(self._request.method, self._request.target)]
        if self._is_head and breakage.is_unanswered:
            self._notes.append("HEAD refused (no answer), GET works")
            return [self._ask("GET")]
        return [self.failed(breakage, step)]

    def failed(self, breakage: Breakage, step: str) -> Fail:
        """The failure that a breakage means, told with URL and step."""
        return _fail(breakage.hresult, self._tell(step, breakage.words))

    def bad_response(self, error: BadResponseError) -> Fail:
        """The failure that a broken answer means."""
        return _fail(codes.BG_E_INVALID_SERVER_RESPONSE, self._tell(self._step, f"the answer is broken: {error}"))

    def cannot_write(self, error: OSError, position: int, words: str) -> Fail:
        """The failure that a refused write or sync means."""
        return Fail(
            hresult=codes.from_errno(error.errno or 0),
            context=ErrorContext.LOCAL_FILE,
            detail=self._tell(f"writing at byte {position}", words),
        )

    @property
    def size_bytes(self) -> int | None:
        """How large the file is, as far as that is known."""
        return self._known.size_bytes

    @property
    def target(self) -> Target:
        """Where the present request goes."""
        return self._request.target

    # -- requests -------------------------------------------------------------------------------------------------

    @property
    def _is_head(self) -> bool:
        return self._request.method == "HEAD"

    @property
    def _step(self) -> str:
        wanted = "".join(f" ({value})" for name, value in self._request.headers if name == "Range")
        return f"{self._request.method}{wanted}"

    def _ask(self, method: str) -> Send:
        """Ask the origin anew."""
        self._visited = {self._origin.url}
        return self._send(method, self._origin)

    def _send(self, method: str, target: Target) -> Send:
        """The one place where the fields of a request are chosen, hop by hop: an allow-list.

        Custom headers go along with each hop, but those that prove who asks go to the origin alone (OPEN-46).
        """
        is_origin = target.origin == self._origin.origin
        fields = [(name, value) for name, value in self._custom if is_origin or name.lower() not in _PROOFS]
        if method == "GET" and self._position > 0:
            fields.append(("Range", f"bytes={self._position}-"))
            guard = _guard(self._known)
            if guard is not None:
                fields.append(("If-Range", guard))
        self._request = Request(method=method, target=target, headers=tuple(fields), proxy=self._proxy_for(target))
        return Send(self._request)

    def _proxy_for(self, target: Target) -> Proxy | None:
        """The first proxy for this hop that is not known to be dead; never past all of them to the target itself."""
        choice = self._proxies.of(target.scheme, target.host)
        return next((proxy for proxy in choice if proxy not in self._dead_proxies), next(iter(choice), None))

    def _follow(self, location: str) -> Decision:
        try:
            target = urls.redirect(self._request.target, location)
        except urls.RedirectRefusedError as error:
            return self._redirect_failed(str(error))
        if target.url in self._visited:
            return self._redirect_failed(f"the redirect leads back to {target.label}")
        if len(self._visited) > MAX_REDIRECTS:
            return self._redirect_failed(f"more than {MAX_REDIRECTS} redirects")
        self._visited.add(target.url)
        return self._send(self._request.method, target)

    def _redirect_failed(self, words: str) -> Fail:
        return _fail(codes.ERROR_WINHTTP_REDIRECT_FAILED, self._tell(self._step, words))

    # -- answers --------------------------------------------------------------------------------------------------

    def _head_answered(self, head: Head, wall: float) -> list[Decision]:
        if head.status in _HEAD_REFUSED:
            self._notes.append(f"HEAD refused ({head.status}), GET works")
        elif head.status in _WHOLE or head.status == 204:
            self._head_length = headers.content_length(head)
        else:
            return [self._refused(head, wall)]
        return [self._ask("GET")]

    def _get_answered(self, head: Head, wall: float) -> list[Decision]:
        coding = headers.content_encoding(head)
        if coding is not None and head.status in _WHOLE | {206}:
            raise BadResponseError(f"Content-Encoding {coding!r}, although identity was asked for")
        if head.status in _WHOLE:
            return self._whole(head)
        if head.status == 204 and self._head_length == 0:
            return [self._accept(replace(_validators(head), size_bytes=0), offset=0, end=0)]
        if self._position > 0:
            match head.status:
                case 206:
                    return self._part(head)
                case 416:
                    return self._out_of_range(head)
                case 412:
                    return self._begin_again("the server says that the file is not the one we began with")
        elif head.status == 206:
            raise BadResponseError("a part of the file (206), although the whole was asked for")
        return [self._refused(head, wall)]

    def _whole(self, head: Head) -> list[Decision]:
        """200: the body is the whole file, whatever was asked."""
        seen = _validators(head)
        decisions: list[Decision] = []
        if self._position > 0:
            reason = difference(self._known, seen)
            decisions = self._restart(reason or _no_resume(f"asked for {self._wanted}, got {head.status}", head))
            if isinstance(decisions[0], Fail):
                return decisions
        if seen.size_bytes is None:
            self._notes.append("size unknown (the server sent no Content-Length)")
        return [*decisions, self._accept(seen, offset=0, end=seen.size_bytes)]

    def _part(self, head: Head) -> list[Decision]:
        """206 to our range."""
        seen = headers.content_range(head)
        length = headers.content_length(head)
        if seen is None or seen.first is None or seen.last is None:
            return self._begin_again(_no_resume("206 without a usable Content-Range", head))
        size = seen.total if seen.total is not None else self._known.size_bytes
        validators = replace(_validators(head), size_bytes=size)
        reason = difference(self._known, validators)
        if reason is not None:
            return self._begin_again(reason)
        is_sound = seen.first == self._position and length in {None, seen.last + 1 - seen.first}
        if not is_sound or size is None or seen.last >= size:
            return self._begin_again(_no_resume(f"asked for {self._wanted}, got {head.value('content-range')}", head))
        if not self._is_proven(validators):
            return self._begin_again(_no_resume("206 without ETag and Last-Modified", head))
        validators = replace(
            validators,
            etag=validators.etag or self._known.etag,
            last_modified=validators.last_modified or self._known.last_modified,
        )
        return [self._accept(validators, offset=self._position, end=seen.last + 1)]

    def _out_of_range(self, head: Head) -> list[Decision]:
        """416: the file is whole already, or shorter than it was."""
        seen = headers.content_range(head)
        total = seen.total if seen is not None else None
        reason = difference(self._known, replace(_validators(head), size_bytes=total))
        if reason is not None:
            return self._begin_again(reason)
        if total == self._position:
            self._known = replace(self._known, size_bytes=total)
            return [self._accept(self._known, offset=total, end=total), self._finish()]
        return self._begin_again(_no_resume(f"asked for {self._wanted}, got 416", head))

    def _refused(self, head: Head, wall: float) -> Fail:
        """A status that ends the attempt. Rounds of authentication (401, 407) will branch off here."""
        who, field = ("proxy", "proxy-authenticate") if head.status == 407 else ("server", "www-authenticate")
        schemes = [value.split()[0] for value in head.values(field) if value.strip()]
        is_offer = head.status in {401, 407} and bool(schemes)
        offer = f", offering {headers.printable(', '.join(schemes), 80)}" if is_offer else ""
        return _fail(
            codes.from_http_status(head.status),
            self._tell(self._step, f"the {who} answered {head.status_line}{offer}"),
            headers.retry_after(head, wall),
        )

    # -- outcomes -------------------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> str:
        return f"bytes={self._position}-"

    def _is_proven(self, seen: Validators) -> bool:
        """True if the part certainly belongs to the version of the bytes that are here."""
        was_guarded = any(name == "If-Range" for name, _ in self._request.headers)
        has_common = (self._known.etag is not None and seen.etag is not None) or (
            self._known.last_modified is not None and seen.last_modified is not None
        )
        return was_guarded or has_common

    def _accept(self, validators: Validators, *, offset: int, end: int | None) -> Accept:
        self._known = validators
        self._position = offset
        self._body_offset = offset
        dead = len(self._dead_proxies)
        notes = [*self._notes, f"{dead} of the proxies could not be reached"] if dead else self._notes
        return Accept(offset=offset, end=end, validators=validators, note="; ".join(notes))

    def _finish(self) -> Finish:
        modified = self._known.last_modified
        return Finish(
            size_bytes=self._position, modified_at=headers.instant(modified) if modified is not None else None
        )

    def _begin_again(self, reason: str) -> list[Decision]:
        """Another version is on the server, or the bytes that are here cannot be continued."""
        decisions = self._restart(reason)
        return decisions if isinstance(decisions[0], Fail) else [*decisions, self._ask("GET")]

    def _restart(self, reason: str) -> list[Decision]:
        """As often as the budget allows."""
        self._restarts += 1
        if self._restarts > RESTART_BUDGET:
            return [self._too_many_restarts(reason)]
        self._notes.append(reason)
        self._position = 0
        self._known = Validators()
        return [Restart(reason)]

    def _too_many_restarts(self, words: str) -> Fail:
        told = self._tell(self._step, f"began again {RESTART_BUDGET} times; {words}")
        return _fail(codes.BG_E_REMOTE_FILE_CHANGED, told)

    def _tell(self, step: str, words: str) -> str:
        """Where, which step, what the other side said."""
        place = self._origin.label
        if self._request.target != self._origin:
            place = f"{self._request.target.label} (redirected from {place})"
        if self._request.proxy is not None:
            place = f"{place}: through proxy {self._request.proxy.label}"
        return f"{place}: {step}: {words}"


def difference(known: Validators, seen: Validators) -> str | None:
    """Why the two are different versions of the file, None if nothing says so; what one side lacks is not compared."""
    pairs: Sequence[tuple[str, str | int | None, str | int | None]] = (
        ("ETag", _opaque(known.etag), _opaque(seen.etag)),
        ("Last-Modified", known.last_modified, seen.last_modified),
        ("size", known.size_bytes, seen.size_bytes),
    )
    for name, before, after in pairs:
        if before is not None and after is not None and before != after:
            return f"the file changed on the server ({name} {before} -> {after})"
    return None


def _opaque(tag: str | None) -> str | None:
    return tag.removeprefix("W/") if tag is not None else None


def _is_resumable(known: Validators) -> bool:
    return known.etag is not None or known.last_modified is not None


def _guard(known: Validators) -> str | None:
    """The If-Range value: a strong ETag, else the date; a weak ETag proves nothing about bytes (row 19)."""
    return known.etag if headers.is_strong(known.etag) else known.last_modified


def _validators(head: Head) -> Validators:
    return Validators(
        size_bytes=headers.content_length(head),
        etag=headers.etag(head),
        last_modified=headers.last_modified(head),
    )


def _no_resume(why: str, head: Head) -> str:
    """A note that names the hop: whose software answered, and through what."""
    via = [
        f"{name.title()}: {headers.printable(value, 60)}" for name in ("server", "via") for value in head.values(name)
    ]
    return f"resume not possible with this server ({', '.join([headers.printable(why, 120), *via])})"


def _fail(hresult: int, detail: str, retry_after_seconds: float | None = None) -> Fail:
    context = codes.lookup(hresult).context or ErrorContext.GENERAL_TRANSPORT
    return Fail(hresult=hresult, context=context, detail=detail, retry_after_seconds=retry_after_seconds)
