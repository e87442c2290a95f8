"""The messages of a TLS handshake, as far as they say who the server is (RFC 5246 §7.4, RFC 8446 §4).

libcurl shows each message in clear while it shakes hands. What is read here proves nothing: a connection that uses it
pins the key that was read, so that only who has that key is spoken to.
"""

from collections.abc import Iterator
from typing import Final

_CLIENT_HELLO, _SERVER_HELLO, _CERTIFICATE, _CERTIFICATE_REQUEST = 1, 2, 11, 13
_SUPPORTED_VERSIONS: Final = 43
_VERSIONS: Final = {0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

MAX_CHAIN: Final = 16
"""Certificates of one server that are looked at; real chains have two to four."""


class Handshake:
    """What a server shows of itself while hands are shaken.

    `layers`: 2 if there is a TLS connection to a proxy around the one to the server.
    """

    def __init__(self, layers: int = 1) -> None:
        self.version = ""
        """Of the protocol, for people; empty as long as it is not known."""
        self.is_client_asked = False
        """The server would like to see a certificate of ours, or must."""
        self._layers = layers
        self._layer = 0
        self._chain: tuple[bytes, ...] = ()

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The server's certificates (DER), its own first; empty if it has not shown any."""
        return self._chain if self._layer == self._layers else ()

    def sent(self, message: bytes) -> None:
        """The client sent this: a message of the handshake, or something else of the protocol."""
        if message[:1] == bytes([_CLIENT_HELLO]) and len(message) > 4 and (self._chain or self._layer == 0):
            self._layer += 1
            self._chain, self.version, self.is_client_asked = (), "", False

    def received(self, message: bytes) -> None:
        """The server sent this."""
        kind, body = message[:1], message[4:]
        if len(message) < 4 or len(body) != int.from_bytes(message[1:4], "big"):
            return  # a record header, an alert, or what comes in pieces: no message that is of interest
        if kind == bytes([_SERVER_HELLO]):
            self.version = _version_of(body)
        elif kind == bytes([_CERTIFICATE_REQUEST]):
            self.is_client_asked = True
        elif kind == bytes([_CERTIFICATE]):
            self._chain = tuple(_certificates(body, is_tls13=self.version == _VERSIONS[0x0304]))[:MAX_CHAIN]


def _version_of(hello: bytes) -> str:
    version = int.from_bytes(hello[:2], "big")
    at = 34  # version and random
    at += 1 + (hello[at] if len(hello) > at else 0)  # session
    at += 3 + 2  # cipher, compression, length of the extensions
    while at + 4 <= len(hello):
        kind, length = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == _SUPPORTED_VERSIONS and length == 2:
            version = int.from_bytes(hello[at + 4 : at + 6], "big")
        at += 4 + length
    return _VERSIONS.get(version, f"TLS version {version:#06x}")


def _certificates(body: bytes, *, is_tls13: bool) -> Iterator[bytes]:
    at = 1 + body[0] if is_tls13 and body else 0  # the context, which a server leaves empty
    at += 3  # length of the list, which ends with the message
    while at + 3 <= len(body):
        length = int.from_bytes(body[at : at + 3], "big")
        yield body[at + 3 : at + 3 + length]
        at += 3 + length
        if is_tls13:
            at += 2 + int.from_bytes(body[at : at + 2], "big")  # extensions
