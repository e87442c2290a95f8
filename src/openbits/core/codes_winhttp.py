"""Codes of network and TLS: Win32 errors 12000 to 12199, that is 0x80072EE0 and above (errors.md §5.1).

The context of all of them is the transport.
"""

from typing import Final

from openbits.core import codes_table as _table
from openbits.core.enums import ErrorContext as _Context

_RETRIES = "wait for the next attempt, or resume the job to try now"


def _fatal(symbol: str, value: int, sentence: str, next_step: str) -> int:
    return _table.fatal(symbol, value, _Context.GENERAL_TRANSPORT, sentence, next_step)


def _transient(symbol: str, value: int, sentence: str, next_step: str) -> int:
    return _table.transient(symbol, value, _Context.GENERAL_TRANSPORT, sentence, next_step)


ERROR_WINHTTP_TIMEOUT: Final = _transient("ERROR_WINHTTP_TIMEOUT", 0x80072EE2, "the request timed out", _RETRIES)
ERROR_WINHTTP_INVALID_URL: Final = _fatal(
    "ERROR_WINHTTP_INVALID_URL", 0x80072EE5, "the url is not usable", "correct the url"
)
ERROR_WINHTTP_UNRECOGNIZED_SCHEME: Final = _fatal(
    "ERROR_WINHTTP_UNRECOGNIZED_SCHEME",
    0x80072EE6,
    "the scheme of the url is not supported",
    "use http or https",
)
ERROR_WINHTTP_NAME_NOT_RESOLVED: Final = _transient(
    "ERROR_WINHTTP_NAME_NOT_RESOLVED",
    0x80072EE7,
    "the host name could not be resolved",
    "check the host name and the resolver; the job tries again by itself",
)
ERROR_WINHTTP_LOGIN_FAILURE: Final = _fatal(
    "ERROR_WINHTTP_LOGIN_FAILURE",
    0x80072EEF,
    "authentication with the server failed",
    "set the credentials of the job again (bits credentials set), then resume it",
)
ERROR_WINHTTP_CANNOT_CONNECT: Final = _transient(
    "ERROR_WINHTTP_CANNOT_CONNECT",
    0x80072EFD,
    "the connection was refused, or the server cannot be reached",
    "check address, port and firewall; the job tries again by itself",
)
ERROR_WINHTTP_CONNECTION_ERROR: Final = _transient(
    "ERROR_WINHTTP_CONNECTION_ERROR",
    0x80072EFE,
    "the connection was reset or closed",
    _RETRIES,
)
ERROR_WINHTTP_SECURE_CERT_DATE_INVALID: Final = _fatal(
    "ERROR_WINHTTP_SECURE_CERT_DATE_INVALID",
    0x80072F05,
    "the certificate of the server has expired or is not valid yet",
    "check the clock; have the server renew its certificate, then resume the job",
)
ERROR_WINHTTP_SECURE_CERT_CN_INVALID: Final = _fatal(
    "ERROR_WINHTTP_SECURE_CERT_CN_INVALID",
    0x80072F06,
    "the certificate of the server is for another host name",
    "use the host name that the certificate names",
)
ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED: Final = _fatal(
    "ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED",
    0x80072F0C,
    "the server wants a client certificate and the job has none",
    "set a client certificate (bits certificate set), then resume the job",
)
ERROR_WINHTTP_SECURE_INVALID_CA: Final = _fatal(
    "ERROR_WINHTTP_SECURE_INVALID_CA",
    0x80072F0D,
    "the certificate of the server comes from an unknown issuer",
    "have this machine trust the issuer (its certificates, or ca_file of the service), then resume the job",
)
ERROR_WINHTTP_SECURE_CERT_REV_FAILED: Final = _fatal(
    "ERROR_WINHTTP_SECURE_CERT_REV_FAILED",
    0x80072F19,
    "it cannot be found out whether the certificate of the server was revoked",
    "make the revocation list reachable, or turn the check off for the job",
)
ERROR_WINHTTP_HEADER_NOT_FOUND: Final = _fatal(
    "ERROR_WINHTTP_HEADER_NOT_FOUND",
    0x80072F76,
    "a mandatory header is missing from the answer",
    "check server and proxy, then resume the job",
)
ERROR_WINHTTP_INVALID_SERVER_RESPONSE: Final = _transient(
    "ERROR_WINHTTP_INVALID_SERVER_RESPONSE",
    0x80072F78,
    "the answer of the server cannot be read",
    _RETRIES,
)
ERROR_WINHTTP_REDIRECT_FAILED: Final = _fatal(
    "ERROR_WINHTTP_REDIRECT_FAILED",
    0x80072F7C,
    "the redirect goes in circles, takes too many hops, or leads from https to http",
    "use the final url, or allow the redirect for the job",
)
ERROR_WINHTTP_SECURE_CHANNEL_ERROR: Final = _transient(
    "ERROR_WINHTTP_SECURE_CHANNEL_ERROR",
    0x80072F7D,
    "the tls handshake failed",
    "check that this port speaks tls, and which versions of it; the job tries again by itself",
)
ERROR_WINHTTP_BAD_AUTO_PROXY_SCRIPT: Final = _transient(
    "ERROR_WINHTTP_BAD_AUTO_PROXY_SCRIPT",
    0x80072F86,
    "the proxy script has an error",
    "correct the proxy script; the job tries again by itself",
)
ERROR_WINHTTP_UNABLE_TO_DOWNLOAD_SCRIPT: Final = _transient(
    "ERROR_WINHTTP_UNABLE_TO_DOWNLOAD_SCRIPT",
    0x80072F87,
    "the proxy script could not be fetched",
    "check the address of the proxy script; the job tries again by itself",
)
ERROR_WINHTTP_SECURE_INVALID_CERT: Final = _fatal(
    "ERROR_WINHTTP_SECURE_INVALID_CERT",
    0x80072F89,
    "the certificate of the server is not valid",
    "have the server fix its certificate, then resume the job",
)
ERROR_WINHTTP_SECURE_CERT_REVOKED: Final = _fatal(
    "ERROR_WINHTTP_SECURE_CERT_REVOKED",
    0x80072F8A,
    "the certificate of the server was revoked",
    "do not trust this server until it has a new certificate",
)
ERROR_WINHTTP_SECURE_FAILURE: Final = _fatal(
    "ERROR_WINHTTP_SECURE_FAILURE",
    0x80072F8F,
    "tls failed for more than one reason",
    "check the certificate of the server and the clock, then resume the job",
)
ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE: Final = _fatal(
    "ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE",
    0x80072F93,
    "the certificate is not meant for a server",
    "have the server use a certificate for server authentication, then resume the job",
)
ERROR_WINHTTP_AUTODETECTION_FAILED: Final = _table.internal(
    "ERROR_WINHTTP_AUTODETECTION_FAILED", 0x80072F94, "proxy detection found nothing; the connection goes direct"
)
ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY: Final = _fatal(
    "ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY",
    0x80072F99,
    "the client certificate has no private key",
    "install the private key, then resume the job",
)
ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY: Final = _fatal(
    "ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY",
    0x80072F9A,
    "the private key of the client certificate cannot be used under this network identity",
    "let the owner read the key; do not use a client certificate together with a helper token for the network",
)
