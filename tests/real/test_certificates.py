"""Certificates through the whole service, with real users: clients' (T-15), and the check of revocation lists.

The owner's broker reads certificate and key under the owner's uid, the worker of the network identity gets them in
memory; the server says whose certificate it saw, the kernel whose socket it was.
"""

import base64
import os
import pwd
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.conftest import User
from tests.real.authority import CLIENT, DER, PEM, Authority, Pair
from tests.real.conftest import Service, run_as
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service
from tests.real.tls_daemons import TlsApache, TlsNginx
from tests.transfer.faultserver import FaultServer, Request, Step, head, part, whole
from tests.transfer.tlsserver import TlsServer

import openbits
from openbits.core import codes
from openbits.core.enums import CertStore, SecurityFlags

pytestmark = [pytest.mark.root, pytest.mark.real("nginx", "apache2")]

BODY = secrets.token_bytes(300_000)
CHECK = SecurityFlags.ENABLE_CRL_CHECK
NO_KEY = codes.ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY
NO_ACCESS = codes.ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY

ROOT, CLIENTS = Authority(), Authority("Clients")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """It trusts ROOT."""
    with running_service() as made:
        made.configure(f'[tls]\nca_file = "{ROOT.file(made.config)}"\n')
        made.stop()
        made.start()
        yield made


@pytest.fixture(autouse=True)
def no_job_left(service: Service) -> Iterator[None]:
    yield
    cancel_all(service)
    shutil.rmtree(service.config / "crls", ignore_errors=True)


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def helper() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: User) -> Path:
    return private_folder(owner)


@pytest.fixture
def alice() -> Pair:
    return Authority("Between clients", above=CLIENTS).issue(usage=[CLIENT], subject="alice")


@pytest.fixture
def store(owner: User) -> Iterator[Path]:
    """The store MY of the owner."""
    top = owner.home / ".config"
    path = top / "openbits/certs/MY"
    path.mkdir(parents=True)
    give(top, owner)
    yield path
    shutil.rmtree(top)


def give(path: Path, user: User) -> None:
    """All of it is this user's alone."""
    for one in (path, *path.rglob("*")):
        os.chown(one, user.uid, user.gid)
        one.chmod(0o700 if one.is_dir() else 0o600)


def put(store: Path, user: User, pair: Pair) -> None:
    pair.files(store, "client")
    give(store, user)


@pytest.fixture
def nginx(open_tmp_path: Path) -> Iterator[TlsNginx]:
    """It wants certificates of CLIENTS."""
    with closing(TlsNginx(open_tmp_path, ROOT.issue("localhost"), clients=CLIENTS, verify="on")) as made:
        (made.root / "file").write_bytes(BODY)
        yield made


def with_certificate(service: Service, user: Any, url: str, path: Path, **wanted: str) -> Job:
    """A suspended job of the user with a client certificate: subject alice, unless something else is wanted."""
    job = create(service, user, [(url, path)], is_resumed=False)

    def choose() -> None:
        with service.client() as client:
            client.job(job.id).set_client_certificate(CertStore.CURRENT_USER, "MY", **(wanted or {"subject": "alice"}))

    run_as(user, choose)
    return job


def set_helper(service: Service, user: Any, job: Job, helper: User, flags: openbits.TokenFlags) -> None:
    """As the documented procedure does; root makes the token of the helper without a password."""

    def act() -> None:
        with service.client() as client:
            held = client.job(job.id)
            with (
                client.logon_user(helper.name, None if user.uid == 0 else helper.password) as token,
                token.impersonate(),
            ):
                held.set_helper_token()
            held.set_helper_token_flags(flags)

    run_as(user, act)


# -- client certificates (T-15) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["subject", "sha1"])
def test_the_owner_is_known_by_his_certificate(
    service: Service, owner: User, folder: Path, store: Path, nginx: TlsNginx, alice: Pair, by: str
) -> None:
    put(store, owner, alice)
    sha1 = alice.certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303  # a name
    wanted = {"subject": "lic"} if by == "subject" else {"sha1": sha1}
    job = with_certificate(service, owner, nginx.url("/file"), folder / "file", **wanted)
    job.resume()
    job.reaches("transferred")
    assert {(one.client, one.verdict) for one in nginx.served()} == {("CN=alice", "SUCCESS")}
    job.complete()
    assert (folder / "file").read_bytes() == BODY


def test_a_server_that_wants_a_certificate_refuses_a_job_without(
    service: Service, owner: User, folder: Path, alice: Pair, store: Path, open_tmp_path: Path
) -> None:
    with closing(TlsServer(open_tmp_path, ROOT.issue("127.0.0.1"), clients=CLIENTS, is_client_required=True)) as server:
        server.serve(BODY)
        job = create(service, owner, [(server.url(), folder / "file")])
        job.reaches("error")
        assert job.code == ("error", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED, "general_transport")
        put(store, owner, alice)

        def choose() -> None:
            with service.client() as client:
                client.job(job.id).set_client_certificate(CertStore.CURRENT_USER, "MY", subject="alice")

        run_as(owner, choose)
        job.resume()
        job.reaches("transferred")
        assert (server.handshakes[-1].client, server.handshakes[-1].uid) == (alice.chain[0], owner.uid)


