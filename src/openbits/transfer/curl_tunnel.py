"""Tunnels through proxies that want a conversation first (NTLM, Negotiate): made by us, used by libcurl.

libcurl closes the connection when a proxy refuses its CONNECT, and a conversation needs that very connection again. So
the proxy is asked by ordinary requests whose method is CONNECT. When it agrees, the connection is taken from libcurl,
to whom we say that the exchange has failed, and is given back to it as one that is connected already: for TLS with the
server, as if there were no proxy. Each socket is ours, and libcurl has a copy.
"""

import socket
from typing import Any, Final

import pycurl

from openbits.core.proxies import Proxy
from openbits.transfer.request import Request, Tunnel

_Way = tuple[Proxy | None, str, int]
"""Through which proxy to which host and port."""

_NOWHERE: Final = "127.0.0.1"
"""Where libcurl is told to connect to, so that it looks no name up; it never does."""


class Tunnels:
    """Of one engine: what is being asked for, and what was got and is not used yet."""

    def __init__(self) -> None:
        self._dialled: list[socket.socket] = []
        """By the present exchange."""
        self._conversing: socket.socket | None = None
        """What libcurl keeps for the next word."""
        self._made: tuple[_Way, socket.socket] | None = None
        self._numbers: dict[Proxy | None, int] = {}

    def options(self, request: Request) -> list[tuple[int, Any]]:
        """What libcurl is told in place of what it is told of other requests."""
        if request.tunnel is Tunnel.WANTED:
            target = request.target
            return [
                (pycurl.URL, f"http://{target.peer}/"),  # relayed, as it believes; TLS begins in the tunnel
                (pycurl.CUSTOMREQUEST, "CONNECT"),
                (pycurl.REQUEST_TARGET, target.peer),
                (pycurl.HTTPHEADER, [f"Host: {target.peer}", "Accept:"]),
            ]
        if request.tunnel is Tunnel.OURS:
            number = self._numbers.setdefault(request.proxy, len(self._numbers) + 1)
            return [
                (pycurl.PROXY, ""),
                (pycurl.NOPROXY, "*"),
                (pycurl.CONNECT_TO, [f"::{_NOWHERE}:{number}"]),  # kept connections through different proxies differ
                (pycurl.SOCKOPTFUNCTION, lambda _descriptor, _purpose: int(pycurl.SOCKOPT_ALREADY_CONNECTED)),
            ]
        return []

    def dialled(self, connection: socket.socket) -> None:
        """One of the connections that are tried for a request for a tunnel."""
        self._dialled.append(connection)

    def answered(self, request: Request, local_port: int, *, is_made: bool, is_kept: bool) -> None:
        """A request for a tunnel is over. `is_kept`: libcurl keeps its connection."""
        known = [*self._dialled, *([self._conversing] if self._conversing is not None else [])]
        used = next((one for one in known if one.getsockname()[1] == local_port), None)
        self._dialled = [one for one in known if one is not used]
        self._conversing = used if is_kept and not is_made else None
        if used is not None and is_made:
            self._forget_made()
            self._made = (_way(request), used)
        elif used is not None and not is_kept:
            self._dialled.append(used)
        self.let_go()

    def take(self, request: Request) -> socket.socket | None:
        """The tunnel for this request, which is the caller's from now on."""
        if self._made is None or self._made[0] != _way(request):
            return None
        _, connection = self._made
        self._made = None
        return connection

    def let_go(self) -> None:
        """Nobody waits for what was dialled."""
        for one in self._dialled:
            one.close()
        self._dialled.clear()

    def close(self) -> None:
        """Close whatever there is."""
        self.let_go()
        self._forget_made()
        if self._conversing is not None:
            self._conversing.close()
            self._conversing = None

    def _forget_made(self) -> None:
        if self._made is not None:
            self._made[1].close()
            self._made = None


def _way(request: Request) -> _Way:
    return request.proxy, request.target.host.lower(), request.target.port
