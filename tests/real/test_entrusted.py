"""Credentials, custom headers and certificates in the whole service: who may, what is kept, what is gone again."""

import base64
import contextlib
import os
import secrets
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.canaries import assert_hidden, canary
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.stories import Job, create, real_user

import openbits
from openbits import BitsError
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore

pytestmark = pytest.mark.root

BASIC = (AuthTarget.SERVER, AuthScheme.BASIC)


@pytest.fixture(scope="module")
def mallory() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture
def owner(throwaway_user: Callable[..., User]) -> User:
    return throwaway_user()


def empty_job(service: Service, user: Any) -> Job:
    """A job without files."""

    def story() -> str:
        with service.client() as client:
            return str(client.create_job("story").id)

    return Job(service, run_as(user, story))


def as_owner(service: Service, user: Any, job_id: str, act: Callable[[openbits.Job], Any]) -> Any:
    """What `act` gives with the job as this user obtains it."""

    def call() -> Any:
        with service.client() as client:
            return act(client.job(job_id))

    return run_as(user, call)


def refusal(service: Service, user: Any, job_id: str, act: Callable[[openbits.Job], Any]) -> int:
    with pytest.raises(BitsError) as caught:
        as_owner(service, user, job_id, act)
    assert_hidden(caught.value)
    return caught.value.hresult


def hresult_of(call: Callable[..., object], *arguments: Any) -> int:
    """The code of a call that is refused."""
    with pytest.raises(BitsError) as caught:
        call(*arguments)
    assert_hidden(caught.value)
    return caught.value.hresult


def entrust(job: openbits.Job, password: str, headers: str) -> None:
    job.set_credentials(*BASIC, "alice", password)
    job.set_custom_headers(headers)


def secret_rows(service: Service) -> list[tuple[str, str]]:
    """Slot and key of all secrets in the store."""
    with contextlib.closing(sqlite3.connect(service.state / "queue" / "queue.db")) as store:
        return store.execute("SELECT slot, key_id FROM secrets ORDER BY slot").fetchall()


def files_with(service: Service, text: str) -> list[str]:
    """The files of the state directory, and the log, in which the text is."""
    paths = [service.log_path, *service.state.rglob("*")]
    return [str(path) for path in paths if path.is_file() and text.encode() in path.read_bytes()]


def test_what_is_entrusted_outlives_kill_9_and_goes_with_the_job(
    service: Service, site: Site, owner: User, private_folder: Callable[[Any], Path]
) -> None:
    password, cookie = canary(), canary()
    headers = f"Cookie: c={cookie}\r\nX-Tenant: t1\r\n"
    job = create(service, owner, [(site.put("/f", b"x" * 5000), private_folder(owner) / "f")], is_resumed=False)
    as_owner(service, owner, job.id, lambda held: entrust(held, password, headers))
    for killed in ("manager", "spawner"):
        service.kill(killed)
        if killed == "spawner":
            service.start()
        service.wait_until_it_answers()
        assert as_owner(service, owner, job.id, lambda held: held.custom_headers()) == headers
        assert [slot for slot, _ in secret_rows(service)] == ["headers", "server/basic"]
        with service.client() as client:  # administrators, too, see what there is
            assert client.job(job.id).info()["entrusted"] == ["headers", "server/basic"]
    assert files_with(service, password) == files_with(service, cookie) == []
    job.resume()
    job.reaches("transferred")
    assert {tuple(sorted(seen.items())) for seen in site.headers("/f", "cookie", "x-tenant")} == {
        (("cookie", f"c={cookie}"), ("x-tenant", "t1"))
    }
    job.complete()
    assert secret_rows(service) == []
    assert cookie not in service.log()


