"""Answers to requests of ranges, sound ones and others, for the fault server."""

import re
from collections.abc import Callable, Iterable, Sequence

from tests.transfer.faultserver import FaultServer, Request, Step, head, size_only, whole

BOUNDARY = "THIS_SEPARATES"

Span = tuple[int, int]
"""First byte and the last one, as in the header fields."""

Answer = Callable[[Request, Sequence[Span]], Iterable[Step]]


def spans_of(request: Request) -> list[Span]:
    """What a request asks for; empty for the whole."""
    wanted = request.headers.get("range", "")
    return [(int(first), int(last)) for first, last in re.findall(r"(\d+)-(\d+)", wanted)]


def one(body: bytes, span: Span, *fields: str, total: int | str | None = None) -> list[Step]:
    """206 with one range."""
    first, last = span
    told = len(body) if total is None else total
    part = body[first : last + 1]
    length = f"Content-Length: {len(part)}"
    return [head("206 Partial Content", f"Content-Range: bytes {first}-{last}/{told}", length, *fields), part]


def several(
    body: bytes, spans: Iterable[Span], *fields: str, leading: bytes = b"\r\n", others: str = "", boundary: str = ""
) -> list[Step]:
    """206 with several ranges. `leading`: before the first boundary; `others`: further header lines of each part."""
    mark = boundary or BOUNDARY
    content = leading
    for first, last in spans:
        lines = f"--{mark}\r\nContent-Type: application/x\r\n{others}Content-Range: bytes {first}-{last}/{len(body)}"
        content += lines.encode() + b"\r\n\r\n" + body[first : last + 1] + b"\r\n"
    content += f"--{mark}--\r\n".encode()
    kind = f"Content-Type: multipart/byteranges; boundary={mark}"
    return [head("206 Partial Content", kind, f"Content-Length: {len(content)}", *fields), content]


def sound(body: bytes, *fields: str) -> Answer:
    """What a server does that honours ranges; a condition of another version gets the whole file."""
    tags = [field.partition(": ")[2] for field in fields if field.startswith(("ETag", "Last-Modified"))]

    def answer(request: Request, spans: Sequence[Span]) -> list[Step]:
        condition = request.headers.get("if-range")
        if not spans or (condition is not None and condition not in tags):
            return whole(body, *fields)
        return one(body, spans[0], *fields) if len(spans) == 1 else several(body, spans, *fields)

    return answer


def serve(server: FaultServer, body: bytes, *fields: str, answer: Answer | None = None) -> None:
    """Serve this file, ranges by `answer`."""
    act = answer or sound(body, *fields)
    server.answer("HEAD", size_only(body, *fields))
    server.answer("GET", lambda request: list(act(request, spans_of(request))))
