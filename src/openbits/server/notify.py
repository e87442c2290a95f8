"""Notifications: a server application is told of a complete upload and answers what is to be done (§9).

At least once, never certainly once (§9.5): the server tries once, but if it ends before the result is stored, the next
final fragment of the client notifies again. What an answer means is decided by `judge`, which is pure; the conversation
is `backend`'s. No redirect is followed: the answer of the application is the answer.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from openbits.core import codes
from openbits.core.packets import Header, PacketError, error_code
from openbits.server import authorization
from openbits.server.application_url import Address, UrlError, address, escaped, is_static_url
from openbits.server.authorization import SecretError
from openbits.server.backend import PHASE_SECONDS, BackendError, Exchange, Helpers, TooLongError, connected, tls_context
from openbits.server.log import SESSION_ID_SHOWN, log
from openbits.server.model import Directory, Notification, Outcome, Session, User
from openbits.version import VERSION

APPLICATION_TIMEOUT: Final = 0x80070112
"""What a client is told with 408 (§10.1); the table of codes has no name for it."""

USER_AGENT: Final = f"openbits/{VERSION} (BITSExts 1.5)"

_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_MODE: Final = 0o640


def fault(directory: Directory, public_url: str) -> str:
    """What keeps notifications of a directory from working, with the key and the next step; empty: nothing (§9.2)."""
    if directory.notification is Notification.NONE:
        return ""
    try:
        application = address(directory.notification_url, f"{public_url}{directory.url_path}", public_url)
    except UrlError as error:
        return f"BITSServerNotificationURL cannot be used: {error}"
    if application.scheme == "https":
        try:
            tls_context(directory.notification_ca_file)
        except BackendError as error:
            return str(error)
    return authorization.fault(directory, application)


def judge(status: int, fields: Mapping[str, str]) -> Outcome:
    """What the head of an answer means (§9.3); `fields` by names in lower case."""
    if not 200 <= status < 300:
        return Outcome(status=status, hresult=_vendor_code(fields) or codes.from_http_status(status))
    static_url = fields.get(Header.STATIC_RESPONSE_URL.lower(), "")
    if static_url and not is_static_url(static_url):  # §8.2: longer than 2200 characters, or none a client could use
        return Outcome(status=400, hresult=codes.E_INVALIDARG)
    return Outcome(
        status=status,
        has_to_be_copied=Header.COPY_TO_DESTINATION.lower() in fields,
        static_url=static_url,
        has_reply=not static_url,
    )


def _vendor_code(fields: Mapping[str, str]) -> int:
    """The code of the application; 0 if it has none, or none that can be read."""
    try:
        return error_code(fields.get(Header.ERROR_CODE.lower(), "0"))
    except PacketError:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    """What the application is told of, and where its reply goes."""

    directory: Directory
    session: Session
    user: User
    request_file: Path
    response_file: Path


class Notifier:
    """Notifies the applications of all directories. `public_url`: what relative notification URLs are resolved against.

    `phase_seconds`: what sending, the headers and the body may take each.
    """

    def __init__(self, public_url: str = "", *, phase_seconds: float = PHASE_SECONDS) -> None:
        self._public_url = public_url
        self._phase_seconds = phase_seconds
        self._helpers = Helpers()

    def close(self) -> None:
        """No notifications any more."""
        self._helpers.close()

    async def notify(
        self, directory: Directory, session: Session, user: User, request_file: Path, response_file: Path
    ) -> Outcome:
        """Tell the application of the complete `request_file`; its reply, if there is one, is in `response_file` then.

        There is no such file yet, but a folder for it. Whatever goes wrong is an Outcome, too: of 408, 503, 400 or
        500 (D22).
        """
        started = time.monotonic()
        upload = _Upload(
            directory=directory, session=session, user=user, request_file=request_file, response_file=response_file
        )
        try:
            async with asyncio.timeout(directory.notification_timeout_seconds):
                outcome, words = await self._exchange(upload), "it answered"
        except TimeoutError:
            outcome, words = Outcome(status=408, hresult=APPLICATION_TIMEOUT), "it did not answer in time"
        except (BackendError, SecretError) as error:
            outcome, words = Outcome(status=503, hresult=error.hresult), str(error)
        except UrlError as error:
            outcome, words = Outcome(status=400, hresult=codes.E_INVALIDARG), f"its URL cannot be used: {error}"
        except TooLongError:
            outcome = Outcome(status=500, hresult=codes.BG_E_TOO_LARGE)
            words = f"its reply is longer than max_reply ({directory.maximum_reply_bytes})"
        except OSError as error:
            outcome = Outcome(status=500, hresult=codes.from_errno(error.errno or 0))
            words = f"a file of the spool cannot be used: {error.strerror}"  # its name is the id of the session (§13)
        _tell(upload, outcome, words, time.monotonic() - started)
        return outcome

    async def _exchange(self, upload: _Upload) -> Outcome:
        directory = upload.directory
        application = address(directory.notification_url, upload.session.url, self._public_url)
        secret = await self._helpers.call(authorization.value, directory, application)
        tls = None
        if application.scheme == "https":
            tls = await self._helpers.call(tls_context, directory.notification_ca_file)
        by_value = directory.notification is Notification.BY_VALUE
        async with connected(application, tls, self._helpers, self._phase_seconds) as exchange:
            with upload.request_file.open("rb", buffering=0) as body:
                length = os.fstat(body.fileno()).st_size if by_value else 0
                fields = [*_fields(application, upload, length), *secret]
                head = await exchange.ask(application.target, fields, body if by_value else None)
            answered = {bytes(name).decode(): bytes(value).decode("latin-1") for name, value in head.headers}
            outcome = judge(head.status_code, answered)
            if not outcome.is_accepted:
                return outcome
            if by_value and outcome.has_reply:
                await _store(exchange, answered, upload)
            else:
                await exchange.discard()
        return outcome


async def _store(exchange: Exchange, answered: Mapping[str, str], upload: _Upload) -> None:
    """The body of an answer is the reply."""
    coding = answered.get("content-encoding", "identity")
    if coding.lower() != "identity":
        words = f"its reply is encoded ({coding:.20}), which was not asked for"
        raise BackendError(codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE, words)
    with _created(upload.response_file) as file:
        await exchange.store(file, upload.directory.maximum_reply_bytes)


def _fields(application: Address, upload: _Upload, length: int) -> list[tuple[bytes, bytes]]:
    """What the application is told (§3.3), besides who we are."""
    fields = [
        ("Host", application.authority.encode()),
        ("User-Agent", USER_AGENT.encode()),
        ("Accept", b"*/*"),
        ("Accept-Encoding", b"identity"),
        ("Connection", b"close"),
        ("Content-Length", str(length).encode()),
        (Header.ORIGINAL_URL, escaped(upload.session.url).encode()),
    ]
    if upload.directory.notification is Notification.BY_REFERENCE:
        fields.append((Header.REQUEST_FILE, os.fsencode(upload.request_file)))
        fields.append((Header.RESPONSE_FILE, os.fsencode(upload.response_file)))
    if upload.user.name:
        fields.append((Header.USER, quote(upload.user.name, safe=_PRINTABLE).encode()))
    return [(name.encode(), value) for name, value in fields]


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file, which is not there if its writing fails: a part of a reply is none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _tell(upload: _Upload, outcome: Outcome, words: str, seconds: float) -> None:
    """One line in the log for each notification; no queries, and of the session no more than finds it again."""
    log.log(
        logging.INFO if outcome.is_accepted else logging.WARNING,
        "%s directory=%s application=%s session=%s status=%d code=0x%08X seconds=%.3f reason=%r",
        "application_notified" if outcome.is_accepted else "notification_failed",
        upload.directory.url_path,
        upload.directory.notification_url.partition("?")[0],
        upload.session.session_id[:SESSION_ID_SHOWN],
        outcome.status,
        outcome.hresult,
        seconds,
        words,
    )
