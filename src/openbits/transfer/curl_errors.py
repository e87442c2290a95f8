"""What the errors of libcurl mean: one table, which those about our own certificates open."""

from typing import Final

import pycurl

from openbits.core import codes
from openbits.transfer import curl_tls

_ERRORS: Final[tuple[tuple[int, str, int], ...]] = (
    *curl_tls.ERRORS,
    # libcurl's code, words that its message must contain, what it means; the first row that fits counts
    (pycurl.E_UNSUPPORTED_PROTOCOL, "", codes.BG_E_INVALID_SERVER_RESPONSE),  # HTTP/0.9, impossible status lines
    (pycurl.E_URL_MALFORMAT, "", codes.ERROR_WINHTTP_INVALID_URL),
    (pycurl.E_COULDNT_RESOLVE_PROXY, "", codes.ERROR_WINHTTP_NAME_NOT_RESOLVED),
    (pycurl.E_COULDNT_RESOLVE_HOST, "", codes.ERROR_WINHTTP_NAME_NOT_RESOLVED),
    (pycurl.E_COULDNT_CONNECT, "", codes.ERROR_WINHTTP_CANNOT_CONNECT),
    (pycurl.E_FTP_WEIRD_SERVER_REPLY, "", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_PARTIAL_FILE, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_OUT_OF_MEMORY, "", codes.E_OUTOFMEMORY),
    (pycurl.E_OPERATION_TIMEDOUT, "", codes.ERROR_WINHTTP_TIMEOUT),
    (pycurl.E_SSL_CONNECT_ERROR, "", codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR),
    (pycurl.E_SSL_PINNEDPUBKEYNOTMATCH, "", codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR),  # a new key each time
    (pycurl.E_SSL_CIPHER, "", codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR),
    (pycurl.E_GOT_NOTHING, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_SEND_ERROR, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_RECV_ERROR, "chunk", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_RECV_ERROR, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_BAD_CONTENT_ENCODING, "", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_SSL_CACERT_BADFILE, "", codes.ERROR_WINHTTP_SECURE_INVALID_CA),
    (pycurl.E_SSL_INVALIDCERTSTATUS, "", codes.ERROR_WINHTTP_SECURE_INVALID_CERT),
    (97, "rejected", codes.from_http_status(407)),  # CURLE_PROXY, of SOCKS: user or password
    (97, "authentication method", codes.from_http_status(407)),
    (97, "", codes.ERROR_WINHTTP_CANNOT_CONNECT),  # the proxy cannot reach the server
    (100, "", codes.BG_E_INVALID_SERVER_RESPONSE),  # CURLE_TOO_LARGE, which pycurl does not name: endless header line
)

_OTHER_ERROR: Final = codes.ERROR_WINHTTP_CONNECTION_ERROR
"""What libcurl has no row for is transient (errors.md OPEN-E8)."""


def hresult(number: int, words: str) -> int:
    """The code for an error of libcurl with this message."""
    return next((code for row, part, code in _ERRORS if row == number and part in words), _OTHER_ERROR)
