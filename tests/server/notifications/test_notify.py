"""Notifications of a real application: what it is told, and what its answers mean."""

import logging
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.real.processes import free_port
from tests.server.applications import Application, Asked, RawApplication
from tests.server.notifications.conftest import CONTENT, ID, SHA256, URL, Upload

from openbits.core import codes
from openbits.server.model import Directory, Notification, Outcome, User
from openbits.server.notify import fault, judge

VENDOR = 0xA0040001
"""A code of an application: the customer bit is set."""


def own(asked: Asked) -> dict[str, str]:
    """The fields that are not about the connection."""
    names = {"host", "user-agent", "accept", "accept-encoding", "connection", "content-length"}
    return {name: value for name, value in asked.fields.items() if name not in names}


def test_s3_3_by_reference_the_application_is_told_the_names_of_the_files(
    upload: Upload, application: Application
) -> None:
    assert upload.notify(application.url("/hooks/ingest")) == Outcome(status=200, has_reply=True)
    asked = application.only()
    assert (asked.method, asked.version, asked.target) == ("POST", "HTTP/1.1", "/hooks/ingest?tenant=42")
    assert own(asked) == {
        "bits-original-request-url": URL,
        "bits-request-datafile-name": str(upload.request_file),
        "bits-response-datafile-name": str(upload.response_file),
        "x-bits-user": "anna",
    }
    assert (asked.fields["accept"], asked.fields["content-length"], asked.length) == ("*/*", "0", 0)


def test_s3_3_by_value_the_body_is_the_file(upload: Upload, application: Application) -> None:
    assert upload.notify(application.url("/x"), notification=Notification.BY_VALUE).status == 200
    asked = application.only()
    assert own(asked) == {"bits-original-request-url": URL, "x-bits-user": "anna"}
    assert (asked.fields["content-length"], asked.length, asked.sha256) == (str(len(CONTENT)), len(CONTENT), SHA256)


def test_s3_3_by_value_an_empty_file_is_an_empty_body(upload: Upload, application: Application) -> None:
    upload.request_file.write_bytes(b"")
    assert upload.notify(application.url("/x"), notification=Notification.BY_VALUE).status == 200
    assert (application.only().fields["content-length"], application.only().length) == ("0", 0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("anna", "anna"),
        ("CN=J\u00f6rg,O=x y", "CN=J%C3%B6rg,O=x%20y"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil:%201"),
        ("100%", "100%25"),
        ("", None),
    ],
)
def test_d23_the_application_is_told_who_has_uploaded(
    upload: Upload, application: Application, name: str, told: str | None
) -> None:
    upload.user = User(name=name)
    assert upload.notify(application.url("/x")).status == 200
    assert application.only().fields.get("x-bits-user") == told
    assert "x-evil" not in application.only().fields


def test_s9_1_what_a_client_has_put_into_its_url_stays_in_its_field(upload: Upload, application: Application) -> None:
    upload.session = replace(upload.session, url="http://h\u00e9/inbox/a\r\nX-Evil: 1")
    assert upload.notify(application.url("/x")).status == 200
    assert "x-evil" not in application.only().fields


# Answers: §9.3


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
@pytest.mark.parametrize("kind", [Notification.BY_REFERENCE, Notification.BY_VALUE])
def test_s9_3_any_2xx_is_accepted(upload: Upload, application: Application, status: int, kind: Notification) -> None:
    application.answer(status)
    outcome = upload.notify(application.url("/x"), notification=kind)
    assert outcome == Outcome(status=status, has_reply=True)
    assert outcome.is_accepted


@pytest.mark.parametrize(
    "status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 408, 409, 413, 429, 500, 501, 503, 599]
)
def test_s9_3_another_status_is_passed_on(upload: Upload, application: Application, status: int) -> None:
    application.answer(status, fields=[["BITS-Copy-File-To-Destination", "yes"]], body=b"no reply")
    outcome = upload.notify(application.url("/x"), notification=Notification.BY_VALUE)
    assert outcome == Outcome(status=status, hresult=0x80190000 | status)
    assert not upload.response_file.exists()


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("field", ["BITS-Error-Code", "bits-error-code"])
def test_s9_3_the_code_of_the_application_is_passed_on(
    upload: Upload, application: Application, status: int, field: str
) -> None:
    application.answer(status, fields=[[field, f"0x{VENDOR:08X}"]])
    assert upload.notify(application.url("/x")) == Outcome(status=status, hresult=VENDOR)


