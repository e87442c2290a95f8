"""What reads bytes of a network, as functions of bytes: each may raise its documented error and no other.

A seed is a good input; what fuzzing found is in `corpus/<target>/` and played by the tests for ever.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openbits.core import pac, proxies, proxy_files
from openbits.core.enums import SecurityFlags
from openbits.core.model import Range, Validators
from openbits.core.no_proxy import Exceptions
from openbits.core.proxies import Settings, Usage
from openbits.transfer import challenges, digest, headers, multipart, scripts, tls_revocation, urls
from openbits.transfer.decisions import Accept, Decision
from openbits.transfer.download import Download
from openbits.transfer.headers import BadResponseError, Head, HeadCollector
from openbits.transfer.multipart import Multipart
from openbits.transfer.ranged import Fetch, Lane, Parts, Proceed
from openbits.transfer.route import Route
from openbits.transfer.tls_messages import MAX_CHAIN, Handshake
from openbits.transfer.urls import BadUrlError, RedirectRefusedError

CORPUS: Final = Path(__file__).parent / "corpus"

NOW: Final = 1_793_613_600.0
SIZE: Final = 1000
HELD: Final = 400
DATE: Final = "Mon, 02 Nov 2026 10:00:00 GMT"
KNOWN: Final = Validators(size_bytes=SIZE, etag='"a"', last_modified=DATE, media_type="application/x")

PART: Final = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 400-999/1000\r\nContent-Length: 600\r\n"
    b'ETag: "a"\r\nLast-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\n\r\n'
)
WHOLE: Final = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "a"\r\nContent-Type: application/x\r\n\r\n'
MULTIPART: Final = (
    b"sep\n--sep\r\nContent-Type: a/b\r\nContent-Range: bytes 0-3/1000\r\n\r\nabcd\r\n"
    b"--sep\r\nContent-Range: bytes 10-11/1000\r\n\r\nef\r\n--sep--\r\n"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One entry; `errors`: what it may raise."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def heads(data: bytes) -> Iterator[Head]:
    """The heads of one exchange, as libcurl hands out their lines. Raises BadResponseError."""
    collector = HeadCollector()
    for line in data.splitlines(keepends=True):
        if (head := collector.feed(line)) is not None:
            yield head


def _head(data: bytes) -> None:
    for head in heads(data):
        headers.check_framing(head)
        headers.content_length(head)
        part = headers.content_range(head)
        assert part is None or part.first is None or part.last is None or part.first <= part.last
        seconds = headers.retry_after(head, NOW)
        assert seconds is None or 1.0 <= seconds <= 86_400.0
        assert len(head.block) <= headers.MAX_BLOCK_CHARACTERS
        for value in (headers.media_type(head), headers.content_encoding(head), head.status_line):
            assert value is None or value.isprintable()
        headers.etag(head), headers.last_modified(head), multipart.boundary_of(head)


def _multipart(data: bytes) -> None:
    boundary, _, body = data.partition(b"\n")
    text = multipart.boundary_of(_typed(f"multipart/byteranges; boundary={_text(boundary)}"))
    if text is not None:
        step = 1 + len(body) % 7
        whole = _contents(Multipart(text), [body])
        assert whole == _contents(Multipart(text), [body[at : at + step] for at in range(0, len(body), step)])


def _contents(reader: Multipart, pieces: Iterable[bytes]) -> bytes:
    """What comes out, however it is cut."""
    found = b""
    try:
        for piece in pieces:
            for item in reader.feed(piece):
                found += item if isinstance(item, bytes) else repr(item).encode()
    except BadResponseError:
        found += b"\nbroken"
    return found


def _typed(value: str) -> Head:
    return Head(status=206, status_line="", fields=(("content-type", value),))


def _challenges(data: bytes) -> None:
    found = challenges.parse(_text(data).split("\n"))
    assert len(found) <= challenges.MAX_CHALLENGES
    asked = digest.strongest(found)
    if asked is not None:
        question = digest.Question(method="GET", target="/x", count=1, client_nonce="c")
        answer = digest.answer(asked, "anna", "Canary5ecret", question)
        assert "Canary5ecret" not in answer
        assert "\r" not in answer
        assert "\n" not in answer


def _redirect(data: bytes) -> None:
    base = urls.parse("https://h.example/a/b?c")
    target = urls.redirect(base, _text(data))
    assert target.scheme == "https"
    assert target.url.isascii()
    assert target.url.isprintable()
    assert "@" not in target.url.partition("//")[2].partition("/")[0].partition("?")[0]
    assert urls.parse(target.url) == target, "what is sent is read as what was checked"


def _answers_to_a_resume(data: bytes) -> None:
    """Whatever is answered, bytes are appended where the file ends, or the file begins again."""
    download = Download(HELD, KNOWN)
    decisions = download.begin()
    for head in (one for answer in data.split(b"\0\0") for one in heads(answer)):
        headers.check_framing(head)
        for decision in (decisions := download.answered(head, NOW)):
            _check(decision)
        if not decisions or any(isinstance(one, Accept) for one in decisions):
            return


def _check(decision: Decision) -> None:
    if isinstance(decision, Accept):
        assert decision.offset in {0, HELD}
        assert decision.skip_bytes in {0, HELD}
        assert decision.end is None or decision.end >= decision.offset


def _answers_to_ranges(data: bytes) -> None:
    """Whatever is answered, no byte goes outside of the local file."""
    head, _, body = data.partition(b"\0\0")
    fetch, lane = Fetch(Parts(parts=(Range(offset=0, length_bytes=4), Range(offset=10, length_bytes=2))), KNOWN), Lane()
    fetch.begin(lane)
    assert fetch.assign(lane, [])
    fetch.question(lane)
    for one in heads(head):
        if Proceed() in fetch.answered(lane, one, NOW):
            placed = [(piece.local, piece.end, part) for piece, part in lane.feed(body)]
            assert all(0 <= start < end <= 6 for start, end, _ in placed)
            assert sum(len(part) for _, _, part in placed) <= 6


def _way(data: bytes) -> None:
    route = Route(urls.parse("http://h.example/x"), (), SecurityFlags(0))
    for head in heads(data):
        route.tunnel_answered(head)
        route.answered(head)
        assert route.place.isprintable()


def _proxies(data: bytes) -> None:
    usual, _, bypass = _text(data).partition("\n")
    proxies.read(Settings(usage=Usage.OVERRIDE, proxy_list=usual, bypass=bypass)).of("http", "h.example", 80)


def _no_proxy(data: bytes) -> None:
    Exceptions.parse(_text(data)).match("h.example", 80)


def _files(data: bytes) -> None:
    text = _text(data)
    proxy_files.read_environment([("a file", text)], "a source")
    proxy_files.read_table(text, "a file")


def _certificate_messages(data: bytes) -> None:
    handshake = Handshake()
    handshake.sent(b"\x01\0\0\0\0")
    for message in data.split(b"\0\0\0\0"):
        handshake.received(message)
    handshake.received(b"\x0b" + len(data).to_bytes(3, "big") + data)
    assert len(handshake.chain) <= MAX_CHAIN


TARGETS: Final = {
    "head": Target(_head, (PART, WHOLE, b"HTTP/1.1 103 Early\r\n\r\n" + WHOLE), (BadResponseError,)),
    "multipart": Target(_multipart, (MULTIPART,), (BadResponseError,)),
    "challenges": Target(
        _challenges,
        (
            b'Basic realm="x", Negotiate abc==',
            b'Digest realm="x", qop="auth,auth-int", nonce="n", algorithm=SHA-256, stale=true, charset=UTF-8',
        ),
    ),
    "redirect": Target(_redirect, (b"/x", b"//h:1/y?z", b"https://u:p@h.example/a%20b"), (RedirectRefusedError,)),
    "url": Target(lambda data: urls.parse(_text(data)), (b"http://[::1%25eth0]:80/x?y",), (BadUrlError,)),
    "date": Target(lambda data: headers.instant(_text(data)), (DATE.encode(), b"Monday, 02-Nov-26 10:00:00 GMT")),
    "resume": Target(_answers_to_a_resume, (PART, WHOLE + b"\0\0" + PART), (BadResponseError,)),
    "ranges": Target(
        _answers_to_ranges,
        (
            b"HTTP/1.1 206 OK\r\nContent-Type: multipart/byteranges; boundary=sep\r\n\r\n\0\0" + MULTIPART[4:],
            b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-3/1000\r\n\r\n\0\0abcd",
        ),
        (BadResponseError,),
    ),
    "way": Target(_way, (b"HTTP/1.1 302 Found\r\nLocation: /y\r\n\r\n", PART), (BadResponseError,)),
    "pac-answer": Target(
        lambda data: pac.read_answer(_text(data)), (b"PROXY a:1; SOCKS5 b:2; DIRECT",), (pac.BadScriptError,)
    ),
    "proxies": Target(_proxies, (b"http=a:1 https://b:2;socks=c:3\n*.x;<local>",), (proxies.BadProxiesError,)),
    "no-proxy": Target(_no_proxy, (b"*.x,10.0.0.0/8,[::1]:80,a.b",)),
    "proxy-files": Target(
        _files, (b'http_proxy="http://u:p@h:1"\n', b'[proxy]\nurl = "a:1"\n'), (proxies.BadProxiesError,)
    ),
    "wpad-names": Target(lambda data: scripts.domains_above(_text(data)), (b"a.b.example", b"localdomain")),
    "revocation-lists": Target(
        lambda data: list(tls_revocation.read(data)), (b"-----BEGIN X509 CRL-----\n", b"\x30\x03")
    ),
    "handshake": Target(_certificate_messages, (b"\x02\0\0\x02\x03\x03", b"\0\0\0\x04\0\0\x01x")),
}
