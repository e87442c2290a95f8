"""Who we are for a server application (§9.6, D23): nobody, a value from a file, or Kerberos's Negotiate.

The file has the whole value of the field Authorization in its one line, as `Basic dXNlcjpwYXNz` or `Bearer …`. It is
read anew for each notification, so a new one counts at once. Its content is in no log and in no error.
"""

import base64
import ipaddress
import os
import stat
from pathlib import Path
from typing import Final

from openbits import gss
from openbits.core import codes
from openbits.server.application_url import Address
from openbits.server.model import Directory

_MAX_BYTES: Final = 16 * 1024


class SecretError(Exception):
    """We cannot say who we are; the text names the file or Kerberos's reason, never what is secret."""

    def __init__(self, hresult: int, words: str) -> None:
        super().__init__(words)
        self.hresult = hresult


def fault(directory: Directory, application: Address) -> str:
    """What is wrong with the settings, with key and next step; empty: nothing."""
    if directory.is_negotiating:
        if directory.notification_secret_file:
            return "an application has either notification_secret_file or notification_negotiate; remove one"
        return "notification_negotiate needs the name of a host, not a socket" if application.scheme == "unix" else ""
    if not directory.notification_secret_file:
        return ""
    if application.scheme == "http" and not _is_here(application.host):
        return "notification_secret_file would be sent in the clear; give BITSServerNotificationURL as https"
    try:
        _read(Path(directory.notification_secret_file))
    except SecretError as error:
        return str(error)
    return ""


def value(directory: Directory, application: Address) -> list[tuple[bytes, bytes]]:
    """The field Authorization, or none. May ask a KDC, so it belongs into a helper thread. Raises SecretError."""
    if directory.is_negotiating:
        return [(b"Authorization", b"Negotiate " + base64.b64encode(_token(application.host)))]
    if directory.notification_secret_file:
        return [(b"Authorization", _read(Path(directory.notification_secret_file)))]
    return []


def _is_here(host: str) -> bool:
    """True of a host that is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _token(host: str) -> bytes:
    try:
        return gss.Context(gss.Credential(), host, None).step(None)
    except gss.GssError as error:
        words = f"Kerberos gives no ticket for HTTP/{host}: {error}"
        raise SecretError(codes.ERROR_WINHTTP_LOGIN_FAILURE, words) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        words = f"notification_secret_file {path} cannot be read ({error.strerror})"
        raise SecretError(codes.from_errno(error.errno or 0), words) from None
    if stat.S_IMODE(mode) & 0o007:
        words = f"notification_secret_file {path} is open to everybody; chmod o= {path}"
        raise SecretError(codes.E_ACCESSDENIED, words)
    line = content.strip()
    if not line or len(content) > _MAX_BYTES or any(not 0x20 <= byte < 0x7F for byte in line):
        words = f"notification_secret_file {path} must have one line, as `Bearer …`, of visible ASCII"
        raise SecretError(codes.E_INVALIDARG, words)
    return line