@pytest.mark.attack(22)
def test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read(
    service: Service, owner: User, root: Person, mallory: User
) -> None:
    """Credentials are write-only for all; administrators give none to foreign jobs and read no headers of them."""
    job = empty_job(service, owner)
    header, password = canary(), canary()
    as_owner(service, owner, job.id, lambda held: entrust(held, password, f"X-Key: {header}\r\n"))
    denied = codes.E_ACCESSDENIED
    for act in (
        lambda held: held.set_credentials(*BASIC, "root", canary()),
        lambda held: held.set_custom_headers("X-Key: 2\r\n"),
        lambda held: held.set_custom_headers(None),
        lambda held: held.custom_headers(),
        lambda held: held.set_client_certificate(CertStore.CURRENT_USER, "MY", subject="x"),
    ):
        assert refusal(service, root, job.id, act) == denied
        assert refusal(service, mallory, job.id, act) == denied  # obtains no handle
    assert refusal(service, root, job.id, lambda held: held.client_certificate()) == codes.RPC_X_BAD_STUB_DATA
    for reader in (owner, root):
        assert_hidden(as_owner(service, reader, job.id, lambda held: (held.info(), held.files())))
    assert as_owner(service, owner, job.id, lambda held: held.custom_headers()) == f"X-Key: {header}\r\n"
    as_owner(service, root, job.id, lambda held: held.make_custom_headers_write_only())  # a change, as others are
    assert refusal(service, owner, job.id, lambda held: held.custom_headers()) == denied
    as_owner(service, owner, job.id, lambda held: held.set_custom_headers("X-New: 1\r\n"))
    assert refusal(service, owner, job.id, lambda held: held.custom_headers()) == denied
    as_owner(service, root, job.id, lambda held: held.take_ownership())
    assert secret_rows(service) == []
    assert as_owner(service, root, job.id, lambda held: held.custom_headers()) is None


def test_the_identity_of_the_call_counts_too(
    service: Service, throwaway_user: Callable[..., User], root: Person
) -> None:
    """Root, who obtained its own job, calls as somebody else, and somebody else's handle is no use to root."""
    other = throwaway_user(password="once")

    def story() -> list[int]:
        found = []
        with service.client() as client, client.logon_user(other.name, None) as token:
            job = client.create_job("mine")
            with token.impersonate(), pytest.raises(BitsError) as caught:
                job.set_credentials(*BASIC, "a", "b")
            found.append(caught.value.hresult)
            with token.impersonate():
                theirs = client.create_job("theirs")
                theirs.set_credentials(*BASIC, "a", "b")
            with pytest.raises(BitsError) as caught:
                theirs.set_credentials(*BASIC, "a", "b")
            found.append(caught.value.hresult)
        return found

    assert run_as(root, story) == [codes.E_ACCESSDENIED, codes.E_ACCESSDENIED]


def test_results_of_setting_and_removing(service: Service, owner: User) -> None:
    def story() -> None:
        with service.client() as client:
            job = client.create_job("story")
            assert not job.remove_credentials(*BASIC)
            job.set_credentials(*BASIC, "alice", canary())
            job.set_credentials(AuthTarget.PROXY, AuthScheme.NEGOTIATE, None, None)
            assert job.remove_credentials(*BASIC)
            assert not job.remove_credentials(*BASIC)
            assert job.remove_credentials(AuthTarget.PROXY, AuthScheme.NEGOTIATE)
            assert job.custom_headers() is None
            job.set_custom_headers("X-A: 1")
            assert job.custom_headers() == "X-A: 1"
            job.set_custom_headers(None)
            assert job.custom_headers() is None
            job.set_custom_headers(None)
            job.set_custom_headers("X-A: " + "v" * 16_378)
            for code, act, *arguments in (
                (codes.BG_E_STRING_TOO_LONG, job.set_custom_headers, "X-A: " + "v" * 16_379),
                (codes.E_INVALIDARG, job.set_custom_headers, "Range: bytes=0-"),
                (codes.E_INVALIDARG, job.set_credentials, *BASIC, None, None),
                (codes.BG_E_USERNAME_TOO_LARGE, job.set_credentials, *BASIC, "u" * 301, ""),
                (codes.BG_E_PASSWORD_TOO_LARGE, job.set_credentials, *BASIC, "u", "\N{LOCK}" * 65_537),
            ):
                assert hresult_of(act, *arguments) == code
            job.set_credentials(*BASIC, "u" * 300, "\N{LOCK}" * 65_536)
            job.cancel()
            assert hresult_of(job.set_credentials, *BASIC, "a", "b") == codes.BG_E_INVALID_STATE
            assert hresult_of(job.remove_credentials, *BASIC) == codes.BG_E_INVALID_STATE
            assert hresult_of(job.set_custom_headers, "X-A: 1") == codes.BG_E_INVALID_STATE
            assert hresult_of(job.make_custom_headers_write_only) == codes.BG_E_INVALID_STATE
            assert hresult_of(job.remove_client_certificate) == codes.BG_E_INVALID_STATE
            assert job.custom_headers() is None

    run_as(owner, story)
    assert secret_rows(service) == []


MISSHAPEN: list[dict[str, Any]] = [
    {"target": "server", "scheme": "basic", "user": 5, "password": canary()},
    {"target": "server", "scheme": "basic", "user": "u", "password": [canary()]},
    {"target": "moon", "scheme": "basic", "user": canary(), "password": canary()},
    {"target": "server", "scheme": 7, "user": canary(), "password": canary()},
    {"target": "server", "scheme": "basic", "user": "u", "password": f"{canary()}\ud800"},
    {"target": "server", "scheme": "basic", "user": f"{canary()}{'u' * 300}", "password": f"{canary()}{'p' * 70_000}"},
]


