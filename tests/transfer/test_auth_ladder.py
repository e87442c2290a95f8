"""How a worker answers servers that ask who it is (reliability.md §5 rows 31-35, user-pains 21), on the wire."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.transfer import authserver
from tests.transfer.authserver import BODY, PASSWORD, REALM, USER, Digest, ask, basic
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import CLOSE, FaultServer, Request, Step

UNAUTHORIZED = 0x80190191
PROXY_UNAUTHORIZED = 0x80190197


def credentials(
    scheme: str, *, user: str | None = USER, password: str | None = PASSWORD, **fields: Any
) -> dict[str, Any]:
    return {"target": "server", "scheme": scheme, "user": user, "password": password, "origin": None, **fields}


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    return start_worker()


def give(worker: WorkerProcess, *given: dict[str, Any]) -> None:
    worker.entrusted = {"credentials": list(given)}


def proofs(server: FaultServer) -> list[str]:
    """The schemes of the requests in their order, empty where nothing was sent."""
    return [request.headers.get("authorization", "").partition(" ")[0] for request in server.requests]


def test_nothing_is_sent_before_it_is_asked_for_and_then_at_once(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("GET", basic())
    give(worker, credentials("basic"))
    for path in ("/a/one", "/a/two", "/a/b/three", "/c/four"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
        assert destination.read_bytes() == BODY
    sent = list(zip([request.target for request in server.requests], proofs(server), strict=True))
    assert sent == [
        ("/a/one", ""), ("/a/one", "Basic"), ("/a/two", "Basic"), ("/a/b/three", "Basic"),
        ("/c/four", ""), ("/c/four", "Basic"),
    ]  # fmt: skip


def test_the_connection_is_kept(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", basic())
    give(worker, credentials("basic"))
    for path in ("/a/one", "/a/two"):
        worker.fetch(server.url(path), destination)
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"])
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_digest_is_answered_in_all_its_forms(
    worker: WorkerProcess, server: FaultServer, destination: Path, algorithm: str, qop: str
) -> None:
    asking = Digest(algorithm=algorithm, qop=qop)
    server.answer("GET", asking)
    give(worker, credentials("digest"))
    for path in ("/a?x=1&y=%7e", "/b/c"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
    assert proofs(server) == ["", "Digest", "Digest"]
    assert asking.counts == [1, 2]


def test_what_is_resumed_is_asked_for_again_with_its_range(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    destination.write_bytes(BODY[:1000])
    server.answer("GET", Digest())
    give(worker, credentials("digest"))
    story = worker.fetch(server.url(), destination, 1000, size_bytes=len(BODY), etag='"v1"')
    assert story.connected["offset"] == 1000
    assert destination.read_bytes() == BODY
    assert [request.offset for request in server.requests] == [1000, 1000]


def test_a_refusal_keeps_what_is_there_and_other_credentials_go_on(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    destination.write_bytes(BODY[:1000])
    server.answer("GET", basic())
    version = {"size_bytes": len(BODY), "etag": '"v1"'}
    give(worker, credentials("basic", password="old"))  # a test
    story = worker.fetch(server.url(), destination, 1000, **version)
    assert (story.hresult, story.last["durable_bytes"]) == (UNAUTHORIZED, 1000)
    assert destination.read_bytes() == BODY[:1000]
    give(worker, credentials("basic"))
    assert worker.fetch(server.url(), destination, 1000, **version).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_the_strongest_that_both_have_is_taken(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    digest = Digest()

    def both(request: Request) -> list[Step]:
        answer = list(digest(request))
        if isinstance(answer[0], bytes):
            answer[0] = answer[0].replace(b"WWW-Auth", b'WWW-Authenticate: Basic realm="x"\r\nWWW-Auth', 1)
        return answer

    server.answer("GET", both)
    give(worker, credentials("basic"), credentials("digest"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert proofs(server) == ["", "Digest"]


def told(story: Story, *words: str) -> None:
    for word in words:
        assert word in story.detail
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert PASSWORD not in repr(story.news)
    assert secret not in repr(story.news)


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_a_refused_password_is_sent_once_and_told(
    worker: WorkerProcess, server: FaultServer, destination: Path, scheme: str
) -> None:
    server.answer("GET", basic(password="another") if scheme == "basic" else Digest(password="another"))  # a test
    give(worker, credentials(scheme))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    assert story.last["context"] == "remote_file"
    name = scheme.title()
    told(story, "401 Unauthorized", f'asks {name} (realm "{REALM}")', f"sent: {name} as {USER}, refused")
    assert proofs(server) == ["", name]


def test_a_refused_password_is_tried_again_when_the_job_is_resumed(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """The account may have been unlocked meanwhile."""
    server.answer("GET", basic(password="another"))  # a test
    give(worker, credentials("basic"))
    for _ in range(2):
        worker.fetch(server.url(), destination)
    assert proofs(server) == ["", "Basic", "", "Basic"]


def test_basic_is_no_way_out_when_a_better_scheme_was_refused(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("GET", lambda _request: ask('Digest realm="r", nonce="n", qop="auth"', 'Basic realm="r"'))
    give(worker, credentials("digest"), credentials("basic", user="other", password="other"))  # a test
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "asks Digest", "Basic", f"sent: Digest as {USER}, refused", "not used: Basic as other")
    assert proofs(server) == ["", "Digest"]


@pytest.mark.parametrize(
    ("challenges", "words"),
    [
        (["Hawk"], "asks hawk"),
        (["Bearer realm=x"], 'asks bearer (realm "x")'),
        ([], "for nothing that is known"),
        (['Digest realm="r", nonce="n", algorithm=MD99'], "asks Digest"),
        (["Passport1.4"], "passport1.4"),
    ],
)
def test_a_scheme_that_is_not_spoken_ends_it(
    worker: WorkerProcess, server: FaultServer, destination: Path, challenges: list[str], words: str
) -> None:
    """Row 32."""
    server.answer("GET", ask(*challenges))
    give(worker, credentials("basic"), credentials("digest"))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, words)
    assert proofs(server) == [""]


def test_who_has_nothing_says_so(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", basic())
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "the job has no credentials for the server")
    assert len(server.requests) == 1


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_a_realm_that_changes_each_time_is_answered_three_times(
    worker: WorkerProcess, server: FaultServer, destination: Path, scheme: str
) -> None:
    """Row 31."""

    def answer(_request: Request) -> list[Step]:
        number = len(server.requests)
        return list(ask(f'{scheme} realm="realm {number}", nonce="{number}"'))

    server.answer("GET", answer)
    give(worker, credentials(scheme.lower()))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    assert proofs(server) == ["", scheme, scheme, scheme]


def test_a_nonce_that_is_too_old_is_no_refusal(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    asking = Digest(uses=1)
    server.answer("GET", asking)
    give(worker, credentials("digest"))
    for path in ("/one", "/two"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
    assert proofs(server) == ["", "Digest", "Digest", "Digest"]


def test_a_nonce_that_is_always_too_old_ends_it(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    """Row 33."""

    def answer(_request: Request) -> list[Step]:
        return list(ask(f'Digest realm="r", nonce="{len(server.requests)}", stale=true'))

    server.answer("GET", answer)
    give(worker, credentials("digest"))
    assert worker.fetch(server.url(), destination).hresult == UNAUTHORIZED
    assert proofs(server) == ["", "Digest", "Digest", "Digest", "Digest"]


def test_a_server_that_asks_like_a_proxy_is_given_nothing(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Row 35."""
    server.answer("GET", ask('Basic realm="x"', status="407 Proxy Authentication Required"))
    give(worker, credentials("basic", target="proxy"), credentials("basic"))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == PROXY_UNAUTHORIZED
    assert len(server.requests) == 1
    assert server.requests[0].headers.keys().isdisjoint({"authorization", "proxy-authorization"})


