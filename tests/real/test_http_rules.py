"""HTTP rules through the whole service: what the job, the settings and the server say, and what people see.

jobs.md §9.1, §9.3, §9.4, §9.9, §13; reliability.md §5 rows 40, 55-58; the bytes on the wire are tests of the worker.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service
from tests.real.stories import Job, cancel_all, create, real_user, running_service
from tests.transfer.faultserver import CLOSE, FaultServer, Request, Step, head, part, size_only, whole

from openbits.core import codes
from openbits.core.enums import SecurityFlags

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(300_000)
HALF = len(BODY) // 2
TAG = 'ETag: "one"'


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service of most tests here, with an empty queue."""
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def strict_running() -> Iterator[Service]:
    with running_service('[http]\nstrict = true\ndenied_networks = ["127.0.0.2/32"]\n') as made:
        yield made


@pytest.fixture
def strict(strict_running: Service) -> Iterator[Service]:
    """One that is strict, and denies an address of this machine."""
    yield strict_running
    cancel_all(strict_running)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Says what it is told."""
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def stranger() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


@pytest.fixture
def fetch(service: Service, owner: Any, folder: Path) -> Callable[..., Job]:
    """`fetch(url)`: a job of the owner that is under way."""
    return lambda url, **properties: create(service, owner, [(url, folder / "file")], **properties)


def ends_well(job: Job, folder: Path, body: bytes = BODY) -> None:
    job.reaches("transferred")
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == body


# -- HEAD, strict (jobs.md §9.1, §9.2)


def test_a_refused_head_is_noted_and_not_asked_again(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    """user-pains 10: links that are signed for GET alone."""
    server.answer("HEAD", [head("403 Forbidden", "Content-Length: 0")])
    server.answer("GET", whole(BODY, TAG))
    job = fetch(server.url("/file?X-Signature=s"))
    job.reaches("transferred")
    note = "HEAD refused (403), GET works; HEAD skipped from now on for this host"
    assert job.files()[0]["note"] == note
    ends_well(job, folder)
    again = fetch(server.url("/file?X-Signature=t"))
    again.reaches("transferred")
    assert [request.method for request in server.requests] == ["HEAD", "GET", "GET"]


def test_foreground_asks_once(fetch: Callable[..., Job], server: FaultServer, folder: Path) -> None:
    server.serve(BODY)
    ends_well(fetch(server.url(), priority="foreground"), folder)
    assert [request.method for request in server.requests] == ["GET"]


def test_strict_is_a_setting_of_the_service(strict: Service, server: FaultServer, owner: Any, folder: Path) -> None:
    server.answer("HEAD", [head("200 OK")])
    server.answer("GET", [head("200 OK"), BODY, CLOSE])
    job = create(strict, owner, [(server.url(), folder / "file")])
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_MISSING_FILE_SIZE, "remote_file")
    server.serve(BODY)
    job.resume()
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_INSUFFICIENT_RANGE_SUPPORT, "remote_file")
    job.set(priority="foreground")  # what BITS documents as the cure
    job.resume()
    ends_well(job, folder)


def test_a_denied_network_is_named_and_no_request_is_sent(
    strict: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    other = FaultServer(host="127.0.0.2")
    try:
        other.serve(BODY)
        redirect: list[Step] = [head("302 Found", f"Location: {other.url(host='127.0.0.2')}", "Content-Length: 0")]
        server.answer("HEAD", redirect)
        job = create(strict, owner, [(server.url(), folder / "file")])
        job.reaches("error")
        assert job.code == ("error", codes.E_ACCESSDENIED, "general_transport")
        assert "denied_networks under [http]" in job.error["message"]
        assert other.requests == []
    finally:
        other.close()


def test_link_local_addresses_are_denied_by_default(fetch: Callable[..., Job], server: FaultServer) -> None:
    """A connection to the metadata server of a cloud, were there one: none is made here, the route may be missing."""
    server.answer("GET", [head("302 Found", "Location: http://169.254.169.254/latest/", "Content-Length: 0")])
    job = fetch(server.url(), priority="foreground")
    job.reaches("error", "transient_error", seconds=40)
    assert job.error["hresult"] in {
        codes.E_ACCESSDENIED,
        codes.ERROR_WINHTTP_CANNOT_CONNECT,
        codes.ERROR_WINHTTP_TIMEOUT,
    }
    assert "169.254.169.254" in job.error["message"]


# -- redirects (jobs.md §9.4)


def redirecting(to: str, file: list[Step]) -> Callable[[Request], list[Step]]:
    """`/a` leads elsewhere, everything else is the file."""
    moved: list[Step] = [head("302 Found", f"Location: {to}", "Content-Length: 0")]
    return lambda request: moved if request.target == "/a" else file


def test_a_reported_redirect_is_the_remote_name_and_requests_begin_at_the_given_one(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    short: list[Step] = [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], CLOSE]
    server.answer("GET", redirecting("/b?signature=1", short))
    job = fetch(server.url("/a"), priority="foreground", security_flags=SecurityFlags.REDIRECT_ALLOW_REPORT)
    job.reaches("transient_error")
    assert job.files()[0]["remote_name"] == server.url("/b?signature=1")
    server.answer("GET", redirecting("/b?signature=2", part(BODY, HALF, TAG)))
    job.service.kill("manager")
    ends_well(job, folder)
    assert [request.target for request in server.requests[-2:]] == ["/a", "/b?signature=2"]


def test_a_disallowed_redirect_is_an_error_with_the_target_as_remote_name(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    server.answer("GET", redirecting("/b", whole(BODY)))
    job = fetch(server.url("/a"), priority="foreground", security_flags=SecurityFlags.REDIRECT_DISALLOW)
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_HTTP_ERROR_302, "remote_file")
    assert job.files()[0]["remote_name"] == server.url("/b")
    assert len(server.requests) == 1
    job.resume()  # who resumes agrees to the new name
    ends_well(job, folder)


# -- other methods, made content, the limit (jobs.md §9.9, §13)


def test_another_method_is_sent_and_begins_again_after_any_error(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    """M4: an error that others try again after is fatal; Resume begins at byte 0."""
    server.answer("PROPFIND", [head("207 Multi-Status", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], CLOSE])
    job = fetch(server.url(), http_method="PROPFIND")
    job.reaches("error")
    assert job.code == ("error", codes.ERROR_WINHTTP_CONNECTION_ERROR, "general_transport")
    server.answer("PROPFIND", [head("207 Multi-Status", f"Content-Length: {len(BODY)}", TAG), BODY])
    job.resume()
    ends_well(job, folder)
    assert [(one.method, one.headers.get("range")) for one in server.requests] == [("PROPFIND", None)] * 2


def test_dynamic_content_begins_again_after_each_interruption(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    server.answer("GET", [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], CLOSE], whole(BODY, TAG))
    job = fetch(server.url(), dynamic_content=True, priority="foreground")
    ends_well(job, folder)
    assert [(one.method, one.headers.get("range")) for one in server.requests] == [("GET", None)] * 2


def test_dynamic_content_is_refused_in_the_background(fetch: Callable[..., Job], server: FaultServer) -> None:
    job = fetch(server.url(), dynamic_content=True, priority="normal")
    job.reaches("error")
    assert job.error["hresult"] == codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION
    assert "set priority foreground" in job.error["message"]
    assert server.requests == []


def test_the_limit_counts_all_files_of_the_job_and_cuts_off_what_has_no_size(
    service: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    def files(request: Request) -> Iterable[Step]:
        if request.target == "/first":
            yield from whole(BODY)
            return
        yield head("200 OK", "Connection: close")
        while True:
            yield BODY

    server.answer("GET", files)
    pairs = [(server.url("/first"), folder / "first"), (server.url("/endless"), folder / "second")]
    job = create(service, owner, pairs, priority="foreground", max_download_size_bytes=2 * len(BODY))
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED, "remote_file")


# -- resuming with any server (reliability.md §5 note A)


def test_a_server_without_ranges_costs_time_and_no_progress(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    server.answer(
        "GET",
        [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], CLOSE],
        [head("200 OK", f"Content-Length: {len(BODY)}", TAG, "Accept-Ranges: none"), BODY[: HALF // 2], CLOSE],
        whole(BODY, TAG, "Accept-Ranges: none"),
    )
    job = fetch(server.url(), priority="foreground")
    job.saves(HALF)
    job.reaches("transferred", seconds=30)
    assert "come again and are left out" in job.files()[0]["note"]
    ends_well(job, folder)


def test_a_file_that_no_version_is_told_of_is_given_up_after_three_restarts_with_the_cause(
    fetch: Callable[..., Job], server: FaultServer
) -> None:
    server.answer("GET", [head("200 OK", f"Content-Length: {len(BODY)}"), BODY[:HALF], CLOSE])
    job = fetch(server.url(), priority="foreground", minimum_retry_delay_seconds=5)
    for _ in range(4):
        if job.reaches("error", "transient_error", seconds=20)["state"] == "error":
            break
        job.saves(1)
        job.service.kill("manager")  # the count is that of the job, not of the manager
    job.reaches("error", seconds=40)
    assert job.code == ("error", codes.BG_E_INSUFFICIENT_RANGE_SUPPORT, "remote_file")
    assert "neither ETag nor Last-Modified" in job.error["message"]


# -- servers that want time (rows 55, 56)


def test_a_server_that_asks_for_time_is_not_asked_by_another_job_and_strangers_see_nothing_of_it(
    service: Service,
    server: FaultServer,
    owner: Any,
    stranger: Any,
    folder: Path,
    private_folder: Callable[[Any], Path],
) -> None:
    server.answer("GET", [head("429 Too Many Requests", "Retry-After: 600", "Content-Length: 0")])
    first = create(service, owner, [(server.url("/a"), folder / "a")], priority="foreground")
    info = first.reaches("transient_error")
    assert first.error["hresult"] == codes.HTTP_STATUS_429
    assert info["waiting"] is not None
    assert info["waiting"]["next_at"] is not None
    assert 590 < info["waiting"]["next_at"] - time.time() < 610
    second = create(service, owner, [(server.url("/b"), folder / "b")], priority="foreground")
    waiting = second.reaches("transient_error")["waiting"]
    assert waiting is not None
    assert waiting["reason"].startswith("held up: HTTP_STATUS_429 (0x801901AD)")
    assert "because it asked for time" in waiting["reason"]
    assert waiting["next_at"] is not None
    assert 0 < waiting["next_at"] - time.time() < 670
    assert [request.target for request in server.requests] == ["/a"]
    assert second.info()["error_count"] == 0
    elsewhere = private_folder(stranger)
    of_stranger = create(service, stranger, [(server.url("/s"), elsewhere / "s")], priority="foreground")
    waiting = of_stranger.reaches("transient_error")["waiting"]
    assert waiting is not None
    assert "because it asked for time" not in waiting["reason"], "P9: it has asked for itself"
    assert [request.target for request in server.requests] == ["/a", "/s"]

    server.answer("GET", whole(BODY))  # it has time again; who resumes by hand asks all the same
    second.resume()
    second.reaches("transferred")
    third = create(service, owner, [(server.url("/c"), folder / "c")], priority="foreground")
    third.reaches("transferred")
    assert [request.target for request in server.requests] == ["/a", "/s", "/b", "/c"]


def test_a_server_that_is_busy_holds_up_no_other_server(
    service: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    other = FaultServer()
    try:
        server.answer("GET", [head("503 Busy", "Retry-After: 600", "Content-Length: 0")])
        create(service, owner, [(server.url("/a"), folder / "a")], priority="foreground").reaches("transient_error")
        other.serve(BODY)
        create(service, owner, [(other.url("/a"), folder / "b")], priority="foreground").reaches("transferred")
    finally:
        other.close()


# -- login pages of networks (rows 57, 58)


def test_a_login_page_does_not_cost_what_is_here(fetch: Callable[..., Job], server: FaultServer, folder: Path) -> None:
    kind = "Content-Type: application/zip"
    short: list[Step] = [head("200 OK", f"Content-Length: {len(BODY)}", TAG, kind), BODY[:HALF], CLOSE]
    page = whole(b"<html>please log in", "Content-Type: text/html")

    def rest(request: Request) -> list[Step]:
        return part(BODY, request.offset or 0, TAG, kind)

    server.answer("GET", short, page, page, rest)
    job = fetch(server.url(), priority="foreground")
    job.saves(HALF)
    job.reaches("transferred", seconds=30)
    assert [request.offset for request in server.requests] == [None, HALF, HALF, HALF]
    ends_well(job, folder)


def test_a_login_page_says_what_to_do(fetch: Callable[..., Job], server: FaultServer) -> None:
    server.answer("HEAD", size_only(BODY, "Content-Type: application/zip"))
    server.answer("GET", whole(b"<html>please log in", "Content-Type: text/html"))
    job = fetch(server.url())
    job.reaches("transient_error")
    assert job.error["hresult"] == 0x801901FF
    assert "log in to the network" in job.error["message"]