def test_with_a_network_helper_the_certificate_of_an_ordinary_owner_is_not_used(
    service: Service,
    owner: User,
    throwaway_user: Callable[..., User],
    folder: Path,
    store: Path,
    alice: Pair,
    open_tmp_path: Path,
) -> None:
    """A40: before anything is connected; both cures work."""
    put(store, owner, alice)
    helper = throwaway_user(password=secrets.token_hex(8))
    with closing(TlsServer(open_tmp_path, ROOT.issue("127.0.0.1"), clients=CLIENTS)) as server:
        server.serve(BODY)
        job = with_certificate(service, owner, server.url(), folder / "file")
        set_helper(service, owner, job, helper, openbits.TokenFlags.NETWORK)
        job.resume()
        job.reaches("error")
        assert job.code == ("error", NO_ACCESS, "general_transport")
        assert owner.name in job.error["message"]
        assert not server.handshakes
        set_helper(service, owner, job, helper, openbits.TokenFlags(0))
        job.resume()
        job.reaches("transferred")
        assert {shaken.uid for shaken in server.handshakes} == {owner.uid}
        assert server.handshakes[-1].client == alice.chain[0]


def test_the_certificate_of_root_is_used_under_the_network_identity(
    service: Service, helper: User, private_folder: Callable[[Any], Path], alice: Pair, open_tmp_path: Path
) -> None:
    """A40, the exception: the socket is the helper's, the certificate root's, whose store the helper cannot read."""
    machine = service.config / "certs" / "MY"
    machine.mkdir(parents=True)
    alice.files(machine, "client")
    (machine / "client.key").chmod(0o600)
    root = pwd.getpwuid(0)
    superuser = User(name="root", uid=0, gid=0, home=Path(root.pw_dir), password=None)
    with closing(TlsServer(open_tmp_path, ROOT.issue("127.0.0.1"), clients=CLIENTS)) as server:
        server.serve(BODY)
        job = create(service, superuser, [(server.url(), private_folder(superuser) / "file")], is_resumed=False)
        with service.client() as client:
            client.job(job.id).set_client_certificate(CertStore.LOCAL_MACHINE, "MY", subject="alice")
        set_helper(service, superuser, job, helper, openbits.TokenFlags.NETWORK)
        job.resume()
        job.reaches("transferred")
        assert {shaken.uid for shaken in server.handshakes} == {helper.uid}
        assert server.handshakes[-1].client == alice.chain[0]
    shutil.rmtree(service.config / "certs")


def encrypted(pair: Pair) -> str:
    form = serialization.PrivateFormat.PKCS8
    return pair.key.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"x")).decode()


@pytest.mark.parametrize(
    ("spoil", "hresult", "words"),
    [
        (lambda store, _: (store / "client.key").unlink(), NO_KEY, "client.key"),
        (lambda store, _: os.chown(store / "client.key", 0, 0), NO_ACCESS, "readable"),
        (lambda store, pair: (store / "client.key").write_text(encrypted(pair)), NO_ACCESS, "passphrase"),
        (lambda store, _: (store / "client.key").write_text(CLIENTS.issue().key_pem), NO_KEY, "another certificate"),
        (lambda store, _: (store / "client.pem").unlink(), codes.CRYPT_E_NOT_FOUND, "alice"),
    ],
    ids=["missing", "unreadable", "encrypted", "of another", "certificate gone"],
)
def test_a_key_that_cannot_be_used_is_told_with_the_next_step(
    service: Service,
    owner: User,
    folder: Path,
    store: Path,
    nginx: TlsNginx,
    alice: Pair,
    spoil: Callable[[Path, Pair], object],
    hresult: int,
    words: str,
) -> None:
    put(store, owner, alice)
    job = with_certificate(service, owner, nginx.url("/file"), folder / "file")
    spoil(store, alice)
    job.resume()
    job.reaches("error")
    assert job.error["hresult"] == hresult
    assert words in job.error["message"], job.error["message"]
    put(store, owner, alice)
    job.resume()
    job.reaches("transferred")


