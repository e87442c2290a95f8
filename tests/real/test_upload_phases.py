"""While an upload waits, its job says for what: the session, the server, its application, the reply, the end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.conftest import Service
from tests.transfer.faultserver import SILENCE
from tests.transfer.uploadserver import UploadServer, honest, says_raw

from openbits import JobType, Outcome
from openbits.core.packets import PacketType

SIZE = 600_000
"""Two fragments: 256 KiB, and the rest, which is less than twice that."""


@pytest.fixture
def server() -> Iterator[UploadServer]:
    made = UploadServer()
    made.reply = b"answer"
    yield made
    made.close()


@pytest.fixture
def source(open_tmp_path: Path) -> Path:
    folder = open_tmp_path / "source"
    folder.mkdir()
    path = folder / "report.bin"
    path.write_bytes(bytes(SIZE))
    return path


SILENT = says_raw(SILENCE)

PHASES = {
    "session": (PacketType.CREATE_SESSION, [SILENT], "opening an upload session: waiting for the answer of {}"),
    "fragment": (PacketType.FRAGMENT, [SILENT], "waiting for the answer of {}"),
    "application": (
        PacketType.FRAGMENT,
        [honest, SILENT],
        "waiting for the answer of {} and of the application behind it",
    ),
    "reply": ("GET", [SILENT], "fetching the reply: waiting for the answer of {}"),
    "end": (PacketType.CLOSE_SESSION, [SILENT], "closing the upload session: waiting for the answer of {}"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_what_an_upload_waits_for_is_told(
    phase: str, service: Service, server: UploadServer, source: Path, eventually: Callable[..., object]
) -> None:
    kind, acts, words = PHASES[phase]
    server.tell(kind, *acts)
    server.tell("HEAD", SILENT if kind == "GET" else honest)  # by which a reply is asked for first
    with service.client() as client:
        job = client.create_job("report", type=JobType.UPLOAD_REPLY)
        job.add_file(server.url("/in/report.bin"), source)
        job.resume()
        expected = words.format(f"127.0.0.1:{server.port}")
        eventually(lambda: job.info()["phase"] == expected)
        job.cancel()


def test_the_reply_is_beside_the_numbers_of_the_upload(service: Service, server: UploadServer, source: Path) -> None:
    with service.client() as client:
        job = client.create_job("report", type=JobType.UPLOAD_REPLY)
        job.add_file(server.url("/in/report.bin"), source)
        job.resume()
        assert job.wait(20) is Outcome.TRANSFERRED, job.error
        info = job.info()
        assert (info["bytes_total"], info["bytes_transferred"]) == (SIZE, SIZE)
        assert job.reply_progress() == (6, 6)
        assert info["waiting"] is not None
        assert "its reply is here and not yet visible" in info["waiting"]["reason"]
        assert job.reply_data() == b"answer"
        assert job.complete() == 0
