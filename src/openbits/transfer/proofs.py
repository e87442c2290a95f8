"""What proves who we are in the requests of one route: the ladders of server and proxy, hop by hop.

Values in, values out. A server is one ladder, each proxy another; a proxy on the way to TLS is asked for a tunnel and
answers before the server does. Custom headers of the job that are proofs themselves take the place of a ladder: what a
client has written is sent, and nothing beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes
from openbits.core.proxies import Kind
from openbits.transfer import auth, challenges
from openbits.transfer.auth import Peer
from openbits.transfer.headers import Head
from openbits.transfer.ladder import Ladder, Logins, Refused, Said, Way, Work
from openbits.transfer.mechanisms import MechanismError
from openbits.transfer.request import Breakage, Request, Tunnel
from openbits.transfer.urls import Origin

_ENDED: Final = codes.ERROR_WINHTTP_CONNECTION_ERROR
_SERVER: Final = "authorization"
_PROXY: Final = "proxy-authorization"
CUSTOM: Final = frozenset({_SERVER, _PROXY})
"""Custom headers, in lower case, that say who asks."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Do the work in a helper thread, with the certificate of the connection, and go on with `Route.proved`."""

    ladder: Ladder
    work: Work


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until another transfer of the job knows whether it is let in, and go on with `Route.released`."""

    ladder: Ladder


class Again:
    """The same request has to go out again, with more than before."""


class Proofs:
    """Of one route from `home`; without `logins` nobody is answered. `custom`: the job's own headers."""

    def __init__(self, logins: Logins | None, home: Origin, custom: Sequence[tuple[str, str]]) -> None:
        self._logins = logins
        self._home = auth.server(home)
        self._custom = {name.lower(): (name, value) for name, value in custom if name.lower() in CUSTOM}
        self._ladders: dict[tuple[Peer, Way], Ladder] = {}
        self._server: Ladder | None = None
        self._proxy: Ladder | None = None
        self._is_tunnel = False

    def prepare(self, request: Request) -> None:
        """A request is about to be made."""
        target, proxy = request.target, request.proxy
        self._is_tunnel = proxy is not None and proxy.kind is not Kind.SOCKS5 and target.scheme == "https"
        self._server = self._proxy = None
        if self._logins is None:
            return
        if proxy is not None and proxy.kind is not Kind.SOCKS5 and not self._is_custom(request, _PROXY):
            in_tls = Way.TUNNEL_IN_TLS if proxy.kind is Kind.HTTPS else Way.TUNNEL
            self._proxy = self._ladder(auth.proxy(proxy), in_tls if self._is_tunnel else Way.REQUEST)
            if self._is_tunnel:
                self._proxy.prepare("CONNECT", f"{target.host}:{target.port}", None)
            else:
                self._proxy.prepare(request.method, target.resource, request.body)
        if not self._is_custom(request, _SERVER):
            self._server = self._ladder(auth.server(target.origin), Way.REQUEST)
            self._server.prepare(request.method, target.resource, request.body)

    def pending(self) -> Prove | Hold | None:
        """What has to be done before it can be made."""
        for ladder in self._present:
            if ladder.is_held:
                return Hold(ladder)
            if ladder.work is not None:
                return Prove(ladder, ladder.work)
        return None

    @property
    def is_shut(self) -> bool:
        """True if the connection has to be let in before it may bring a body."""
        return any(ladder.is_shut for ladder in self._present)

    def dressed(self, request: Request) -> Request:
        """The request with what it carries, of the job's own and of ours; or, before it, that for a tunnel."""
        tunnel = Tunnel.OURS if self._is_tunnel and self._proxy is not None and self._proxy.is_pinned else None
        if tunnel is not None and self._proxy is not None and self._proxy.field is not None:
            return replace(
                request,
                headers=(),
                answer_seconds=None,
                proxy_proofs=(("Proxy-Authorization", self._proxy.field),),
                is_pinned=True,
                local_port=self._proxy.port,
                tunnel=Tunnel.WANTED,
            )
        own = [self._custom[_SERVER]] if self._is_custom(request, _SERVER) else []
        own_for_proxy = [self._custom[_PROXY]] if self._is_custom(request, _PROXY) else []
        server = [("Authorization", ladder.field) for ladder in _some(self._server) if ladder.field is not None]
        proxy = [("Proxy-Authorization", ladder.field) for ladder in _some(self._proxy) if ladder.field is not None]
        login = None
        if self._logins is not None and request.proxy is not None and request.proxy.kind is Kind.SOCKS5:
            login = self._logins.socks(auth.proxy(request.proxy), self._home)
        return replace(
            request,
            proofs=(*own, *((name, value) for name, value in server)),
            proxy_proofs=(*own_for_proxy, *((name, value) for name, value in proxy)),
            proxy_login=login,
            is_expecting=request.is_expecting and not any(ladder.is_conversing for ladder in self._present),
            is_pinned=any(ladder.is_pinned for ladder in self._present),
            is_unshared=bool(own or own_for_proxy),
            local_port=next((ladder.port for ladder in self._present if ladder.port is not None), None),
            tunnel=tunnel,
        )

    def answered(self, head: Head, port: int | None) -> Refused | Again | None:
        """A final head of the server, or of a proxy that is no tunnel; None: nobody asks who we are."""
        if head.status == 407 and (self._proxy is None or self._is_tunnel):
            return self._unanswerable(head)
        if self._proxy is not None:
            verdict = self._told(self._proxy, head, port if not self._is_tunnel else None, 407)
            if verdict is not None:
                return verdict
        if self._server is not None:
            return self._told(self._server, head, port, 401)
        is_refused = head.status == 401 and self._logins is not None
        return Refused(codes.from_http_status(401), _own_header_refused(head, "the server")) if is_refused else None

    def tunnel_answered(self, head: Head, port: int | None) -> Refused | Again | None:
        """The head of a proxy's answer to CONNECT; without a port it was libcurl's, whose connection is gone then."""
        if self._proxy is not None:
            return self._told(self._proxy, head, port, 407)
        if head.status == 407 and self._logins is not None:
            return Refused(codes.from_http_status(407), _own_header_refused(head, "the proxy"))
        return None

    def broke(self, breakage: Breakage) -> Refused | Again | None:
        """The exchange broke; None: that has nothing to do with who we are."""
        is_ended = breakage.is_elsewhere or breakage.is_unclean or breakage.hresult == _ENDED
        ladder = next((ladder for ladder in self._present if ladder.is_conversing), None)
        if ladder is not None and is_ended:
            return ladder.broke() or Again()
        if breakage.is_elsewhere and any(ladder.has_lost() for ladder in self._present):
            return Again()
        if breakage.needs_tunnel and self._proxy is not None:
            self._proxy.open()
            return Again()
        return None

    @staticmethod
    def proved(prove: Prove, outcome: Said | MechanismError) -> Refused | None:
        """What became of the work."""
        return prove.ladder.worked(outcome)

    def abandon(self) -> None:
        """The route is left."""
        for ladder in self._ladders.values():
            ladder.abandon()

    @property
    def _present(self) -> list[Ladder]:
        return [*_some(self._proxy), *_some(self._server)]

    def _ladder(self, peer: Peer, way: Way) -> Ladder:
        key = (peer, way)
        if key not in self._ladders and self._logins is not None:
            self._ladders[key] = self._logins.ladder(peer, self._home, way)
        return self._ladders[key]

    def _is_custom(self, request: Request, name: str) -> bool:
        """True if the job's own header takes this place: for its own server, and a proxy on the way there."""
        is_home = auth.server(request.target.origin) == self._home
        return name in self._custom and is_home and (name == _SERVER or request.proxy is not None)

    def _unanswerable(self, head: Head) -> Refused:
        """A server that asks as a proxy would (reliability.md §5 row 35), or the job's own header was refused."""
        if not self._is_tunnel and _PROXY in self._custom:
            return Refused(codes.from_http_status(407), _own_header_refused(head, "the proxy"))
        words = f"the server answered {_status(head)}, as only a proxy may; no server is given what is for proxies"
        return Refused(codes.from_http_status(407), words)

    @staticmethod
    def _told(ladder: Ladder, head: Head, port: int | None, asking: int) -> Refused | Again | None:
        field = "proxy-authenticate" if asking == 407 else "www-authenticate"
        offer = challenges.parse(head.values(field))
        if head.status == asking:
            return ladder.challenged(offer, _status(head), port) or Again()
        return ladder.passed(offer, port)


def _some(ladder: Ladder | None) -> list[Ladder]:
    return [] if ladder is None else [ladder]


def _status(head: Head) -> str:
    """`401 Unauthorized`."""
    return head.status_line.partition(" ")[2]


def _own_header_refused(head: Head, who: str) -> str:
    return f"{who} answered {_status(head)} to the job's own header, beside which no credentials are used"
