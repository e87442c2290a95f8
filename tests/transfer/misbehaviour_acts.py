"""What servers do in the sixty misbehaviours: building blocks of the rows, most of them one change in what is sound."""

import gzip
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tests.transfer.faultserver import RESET, TOGETHER, Request, Step
from tests.transfer.misbehaviours import FIRST, Act, Response, Version, sound


def saying(change: Callable[[Response], Response], *endings: Step) -> Act:
    """A sound answer with one thing changed, and what comes after its body."""
    return lambda request, _: [*change(sound(request)).steps(), *endings]


def instead(*steps: Step) -> Act:
    """These bytes, whatever was asked."""
    return lambda _request, _count: steps


def unchanged(response: Response) -> Response:
    return response


def poisoned(surplus: bytes, methods: Iterable[str] = ("GET",)) -> Act:
    """A sound answer, and more of it together with its end, before the next question can be asked."""

    def act(request: Request, _: Iterator[int]) -> Iterable[Step]:
        steps = sound(request).steps()
        return [TOGETHER, *steps, surplus] if request.method in methods else steps

    return act


def cut_after(share: float, *endings: Step) -> Act:
    """A sound head, and so much of the body."""

    def act(request: Request, _: Iterator[int]) -> Iterable[Step]:
        head, body = sound(request).steps()
        assert isinstance(body, bytes)
        return [head, body[: int(len(body) * share)], *endings]

    return act


def once(act: Act, then: Version = FIRST) -> Act:
    """Only the first time; then a sound answer."""
    return lambda request, count: act(request, count) if next(count) == 0 else sound(request, then).steps()


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def in_chunks(*, end: bytes = b"0\r\n\r\n") -> Callable[[Response], Response]:
    def change(response: Response) -> Response:
        changed = response.having("Content-Length").having("Transfer-Encoding", "chunked")
        return replace(changed, body=chunked(response.body, end=end))

    return change


def with_length(*values: str) -> Callable[[Response], Response]:
    return lambda response: response.having("Content-Length", *values)


def with_field(name: str, *values: str) -> Callable[[Response], Response]:
    return lambda response: response.having(name, *values)


def with_raw(line: bytes) -> Act:
    """A sound answer with this line in its head, as it is."""

    def act(request: Request, _: Iterator[int]) -> Iterable[Step]:
        head, body = sound(request).steps()
        assert isinstance(head, bytes)
        return [head[:-2] + line + b"\r\n\r\n", body]

    return act


def answer(status: str, *fields: tuple[str, str], body: bytes = b"") -> Act:
    """This, whatever was asked."""
    return instead(*Response(status, (("Content-Length", str(len(body))), *fields), body).steps())


def redirected(location: str, status: str = "302 Found") -> Act:
    return answer(status, ("Location", location), ("Set-Cookie", "here=1"))


def elsewhere(location: str, *, status: str = "302 Found") -> Act:
    """What is asked for by its first name is redirected, what is asked for by another one is the file."""
    moved = redirected(location, status)
    return lambda request, count: moved(request, count) if next(count) == 0 else sound(request).steps()


def of(version: Version) -> Act:
    """Soundly, of this version."""
    return lambda request, _: sound(request, version).steps()


def without(*names: str, version: Version = FIRST) -> Act:
    """Soundly, but as if these fields of the request had not come."""

    def act(request: Request, _: Iterator[int]) -> Iterable[Step]:
        kept = {name: value for name, value in request.headers.items() if name not in names}
        return sound(replace(request, headers=kept), version).steps()

    return act


def with_range(wanted: str) -> Act:
    """Soundly, but as if this had been asked for."""
    return lambda request, _: sound(replace(request, headers={**request.headers, "range": wanted})).steps()


def with_body(change: Callable[[bytes], bytes]) -> Act:
    """A sound answer with another body of the same length, or one that is cut off."""
    return lambda request, _: replace(sound(request), body=change(sound(request).body)).steps()


def other_tag_each_time(request: Request, count: Iterator[int]) -> Iterable[Step]:
    return sound(request, Version(etag=f'"{next(count)}"')).steps()


def reset_each_part(request: Request, _: Iterator[int]) -> Iterable[Step]:
    head, body = sound(request).steps()
    assert isinstance(body, bytes)
    if len(body) <= 20_000:
        yield from (head, body)
        return
    yield from (head, body[:20_000])
    threading.Event().wait(0.05)  # what is on the way when the reset comes is lost
    yield RESET


def trickle(request: Request, _: Iterator[int]) -> Iterable[Step]:
    """One byte after the other, until the client has had enough."""
    head, body = sound(request).steps()
    assert isinstance(body, bytes)
    yield head
    for at in range(len(body)):
        yield body[at : at + 1]
        threading.Event().wait(0.1)


def flood(status: str) -> Act:
    """100,000 interim answers of 300 bytes before the sound one."""
    interim = f"HTTP/1.1 {status}\r\nX-Filling: {'x' * 250}\r\n\r\n".encode()
    return lambda request, _: [*itertools.repeat(interim * 100, 1000), *sound(request).steps()]


def endless_head(piece: bytes) -> Act:
    """A head that never ends, in 32 MiB of pieces."""

    def act(request: Request, _: Iterator[int]) -> Iterable[Step]:
        head = sound(request).steps()[0]
        assert isinstance(head, bytes)
        return [head[:-2], *itertools.repeat(piece * (65_536 // len(piece)), 512)]

    return act


def hops(_: Request, count: Iterator[int]) -> Iterable[Step]:
    return redirected(f"/hop/{next(count)}")(_, count)


def bomb(coding: str, body: bytes, times: int) -> Act:
    """A body that would be much larger if it was decoded, and is not small either."""
    length = str(len(body) * times)
    head = Response("200 OK", (("Content-Length", length), ("Content-Encoding", coding)), b"").steps()[0]
    return instead(head, *itertools.repeat(body, times))


def layered(layers: int) -> bytes:
    body = b"\0" * 100_000
    for _ in range(layers):
        body = gzip.compress(body, 1)
    return body


def by_proof(answers: dict[str, Act]) -> Act:
    """What comes depends on the scheme of the Authorization field, empty without one; of others it is 403."""

    def act(request: Request, count: Iterator[int]) -> Iterable[Step]:
        scheme = request.headers.get("authorization", "").partition(" ")[0]
        return answers.get(scheme, answer("403 Forbidden"))(request, count)

    return act


def new_challenge(text: str) -> Act:
    """401 with another challenge each time: `{}` in the text is a number."""
    return lambda request, count: answer("401 Unauthorized", ("WWW-Authenticate", text.format(next(count))))(
        request, count
    )
