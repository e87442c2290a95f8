"""The connection to an application: what breaks, hangs or lies there, and that nothing is said to the wrong one."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.real.processes import free_port
from tests.server.applications import Application, RawApplication
from tests.server.notifications.conftest import SHA256, Upload

from openbits.core import codes
from openbits.server.model import Notification, Outcome

TIMEOUT = 0x80070112


# No answer: D22


def test_d22_a_refused_connection_is_503(upload: Upload) -> None:
    outcome = upload.notify(f"http://127.0.0.1:{free_port()}/x")
    assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_CANNOT_CONNECT)


def test_d22_a_missing_socket_is_503(upload: Upload) -> None:
    outcome = upload.notify(f"unix:{upload.folder}/nothing:/x")
    assert outcome == Outcome(status=503, hresult=codes.ERROR_FILE_NOT_FOUND)


def test_d22_an_unknown_name_is_503(upload: Upload) -> None:
    outcome = upload.notify("http://no-such-host.invalid/x")
    assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_NAME_NOT_RESOLVED)


@pytest.mark.parametrize(
    ("answer", "hresult"),
    [
        (b"", codes.ERROR_WINHTTP_CONNECTION_ERROR),
        (b"HTTP/1.1 200 OK\r\nContent-Le", codes.ERROR_WINHTTP_CONNECTION_ERROR),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 two hundred\r\n\r\n", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE,
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000, codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000, codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE),
    ],
)
def test_d22_an_answer_that_is_none_is_503(
    upload: Upload, raw: Callable[..., RawApplication], answer: bytes, hresult: int
) -> None:
    outcome = upload.notify(raw(answer).url, notification=Notification.BY_VALUE)
    assert outcome == Outcome(status=503, hresult=hresult)
    assert not upload.response_file.exists()


def test_s9_3_informational_answers_are_no_answer(upload: Upload, raw: Callable[..., RawApplication]) -> None:
    early = b"HTTP/1.1 102 Processing\r\n\r\n" * 100 + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    server = raw(early + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert upload.notify(server.url).status == 200


def test_s7_3_an_application_that_says_nothing_is_408(upload: Upload, raw: Callable[..., RawApplication]) -> None:
    outcome = upload.notify(raw(b"", is_silent=True).url, notification_timeout_seconds=1)
    assert outcome == Outcome(status=408, hresult=TIMEOUT)


@pytest.mark.parametrize("hangs", ["head", "body"])
@pytest.mark.parametrize("kind", [Notification.BY_REFERENCE, Notification.BY_VALUE])
def test_s7_3_each_phase_has_its_limit(
    upload: Upload, application: Application, hangs: str, kind: Notification
) -> None:
    application.answer(hangs=hangs, body=b"begun")
    upload.phase_seconds = 0.5
    outcome = upload.notify(application.url("/x"), notification=kind)
    assert outcome == Outcome(status=408, hresult=TIMEOUT)
    assert not upload.response_file.exists()


def test_s7_3_sending_has_its_limit(upload: Upload) -> None:
    os.truncate(upload.request_file, 1 << 30)
    upload.phase_seconds = 0.5
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        outcome = upload.notify(f"http://127.0.0.1:{deaf.getsockname()[1]}/x", notification=Notification.BY_VALUE)
    assert outcome == Outcome(status=408, hresult=TIMEOUT)


def test_s7_3_an_application_that_trickles_meets_the_limit_of_the_whole(upload: Upload) -> None:
    async def story() -> Outcome:
        async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            writer.close()
            gone.set()

        gone = asyncio.Event()
        async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
            upload.directory = replace(upload.directory, notification_url=url, notification_timeout_seconds=1)
            outcome = await upload.notify_here()
            await gone.wait()
        return outcome

    assert asyncio.run(story()) == Outcome(status=408, hresult=TIMEOUT)


def test_an_early_refusal_is_heard_before_the_body_is_sent(upload: Upload, application: Application) -> None:
    os.truncate(upload.request_file, 1 << 40)
    application.answer(403, is_early=True)
    started = time.monotonic()
    outcome = upload.notify(application.url("/x"), notification=Notification.BY_VALUE)
    assert outcome == Outcome(status=403, hresult=codes.BG_E_HTTP_ERROR_403)
    assert time.monotonic() - started < upload.phase_seconds


def test_d21_an_application_behind_https_is_verified(
    upload: Upload, certificates: Certificates, tmp_path: Path
) -> None:
    server = Application(tmp_path / "tls", tls=certificates.issue("DNS:localhost"))
    try:
        trusting = {"notification_ca_file": str(certificates.ca), "notification": Notification.BY_VALUE}
        assert upload.notify(server.url("/x"), **trusting).status == 200
        assert server.only().sha256 == SHA256
        unknown = upload.notify(server.url("/x"), notification_ca_file="")
        assert unknown == Outcome(status=503, hresult=codes.ERROR_WINHTTP_SECURE_INVALID_CA)
        other_name = server.url("/x").replace("localhost", "127.0.0.1")
        wrong = upload.notify(other_name, **trusting)
        assert wrong == Outcome(status=503, hresult=codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID)
        plain = upload.notify(server.url("/x").replace("https", "http"))
        assert plain.status == 503
        assert len(server.asked()) == 1
    finally:
        server.close()


def test_d21_an_expired_certificate_is_refused(upload: Upload, certificates: Certificates, tmp_path: Path) -> None:
    server = Application(tmp_path / "tls", tls=certificates.issue("DNS:localhost", days=-1))
    try:
        outcome = upload.notify(server.url("/x"), notification_ca_file=str(certificates.ca))
        assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID)
        assert not server.asked()
    finally:
        server.close()


def test_d21_an_application_without_tls_is_no_https(
    upload: Upload, application: Application, certificates: Certificates
) -> None:
    url = application.url("/x").replace("http:", "https:")
    outcome = upload.notify(url, notification_ca_file=str(certificates.ca))
    assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR)


def test_s7_3_a_handshake_that_does_not_go_on_is_408(upload: Upload, certificates: Certificates) -> None:
    upload.phase_seconds = 0.5
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/x"
        outcome = upload.notify(url, notification_ca_file=str(certificates.ca))
    assert outcome == Outcome(status=408, hresult=TIMEOUT)


def test_d21_authorities_that_cannot_be_read_are_said(
    upload: Upload, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    outcome = upload.notify("https://localhost:1/x", notification_ca_file=str(missing))
    assert outcome == Outcome(status=503, hresult=codes.ERROR_WINHTTP_SECURE_INVALID_CA)
    assert str(missing) in caplog.text


def test_s9_2_an_application_at_a_socket(upload: Upload, tmp_path: Path) -> None:
    server = Application(tmp_path / "s", has_socket=True)
    try:
        server.answer(body=b"the reply")
        assert upload.notify(server.url("/hooks/x"), notification=Notification.BY_VALUE).has_reply
        asked = server.only()
        assert (asked.target, asked.fields["host"], asked.sha256) == ("/hooks/x?tenant=42", "localhost", SHA256)
    finally:
        server.close()


def test_the_loop_goes_on_and_memory_is_flat_while_much_is_sent_and_received(
    upload: Upload, application: Application
) -> None:
    size = 256 << 20
    os.truncate(upload.request_file, size)
    application.answer(body_bytes=size)
    upload.directory = replace(
        upload.directory, notification_url=application.url("/x"), notification=Notification.BY_VALUE
    )

    async def story() -> tuple[Outcome, int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0)
                beats += 1

        beating = asyncio.create_task(beat())
        outcome = await upload.notify_here()
        beating.cancel()
        return outcome, beats

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, beats = asyncio.run(story())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (outcome.status, upload.response_file.stat().st_size) == (200, size)
    assert application.only().length == size
    assert beats > 2 * size // (256 << 10)
    assert grown < 32 << 10  # KiB
