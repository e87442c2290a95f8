"""The sections: what is fetched in each, and how a row of its table is measured and told."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import measure, peers, rates, stops, uploads
from bench.measure import MIB, Cost, FailedError
from bench.peers import Task
from bench.place import Place

KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    only: tuple[str, ...]
    programs: tuple[str, ...]
    rounds: int
    size_mib: int
    parallel: int
    folder: Path
    json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison. `measure` runs a program once; `line` tells a median beside that of curl."""

    section: str
    title: str
    total_bytes: int
    measure: Callable[[str], Cost]
    programs: frozenset[str]
    heading: str = "  seconds    MiB/s   CPU s/GB   peak MiB           beside curl: time, CPU"
    tell: Callable[[Cost], str] | None = None

    def line(self, cost: Cost, base: Cost | None) -> str:
        """Figures of one program."""
        if self.tell is not None:
            return self.tell(cost)
        speed, cpu = self.total_bytes / MIB / cost.wall_seconds, cost.cpu_seconds / (self.total_bytes / 1e9)
        peaks = " ".join(f"{who[:1]}{size / MIB:.0f}" for who, size in cost.peak_bytes.items())
        ratio = ""
        if base is not None and base is not cost:
            ratio = f"{cost.wall_seconds / base.wall_seconds:.2f} {cost.cpu_seconds / base.cpu_seconds:.2f}"
        return f"{cost.wall_seconds:9.2f} {speed:8.0f} {cpu:10.2f}   {peaks:<18} {ratio}"


def large(place: Place, options: Options) -> Iterator[Row]:
    """G1: one large file."""
    yield from _files(place, "large", f"one file of {options.size_mib} MiB", 1, options.size_mib * MIB, parallel=1)


def small(place: Place, options: Options) -> Iterator[Row]:
    """G2: many small files."""
    count, title = 2000, f"2,000 files of 64 KiB, {options.parallel} at a time"
    yield from _files(place, "small", title, count, 64 * KIB, parallel=options.parallel)


def medium(place: Place, options: Options) -> Iterator[Row]:
    """Files of a middle size."""
    count, title = 200, f"200 files of 10 MiB, {options.parallel} at a time"
    yield from _files(place, "medium", title, count, 10 * MIB, parallel=options.parallel)


def connections(place: Place, _options: Options) -> Iterator[Row]:
    """G3: many connections at a time, each for long, and each for a file after the other."""
    yield from _files(place, "connections", "100 files of 16 MiB, all at a time", 100, 16 * MIB, parallel=100)
    yield from _files(place, "connections-short", "400 files of 1 MiB, 100 at a time", 400, MIB, parallel=100)


def ranges(place: Place, _options: Options) -> Iterator[Row]:
    """Parts of a file."""
    _filled(place, "ranges", 1, stops.FILE_BYTES)
    fetch = functools.partial(stops.ranges, place)
    yield from _both("ranges", stops.RANGES_TITLE, stops.RANGES_BYTES, fetch, frozenset({"curl", peers.OURS}))


def resume(place: Place, _options: Options) -> Iterator[Row]:
    """A file that somebody stops and resumes."""
    _filled(place, "resume", 1, stops.FILE_BYTES)
    yield Row(
        section="resume",
        title=stops.RESUME_TITLE,
        total_bytes=stops.FILE_BYTES,
        measure=functools.partial(stops.resume, place),
        programs=frozenset({"curl", "aria2c", "wget2", peers.OURS}),
        heading=stops.RESUME_HEADING,
        tell=stops.tell_resume,
    )


def limit(place: Place, _options: Options) -> Iterator[Row]:
    """G5: a fixed limit."""
    for rate in rates.LIMITS:
        size = rate * rates.SECONDS
        task = _task(place, f"limit-{rate}", _filled(place, f"limit-{rate}", 1, size), size, 1, tls=False)
        yield Row(
            section="limit",
            title=f"G5: a limit of {rate / 1e6:g} MB/s, {rates.SECONDS} s",
            total_bytes=size,
            measure=functools.partial(rates.limited, place, task, rate),
            programs=frozenset(peers.PROGRAMS) - {"curl, synced", "wget2"},  # wget2 1.99 has no limit
            heading=rates.HEADING,
            tell=rates.tell,
        )


def upload(place: Place, options: Options) -> Iterator[Row]:
    """One large file to a server."""
    size = min(options.size_mib, 1024) * MIB
    _filled(place, "upload", 1, size)
    title = f"upload of one file of {size // MIB} MiB, CPU with that of the server"
    put = functools.partial(uploads.put, place, size)
    yield from _both("upload", title, size, put, uploads.programs())


SECTIONS: Final[Mapping[str, Callable[[Place, Options], Iterator[Row]]]] = {
    "large": large,
    "small": small,
    "medium": medium,
    "connections": connections,
    "ranges": ranges,
    "resume": resume,
    "limit": limit,
    "upload": upload,
}


def _files(place: Place, section: str, title: str, count: int, size_bytes: int, *, parallel: int) -> Iterator[Row]:
    """Whole files, plain and TLS."""
    names = _filled(place, section, count, size_bytes)

    def fetch(program: str, *, tls: bool) -> Cost:
        task = _task(place, section, names, size_bytes * count, parallel, tls=tls)
        ours = place.service if program == peers.OURS else None
        cost = measure.run(peers.PROGRAMS[program](task, place.output), ours)
        found = [path.stat().st_size for path in place.output.rglob("*") if path.is_file()]
        if found != [size_bytes] * count:
            raise FailedError(f"fetched {len(found)} files with {sum(found)} bytes")
        return cost if program != "curl, synced" else replace(cost, peak_bytes={})  # that of the shell

    yield from _both(section, title, size_bytes * count, fetch, frozenset(peers.PROGRAMS))


def _both(
    section: str, title: str, total_bytes: int, fetch: Callable[..., Cost], programs: frozenset[str]
) -> Iterator[Row]:
    for words, tls in (("plain", False), ("TLS 1.3", True)):
        run = functools.partial(fetch, tls=tls)
        named = f"{title}, {words}"
        yield Row(section=section, title=named, total_bytes=total_bytes, measure=run, programs=programs)


def _filled(place: Place, section: str, count: int, size_bytes: int) -> tuple[str, ...]:
    names = tuple(f"{number:04}" for number in range(count))
    place.fill(section, names, size_bytes)
    return names


def _task(place: Place, section: str, names: tuple[str, ...], total_bytes: int, parallel: int, *, tls: bool) -> Task:
    return Task(
        base=place.nginx.url(f"/{section}", tls=tls),
        names=names,
        total_bytes=total_bytes,
        parallel=parallel,
        ca=place.certificates.ca,
        scratch=place.scratch,
    )
