"""Who the server is for an application."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.apache import Apache
from tests.real.kdc import Kdc
from tests.real.nginx import Certificates
from tests.server.applications import Application
from tests.server.notifications.conftest import Upload

from openbits.core import codes
from openbits.server.model import Outcome
from openbits.server.notify import fault

# Who we are: D23


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_d23_the_authorization_is_read_from_a_file(
    upload: Upload, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = secret_file(upload.folder, b"Bearer geheim\n")
    assert upload.notify(application.url("/x"), notification_secret_file=file).status == 200
    assert application.only().fields["authorization"] == "Bearer geheim"
    assert "geheim" not in caplog.text + repr(upload)


def test_d23_nobody_is_said_without_a_setting(upload: Upload, application: Application) -> None:
    assert upload.notify(application.url("/x")).status == 200
    assert "authorization" not in application.only().fields


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"Bearer geheim", 0o604, "open to everybody"),
        (b"", 0o600, "one line"),
        (b"Bearer geheim\r\nX-Evil: 1", 0o600, "one line"),
        (b"Bearer geheim\xff", 0o600, "one line"),
        (b"Bearer geheim" + b"x" * 20_000, 0o600, "one line"),
    ],
)
def test_d23_a_secret_that_is_none_is_told_without_it(
    upload: Upload, application: Application, caplog: pytest.LogCaptureFixture, content: bytes, mode: int, words: str
) -> None:
    file = secret_file(upload.folder, content, mode)
    assert upload.notify(application.url("/x"), notification_secret_file=file).status == 503
    assert not application.asked()
    assert words in caplog.text
    assert file in caplog.text
    assert "geheim" not in caplog.text
    assert words in fault(upload.directory, "")


def test_d23_a_missing_secret_is_told(upload: Upload, application: Application) -> None:
    outcome = upload.notify(application.url("/x"), notification_secret_file=str(upload.folder / "missing"))
    assert outcome == Outcome(status=503, hresult=codes.ERROR_FILE_NOT_FOUND)


@pytest.fixture
def kdc(open_tmp_path: Path) -> Iterator[Kdc]:
    made = Kdc(open_tmp_path)
    yield made
    made.close()


@pytest.mark.root
@pytest.mark.real("krb5kdc", "kinit", "apache2", "openssl")
def test_d23_negotiate_uses_the_tickets_of_the_service(
    upload: Upload,
    kdc: Kdc,
    certificates: Certificates,
    open_tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    throwaway_user: Callable[..., User],
) -> None:
    service = throwaway_user()
    cache = kdc.kinit(service, "password", principal=kdc.add("bits-server", "password"))
    apache = Apache(open_tmp_path, certificates, kdc=kdc)
    try:
        monkeypatch.setenv("KRB5_CONFIG", str(kdc.config))
        url = apache.url("/negotiate/")
        asked: dict[str, Any] = {"notification_url": url, "is_negotiating": True}
        monkeypatch.setenv("KRB5CCNAME", "FILE:/nonexistent")
        assert upload.notify(**asked) == Outcome(status=503, hresult=codes.ERROR_WINHTTP_LOGIN_FAILURE)
        assert not apache.asked()
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{cache}")
        assert upload.notify(**asked).status not in {401, 503}
        assert upload.notify(url, is_negotiating=False).status == 401
        first, second = apache.asked()
        assert (first.user, first.method, first.scheme) == ("bits-server@OPENBITS.TEST", "POST", "Negotiate")
        assert (second.user, second.scheme) == ("", "")
    finally:
        apache.close()
