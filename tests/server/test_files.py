"""Downloads (H14): ranges and validators as RFC 9110 says, and what the root gives away."""

import os
import threading
from pathlib import Path, PurePosixPath

import pytest

from openbits.server.files import OpenFile, Root, answer
from openbits.server.model import RefusedError

MODIFIED = 1_700_000_000.25
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
NOW = 1_800_000_000.0
FILE = OpenFile(descriptor=-1, size=1000, modified_at=MODIFIED)


@pytest.mark.parametrize(
    ("value", "status", "first", "length", "content_range"),
    [
        ("bytes=0-499", 206, 0, 500, "bytes 0-499/1000"),
        ("bytes=500-", 206, 500, 500, "bytes 500-999/1000"),
        ("bytes=-1", 206, 999, 1, "bytes 999-999/1000"),
        ("bytes=-5000", 206, 0, 1000, "bytes 0-999/1000"),
        ("bytes=999-5000", 206, 999, 1, "bytes 999-999/1000"),
        ("BYTES=1-1", 206, 1, 1, "bytes 1-1/1000"),
        ("bytes=1000-", 416, 0, 0, "bytes */1000"),
        ("bytes=1000-2000", 416, 0, 0, "bytes */1000"),
        ("bytes=-0", 416, 0, 0, "bytes */1000"),
        ("bytes=5-4", 200, 0, 1000, None),  # no valid range: ignored
        ("bytes=-", 200, 0, 1000, None),
        ("bytes=0-1,5-6", 200, 0, 1000, None),
        ("lines=0-1", 200, 0, 1000, None),
        ("bytes=0-1x", 200, 0, 1000, None),
        ("bytes=99999999999999999999-", 200, 0, 1000, None),
        ("bytes=\u0661-2", 200, 0, 1000, None),
    ],
)
def test_h14_a_range(value: str, status: int, first: int, length: int, content_range: str | None) -> None:
    found = answer({"range": value}, FILE, now=NOW)
    assert (found.status, found.length) == (status, length)
    assert dict(found.fields).get("content-range") == content_range
    if length:
        assert found.first == first


def test_h14_an_empty_file_has_no_range() -> None:
    empty = OpenFile(descriptor=-1, size=0, modified_at=MODIFIED)
    assert (answer({}, empty, now=NOW).status, answer({}, empty, now=NOW).length) == (200, 0)
    assert answer({"range": "bytes=0-"}, empty, now=NOW).status == 416


def test_h14_more_than_4_gib() -> None:
    large = OpenFile(descriptor=-1, size=2**40, modified_at=MODIFIED)
    found = answer({"range": f"bytes={2**32}-{2**40 - 1}"}, large, now=NOW)
    assert (found.first, found.length) == (2**32, 2**40 - 2**32)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"if-range": FILE.etag}, 206),
        ({"if-range": DATE}, 206),
        ({"if-range": '"other"'}, 200),
        ({"if-range": LATER}, 200),
        ({"if-range": f"W/{FILE.etag}"}, 200),  # a weak validator is none here
        ({"if-match": FILE.etag}, 206),
        ({"if-match": f'"other", {FILE.etag}'}, 206),
        ({"if-match": "*"}, 206),
        ({"if-match": '"other"'}, 412),
        ({"if-match": FILE.etag, "if-unmodified-since": EARLIER}, 206),
        ({"if-unmodified-since": DATE}, 206),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": "nonsense"}, 206),
        ({"if-none-match": FILE.etag}, 304),
        ({"if-none-match": f"W/{FILE.etag}"}, 304),
        ({"if-none-match": '"other"'}, 206),
        ({"if-none-match": '"other"', "if-modified-since": LATER}, 206),
        ({"if-modified-since": DATE}, 304),
        ({"if-modified-since": EARLIER}, 206),
        ({"if-modified-since": "nonsense"}, 206),
    ],
)
def test_h14_conditions(fields: dict[str, str], status: int) -> None:
    assert answer({"range": "bytes=0-1", **fields}, FILE, now=NOW).status == status


def test_h14_validators_are_stable_and_change_with_the_file() -> None:
    fields = dict(answer({}, FILE, now=NOW).fields)
    assert fields == dict(answer({}, FILE, now=NOW + 5).fields)
    assert fields["last-modified"] == DATE
    assert fields["accept-ranges"] == "bytes"
    others = [
        OpenFile(descriptor=-1, size=1001, modified_at=MODIFIED),
        OpenFile(descriptor=-1, size=1000, modified_at=MODIFIED + 1e-5),
    ]
    assert len({FILE.etag, *(other.etag for other in others)}) == 3


def test_a_file_of_the_future_is_not_newer_than_now() -> None:
    file = OpenFile(descriptor=-1, size=1, modified_at=NOW + 100)
    assert dict(answer({}, file, now=1_700_000_000.0).fields)["last-modified"] == DATE


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "root" / "folder").mkdir(parents=True)
    (tmp_path / "root" / "folder" / "file").write_text("file")
    (tmp_path / "secret").write_text("secret")
    return Root(tmp_path / "root")


def test_a_regular_file_is_opened(root: Root) -> None:
    file = root.open(PurePosixPath("folder/file"))
    assert os.read(file.descriptor, 10) == b"file"
    assert file.size == 4
    os.close(file.descriptor)


@pytest.mark.parametrize("path", ["folder", "nothing", "folder/nothing", "folder/file/deeper", "n" * 300])
def test_what_is_no_regular_file_is_not_there(root: Root, path: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        root.open(PurePosixPath(path))
    assert refusal.value.status == 404


def test_no_link_leads_out_or_anywhere(root: Root, tmp_path: Path) -> None:
    """§13: openat2 beneath the root, without symlinks; also if the caller did not look at the path."""
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    (tmp_path / "root" / "in").symlink_to("folder/file")
    for path in ("out/secret", "in", "../secret", "folder/../../secret", "/etc/passwd"):
        with pytest.raises(RefusedError):
            root.open(PurePosixPath(path))


def test_a_pipe_or_a_device_is_neither_opened_nor_waited_for(root: Root, tmp_path: Path) -> None:
    pipe = tmp_path / "root" / "pipe"
    os.mkfifo(pipe)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 -- descriptors, not paths
    with pytest.raises(RefusedError):
        root.open(PurePosixPath("pipe"))
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208
    writer = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_WRONLY)))  # waits for somebody who reads
    writer.start()
    try:
        for _ in range(100):
            with pytest.raises(RefusedError):
                root.open(PurePosixPath("pipe"))
        writer.join(0.2)
        assert writer.is_alive(), "a writer went on"
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join(10)
