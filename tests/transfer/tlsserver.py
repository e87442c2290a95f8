"""Servers over TLS that remember each handshake: version, protocol, resumption, and what the client showed."""

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.peers import uid_of_peer
from tests.real.authority import Authority, Pair
from tests.transfer.faultserver import FaultServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaken:
    """One handshake. `client`: the certificate that the client showed (DER); `uid`: whose socket it is."""

    version: str
    protocol: str | None
    is_resumed: bool
    client: bytes | None
    uid: int


class TlsServer(FaultServer):
    """A fault server with this certificate. `clients`: who signs clients; `is_client_required`: else they are asked."""

    def __init__(
        self,
        folder: Path,
        pair: Pair,
        *,
        versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        clients: Authority | None = None,
        is_client_required: bool = False,
        protocols: tuple[str, ...] = ("h2", "http/1.1"),
        has_sessions: bool = True,
    ) -> None:
        self.handshakes: list[Shaken] = []
        self._folder = folder
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = versions
        context.set_alpn_protocols(list(protocols))
        if not has_sessions:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        context.sslsocket_class = self._remembering()
        self.show(pair)
        if clients is not None:
            context.load_verify_locations(cadata=clients.pem)
            context.verify_mode = ssl.CERT_REQUIRED if is_client_required else ssl.CERT_OPTIONAL
        super().__init__(tls=context)

    def show(self, pair: Pair) -> None:
        """From now on this certificate."""
        self._context.load_cert_chain(*pair.files(self._folder, f"served{id(self)}"))

    def _remembering(self) -> type[ssl.SSLSocket]:
        handshakes, lock = self.handshakes, threading.Lock()

        class Remembering(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # the library's own
                uid = uid_of_peer(self)  # while the other end is there
                super().do_handshake(block)
                shaken = Shaken(
                    version=self.version() or "",
                    protocol=self.selected_alpn_protocol(),
                    is_resumed=bool(self.session_reused),
                    client=self.getpeercert(binary_form=True),
                    uid=uid,
                )
                with lock:
                    handshakes.append(shaken)

        return Remembering
