"""The words in which the sixty misbehaviours of servers (reliability.md §5) are written down.

A row says what the server does, as a function from a request to the steps of the answer; most change one thing of what
a sound server says (`misbehaviour_acts`). What is expected is typed from the specification: the outcome of its table,
code and class from errors.md. A deviation says why, and is printed in docs/misbehaviours.md with its reason.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.transfer.conftest import Story
from tests.transfer.faultserver import Request, Step, date

from openbits.core import codes
from openbits.core.enums import SecurityFlags

MONDAY, TUESDAY = 1_793_613_600, 1_793_700_000
SIZE = 200_000
HELD = 80_000
"""Bytes that are here when a transfer is resumed."""
RANGES = ((120_000, 50_000), (0, 30_000), (180_000, None))
"""What of the remote file the local one is made of."""
FRESH, RESUME, PARTS = KINDS = ("fresh", "resume", "ranges")
PLAIN, TLS, PROXY, TUNNEL = WAYS = ("plain", "tls", "proxy", "tunnel")
"""To the server: openly, over TLS, the same through a proxy that forwards, and through the tunnel of one."""
SECURE: Final = (TLS, TUNNEL)
OPEN: Final = (PLAIN, PROXY)

A = random.Random(5).randbytes(SIZE).replace(b"\r\n", b"nl")  # noqa: S311  # any bytes; the proxy knows lines by these
B = random.Random(6).randbytes(SIZE)  # noqa: S311
"""Another version of the same size."""
SHORT = B[: SIZE // 2]
"""Another, shorter version."""
TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Response:
    """What a server says."""

    status: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def steps(self) -> list[Step]:
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return ["\r\n".join(lines).encode("latin-1"), self.body]

    def having(self, name: str, *values: str) -> "Response":
        """With these values of a field in place of those it had; none: without it."""
        kept = [one for one in self.fields if one[0].lower() != name.lower()]
        return replace(self, fields=(*kept, *((name, value) for value in values)))

    def value(self, name: str) -> str:
        return next(value for field_name, value in self.fields if field_name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of the file as a server has it."""

    body: bytes = A
    etag: str = '"a"'
    modified: float = MONDAY

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        tag = (("ETag", self.etag),) if self.etag else ()
        return (("Content-Type", TYPE), *tag, ("Last-Modified", date(self.modified)))


FIRST = Version()
NEXT = Version(body=B, etag='"b"', modified=TUESDAY)


def spans(request: Request, size: int) -> list[tuple[int, int]]:
    """First and last byte of what is asked for; empty: the whole."""
    wanted = request.headers.get("range")
    if wanted is None:
        return []
    parts = (part.strip().split("-") for part in wanted.removeprefix("bytes=").split(","))
    return [(int(first), min(int(last), size - 1) if last else size - 1) for first, last in parts]


def sound(request: Request, version: Version = FIRST) -> Response:
    """What a sound server answers."""
    size, asked = len(version.body), spans(request, len(version.body))
    guard = request.headers.get("if-range")
    if guard not in {None, version.etag, date(version.modified)} or not asked:
        body = b"" if request.method == "HEAD" else version.body
        return Response("200 OK", (("Content-Length", str(size)), *version.fields), body)
    if any(first >= size for first, _ in asked):
        fields = (("Content-Range", f"bytes */{size}"), ("Content-Length", "0"), *version.fields)
        return Response("416 Range Not Satisfiable", fields, b"")
    if len(asked) == 1:
        ((first, last),) = asked
        fields = (("Content-Range", f"bytes {first}-{last}/{size}"), ("Content-Length", str(last + 1 - first)))
        return Response("206 Partial Content", (*fields, *version.fields), version.body[first : last + 1])
    return multipart(version, asked)