@pytest.mark.parametrize("code", ["0x0", "nonsense", "", "0x123456789"])
def test_s9_3_a_code_that_says_nothing_does_not_count(upload: Upload, application: Application, code: str) -> None:
    application.answer(500, fields=[["BITS-Error-Code", code]])
    assert upload.notify(application.url("/x")) == Outcome(status=500, hresult=0x801901F4)


@pytest.mark.parametrize("value", ["yes", "no", ""])
def test_s3_3_the_presence_of_the_field_has_the_file_copied(
    upload: Upload, application: Application, value: str
) -> None:
    application.answer(fields=[["BITS-Copy-File-To-Destination", value]])
    assert upload.notify(application.url("/x")).has_to_be_copied


def test_s13_a_redirect_of_the_application_is_not_followed(upload: Upload, application: Application) -> None:
    application.answer(302, fields=[["Location", application.url("/elsewhere")]])
    assert upload.notify(application.url("/x")).status == 302
    assert application.only().target == "/x?tenant=42"


def test_s13_a_proxy_of_the_environment_does_not_count(
    upload: Upload, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert upload.notify(application.url("/x")).status == 200


# Replies: §8.2


def test_s8_2_by_reference_the_reply_is_what_the_application_wrote(upload: Upload, application: Application) -> None:
    application.answer(reply="the reply", body=b"ignored")
    assert upload.notify(application.url("/x")).has_reply
    assert upload.response_file.read_text() == "the reply"


def test_s8_2_by_value_the_reply_is_the_body(upload: Upload, application: Application) -> None:
    application.answer(body=b"the reply", is_chunked=True)
    assert upload.notify(application.url("/x"), notification=Notification.BY_VALUE).has_reply
    assert upload.response_file.read_bytes() == b"the reply"
    assert stat.S_IMODE(upload.response_file.stat().st_mode) & 0o137 == 0


def test_s8_2_a_reply_without_a_length_ends_with_the_connection(
    upload: Upload, raw: Callable[..., RawApplication]
) -> None:
    server = raw(b"HTTP/1.0 200 OK\r\n\r\nthe reply")
    assert upload.notify(server.url, notification=Notification.BY_VALUE).has_reply
    assert upload.response_file.read_bytes() == b"the reply"


@pytest.mark.parametrize("kind", [Notification.BY_REFERENCE, Notification.BY_VALUE])
def test_s8_2_a_static_url_is_the_reply_and_the_body_is_none(
    upload: Upload, application: Application, kind: Notification
) -> None:
    static = "https://cdn.example.net/replies/1?x=%7B"
    application.answer(fields=[["BITS-Static-Response-URL", static]], body=b"discarded")
    outcome = upload.notify(application.url("/x"), notification=kind)
    assert outcome == Outcome(status=200, static_url=static)
    assert not upload.response_file.exists()


@pytest.mark.parametrize("static", ["http://h/" + "x" * 2192, "file:///etc/passwd", "reply.txt"])
def test_s8_2_a_static_url_that_is_too_long_or_none_is_400(
    upload: Upload, application: Application, static: str
) -> None:
    application.answer(fields=[["BITS-Static-Response-URL", static]])
    assert upload.notify(application.url("/x")) == Outcome(status=400, hresult=codes.E_INVALIDARG)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_s13_a_reply_has_at_most_so_many_bytes(upload: Upload, application: Application, *, is_chunked: bool) -> None:
    limit = 8 << 20
    application.answer(body_bytes=limit, is_chunked=is_chunked)
    by_value: dict[str, Any] = {"notification": Notification.BY_VALUE, "maximum_reply_bytes": limit}
    assert upload.notify(application.url("/x"), **by_value).has_reply
    assert upload.response_file.stat().st_size == limit
    upload.response_file.unlink()
    outcome = upload.notify(application.url("/x"), **{**by_value, "maximum_reply_bytes": limit - 1})
    assert outcome == Outcome(status=500, hresult=codes.BG_E_TOO_LARGE)
    assert not upload.response_file.exists()


def test_a_reply_that_nobody_can_decode_is_none(upload: Upload, application: Application) -> None:
    application.answer(fields=[["Content-Encoding", "gzip"]], body=b"\x1f\x8b")
    outcome = upload.notify(application.url("/x"), notification=Notification.BY_VALUE)
    assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE)