def test_the_private_key_is_nowhere_but_where_the_owner_put_it(
    service: Service, owner: User, folder: Path, store: Path, nginx: TlsNginx, alice: Pair
) -> None:
    put(store, owner, alice)
    job = with_certificate(service, owner, nginx.url("/file"), folder / "file")
    job.resume()
    job.reaches("transferred")
    secret = base64.b64decode("".join(alice.key_pem.splitlines()[1:-1]))[36:68]  # the number itself
    line = alice.key_pem.splitlines()[1]
    for path in (path for path in service.base.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert secret not in content, path
        assert line.encode() not in content, path


def test_29_a_certificate_that_is_asked_for_later_is_shown(
    service: Service, owner: User, folder: Path, store: Path, alice: Pair, open_tmp_path: Path
) -> None:
    """Apache asks when it sees the path: by renegotiation (TLS 1.2). Without a certificate it is an error."""
    put(store, owner, alice)
    with closing(TlsApache(open_tmp_path, ROOT.issue("localhost"), clients=CLIENTS)) as apache:
        apache.put("secret/file", BODY)
        without = create(service, owner, [(apache.url("/secret/file"), folder / "without")])
        without.reaches("error")
        assert without.code == ("error", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED, "general_transport")
        job = with_certificate(service, owner, apache.url("/secret/file"), folder / "file")
        job.resume()
        job.reaches("transferred")
        assert apache.served()[-1].client == "CN=alice"


# -- revocation lists -------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[FaultServer]:
    """Where lists are published."""
    with closing(FaultServer()) as made:
        yield made


def publish(place: FaultServer, crl: x509.CertificateRevocationList) -> None:
    place.answer("GET", whole(crl.public_bytes(DER)))


def test_revocation_is_looked_up_before_a_file_is_transferred(
    service: Service, owner: User, folder: Path, place: FaultServer, open_tmp_path: Path
) -> None:
    """jobs.md §9.6: unavailable, not revoked, revoked; and without the flag nobody asks."""
    pair = ROOT.issue("127.0.0.1", crl_url=place.url("/crl"))
    place.answer("GET", [head("404 Not Found", "Content-Length: 0")])
    with ExitStack() as stack:
        server = stack.enter_context(closing(TlsServer(open_tmp_path, pair)))
        server.serve(BODY)
        job = create(service, owner, [(server.url(), folder / "a")], security_flags=int(CHECK))
        job.reaches("error")
        assert job.code == ("error", codes.ERROR_WINHTTP_SECURE_CERT_REV_FAILED, "general_transport")
        assert not server.requests
        publish(place, ROOT.crl())
        job.resume()
        job.reaches("transferred")
        authority = Authority("Between", above=ROOT, crl_url=place.url("/crl"))
        revoked = authority.issue("127.0.0.1", crl_url=place.url("/between"))
        authority.revoke(revoked)
        crls = service.config / "crls"
        crls.mkdir()
        (crls / "between.crl").write_bytes(authority.crl().public_bytes(DER))
        (crls / "root.pem").write_bytes(ROOT.crl().public_bytes(PEM))
        gone = stack.enter_context(closing(TlsServer(open_tmp_path, revoked)))
        gone.serve(BODY)
        job = create(service, owner, [(gone.url(), folder / "b")], security_flags=int(CHECK))
        job.reaches("error")
        assert job.code == ("error", codes.ERROR_WINHTTP_SECURE_CERT_REVOKED, "general_transport")
        assert not gone.requests
        job.set(security_flags=0)
        job.resume()
        job.reaches("transferred")


def test_the_check_switched_on_in_the_middle_begins_the_file_again(
    service: Service, owner: User, folder: Path, place: FaultServer, open_tmp_path: Path
) -> None:
    """jobs.md §9.6: only the file that was being transferred; those that are finished stay."""
    publish(place, ROOT.crl())
    body = secrets.token_bytes(3_000_000)
    asked: list[int] = []
    gate = threading.Event()

    def get(request: Request) -> Iterator[Step]:
        asked.append(request.offset or 0)
        steps = whole(body, 'ETag: "a"') if not request.offset else part(body, request.offset, 'ETag: "a"')
        for step in steps:
            if not isinstance(step, bytes):
                yield step
                continue
            for start in range(0, len(step), 100_000):
                yield step[start : start + 100_000]
                if len(asked) == 2:
                    gate.wait(0.3)

    with closing(TlsServer(open_tmp_path, ROOT.issue("127.0.0.1", crl_url=place.url("/crl")))) as server:
        server.answer("HEAD", [head("200 OK", f"Content-Length: {len(body)}", 'ETag: "a"', "Accept-Ranges: bytes")])
        server.answer("GET", get)
        job = create(service, owner, [(server.url("/1"), folder / "1"), (server.url("/2"), folder / "2")])
        job.saves(len(body) + 200_000, seconds=20)
        job.set(security_flags=int(CHECK))
        gate.set()
        job.reaches("transferred")
        assert asked == [0, 0, 0], "the second file from its beginning, and the first one not again"
    job.complete()
    assert names(folder) == ["1", "2"]
    assert (folder / "2").read_bytes() == body
