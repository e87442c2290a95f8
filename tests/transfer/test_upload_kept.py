"""Nothing is sent under a session that the manager may not know after a crash (docs/processes.md, `kept`)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.uploadserver import UploadServer

from openbits.core.packets import PacketType

SIZE = 600_000
KNOWN = {
    "session_id": "{00000001-77D2-4B0E-9A53-0D1C6E2F8B44}",
    "host": "",
    "fallback_seconds": None,
    "host_failed_at": None,
    "is_received": False,
    "reply_url": "",
}
"""As `UploadServer` names its first one."""


@pytest.fixture
def server() -> Iterator[UploadServer]:
    server = UploadServer()
    yield server
    server.close()


def order(worker: WorkerProcess, server: UploadServer, folder: Path, session: dict[str, Any] | None) -> str:
    source = folder / "source"
    source.write_bytes(bytes(SIZE))
    worker.is_upload, worker.method = True, "BITS_POST"
    upload = {"step": "send", "session": session, "name": "source", "is_reply_wanted": False}
    key = "job:1:0"
    descriptor = os.open(source, os.O_RDONLY)
    worker.send({**worker.order(key, server.url("/x"), 0), "upload": upload}, [descriptor])
    os.close(descriptor)
    return key


def test_a_worker_waits_until_a_new_session_is_kept(
    start_worker: Callable[..., WorkerProcess], server: UploadServer, tmp_path: Path
) -> None:
    worker = start_worker()
    worker.keeps_sessions = False
    key = order(worker, server, tmp_path, None)
    worker.wait_for(key, "acknowledged")
    server.reply = b"meanwhile"
    worker.is_upload, worker.method = False, "GET"
    assert worker.fetch(server.url("/reply"), tmp_path / "reply").outcome == "transferred"
    assert server.sent(PacketType.FRAGMENT) == [], "and it had the time to send some"
    worker.send({"op": "kept", "transfer": key})
    assert worker.story(key).last["event"] == "transferred"
    assert server.files == {"/x": bytes(SIZE)}


def test_a_worker_does_not_wait_for_a_session_that_it_was_given(
    start_worker: Callable[..., WorkerProcess], server: UploadServer, tmp_path: Path
) -> None:
    worker = start_worker()
    worker.keeps_sessions = False
    first = order(worker, server, tmp_path, None)
    worker.wait_for(first, "acknowledged")
    worker.cancel(first)
    key = order(worker, server, tmp_path, KNOWN)
    assert worker.story(key).last["event"] == "transferred"
    assert len(server.sent(PacketType.CREATE_SESSION)) == 1
