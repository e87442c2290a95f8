"""Canaries: secrets that a search finds wherever they are; tests entrust the service with nothing else (T-14).

Every service that a test starts runs at log level debug. When a test is over, each of its services must have kept
every canary to itself: none is in clear in a file of the state directory (store, log, shared memory of it), in what
the service wrote to its log, or in the command line or environment of one of its processes. A canary that a client
shows in an exception fails the test that made it, by `assert_hidden`.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

MARK = b"Canary5ecret"


def canary() -> str:
    """A new secret with the mark."""
    return f"{MARK.decode()}{secrets.token_hex(16)}"


def assert_hidden(*shown: object) -> None:
    """None of these shows a canary, neither to people nor to programs: exceptions with their notes, values, events."""
    for one in shown:
        notes = getattr(one, "__notes__", ())
        assert MARK.decode() not in f"{one} {one!r} {notes}"


def found_in_files(*places: Path, mark: bytes = MARK) -> list[str]:
    """The files, in these folders too, that have a canary in content or name. `mark`: of another kind of secret."""
    found = []
    for place in places:
        for path in [place, *place.rglob("*")]:
            with contextlib.suppress(OSError):  # of a service that runs, some go
                if mark in bytes(path) or (path.is_file() and mark in path.read_bytes()):
                    found.append(str(path))
    return found


def found_in_processes(spawner: int) -> list[str]:
    """The processes of a service whose command line or environment has a canary."""
    return [
        f"/proc/{pid}/{name}"
        for pid in (spawner, *_descendants(spawner))
        for name in ("cmdline", "environ", "comm")
        if MARK in _content(Path(f"/proc/{pid}/{name}"))
    ]


def _descendants(pid: int) -> Iterator[int]:
    """Children of each thread, and theirs, as the kernel lists them."""
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _content(thread).split()):
            yield child
            yield from _descendants(child)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
