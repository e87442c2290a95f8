"""One HTTP request on its way: what is asked, of whom, through what, and how an exchange can break."""

import enum
from dataclasses import dataclass, field

from openbits.core.proxies import Proxy
from openbits.transfer.decisions import Body, step_of
from openbits.transfer.tls import Trust
from openbits.transfer.tls_messages import Handshake
from openbits.transfer.urls import Target


class Tunnel(enum.Enum):
    """How a request has to do with a tunnel that we make, and not libcurl (`route`)."""

    WANTED = enum.auto()
    """Nothing but the tunnel is asked for: CONNECT, of the proxy alone. Its engine keeps what it gets."""
    OURS = enum.auto()
    """It goes through the tunnel that its engine has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. No `proxy`: directly.

    `headers`: besides those that every request has, or in place of them; there may be secrets in it.
    `handshake`: nothing is asked; only hands are shaken with the server, whoever it is, and this watches.
    `trust`: what is known of the server already; without it everything is verified.
    `client_certificate`: certificates and private key (PEM) for a server that asks who we are.
    `proofs`, `proxy_proofs`: fields that say who we are, for the server and for the proxy alone.
    `proxy_login`: user and password for a SOCKS proxy.
    `is_on_new_connection`: the one that is there was not good.
    `is_unshared`: over a new connection, which is used for nothing else then.
    `is_pinned`: over a connection that nobody else uses; `local_port`: over the one that has this port here, or not.
    `tunnel`: None: libcurl makes one by itself where it needs one.
    `body`: what is sent along; `is_expecting`: once the server says that it wants it, or says nothing (RFC 9110
    §10.1.1). `answer_seconds`: how long the answer may take after that; None: the first-byte clock.
    """

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: Proxy | None = None
    is_on_new_connection: bool = False
    handshake: Handshake | None = field(default=None, repr=False)
    trust: Trust | None = None
    client_certificate: str | None = field(default=None, repr=False)
    proofs: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy_proofs: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy_login: tuple[str, str] | None = field(default=None, repr=False)
    is_unshared: bool = False
    is_pinned: bool = False
    local_port: int | None = None
    tunnel: Tunnel | None = None
    body: Body | None = None
    is_expecting: bool = False
    answer_seconds: float | None = None

    @property
    def step(self) -> str:
        """Method and range, for people."""
        return step_of(self.method, self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """An exchange ended without being whole: code, what the library said, whether not one byte was answered.

    `is_unclean`: the connection that was to be used again had something unasked to read.
    `is_unreached`: whoever was to be connected to, the proxy or without one the server, could not be.
    `needs_look`: what the server shows when hands are shaken tells why: its certificate, or that it wants ours.
    `is_elsewhere`: the connection that the request was for is gone.
    `needs_tunnel`: nothing was sent, because there is no tunnel to the server any more, or none yet.
    `is_unread`: the body of the request could not be read; who brought it knows why.
    """

    hresult: int
    words: str
    is_unanswered: bool = False
    is_unreached: bool = False
    is_unclean: bool = False
    needs_look: bool = False
    is_elsewhere: bool = False
    needs_tunnel: bool = False
    is_unread: bool = False