def test_the_own_header_of_the_job_is_not_replaced(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("GET", basic())
    give(worker, credentials("basic"))
    worker.headers = [("Authorization", "Bearer Canary5ecret")]
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "the job's own header")
    assert proofs(server) == ["Bearer"]


def test_files_of_a_job_that_run_together_send_a_wrong_password_once(
    worker: WorkerProcess, server: FaultServer, tmp_path: Path
) -> None:
    """An account is locked after a few wrong ones."""
    server.answer("GET", basic(password="another"))  # a test
    give(worker, credentials("basic"))
    worker.at_a_time = 4
    keys = [worker.start(server.url(f"/{number}"), tmp_path / str(number)) for number in range(4)]
    for key in keys:
        story = worker.story(key)
        assert story.hresult == UNAUTHORIZED
        told(story, f"sent: Basic as {USER}, refused")
    assert proofs(server).count("Basic") == 1


def test_files_of_a_job_that_run_together_all_come_in(
    worker: WorkerProcess, server: FaultServer, tmp_path: Path
) -> None:
    asking = Digest()
    server.answer("GET", asking)
    give(worker, credentials("digest"))
    worker.at_a_time = 4
    keys = [worker.start(server.url(f"/{number}"), tmp_path / str(number)) for number in range(4)]
    assert [worker.story(key).outcome for key in keys] == ["transferred"] * 4
    assert sorted(asking.counts) == [1, 2, 3, 4]


def test_the_one_who_tries_may_go_and_the_others_go_on(
    worker: WorkerProcess, server: FaultServer, tmp_path: Path
) -> None:
    """Its server breaks off while they wait for what it learns."""
    answering = basic()

    def answer(request: Request) -> list[Step]:
        if request.target == "/first" and "authorization" in request.headers:
            return [CLOSE]
        return list(answering(request))

    server.answer("GET", answer)
    give(worker, credentials("basic"))
    worker.at_a_time = 3
    first = worker.start(server.url("/first"), tmp_path / "first")
    others = [worker.start(server.url(f"/{number}"), tmp_path / str(number)) for number in range(2)]
    assert worker.story(first).outcome == "failed"
    assert [worker.story(key).outcome for key in others] == ["transferred"] * 2


def test_basic_over_http_can_be_forbidden(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", basic())
    give(worker, credentials("basic"))
    worker.authentication["basic_over_http"] = False
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "in clear")
    assert proofs(server) == [""]


def test_a_challenge_of_a_megabyte_ends_it(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", ask("Negotiate " + "A" * 1_000_000))
    give(worker, credentials("basic"))
    assert worker.fetch(server.url(), destination).outcome == "failed"
    assert authserver.BODY  # the worker lives
    server.answer("GET", basic())
    assert worker.fetch(server.url(), destination).outcome == "transferred"
