"""A proxy that asks who somebody is before it makes a tunnel, as often as that takes, on one connection."""

import base64
import contextlib
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.transfer.authserver import Conversing
from tests.transfer.faultserver import Ending, FaultServer, Request, Step, head
from tests.transfer.forwardproxy import pour


class Tunnel(Ending):
    """A step after which the connection is a tunnel to this place."""

    def __init__(self, target: str) -> None:
        super().__init__(f"TUNNEL {target}")
        self.target = target


def tunnel(request: Request, *fields: str) -> Sequence[Step]:
    """What somebody gets who is let in."""
    return [head("200 Connection established", *fields), Tunnel(request.target)]


class TunnelProxy(FaultServer):
    """A fault server whose answers may end with a `Tunnel`."""

    @property
    def name(self) -> str:
        """As proxy lists have it."""
        return f"127.0.0.1:{self.port}"

    def asks(self, scheme: str, accounts: Path, *, others: Sequence[str] = ()) -> Conversing:
        """Have it ask like that for every tunnel."""
        peer = Conversing(scheme, accounts, is_proxy=True, others=others, let_in=tunnel)
        self.answer("CONNECT", peer)
        return peer

    def words(self) -> list[str]:
        """What was said of who asks, in order: `NTLM 1` is the first message of NTLM, `Basic` any other word."""
        return [_word(request.headers.get("proxy-authorization", "")) for request in self.requests]

    def is_left(self) -> bool:
        """True if every connection is over."""
        _, *connections = self._threads
        return not any(thread.is_alive() for thread in connections)

    def _say(self, connection: socket.socket, steps: Iterable[Step]) -> bool:
        said = list(steps)
        last = said[-1]
        if not isinstance(last, Tunnel):
            return super()._say(connection, said)
        host, _, port = last.target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as server:
            super()._say(connection, said[:-1])
            with self._lock:
                self._connections.append(server)
                self._start(pour, server, connection)
            pour(connection, server)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        return False


def _word(field: str) -> str:
    scheme, _, token = field.partition(" ")
    if scheme not in {"NTLM", "Negotiate"}:
        return scheme
    data = base64.b64decode(token)
    at = data.find(b"NTLMSSP\0")
    return f"{scheme} {data[at + 8]}" if at >= 0 else f"{scheme} -"