def multipart(version: Version, asked: Iterable[tuple[int, int]]) -> Response:
    """206 with one part for each range."""
    body = b"".join(
        f"--sep\r\nContent-Type: {TYPE}\r\nContent-Range: bytes {first}-{last}/{len(version.body)}\r\n\r\n".encode()
        + version.body[first : last + 1]
        + b"\r\n"
        for first, last in asked
    )
    body += b"--sep--\r\n"
    fields = (("Content-Length", str(len(body))), *version.fields)
    return Response("206 Partial Content", fields, body).having("Content-Type", "multipart/byteranges; boundary=sep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What has to come of it.

    `version`: of the file that arrives; of a failure: what a sound server then completes. `codes` of a failure: any of
    them is right. `by_resumes`: every attempt is cut short, and still the file becomes whole.
    `why`: the reason of a deviation from the table, which has `tabled` there.
    """

    outcome: str
    codes: frozenset[int] = frozenset()
    version: Version = FIRST
    by_resumes: bool = False
    why: str = ""
    tabled: str = ""

    def instead_of(self, tabled: str, why: str) -> "Expected":
        """The same, where the table has something else."""
        return replace(self, tabled=tabled, why=why)


def whole(version: Version = FIRST, *, by_resumes: bool = False) -> Expected:
    return Expected(outcome="OK", version=version, by_resumes=by_resumes)


def restarted(version: Version = NEXT) -> Expected:
    """The file begins again, and is whole then."""
    return Expected(outcome="RS", version=version)


def transient(*code: int, version: Version = FIRST) -> Expected:
    return Expected(outcome="TR", codes=frozenset(code), version=version)


def fatal(*code: int, version: Version = FIRST) -> Expected:
    return Expected(outcome="ER", codes=frozenset(code), version=version)


def capped(code: int) -> Expected:
    """Fatal after few bytes."""
    return Expected(outcome="CAP", codes=frozenset({code}))


Act = Callable[[Request, Iterator[int]], Iterable[Step]]
"""What the server does for a request; the iterator counts its requests from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a cell left behind, for what a row has to see besides."""

    way: str
    kind: str
    stories: list[Story]
    requests: list[Request]
    aside: list[Request]

    @property
    def last(self) -> Story:
        return self.stories[-1]

    @property
    def restarts(self) -> int:
        """How often the file was said to begin again."""
        return len([story for story in self.stories if story.outcome == "restarted"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One misbehaviour. `but`: kinds or ways (or both: `ranges-plain`) of which something else is expected."""

    number: int
    name: str
    variant: str = ""
    act: Act
    expected: Expected
    but: Mapping[str, Expected] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS
    ways: tuple[str, ...] = WAYS
    aside: Act | None = None
    """Another server, openly at `{aside}` (host and port) in what the first one says."""
    aside_host: str = "127.0.0.1"
    is_head_too: bool = False
    """HEAD gets it too; else it is answered soundly."""
    asks_head: bool = False
    """The transfer is one that asks HEAD first."""
    held_bytes: int = HELD
    """What is here of a file that is resumed."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its version in place of the usual."""
    path: str = "/file"
    method: str = "GET"
    flags: SecurityFlags = SecurityFlags(0)  # noqa: RUF009  # a frozen value
    credentials: tuple[Mapping[str, Any], ...] = ()
    certificate: str = ""
    """What the server shows, if not a good one; see `misbehaviour_ways`."""
    check: Callable[[Told], None] | None = None

    @property
    def id(self) -> str:
        return f"{self.number}-{self.name}{'-' if self.variant else ''}{self.variant}"

    def of(self, kind: str, way: str) -> Expected:
        keys = (f"{kind}-{way}", kind, way)
        return next((self.but[key] for key in keys if key in self.but), self.expected)


BROKEN: Final = codes.BG_E_INVALID_SERVER_RESPONSE
CUT: Final = codes.ERROR_WINHTTP_CONNECTION_ERROR
LATE: Final = codes.ERROR_WINHTTP_TIMEOUT
LOST: Final = codes.ERROR_WINHTTP_REDIRECT_FAILED
CHANGED: Final = codes.BG_E_REMOTE_FILE_CHANGED
NO_RANGES: Final = codes.BG_E_INSUFFICIENT_RANGE_SUPPORT


def status(number: int) -> int:
    """The code of a status."""
    return codes.from_http_status(number)
