"""The service starts on a store of every landed schema, and the jobs in it go on (tests/store/examples)."""

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site
from tests.store.examples.content import FOLDER, OF_SCHEMA, SERVER, SIZE_BYTES, of_schema, temporary
from tests.store.test_examples import EXAMPLES

from openbits.identity.filecalls import statx

pytestmark = pytest.mark.root

TOKEN_REQUIRED = 0x80200056
NOT_FOUND = 0x80190194
BODY = bytes(range(250)) * (SIZE_BYTES // 250)
RUNNABLE = {"queued", "connecting", "transferring", "transient_error"}

STATES_AFTER = {
    "empty": {"suspended"},
    "every property": {"suspended"},
    "queued": {"transferred"},
    "connecting": RUNNABLE,  # its owner has no account here
    "transferring": {"transferred"},
    "waits for its retry": RUNNABLE,
    "failed": {"error"},
    "transferred": {"transferred"},
    "its helper is gone": {"error"},
    "with a leftover": {"suspended"},
    "proxies": {"suspended"},
    "every option": {"suspended"},
    "ranges and random access": {"suspended"},
    "untold": {"transferred"},
    "upload with reply": {"suspended"},
}
"""What becomes of each job by a start and some time (jobs.md T25, T18, I-13); final jobs are not listed."""


@pytest.fixture
def folder(open_tmp_path: Path) -> Path:
    made = open_tmp_path / "example"
    made.mkdir()
    return made


def adapted(number: int, folder: Path, site: Site) -> str:
    """The dump as of an hour ago, with the real numbers of the folder and of root's temporary files, made here.

    As they are, all of its jobs have been inactive for years, and a start cancels them (jobs.md §18).
    """
    text = (EXAMPLES / f"schema{number}.sql").read_text()
    text = re.sub(r"17000000(\d\d\.25)", rf"{int(time.time()) // 100 - 36}\1", text)
    for count, size in ((1, SIZE_BYTES), (2, 1_000), (5, SIZE_BYTES)):
        made = temporary(count, uid=0)
        path = folder / made.name
        path.write_bytes(BODY[:size])
        path.chmod(0o600)
        with path.open("rb") as file:
            found = statx(file.fileno())
        text = text.replace(f'"ino":{made.ino},', f'"ino":{found.ino},')
        text = text.replace(f'"birth_ns":{made.birth_ns},', f'"birth_ns":{found.birth_ns},')
    status = folder.stat()
    text = text.replace(f'"dev":{FOLDER.dev},', f'"dev":{status.st_dev},')
    text = text.replace(f'"ino":{FOLDER.ino}}}', f'"ino":{status.st_ino}}}')
    for name in ("a", "first", "second", "third"):
        site.put(f"/{name}", BODY)
    text = text.replace('\\"v1\\"', site.tags["/second"].replace('"', '\\"'))
    text = re.sub(r'"last_modified":"[^"]*"', '"last_modified":"Wed, 01 Oct 2025 12:00:00 GMT"', text)
    return text.replace(SERVER, site.url).replace(FOLDER.path, str(folder))


def start_on(service: Service, script: str, folder: Path) -> None:
    """Put the dump in place of the queue of a stopped service, with root as admitted owner, and start it."""
    service.start()
    service.stop()
    queue = service.state / "queue"
    for path in queue.iterdir():
        path.unlink()
    with contextlib.closing(sqlite3.connect(queue / "queue.db")) as connection:
        connection.executescript(script)
    for path in (queue, *queue.iterdir()):
        os.chown(path, queue.stat().st_uid, queue.stat().st_gid)
    (queue / "queue.db").chmod(0o600)
    status, admitted = folder.stat(), service.state / "admitted" / "0.json"
    admitted.write_text(json.dumps([{"path": str(folder), "dev": status.st_dev, "ino": status.st_ino}]))
    admitted.chmod(0o600)
    service.start()


@pytest.mark.parametrize("number", sorted(OF_SCHEMA))
def test_jobs_of_an_old_store_go_on(
    number: int, make_service: Callable[..., Any], site: Site, folder: Path, eventually: Callable[..., Any]
) -> None:
    service = make_service()
    start_on(service, adapted(number, folder, site), folder)
    assert "store_damaged" not in service.log()

    with service.client() as client:

        def are_as_expected() -> bool:
            infos = client.job_infos(all_users=True)
            return all(info["state"] in STATES_AFTER[info["properties"]["display_name"]] for info in infos)

        eventually(are_as_expected)
        jobs = {job.info()["properties"]["display_name"]: job for job in client.jobs(all_users=True)}
        living = [job for job in of_schema(number) if not job.state.is_final]
        assert set(jobs) == {job.properties.display_name for job in living}
        assert jobs["failed"].info()["error"]["hresult"] == NOT_FOUND
        assert jobs["its helper is gone"].info()["error"]["hresult"] == TOKEN_REQUIRED
        assert jobs["its helper is gone"].info()["helper_token_flags"] == 3
        assert jobs["waits for its retry"].info()["error_count"] >= 2
        properties = jobs["every property"].info()["properties"]
        assert (properties["description"], properties["priority"]) == ("two\nlines", "low")

        assert [jobs[name].complete() for name in ("queued", "transferring", "transferred")] == [0, 0, 0]
        assert site.offsets("/first") == []
        assert site.offsets("/second") == [1_000]
        for name in ("a", "first", "second", "third", "done"):
            assert (folder / name).read_bytes() == BODY, name
        jobs["failed"].resume()
        jobs["empty"].set(description="changed")
        assert jobs["empty"].info()["properties"]["description"] == "changed"
    service.kill("spawner")
    service.start()
    with service.client() as client:
        assert len(client.job_infos(all_users=True)) == len(jobs) - 3