@pytest.mark.parametrize("given", MISSHAPEN, ids=range(len(MISSHAPEN)))
def test_what_cannot_be_meant_shows_nothing_of_it(service: Service, owner: User, given: dict[str, Any]) -> None:
    """In the answer; the log is looked at when the test is over."""

    def story() -> None:
        with service.client() as client:
            client.create_job("story")
            hresult_of(client.call, "SetCredentials", {"handle": 1, **given})
            hresult_of(client.call, "SetCustomHeaders", {"handle": 1, "headers": [canary()]})
            hresult_of(client.call, "SetCustomHeaders", {"handle": 1, "headers": f"{canary()} no header"})

    run_as(owner, story)


# -- keys


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def test_a_line_appended_is_a_rotation_after_which_the_old_one_may_go(
    service: Service, owner: User, eventually: Callable[[Callable[[], object]], object]
) -> None:
    job = empty_job(service, owner)
    as_owner(service, owner, job.id, lambda held: held.set_custom_headers("X-A: 1\r\n"))
    old = secret_rows(service)
    path = service.state / "queue" / "bits-master"
    first = path.read_text()
    second = f"{new_key()}\n"
    service.stop()
    path.write_text(first + second)
    service.start()
    eventually(lambda: secret_rows(service) != old)
    assert [slot for slot, _ in secret_rows(service)] == ["headers"]
    service.stop()
    path.write_text(second)
    service.start()
    assert as_owner(service, owner, job.id, lambda held: held.custom_headers()) == "X-A: 1\r\n"


def test_without_its_key_a_job_says_so_and_goes_on_when_it_is_back(
    service: Service, site: Site, owner: User, private_folder: Callable[[Any], Path]
) -> None:
    job = create(service, owner, [(site.put("/f", b"x"), private_folder(owner) / "f")], is_resumed=False)
    as_owner(service, owner, job.id, lambda held: held.set_custom_headers("X-A: 1\r\n"))
    path = service.state / "queue" / "bits-master"
    key = path.read_text()
    service.stop()
    path.write_text(new_key())
    service.start()
    assert refusal(service, owner, job.id, lambda held: held.custom_headers()) == 0x80071771
    job.resume()
    error = job.reaches("transient_error")["error"]
    assert error is not None
    assert "master key" in error["message"]
    assert "missing" in error["message"]
    assert site.seen == []  # and nothing was asked for without the headers
    service.stop()
    path.write_text(key)
    service.start()
    job.reaches("transferred")
    assert {tuple(seen.items()) for seen in site.headers("/f", "x-a")} == {(("x-a", "1"),)}


