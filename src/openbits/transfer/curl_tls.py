"""What libcurl is told about TLS, and what its refusals of certificates mean.

Without anything known of the server it verifies in full. What is known of a server is a key, which the connection has
to show, and what need not be checked (`tls`). A handshake that is only watched is with whoever is there.
"""

from typing import Any, Final

import pycurl

from openbits.core import codes
from openbits.core.proxies import Kind
from openbits.transfer.request import Request
from openbits.transfer.tls import NO_CA, OTHER_VERDICT, VERDICTS

_OUR_CERTIFICATE: Final = codes.from_http_status(403)
"""What a server makes of a client certificate that it does not like (identity.md A41)."""

_ALERTS: Final = (
    ("certificate required", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED),
    ("alert unknown ca", _OUR_CERTIFICATE),
    ("alert bad certificate", _OUR_CERTIFICATE),
    ("alert unsupported certificate", _OUR_CERTIFICATE),
    ("alert certificate ", _OUR_CERTIFICATE),  # expired, revoked, unknown
    ("alert access denied", _OUR_CERTIFICATE),
)
"""What a server says when it has seen, or not seen, a certificate of ours, while hands are shaken or afterwards."""

_BAD_FUNCTION_ARGUMENT: Final = 43

ERRORS: Final = (
    *((number, part, code) for number in (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_RECV_ERROR) for part, code in _ALERTS),
    # asked for while the connection was in use, and not got (TLS 1.2)
    (pycurl.E_RECV_ERROR, "alert handshake failure", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED),
    (pycurl.E_SSL_CERTPROBLEM, "", codes.ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY),
    (_BAD_FUNCTION_ARGUMENT, "private key", codes.ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY),  # not of the certificate
)
"""Rows of the table in `curl_errors` that concern certificates of ours."""

_NO_COMMON_VERSION: Final = ("alert protocol version", "unsupported protocol")
_NO_TLS: Final = "wrong version number"
"""What OpenSSL says of an answer that is no TLS at all."""

_ANY_REASON: Final = "alert handshake failure"

_NO_VERDICT: Final = 1

_NO_CA_ERRORS: Final = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE})


def options(request: Request, ca_file: str | None) -> list[tuple[int, Any]]:
    """Options of the handle, None: as if never set. A proxy that is reached over TLS is always verified in full."""
    trust, watched = request.trust, request.handshake
    own: list[tuple[int, Any]] = [
        (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.SSL_VERIFYPEER, int(watched is None and (trust is None or trust.is_chain_checked))),
        (pycurl.SSL_VERIFYHOST, 2 if watched is None and (trust is None or trust.is_name_checked) else 0),
        (pycurl.PROXY_SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.PROXY_SSL_VERIFYPEER, 1),
        (pycurl.PROXY_SSL_VERIFYHOST, 2),
        *((option, None) for option in (pycurl.CAPATH, pycurl.PROXY_CAPATH)),
        *((option, ca_file) for option in (pycurl.CAINFO, pycurl.PROXY_CAINFO)),
    ]
    if trust is not None:
        own.append((pycurl.PINNEDPUBLICKEY, ";".join(f"sha256//{one}" for one in sorted(trust.pins))))
    if request.client_certificate is not None:
        pem = request.client_certificate.encode()
        own += [(pycurl.SSLCERT_BLOB, pem), (pycurl.SSLKEY_BLOB, pem)]
    if watched is not None:
        own += [
            (pycurl.CONNECT_ONLY, 1),
            (pycurl.SSL_SESSIONID_CACHE, 0),  # in a session that goes on the server shows no certificate
            (pycurl.VERBOSE, 1),
            (pycurl.DEBUGFUNCTION, _watching(watched.sent, watched.received)),
        ]
    return own


def verdict(handle: "pycurl.Curl", words: str) -> tuple[int, str]:
    """HRESULT of a certificate that was refused, and whose it is if not the server's, for people."""
    of_proxy = handle.getinfo(pycurl.PROXY_SSL_VERIFYRESULT)
    number = of_proxy or handle.getinfo(pycurl.SSL_VERIFYRESULT)
    if _is_ours(number, words):
        return _OUR_CERTIFICATE, "the server refuses the client certificate: "
    return VERDICTS.get(number, OTHER_VERDICT), "certificate of the proxy: " if of_proxy else ""


def needs_look(number: int, words: str, handle: "pycurl.Curl", request: Request) -> bool:
    """True if the server, not a proxy before it, was refused, or has refused us without saying why."""
    is_tls_proxy = request.proxy is not None and request.proxy.kind is Kind.HTTPS
    if is_tls_proxy and handle.getinfo(pycurl.HTTP_CONNECTCODE) == 0:
        return False
    if number == pycurl.E_PEER_FAILED_VERIFICATION:
        return not _is_ours(handle.getinfo(pycurl.SSL_VERIFYRESULT), words)
    return number == pycurl.E_SSL_PINNEDPUBKEYNOTMATCH or (
        number == pycurl.E_SSL_CONNECT_ERROR and _ANY_REASON in words
    )


def _is_ours(verdict: int, words: str) -> bool:
    """An alert about our certificate has the same error as a bad one of the server, and no verdict, as a wrong name."""
    return verdict == _NO_VERDICT and "name" not in words


def explained(number: int, words: str, ca_file: str | None) -> str:
    """The words of an error, with what to do where people cannot know."""
    if ca_file is None and number in _NO_CA_ERRORS:
        return NO_CA
    if number == _BAD_FUNCTION_ARGUMENT:
        return "the private key of the client certificate cannot be used: it is broken, or that of another certificate"
    if any(part in words for part in _NO_COMMON_VERSION):
        return f"{words}; TLS 1.2 or 1.3 is needed, and the server speaks neither"
    if _NO_TLS in words:
        return f"{words}; no TLS is spoken there, so the port is another one, or the URL begins with http"
    return words


def _watching(sent: Any, received: Any) -> Any:
    def watch(kind: int, data: bytes) -> None:
        if kind == pycurl.INFOTYPE_SSL_DATA_IN:
            received(data)
        elif kind == pycurl.INFOTYPE_SSL_DATA_OUT:
            sent(data)

    return watch
