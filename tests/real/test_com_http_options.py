"""IBackgroundCopyJobHttpOptions to 3, and credentials of IBackgroundCopyJob2: the documented codes (jobs.md §7.8)."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.stories import running_service

from openbits import com

pytestmark = pytest.mark.root

S_OK, S_FALSE = 0, 1
E_NOTIMPL, E_NOINTERFACE = 0x80004001, 0x80004002
E_INVALIDARG = 0x80070057
STRING_TOO_LONG = 0x80200021
NULL_REF_POINTER, BAD_STUB_DATA = 0x800706F4, 0x800706F7
FILE_NOT_FOUND, CRYPT_E_NOT_FOUND = 0x80070002, 0x80092004
INVALID_TARGET, INVALID_SCHEME = 0x80200027, 0x80200028
USERNAME_TOO_LARGE, PASSWORD_TOO_LARGE = 0x80200025, 0x80200026
INVALID_STATE = 0x80200002

CURRENT_USER, LOCAL_MACHINE = 0, 1
MACHINE_STORE = "MY"


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """The machine's store of a running service, with one certificate: CN=web, O=Example."""
    with running_service() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBITS_SOCKET", str(made.socket))
        folder = made.config / "certs" / MACHINE_STORE
        folder.mkdir(parents=True)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-subj", "/O=Example/CN=web", "-keyout", str(folder / "a.key"), "-out", str(folder / "a.pem")]
        subprocess.run([*command, *names], check=True, capture_output=True)
        yield folder
        com.CoUninitialize()


@pytest.fixture
def options(store: Path) -> Iterator[com.IBackgroundCopyJobHttpOptions3]:
    assert store.is_dir()
    job = com.BackgroundCopyManager().CreateJob("options", com.BG_JOB_TYPE_DOWNLOAD).Job
    yield job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
    job.Cancel()


def code_of(call: Callable[..., Any], *arguments: Any) -> int:
    """HRESULT of a call; S_OK for whatever succeeds without a code of its own."""
    try:
        result = call(*arguments)
    except com.COMError as error:
        return error.hresult
    return result if isinstance(result, int) else S_OK