def test_the_key_may_be_a_credential_that_only_root_can_read(
    make_service: Callable[..., Service], tmp_path: Path, owner: User
) -> None:
    """As systemd passes it: a folder of root's, named in the environment of the service alone."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    key = new_key()
    (folder / "bits-master").write_text(f"{key}\n")
    (folder / "bits-master").chmod(0o400)
    service = make_service(environ={"CREDENTIALS_DIRECTORY": str(folder)})
    service.start()
    job = empty_job(service, owner)
    as_owner(service, owner, job.id, lambda held: held.set_custom_headers("X-A: 1\r\n"))
    service.kill("manager")
    service.wait_until_it_answers()
    assert as_owner(service, owner, job.id, lambda held: held.custom_headers()) == "X-A: 1\r\n"
    assert not (service.state / "queue" / "bits-master").exists()
    for pid in service.pids().values():
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert key.encode() not in environ


# -- certificates


def make_certificate(folder: Path, user: User, subject: str) -> str:
    """A certificate and its key in a store of the user; its SHA-1."""
    folder.mkdir(parents=True)
    pem = folder / "a.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-subj", subject, "-keyout", folder / "a.key", "-out", pem], check=True, capture_output=True
    )
    digest = subprocess.run(
        ["openssl", "x509", "-in", pem, "-noout", "-fingerprint", "-sha1"], check=True, capture_output=True, text=True
    )
    for path in (folder, pem, folder / "a.key"):
        os.chown(path, user.uid, user.gid)
        path.chmod(0o700 if path is folder else 0o600)
    return digest.stdout.partition("=")[2].strip().replace(":", "").lower()


@pytest.mark.real("openssl")
def test_a_certificate_is_looked_for_as_the_owner(service: Service, owner: User) -> None:
    sha1 = make_certificate(owner.home / ".config/openbits/certs/MY", owner, "/C=DE/O=Example/CN=alice")
    hidden = make_certificate(service.config / "certs" / "HIDDEN", owner, "/CN=hidden")
    (service.config / "certs" / "HIDDEN").chmod(0o700)
    os.chown(service.config / "certs" / "HIDDEN", 0, 0)
    job = empty_job(service, owner)

    def story() -> list[object]:
        found: list[object] = []
        with service.client() as client:
            held = client.job(job.id)
            for location, store, wanted in (
                (CertStore.CURRENT_USER, "MY", {"sha1": "0" * 40}),
                (CertStore.CURRENT_USER, "MY", {"subject": "bob"}),
                (CertStore.CURRENT_USER, "OTHER", {"sha1": sha1}),
                (CertStore.LOCAL_MACHINE, "MY", {"sha1": sha1}),
                (CertStore.LOCAL_MACHINE, "HIDDEN", {"sha1": hidden}),
                (CertStore.SERVICES, "MY", {"sha1": sha1}),
            ):
                with pytest.raises(BitsError) as caught:
                    held.set_client_certificate(location, store, **wanted)
                found.append(caught.value.hresult)
            with pytest.raises(BitsError) as caught:
                held.client_certificate()
            found.append(caught.value.hresult)
            assert not held.remove_client_certificate()
            held.set_client_certificate(CertStore.CURRENT_USER, "MY", subject="alice, Example")
            found.append(held.client_certificate())
            held.set_client_certificate(CertStore.CURRENT_USER, "MY", sha1=sha1.upper())
            found.append(held.client_certificate())
        return found

    named = {"location": "current_user", "store": "MY"}
    assert run_as(owner, story) == [
        0x80092004,
        0x80092004,
        0x80070002,
        0x80070002,
        codes.E_ACCESSDENIED,
        codes.E_NOTIMPL,
        0x800706F7,
        {**named, "sha1": "", "subject": "alice, Example"},
        {**named, "sha1": sha1, "subject": ""},
    ]
    service.kill("manager")
    service.wait_until_it_answers()
    assert as_owner(service, owner, job.id, lambda held: held.client_certificate())["sha1"] == sha1
    assert as_owner(service, owner, job.id, lambda held: held.remove_client_certificate())
    assert refusal(service, owner, job.id, lambda held: held.client_certificate()) == 0x800706F7


@pytest.mark.real("strace")
def test_the_manager_writes_nothing_that_is_clear(service: Service, owner: User, tmp_path: Path) -> None:
    """Neither into the store, nor beside it, nor into a log, nor to another process."""
    password, told = canary(), tmp_path / "trace"
    job = empty_job(service, owner)
    calls = "trace=write,pwrite64,writev,pwritev,sendto,sendmsg"
    command = ["strace", "-f", "-e", calls, "-s", "65536", "-o", str(told), "-p", str(service.pids()["manager"])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        tracer.stderr.readline()  # attached
        as_owner(service, owner, job.id, lambda held: entrust(held, password, f"X-Key: {password}\r\n"))
        tracer.terminate()
    seen = told.read_text()
    assert "pwrite64(" in seen
    assert password not in seen


# -- what was part of a URL


def test_a_password_in_a_url_is_sealed_and_the_name_is_without_it(
    service: Service, site: Site, owner: User, root: Person, private_folder: Callable[[Any], Path]
) -> None:
    password, folder = canary(), private_folder(owner)
    url = site.put("/f", b"x" * 1000)
    with_user = url.replace("http://", f"http://alice:{password}@")
    job = create(service, owner, [(with_user, folder / "a"), (url, folder / "b")], is_resumed=False)
    as_owner(service, owner, job.id, lambda held: held.add_file(with_user, folder / "c"))
    assert {file["remote_name"] for file in job.files()} == {url}
    assert [slot for slot, _ in secret_rows(service)] == [f"url/{url.removesuffix('/f')}"]
    others = [url.replace("http://", user) for user in (f"http://alice:{canary()}@", "http://bob@")]
    others.append(f"http://alice:{canary() * 60}@long.example/f")
    for other in others:
        pair = (other, folder / "d")
        assert refusal(service, owner, job.id, partial(openbits.Job.add_files, files=[pair])) == codes.E_INVALIDARG
    elsewhere = f"http://alice:{password}@other.example/f"
    assert refusal(service, root, job.id, lambda held: held.add_file(elsewhere, folder / "d")) == codes.E_ACCESSDENIED
    job.resume()
    job.reaches("transferred")
    job.complete()
    assert secret_rows(service) == []
