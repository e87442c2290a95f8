"""Files in parts from real servers: what they say to many ranges at a time, and what that costs."""

import os
import time
from pathlib import Path

import pytest
from tests.real.apache import Apache
from tests.real.nginx import Certificates, Nginx
from tests.transfer.conftest import WorkerProcess

BODY = os.urandom(1024 * 1024) * 8
SIZE = len(BODY)

SHAPES: dict[str, list[tuple[int, int | None]]] = {
    "five hundred, forwards": [(start * 16_000, 1000) for start in range(500)],
    "five hundred, backwards": [(start * 16_000, 1000) for start in range(500, 0, -1)],
    "large and small in disorder": [(4_000_000, 3_000_000), (10, 5), (7_500_000, None), (100, 1_000_000)],
    "ten thousand": [(start * 800, 7) for start in range(10_000)],
    "neighbours": [(start * 100, 100) for start in range(150)],
    "nearly neighbours": [(start * 20, 10) for start in range(150)],
}


def fetched(url: str, parts: list[tuple[int, int | None]], path: Path, ca: Path | None = None) -> bytes:
    """The file that is made of these parts; it takes no ten seconds, and no second request for any of them."""
    worker = WorkerProcess(ca=ca)
    try:
        worker.entrusted = {"ranges": parts}
        begun = time.monotonic()
        story = worker.story(worker.start(url, path))
        assert story.outcome == "transferred", story.last
        assert time.monotonic() - begun < 10
        assert "one range per request" not in str(story.news)
    finally:
        worker.close()
    return path.read_bytes()


def made_of(parts: list[tuple[int, int | None]]) -> bytes:
    return b"".join(BODY[start : None if length is None else start + length] for start, length in parts)


@pytest.mark.real("nginx")
@pytest.mark.parametrize("over", ["plain", "tls"])
@pytest.mark.parametrize("parts", SHAPES.values(), ids=SHAPES)
def test_nginx_delivers_files_of_ranges(
    nginx: Nginx, certificates: Certificates, tmp_path: Path, parts: list[tuple[int, int | None]], over: str
) -> None:
    (nginx.root / "ranged").write_bytes(BODY)
    url = nginx.url("/ranged", tls=over == "tls")
    assert fetched(url, parts, tmp_path / "file", certificates.ca) == made_of(parts)


@pytest.mark.root
@pytest.mark.real("apache2")
def test_apache_delivers_files_of_ranges(open_tmp_path: Path, certificates: Certificates, tmp_path: Path) -> None:
    """It answers more than 200 ranges, or more than 20 that go backwards, with the whole file."""
    apache = Apache(open_tmp_path, certificates)
    try:
        (apache.root / "ranged").write_bytes(BODY)
        (apache.root / "ranged").chmod(0o644)
        for parts in SHAPES.values():
            assert fetched(apache.url("/open/ranged"), parts, tmp_path / "file") == made_of(parts)
            (tmp_path / "file").unlink()
    finally:
        apache.close()