def test_each_interface_comes_from_every_other(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    for interface in (
        com.IBackgroundCopyJobHttpOptions,
        com.IBackgroundCopyJobHttpOptions2,
        com.IBackgroundCopyJobHttpOptions3,
    ):
        found = options.QueryInterface(interface)
        assert type(found) is interface
        job = found.QueryInterface(com.IBackgroundCopyJob2)
        assert job.QueryInterface(com.IUnknown) is options.QueryInterface(com.IUnknown)
        assert job.GetState() == com.BG_JOB_STATE_SUSPENDED


def test_custom_headers(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    assert options.GetCustomHeaders() is None
    assert options.SetCustomHeaders("X-A: 1\r\nX-B: 2\r\n") == S_OK
    assert options.GetCustomHeaders() == "X-A: 1\r\nX-B: 2\r\n"
    assert options.SetCustomHeaders(None) == S_OK
    assert options.GetCustomHeaders() is None
    for text, code in (
        ("X-A: " + "v" * 16_378, S_OK),
        ("X-A: " + "v" * 16_379, STRING_TOO_LONG),
        ("no header", E_INVALIDARG),
        ("Host: other\r\n", E_INVALIDARG),
        ("Content-Length: 5\r\n", E_INVALIDARG),
    ):
        assert code_of(options.SetCustomHeaders, text) == code
    assert options.MakeCustomHeadersWriteOnly() == S_OK
    assert options.MakeCustomHeadersWriteOnly() == S_OK
    assert code_of(options.GetCustomHeaders) == com.E_ACCESSDENIED
    assert options.SetCustomHeaders(None) == S_OK
    assert code_of(options.GetCustomHeaders) == com.E_ACCESSDENIED


@pytest.mark.parametrize("location", [2, 3, 4, 5, 6, 7, 8, -1])
def test_other_locations_are_not_implemented(options: com.IBackgroundCopyJobHttpOptions3, location: int) -> None:
    assert code_of(options.SetClientCertificateByID, location, "MY", bytes(20)) == E_NOTIMPL
    assert code_of(options.SetClientCertificateByName, location, "MY", "web") == E_NOTIMPL


def test_null_is_a_null_reference_here(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    for call, arguments in (
        (options.SetClientCertificateByID, (None, "MY", bytes(20))),
        (options.SetClientCertificateByID, (CURRENT_USER, None, bytes(20))),
        (options.SetClientCertificateByID, (CURRENT_USER, "MY", None)),
        (options.SetClientCertificateByName, (CURRENT_USER, None, "web")),
        (options.SetClientCertificateByName, (CURRENT_USER, "MY", None)),
        (options.SetSecurityFlags, (None,)),
        (options.SetHttpMethod, (None,)),
    ):
        assert code_of(call, *arguments) == NULL_REF_POINTER


def test_a_certificate_by_id(options: com.IBackgroundCopyJobHttpOptions3, store: Path) -> None:
    der = subprocess.run(
        ["openssl", "x509", "-in", store / "a.pem", "-outform", "der"], check=True, capture_output=True
    ).stdout
    sha1 = hashlib.sha1(der, usedforsecurity=False).digest()
    assert code_of(options.GetClientCertificate) == BAD_STUB_DATA
    assert options.RemoveClientCertificate() == S_FALSE
    for no_hash in (b"", bytes(19), bytes(21), sha1.hex()[:20], 20):
        assert code_of(options.SetClientCertificateByID, LOCAL_MACHINE, "MY", no_hash) == BAD_STUB_DATA
    assert code_of(options.SetClientCertificateByID, LOCAL_MACHINE, "MY", bytes(20)) == CRYPT_E_NOT_FOUND
    assert code_of(options.SetClientCertificateByID, LOCAL_MACHINE, "SPC", sha1) == FILE_NOT_FOUND
    assert code_of(options.SetClientCertificateByID, CURRENT_USER, "no-such-store", sha1) == FILE_NOT_FOUND
    assert code_of(options.SetClientCertificateByID, LOCAL_MACHINE, "s" * 256, sha1) == FILE_NOT_FOUND
    assert code_of(options.SetClientCertificateByID, LOCAL_MACHINE, "s" * 257, sha1) == STRING_TOO_LONG
    assert code_of(options.GetClientCertificate) == BAD_STUB_DATA
    assert options.SetClientCertificateByID(LOCAL_MACHINE, "MY", sha1) == S_OK
    chosen = options.GetClientCertificate()
    assert chosen == (com.BG_CERT_STORE_LOCATION_LOCAL_MACHINE, "MY", sha1, None)
    assert options.RemoveClientCertificate() == S_OK
    assert options.RemoveClientCertificate() == S_FALSE
    assert code_of(options.GetClientCertificate) == BAD_STUB_DATA


def test_a_certificate_by_name(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    by_name = options.SetClientCertificateByName
    assert code_of(by_name, LOCAL_MACHINE, "MY", "") == E_INVALIDARG
    assert code_of(by_name, LOCAL_MACHINE, "MY", "x" * 256) == CRYPT_E_NOT_FOUND
    assert code_of(by_name, LOCAL_MACHINE, "MY", "x" * 257) == STRING_TOO_LONG
    assert code_of(by_name, LOCAL_MACHINE, "MY", "Example, web") == CRYPT_E_NOT_FOUND  # not in reverse order
    assert by_name(LOCAL_MACHINE, "MY", "web, Example") == S_OK
    assert options.GetClientCertificate() == (
        com.BG_CERT_STORE_LOCATION_LOCAL_MACHINE,
        "MY",
        None,
        "web, Example",
    )


def test_security_flags_and_method(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    assert (options.GetSecurityFlags(), options.GetHttpMethod()) == (0, "GET")
    assert options.SetSecurityFlags(0x091F) == S_OK
    assert options.GetSecurityFlags() == 0x091F
    for undefined in (0x0020, 0x0080, 0x0400, 0x1000):
        assert code_of(options.SetSecurityFlags, undefined) == E_NOTIMPL
    assert options.SetHttpMethod("GET") == S_OK
    assert options.SetHttpMethod("PROPFIND") == S_OK
    assert options.GetHttpMethod() == "PROPFIND"
    for bad in ("", "TWO WORDS", "M" * 33, "G\r\nT"):
        assert code_of(options.SetHttpMethod, bad) == E_INVALIDARG


def credentials(target: int, scheme: int, user: str | None, password: str | None) -> com.BG_AUTH_CREDENTIALS:
    pair = com.BG_BASIC_CREDENTIALS(UserName=user, Password=password)
    return com.BG_AUTH_CREDENTIALS(Target=target, Scheme=scheme, Credentials=pair)


def test_credentials_of_every_target_and_scheme(options: com.IBackgroundCopyJobHttpOptions3) -> None:
    job = options.QueryInterface(com.IBackgroundCopyJob2)
    for target in (1, 2):
        for scheme in (1, 2, 3, 4, 5):
            assert job.RemoveCredentials(target, scheme) == S_FALSE
            assert job.SetCredentials(credentials(target, scheme, "u", "p")) == S_OK
            assert job.SetCredentials(credentials(target, scheme, "u2", "p2")) == S_OK
            implicit = S_OK if scheme in {3, 4} else E_INVALIDARG
            assert code_of(job.SetCredentials, credentials(target, scheme, None, None)) == implicit
            assert code_of(job.SetCredentials, credentials(target, scheme, "u", None)) == E_INVALIDARG
            assert code_of(job.SetCredentials, credentials(target, scheme, None, "p")) == E_INVALIDARG
            assert job.RemoveCredentials(target, scheme) == S_OK
    for number in (0, 3, 99):
        assert code_of(job.SetCredentials, credentials(number, 1, "u", "p")) == INVALID_TARGET
        assert code_of(job.RemoveCredentials, number, 1) == INVALID_TARGET
    for number in (0, 6, 99):
        assert code_of(job.SetCredentials, credentials(1, number, "u", "p")) == INVALID_SCHEME
        assert code_of(job.RemoveCredentials, 1, number) == INVALID_SCHEME
    assert job.SetCredentials(credentials(1, 1, "u" * 300, "p" * 65_536)) == S_OK
    assert code_of(job.SetCredentials, credentials(1, 1, "u" * 301, "p")) == USERNAME_TOO_LARGE
    assert code_of(job.SetCredentials, credentials(1, 1, "u", "p" * 65_537)) == PASSWORD_TOO_LARGE


def test_a_password_is_in_no_repr() -> None:
    assert "Canary5ecret" not in repr(credentials(1, 1, "u", "Canary5ecret"))


def test_a_final_job_has_none_and_takes_none(store: Path) -> None:
    assert store.is_dir()
    job = com.BackgroundCopyManager().CreateJob("final", com.BG_JOB_TYPE_DOWNLOAD).Job
    job2 = job.QueryInterface(com.IBackgroundCopyJob2)
    options = job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
    options.SetCustomHeaders("X-A: 1\r\n")
    job.Cancel()
    assert options.GetCustomHeaders() is None
    for call, arguments in (
        (job2.SetCredentials, (credentials(1, 1, "u", "p"),)),
        (job2.RemoveCredentials, (1, 1)),
        (options.SetCustomHeaders, ("X-A: 1\r\n",)),
        (options.SetCustomHeaders, (None,)),
        (options.MakeCustomHeadersWriteOnly, ()),
        (options.SetClientCertificateByName, (LOCAL_MACHINE, "MY", "web")),
        (options.RemoveClientCertificate, ()),
        (options.SetSecurityFlags, (0,)),
    ):
        assert code_of(call, *arguments) == INVALID_STATE
