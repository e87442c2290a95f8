"""Files in parts through a real worker: ranges, random access, segments (jobs.md §8.7, §8.9)."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.transfer.conformance import DYING, told_until_death
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import CLOSE, SILENCE, FaultServer, Request, Step, date, head, size_only, whole
from tests.transfer.rangeserver import Span, one, serve, several, sound, spans_of

from openbits.core import codes

BODY = os.urandom(3000) * 100
SIZE = len(BODY)
TAG = 'ETag: "one"'
DATED = f"Last-Modified: {date(1_793_613_600)}"
VERSION = {"size_bytes": SIZE, "etag": '"one"'}

Parts = list[tuple[int, int | None]]


@pytest.fixture(scope="module")
def steady() -> Iterator[WorkerProcess]:
    """A worker for all tests of the module: it must survive whatever a server does."""
    process = WorkerProcess()
    yield process
    process.close()


@pytest.fixture
def worker(steady: WorkerProcess) -> Iterator[WorkerProcess]:
    yield steady
    steady.entrusted, steady.is_on_demand, steady.segments = {}, False, 1


def made_of(parts: Sequence[tuple[int, int | None]], body: bytes = BODY) -> bytes:
    """R3: the ranges in the order given, without gaps."""
    return b"".join(body[start : None if length is None else start + length] for start, length in parts)


def fetch(worker: WorkerProcess, server: FaultServer, path: Path, parts: Parts, offset: int = 0, **known: Any) -> Story:
    worker.entrusted = {"ranges": parts}
    return worker.story(worker.start(server.url(), path, offset, **known))


def asked(server: FaultServer) -> list[list[Span]]:
    """The ranges of each GET."""
    return [spans_of(request) for request in server.asked("GET")]


def note_of(story: Story) -> str:
    told = story.told("connected")
    return str(told[-1]["note"] if told else story.last["connected"]["note"])


# -- files made of ranges ---------------------------------------------------------------------------------------------

SHAPES: dict[str, Parts] = {
    "of the documentation (R3)": [(100, 100), (900, 100), (400, 100)],
    "one range": [(5, 10)],
    "to the end": [(SIZE - 10, None)],
    "the end first": [(SIZE - 10, None), (0, 10)],
    "neighbours": [(0, 10), (10, 10), (20, 10)],
    "neighbours in disorder": [(10, 10), (0, 10), (20, 10)],
    "backwards": [(start, 3) for start in range(2000, 0, -10)],
    "five hundred": [(start, 7) for start in range(0, 5000, 10)],
    "all of it": [(0, None)],
    "large and small": [(0, 200_000), (250_000, 3), (210_000, 30_000)],
}


@pytest.mark.parametrize("parts", SHAPES.values(), ids=SHAPES)
def test_a_file_is_made_of_the_ranges_in_the_order_given(
    worker: WorkerProcess, server: FaultServer, destination: Path, parts: Parts
) -> None:
    serve(server, BODY, TAG)
    story = fetch(worker, server, destination, parts)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(parts)
    assert story.last["size_bytes"] == len(made_of(parts))
    wanted = sum(last + 1 - first for spans in asked(server) for first, last in spans)
    assert wanted == len(made_of(parts)), "no byte is asked for twice"
    assert all(len(spans) <= 100 for spans in asked(server))


def test_what_is_told_comes_from_the_disk_and_is_told_once(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    serve(server, BODY, TAG)
    story = fetch(worker, server, destination, [(100, 100), (900, 100), (400, 100)])
    told = [tuple(part) for news in story.told("filled") for part in news["ranges"]]
    assert sum(length for _, length in told) == 300
    assert len({byte for start, length in told for byte in range(start, start + length)}) == 300
    assert story.told("filled")[-1]["transferred_bytes"] == 300
    events = dict.fromkeys(news["event"] for news in story.news if news["event"] != "phase")  # slow parts tell again
    assert list(events) == ["connected", "filled", "transferred"]


def test_no_part_counts_before_it_is_on_the_disk(server: FaultServer, destination: Path) -> None:
    """While the rest does not come, what came is told when it is synced, and not when it is due to be."""

    def half(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
        top, content = sound(BODY, TAG)(request, spans)
        assert isinstance(content, bytes)
        return [top, content[:1000], SILENCE]

    serve(server, BODY, TAG, answer=half)
    process = WorkerProcess(program=DYING)
    process.entrusted = {"ranges": [(0, 2000)]}
    process.start(server.url(), destination)
    told = told_until_death(process)
    assert "connected" in {news["event"] for news in told}
    assert not [news for news in told if news["event"] in {"filled", "transferred"}]


@pytest.mark.parametrize("cut", [1, 50, 99, 100, 101, 150, 250, 299])
def test_a_file_of_ranges_goes_on_at_any_byte(
    worker: WorkerProcess, server: FaultServer, destination: Path, cut: int
) -> None:
    """At byte `cut` of the local file, in whatever range that is; nothing that is here is asked for again."""
    parts: Parts = [(100, 100), (900, 100), (400, 100)]
    serve(server, BODY, TAG)
    destination.write_bytes(made_of(parts)[:cut])
    story = fetch(worker, server, destination, parts, cut, **VERSION)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == made_of(parts)
    assert server.asked("HEAD") == []
    assert all(request.headers["if-range"] == '"one"' for request in server.asked("GET"))
    assert sum(last + 1 - first for spans in asked(server) for first, last in spans) == 300 - cut


def test_what_is_here_beyond_a_gap_is_not_fetched_again(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    parts: Parts = [(100, 100), (900, 100), (400, 100)]
    expected = made_of(parts)
    serve(server, BODY, TAG)
    destination.write_bytes(expected[:10] + bytes(90) + expected[100:180] + bytes(20) + expected[200:210])
    worker.entrusted = {"ranges": parts, "filled": [(100, 80), (200, 10)]}
    story = worker.story(worker.start(server.url(), destination, 10, **VERSION))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == expected
    assert asked(server) == [[(110, 199), (410, 499), (980, 999)]]


@pytest.mark.parametrize("parts", [[(SIZE, 1)], [(SIZE - 1, 2)], [(0, 5), (SIZE, None)]])
def test_a_range_outside_the_file_is_an_error_before_anything_is_fetched(
    worker: WorkerProcess, server: FaultServer, destination: Path, parts: Parts
) -> None:
    """R5; the manager learns the size, too."""
    serve(server, BODY, TAG)
    story = fetch(worker, server, destination, parts)
    assert story.hresult == codes.BG_E_INVALID_RANGE
    assert story.connected["size_bytes"] == SIZE
    assert server.asked("GET") == []


# -- servers that do it otherwise -------------------------------------------------------------------------------------

LOT: Parts = [(100, 100), (900, 100), (400, 100)]
SPANS = [(100, 199), (400, 499), (900, 999)]


def ignores_several(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return whole(BODY, TAG) if len(spans) != 1 else one(BODY, spans[0], TAG)


def refuses_several(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    refusal = [head("416 Range Not Satisfiable", f"Content-Range: bytes */{SIZE}", "Content-Length: 0")]
    return refusal if len(spans) != 1 else one(BODY, spans[0], TAG)


def answers_the_first(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return one(BODY, spans[0], TAG)


def leaves_one_out(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, spans[1:], TAG) if len(spans) > 1 else one(BODY, spans[0], TAG)


def knows_no_condition(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return whole(BODY, TAG) if "if-range" in request.headers else several(BODY, spans, TAG)


def sends_prefixes(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, [(first, min(last, first + 40)) for first, last in spans], TAG)


def sends_one_as_several(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, spans, TAG)


def sends_in_another_order(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, spans[::-1], TAG)


def says_no_total(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return one(BODY, spans[0], TAG, total="*")


def in_another_framing(**how: Any) -> Callable[[Request, Sequence[Span]], Iterable[Step]]:
    return lambda _, spans: several(BODY, spans, TAG, **how)


NOTED = "one range per request"

KIND_SERVERS: dict[str, tuple[Any, str]] = {
    "the whole file for several ranges": (ignores_several, NOTED),
    "416 for several ranges": (refuses_several, NOTED),
    "the first of several ranges alone": (answers_the_first, NOTED),
    "all ranges but one": (leaves_one_out, NOTED),
    "prefixes of the ranges": (sends_prefixes, NOTED),
    "the whole file if there is a condition": (knows_no_condition, ""),
    "multipart for a single range (row 14)": (sends_one_as_several, ""),
    "the parts in another order": (sends_in_another_order, ""),
    "no total": (says_no_total, NOTED),
    "no empty line before the first boundary": (in_another_framing(leading=b""), ""),
    "two empty lines before the first boundary (R7)": (in_another_framing(leading=b"\r\n\r\n"), ""),
    "180 bytes of other fields (R7)": (in_another_framing(others="X: " + "x" * 175 + "\r\n"), ""),
    "a boundary with all that is allowed": (in_another_framing(boundary="A1'()+_,-./:=?" + "z" * 56), ""),
}


@pytest.mark.parametrize(("answer", "noted"), KIND_SERVERS.values(), ids=KIND_SERVERS)
def test_a_server_that_answers_otherwise_still_delivers(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Any, noted: str
) -> None:
    serve(server, BODY, TAG, answer=answer)
    story = fetch(worker, server, destination, LOT)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(LOT)
    assert noted in note_of(story)
    assert bool(noted) == (NOTED in note_of(story))


def merges(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return one(BODY, (spans[0][0], spans[-1][1]), TAG)


def merges_two(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, [(spans[0][0], spans[1][1]), spans[2]], TAG)


def begins_elsewhere(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, [(first + 1, last) for first, last in spans], TAG)


def lies_about_the_length(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    first, last = spans[0]
    fields = f"Content-Range: bytes {first}-{last}/{SIZE}", "Content-Length: 7", TAG
    return [head("206 Partial Content", *fields), b"1234567"]


def sends_twice(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return several(BODY, [spans[0], *spans], TAG)


def encodes(_: Request, spans: Sequence[Span]) -> Iterable[Step]:
    return one(BODY, spans[0], TAG, "Content-Encoding: gzip")


BROKEN_SERVERS: dict[str, tuple[Any, int]] = {
    "no ranges at all (R6)": (lambda *_: whole(BODY, TAG), codes.BG_E_INSUFFICIENT_RANGE_SUPPORT),
    "all of it merged (R6)": (merges, codes.BG_E_INVALID_SERVER_RESPONSE),
    "two ranges merged (R6)": (merges_two, codes.BG_E_INVALID_SERVER_RESPONSE),
    "other ranges": (begins_elsewhere, codes.BG_E_INVALID_SERVER_RESPONSE),
    "a part twice": (sends_twice, codes.BG_E_INVALID_SERVER_RESPONSE),
    "206 without Content-Range": (
        lambda *_: [head("206 Partial Content", "Content-Length: 3", TAG), b"abc"],
        codes.BG_E_INSUFFICIENT_RANGE_SUPPORT,
    ),
    "a length that is not that of the range": (lies_about_the_length, codes.BG_E_INVALID_SERVER_RESPONSE),
    "a coded part (row 46)": (encodes, codes.BG_E_INVALID_SERVER_RESPONSE),
    "181 bytes of other fields (R7)": (
        in_another_framing(others="X: " + "x" * 176 + "\r\n"),
        codes.BG_E_INVALID_SERVER_RESPONSE,
    ),
    "three empty lines before the first boundary (R7)": (
        in_another_framing(leading=b"\r\n" * 3),
        codes.BG_E_INVALID_SERVER_RESPONSE,
    ),
    "words before the first boundary": (in_another_framing(leading=b"hello\r\n"), codes.BG_E_INVALID_SERVER_RESPONSE),
    "an endless line": (in_another_framing(leading=b"x" * 100_000), codes.BG_E_INVALID_SERVER_RESPONSE),
    "416 for what is inside": (
        lambda *_: [head("416 Range Not Satisfiable", "Content-Length: 0")],
        codes.BG_E_INVALID_RANGE,
    ),
    "nothing of what it promises": (
        lambda _, spans: [*one(BODY, spans[0], TAG)[:1], CLOSE],
        codes.ERROR_WINHTTP_CONNECTION_ERROR,
    ),
    "403": (lambda *_: [head("403 Forbidden", "Content-Length: 0")], codes.from_http_status(403)),
}


@pytest.mark.parametrize(("answer", "code"), BROKEN_SERVERS.values(), ids=BROKEN_SERVERS)
def test_a_server_without_ranges_is_an_error(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Any, code: int
) -> None:
    serve(server, BODY, TAG, answer=answer)
    story = fetch(worker, server, destination, LOT)
    assert codes.label(story.hresult) == codes.label(code), story.detail
    assert str(server.port) in story.detail
    assert len(server.requests) <= 8


def test_strictly_a_server_gets_no_second_chance(server: FaultServer, destination: Path) -> None:
    strict = WorkerProcess(is_strict=True)
    try:
        serve(server, BODY, TAG, answer=ignores_several)
        story = fetch(strict, server, destination, LOT)
        assert story.hresult == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
        assert len(server.asked("GET")) == 1
    finally:
        strict.close()


def test_a_boundary_that_could_be_anything_is_refused(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    for kind in (
        "multipart/byteranges",
        'multipart/byteranges; boundary=""',
        f"multipart/byteranges; boundary={'x' * 71}",
    ):
        serve(
            server,
            BODY,
            TAG,
            answer=lambda *_, kind=kind: [head("206 P", f"Content-Type: {kind}", "Content-Length: 0")],
        )
        assert fetch(worker, server, destination, LOT).hresult == codes.BG_E_INVALID_SERVER_RESPONSE


# -- versions ---------------------------------------------------------------------------------------------------------


def test_another_version_of_a_file_of_ranges_is_never_mixed_in(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """OPEN-44: what is here is kept as it is, and who counts it is told."""
    other = os.urandom(SIZE)
    serve(server, other, 'ETag: "two"')
    destination.write_bytes(made_of(LOT)[:150])
    story = fetch(worker, server, destination, LOT, 150, **VERSION)
    assert (story.outcome, story.last["hresult"]) == ("restarted", codes.BG_E_REMOTE_FILE_CHANGED)
    assert "ETag" in story.last["reason"]
    assert destination.read_bytes() == made_of(LOT)[:150]


def test_a_part_of_another_version_is_not_taken_although_the_condition_was_ignored(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """A server may answer 206 whatever If-Range says: the ETag of the answer counts."""
    new = os.urandom(SIZE)
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", lambda request: list(several(new, spans_of(request), 'ETag: "two"')))
    destination.write_bytes(made_of(LOT)[:150])
    story = fetch(worker, server, destination, LOT, 150, **VERSION)
    assert (story.outcome, story.last["hresult"]) == ("restarted", codes.BG_E_REMOTE_FILE_CHANGED)
    assert destination.read_bytes() == made_of(LOT)[:150]


@pytest.mark.parametrize("fields", [(TAG,), (DATED,), ('ETag: W/"weak"', DATED)], ids=["tag", "date", "weak"])
def test_a_change_between_two_requests_begins_again_if_nothing_was_told(
    worker: WorkerProcess, server: FaultServer, destination: Path, fields: tuple[str, ...]
) -> None:
    """HEAD speaks of another version than GET, in size (row 7) and in name."""
    new = os.urandom(SIZE + 1)
    later = ('ETag: "new"', f"Last-Modified: {date(1_793_700_000)}")
    server.answer("HEAD", size_only(BODY, *fields), size_only(new, *later))
    server.answer("GET", lambda request: list(sound(new, *later)(request, spans_of(request))))
    story = fetch(worker, server, destination, LOT)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(LOT, new)
    assert "the file changed on the server" in note_of(story)


def test_a_server_whose_tags_are_new_each_time_is_known_by_its_date(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Row 18."""
    count = iter(range(1000))

    def answer(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
        fields = (f'ETag: "{next(count)}"', DATED)
        guard = request.headers.get("if-range", "")
        if guard.startswith('"') or not spans:
            return whole(BODY, *fields)
        return several(BODY, spans, *fields) if len(spans) > 1 else one(BODY, spans[0], *fields)

    server.answer("HEAD", lambda _: size_only(BODY, f'ETag: "{next(count)}"', DATED))
    server.answer("GET", lambda request: list(answer(request, spans_of(request))))
    story = fetch(worker, server, destination, LOT)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(LOT)


def test_a_server_of_two_nodes_with_tags_of_their_own_is_no_change(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Row 18: every other request meets the other node; the first one comes again and again, so nothing changed."""

    def answer(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
        tag = '"a"' if len(server.requests) % 2 else '"b"'
        fields = (f"ETag: {tag}", DATED)
        is_met = spans and request.headers.get("if-range") in {None, tag}
        return one(BODY, spans[0], *fields) if is_met else whole(BODY, *fields)

    server.answer("HEAD", size_only(BODY, 'ETag: "a"', DATED))
    server.answer("GET", lambda request: list(answer(request, spans_of(request))))
    story = fetch(worker, server, destination, LOT)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(LOT)
    assert "changed" not in note_of(story)


def test_without_tag_and_date_the_size_is_the_version(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    serve(server, BODY)
    story = fetch(worker, server, destination, LOT)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == made_of(LOT)
    assert "names no version" in note_of(story)


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "403 Forbidden", "501 Not Implemented"])
def test_where_head_is_refused_the_first_byte_tells_the_size(
    worker: WorkerProcess, server: FaultServer, destination: Path, status: str
) -> None:
    serve(server, BODY, TAG)
    server.answer("HEAD", [head(status, "Content-Length: 0")])
    parts: Parts = [(SIZE - 5, None), (0, 5)]
    story = fetch(worker, server, destination, parts)
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == made_of(parts)
    assert "HEAD refused" in note_of(story)
    assert asked(server)[0] == [(0, 0)]


def test_a_file_without_a_size_has_no_parts(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", [head("200 OK", TAG)])
    server.answer("GET", lambda request: one(BODY, spans_of(request)[0], TAG, total="*"))
    assert fetch(worker, server, destination, LOT).hresult == codes.BG_E_MISSING_FILE_SIZE


def test_an_empty_file_has_no_ranges(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    serve(server, b"", TAG)
    assert fetch(worker, server, destination, [(0, None)]).hresult == codes.BG_E_INVALID_RANGE


# -- random access ----------------------------------------------------------------------------------------------------


def order(worker: WorkerProcess, server: FaultServer, path: Path, *wanted: tuple[int, int | None], **known: Any) -> str:
    worker.entrusted = {"wanted": wanted}
    return worker.start(server.url(), path, **known)


def filled_by(worker: WorkerProcess, key: str, *bytes_: tuple[int, int]) -> None:
    """Wait until these are on the disk."""
    missing = {byte for start, length in bytes_ for byte in range(start, start + length)}

    def is_there(news: dict[str, Any]) -> bool:
        for start, length in news["ranges"]:
            missing.difference_update(range(start, start + length))
        return not missing

    worker.wait_for(key, "filled", until=is_there)


def test_what_is_wanted_comes_first_and_then_the_rest(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    serve(server, BODY, TAG)
    story = worker.story(order(worker, server, destination, (200_000, 1000), (50_000, 1000)))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY
    spans = [span for each in asked(server) for span in each]
    assert set(asked(server)[0]) >= {(200_000, 200_999), (50_000, 50_999)}
    assert sum(last + 1 - first for first, last in spans) == SIZE, "never a byte twice"


def test_on_demand_only_what_is_wanted_comes(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    serve(server, BODY, TAG)
    worker.is_on_demand = True
    key = order(worker, server, destination, (200_000, 1000), (299_000, None))
    filled_by(worker, key, (200_000, 1000), (299_000, 1000))
    worker.reposition(key, (100, 50), (200_500, 1000))
    filled_by(worker, key, (100, 50), (201_000, 500))
    worker.cancel(key)
    data = destination.read_bytes()
    assert data[200_000:201_500] == BODY[200_000:201_500]
    assert data[100:150] == BODY[100:150]
    assert data[299_000:] == BODY[299_000:]
    assert sum(last + 1 - first for each in asked(server) for first, last in each) == 1000 + 1000 + 50 + 500


def test_on_demand_the_last_range_makes_the_file_whole(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    serve(server, BODY, TAG)
    worker.is_on_demand = True
    key = order(worker, server, destination, (1000, None))
    filled_by(worker, key, (1000, SIZE - 1000))
    worker.reposition(key, (0, 1000))
    story = worker.story(key)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY


def held_after(count: int, gate: threading.Event) -> Any:
    """A sound server whose large answers wait after so many bytes."""

    def answer(request: Request, spans: Sequence[Span]) -> Iterator[Step]:
        top, content = sound(BODY, TAG)(request, spans)
        assert isinstance(content, bytes)
        yield top
        yield content[:count]
        if len(content) > count:
            gate.wait(30)
            yield content[count:]

    return answer


def test_a_new_position_is_gone_to_at_once_and_nothing_comes_twice(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """UpdateDownloadPosition while the file comes as a whole."""
    gate = threading.Event()
    server.answer("HEAD", size_only(BODY, TAG))
    act = held_after(20_000, gate)
    server.answer("GET", lambda request: act(request, spans_of(request)))
    key = worker.start(server.url(), destination)
    worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] == 20_000)
    worker.reposition(key, (250_000, 5000))
    filled_by(worker, key, (250_000, 5000))
    gate.set()
    story = worker.story(key)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY
    spans = [span for each in asked(server)[1:] for span in each]
    assert spans[0] == (250_000, 254_999)
    assert sum(last + 1 - first for first, last in spans) == SIZE - 20_000


def test_a_range_that_is_wanted_breaks_off_a_large_one(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    gate = threading.Event()
    server.answer("HEAD", size_only(BODY, TAG))
    act = held_after(20_000, gate)
    server.answer("GET", lambda request: act(request, spans_of(request)))
    worker.is_on_demand = True
    key = order(worker, server, destination, (0, 200_000))
    filled_by(worker, key, (0, 20_000))
    worker.reposition(key, (250_000, 500), (20_000, 180_000))
    filled_by(worker, key, (250_000, 500))
    gate.set()
    filled_by(worker, key, (20_000, 180_000))
    worker.cancel(key)
    assert asked(server) == [[(0, 199_999)], [(250_000, 250_499)], [(20_000, 199_999)]]


def test_what_is_coming_and_wanted_is_not_broken_off(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """It is received up to its end, and then what is wanted next."""
    gate = threading.Event()
    server.answer("HEAD", size_only(BODY, TAG))
    act = held_after(20_000, gate)
    server.answer("GET", lambda request: act(request, spans_of(request)))
    key = order(worker, server, destination, (0, None))
    filled_by(worker, key, (0, 20_000))
    worker.reposition(key, (20_000, 1000), (250_000, 500))
    gate.set()
    story = worker.story(key)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY
    assert asked(server)[:2] == [[(0, SIZE - 1)], [(250_000, 250_499)]]


def test_on_demand_a_server_without_ranges_is_an_error(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY, TAG)
    worker.is_on_demand = True
    story = worker.story(order(worker, server, destination, (5, 10)))
    assert story.hresult == codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED


def test_an_order_that_a_server_cannot_keep_costs_a_note_alone(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY, TAG)
    story = worker.story(order(worker, server, destination, (200_000, 1000)))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY
    assert "fetched as a whole" in note_of(story)


def test_bytes_beyond_a_gap_are_not_cut_where_ranges_are_lost(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """The server has no ranges any more: the file begins again, when the manager has forgotten what is here."""
    server.serve(BODY, TAG)
    content = BODY[:100] + bytes(900) + BODY[1000:2000]
    destination.write_bytes(content)
    worker.entrusted = {"filled": [(1000, 1000)]}
    story = worker.story(worker.start(server.url(), destination, 100, **VERSION))
    assert story.outcome == "restarted"
    assert destination.read_bytes() == content


# -- segments ---------------------------------------------------------------------------------------------------------

LARGE = os.urandom(1024 * 1024) * 24


def slowly(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
    """A way on which the whole file does not come at once."""
    top, content = sound(LARGE, TAG)(request, spans)
    assert isinstance(content, bytes)
    return [top, content] if spans else [top, content[:1_000_000], SILENCE]


def test_a_large_file_comes_over_several_connections(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    serve(server, LARGE, TAG, answer=slowly)
    worker.segments = 4
    story = worker.story(worker.start(server.url(), destination))
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == LARGE
    parts = [request for request in server.asked("GET") if "range" in request.headers]
    assert len({request.connection for request in parts}) >= 4
    assert all(request.headers["if-range"] == '"one"' for request in parts)


@pytest.mark.parametrize(
    ("body", "fields"), [(BODY, (TAG,)), (LARGE, ())], ids=["of a small file", "of a file without a version"]
)
def test_one_connection_is_enough(
    worker: WorkerProcess, server: FaultServer, destination: Path, body: bytes, fields: tuple[str, ...]
) -> None:
    """Parts that nothing proves to be of one version are not put together if the whole can be had."""
    serve(server, body, *fields)
    worker.segments = 4
    assert worker.story(worker.start(server.url(), destination)).outcome == "transferred"
    assert destination.read_bytes() == body
    assert len(server.asked("GET")) == 1


def test_a_server_that_refuses_more_connections_is_asked_over_fewer(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    lock, busy = threading.Lock(), set[int]()

    def answer(request: Request, spans: Sequence[Span]) -> Iterable[Step]:
        with lock:
            is_refused = bool(spans) and len(busy | {request.connection}) > 2
            busy.update(set() if is_refused else {request.connection} if spans else set())
        if is_refused:
            return [head("503 Service Unavailable", "Content-Length: 0")]
        return slowly(request, spans)

    serve(server, LARGE, TAG, answer=answer)
    worker.segments = 4
    story = worker.story(worker.start(server.url(), destination))
    assert story.outcome == "transferred", story.last
    assert destination.read_bytes() == LARGE


def test_a_change_between_two_segments_begins_the_file_again(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    other = os.urandom(len(LARGE))

    def answer(request: Request) -> list[Step]:
        is_old = len(server.asked("GET")) <= 2
        act = slowly if is_old else sound(other, 'ETag: "two"')
        return list(act(request, spans_of(request)))

    server.answer("HEAD", lambda request: answer(request)[:1])
    server.answer("GET", answer)
    worker.segments = 2
    story = worker.story(worker.start(server.url(), destination))
    if story.outcome == "restarted":
        assert "the file changed on the server" in story.last["reason"]
        worker.segments = 1
        story = worker.story(worker.start(server.url(), destination))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == other


def test_segments_of_a_server_without_ranges_are_one(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    top, content = whole(LARGE, TAG)
    assert isinstance(content, bytes)
    server.answer("HEAD", [top])
    server.answer("GET", [top, content[:1_000_000], SILENCE], [top, content])
    worker.segments = 4
    story = worker.story(worker.start(server.url(), destination))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == LARGE
    assert "fetched as a whole" in note_of(story)