def test_s13_the_log_does_not_name_files_of_the_spool_which_are_called_like_sessions(
    upload: Upload, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    upload.request_file.unlink(missing_ok=True)
    assert upload.notify(application.url("/x")).status == 500
    assert "a file of the spool cannot be used: No such file or directory" in caplog.text
    assert str(upload.request_file) not in caplog.text


@pytest.mark.root
def test_f10_a_full_disk_is_said(upload: Upload, application: Application, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        upload.folder = small
        upload.request_file.write_bytes(CONTENT)
        application.answer(body_bytes=4 << 20)
        outcome = upload.notify(application.url("/x"), notification=Notification.BY_VALUE)
        assert outcome == Outcome(status=500, hresult=codes.ERROR_DISK_FULL)
        assert not upload.response_file.exists()
        application.answer(body=b"the reply")
        assert upload.notify(application.url("/x")).has_reply
        assert upload.response_file.read_bytes() == b"the reply"
    finally:
        subprocess.run(["umount", small], check=True)


# Settings: §9.2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"notification_url": "http://a/x"}, ""),
        ({"notification_url": "notify.cgi"}, ""),
        ({"notification_url": "", "notification": Notification.NONE}, ""),
        ({"notification_url": ""}, "BITSServerNotificationURL cannot be used: it is empty"),
        ({"notification_url": "ftp://a/x"}, "BITSServerNotificationURL cannot be used"),
        ({"notification_url": "http://a/x", "notification_secret_file": "/s"}, "in the clear"),
        ({"notification_url": "https://a/x", "notification_secret_file": "/no/such"}, "/no/such cannot be read"),
        ({"notification_url": "https://a/x", "notification_secret_file": "/s", "is_negotiating": True}, "remove one"),
        ({"notification_url": "unix:/s", "is_negotiating": True}, "name of a host"),
        (
            {"notification_url": "https://a/x", "notification_ca_file": "/no/ca"},
            "notification_ca_file /no/ca cannot be",
        ),
        ({"notification_url": "http://a/x", "notification_ca_file": "/no/ca"}, ""),
    ],
)
def test_s9_2_what_is_wrong_with_the_settings_is_said(settings: dict[str, Any], words: str) -> None:
    directory = Directory(url_path="/inbox/", **{"notification": Notification.BY_VALUE, **settings})
    found = fault(directory, "https://files.example.net")
    assert words in found
    assert bool(words) is bool(found)


def test_s9_2_a_query_that_makes_the_url_too_long_is_the_mistake_of_the_client(
    upload: Upload, application: Application
) -> None:
    upload.session = replace(upload.session, url=f"http://h/inbox/r?{'q' * 2200}")
    assert upload.notify(application.url("/x")) == Outcome(status=400, hresult=codes.E_INVALIDARG)
    assert not application.asked()


def test_s9_3_what_an_answer_means_needs_no_application() -> None:
    assert judge(403, {}) == Outcome(status=403, hresult=0x80190193)
    assert judge(200, {"bits-copy-file-to-destination": ""}) == Outcome(
        status=200, has_to_be_copied=True, has_reply=True
    )


def test_the_log_tells_of_each_notification_but_no_secret(
    upload: Upload, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert upload.notify(application.url("/x?token=geheim")).status == 200
    (line,) = [record.getMessage() for record in caplog.records if record.name == "openbits.server"]
    assert line.startswith("application_notified directory=/inbox/ ")
    assert application.url("/x") in line
    assert "session={5C0E9F1A " in line
    for secret in ("geheim", "tenant", ID):
        assert secret not in line
