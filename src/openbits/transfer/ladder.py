"""The ladder: how a peer is answered that asks who we are (reliability.md §5 rows 31-35, user-pains 21).

Values in, values out, but for the conversations of NTLM and Negotiate, whose next word is work for a helper thread. One
`Ladder` is one transfer's side towards one peer; what the transfers of a job know of that peer together is its `Space`.

1. Nothing is sent before it is asked for, but for what was accepted once and will be asked for again (`space`).
2. Exactly one scheme at a time, the strongest that the peer offers and the job has something for.
3. A refusal is final: no scheme, no user with the same password, is tried again while any transfer of the job goes on.
   What remains may follow, but never Basic: it would hand over what a better scheme has protected.
4. One transfer tries, the others of the job wait: a wrong password is sent once.
5. A conversation is held on one connection of its own, from the challenge on. What brings a body goes out over a
   connection that is let in already, and over no other (`is_shut`), unless the peer asks about each request.
"""

import base64
import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openbits.core import codes
from openbits.core.enums import AuthScheme
from openbits.transfer import auth, digest
from openbits.transfer.auth import CONNECTION_BOUND, NAMES, Authentication, Credential, Peer, Usable
from openbits.transfer.challenges import Challenge
from openbits.transfer.decisions import Body
from openbits.transfer.headers import printable
from openbits.transfer.mechanisms import Mechanism, MechanismError, Mechanisms
from openbits.transfer.space import BasicLogin, BoundLogin, DigestLogin, Login, Space

MAX_REALMS: Final = 3
"""How often one scheme is answered because the peer asks for another realm each time (row 31)."""
MAX_STALE: Final = 3
"""How often in a row a nonce of Digest may be too old (row 33)."""
MAX_LOSSES: Final = 2
"""How often in a row a connection that was let in may end before a body; then bodies go along with the conversation."""
MAX_ROUNDS: Final = 12
"""Questions of one peer about one request, whatever they are."""
_SHOWN: Final = 60


class Way(enum.Enum):
    """What a peer is asked for."""

    REQUEST = enum.auto()
    TUNNEL = enum.auto()
    """A way to a server that it then knows nothing of. libcurl asks for it, but not when that takes a conversation."""
    TUNNEL_IN_TLS = enum.auto()
    """The same of a proxy that is spoken to over TLS: libcurl alone has TLS in TLS, and can say one word to it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The way ends here: code, and words for people."""

    hresult: int
    words: str


@dataclass(frozen=True, slots=True)
class Work:
    """To be called in a helper thread, with the certificate of the connection (PEM, empty without TLS)."""

    call: Callable[[str], "Said"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a conversation says next."""

    mechanism: Mechanism
    token: bytes


class Logins:
    """What the transfers of a job share: what it has, and what is known of its peers."""

    def __init__(self, given: Authentication, mechanisms: Mechanisms) -> None:
        self._given = given
        self._mechanisms = mechanisms
        self._spaces: dict[Peer, Space] = {}

    def ladder(self, peer: Peer, home: Peer, way: Way = Way.REQUEST) -> "Ladder":
        """For a transfer from `home`."""
        space = self._spaces.setdefault(peer, Space())
        return Ladder(peer, auth.usable(self._given, peer, home), space, self._mechanisms, way)

    def socks(self, peer: Peer, home: Peer) -> tuple[str, str] | None:
        """User and password for a SOCKS proxy, which asks by its choice of method."""
        for one in auth.usable(self._given, peer, home).credentials:
            if one.scheme is AuthScheme.BASIC and one.user is not None and one.password is not None:
                return one.user, one.password
        return None

    def forget_refusals(self) -> None:
        """No transfer goes on: a password may have been changed, a ticket renewed."""
        for space in self._spaces.values():
            space.refusals.clear()


@dataclass(frozen=True, slots=True)
class _Carried:
    """What a request has with it. `is_remembered`: it was not asked for this time."""

    login: Login
    is_remembered: bool


class Ladder:
    """One transfer's side towards one peer."""

    def __init__(self, peer: Peer, usable: Usable, space: Space, mechanisms: Mechanisms, way: Way) -> None:
        self.space = space
        self.field: str | None = None
        """Value of the field that the next request carries."""
        self.work: Work | None = None
        """What has to be done before."""
        self.is_held = False
        """The next request waits until the space is settled."""
        self.is_pinned = False
        """The next request goes over a connection of this transfer's own."""
        self.port: int | None = None
        """Local port of the one connection that it may go over."""
        self._peer = peer
        self._usable = usable
        self._mechanisms = mechanisms
        self._way = way
        self._method, self._target = "", ""
        self._body: Body | None = None
        self._let_in_at: int | None = None
        """Local port of the connection that may bring a body."""
        self._is_bound = False
        """What the peer accepts, as far as is known, is bound to a connection."""
        self._offer: tuple[Challenge, ...] = ()
        self._told = ""
        self._at: int | None = None
        self._carried: _Carried | None = None
        self._mechanism: Mechanism | None = None
        self._realms: set[str] = set()
        self._rounds = self._stale = self._breaks = 0
        self._losses = 0

    def prepare(self, method: str, target: str, body: Body | None = None) -> None:
        """A request is about to be made; `target`: as it is sent to the server."""
        self._method, self._target, self._body = method, target, body
        self._rounds = self._stale = self._breaks = 0
        if self._losses < MAX_LOSSES:
            self._losses = 0
        self._clear()
        login = self.space.login
        self._is_bound = isinstance(login, BoundLogin)
        if not isinstance(login, BoundLogin):
            if login is not None:
                self._carry(login, is_remembered=True)
            return
        self.is_pinned = self._way is not Way.TUNNEL_IN_TLS
        if self._way is Way.TUNNEL_IN_TLS or (self._way is Way.REQUEST and login.is_per_request):
            self._at = None
            self._converse(login.credential, is_remembered=True)
        elif body is not None:
            self.port = self._let_in_at

    def open(self) -> None:
        """There is no tunnel of ours to be used: one is about to be asked for."""
        self._clear()
        login = self.space.login
        self.is_pinned = isinstance(login, BoundLogin)
        if isinstance(login, BoundLogin):
            self._at = None
            self._converse(login.credential, is_remembered=True)
        elif login is not None:
            self._carry(login, is_remembered=True)

    def challenged(self, offer: tuple[Challenge, ...], told: str, port: int | None) -> Refused | None:
        """The peer asks who we are, in an answer that came over the connection with this local port.

        None: the request goes out again, as this ladder says now.
        """
        self._offer, self._told, self._at = offer, told, port
        carried, mechanism = self._carried, self._mechanism
        self._clear()
        self._let_in_at = None
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            return self._failed([f"it has asked {self._rounds} times"])
        if carried is None:
            self._notice_per_request(port)
            if self._is_each_asked:  # a body that was refused has cost the connection, and any is good for a first word
                self._at = None
            return self._climb()
        if isinstance(carried.login, BoundLogin):
            return self._went_on(carried, carried.login, mechanism)
        return self._asked_again(carried, carried.login)

    def passed(self, offer: tuple[Challenge, ...], port: int | None) -> Refused | None:
        """The peer did not ask. A token that it has sent along proves who it is, or does not."""
        carried, mechanism = self._carried, self._mechanism
        self._clear()
        if self._is_bound and self._body is not None:
            self._let_in_at = self.port = port
        if carried is None:
            return None
        if isinstance(carried.login, BoundLogin) and mechanism is not None:
            token = _token(offer, carried.login.credential.scheme)
            if token and not mechanism.is_complete:
                try:
                    mechanism.step(token)
                except MechanismError as error:
                    self.space.settle(self)
                    words = f"{self._peer.who} could not prove that it is {self._peer.service_host}: {error}"
                    return Refused(codes.ERROR_WINHTTP_LOGIN_FAILURE, words)
            carried.login.ports |= {port} if port is not None else set()
        self.space.login = carried.login
        self._realms.clear()
        self.space.settle(self)
        return None

    def worked(self, outcome: Said | MechanismError) -> Refused | None:
        """What became of the work; None: go on as this ladder says now."""
        self.work = None
        carried = self._carried
        if carried is None or not isinstance(carried.login, BoundLogin):
            return None
        credential = carried.login.credential
        if isinstance(outcome, Said):
            self._mechanism = outcome.mechanism
            self.field = f"{NAMES[credential.scheme]} {base64.b64encode(outcome.token).decode()}"
            self.port = self._at
            return None
        was_sent = self._mechanism is not None
        verb = "sent" if was_sent else "not sent"
        who = self._mechanism.who if self._mechanism is not None else credential.user or "the own identity"
        self._refuse(credential, f"{verb}: {NAMES[credential.scheme]} as {who}: {outcome}")
        self._clear()
        return None if carried.is_remembered else self._climb()

    def released(self) -> Refused | None:
        """Who tried knows; None: go on as this ladder says now."""
        self.is_held = False
        return self._climb()

    def broke(self) -> Refused | None:
        """The connection ended in the middle of a conversation, which begins anew once."""
        self._clear()
        self._breaks += 1
        if self._breaks == 1:
            return None
        self.space.settle(self)
        words = f"{self._peer.who} ended the connection twice in the middle of the authentication"
        return Refused(codes.ERROR_WINHTTP_LOGIN_FAILURE, words)

    def abandon(self) -> None:
        """The transfer ends."""
        self._clear()
        self.space.settle(self)

    @property
    def is_shut(self) -> bool:
        """The connection has to be let in before it brings a body."""
        is_bound = self._is_bound and self._way is Way.REQUEST and not self._is_each_asked
        return is_bound and self._body is not None and self._let_in_at is None and self._losses < MAX_LOSSES

    @property
    def _is_each_asked(self) -> bool:
        """The peer is known to ask about each request."""
        login = self.space.login
        return isinstance(login, BoundLogin) and login.is_per_request

    def has_lost(self) -> bool:
        """True if there was a connection that was let in; it is gone."""
        is_lost = self._let_in_at is not None
        self._let_in_at = self.port = None
        self._losses += is_lost
        return is_lost

    @property
    def is_conversing(self) -> bool:
        """True if the request carries a token, so that an end of the connection ends a conversation."""
        return self._mechanism is not None and self._carried is not None

    # -- what the peer says to what we said ------------------------------------------------------------------------

    def _asked_again(self, carried: _Carried, login: BasicLogin | DigestLogin) -> Refused | None:
        """Basic or Digest was not enough: another realm, an old nonce, or a refusal."""
        credential = login.credential
        if isinstance(login, DigestLogin):
            asked = digest.strongest(self._offer)
            is_new = asked is not None and asked.nonce != login.asked.nonce
            if asked is not None and asked.is_stale and self._stale < MAX_STALE:
                self._stale += 1
                return self._sent_again(credential)
            if carried.is_remembered and is_new and asked is not None and asked.realm == login.realm:
                return self._sent_again(credential)
        self._realms.add(login.realm)
        realm = _realm(self._offer, credential.scheme)
        if realm is not None and realm not in self._realms and len(self._realms) < MAX_REALMS:
            return self._sent_again(credential)
        self._refuse(credential, f"sent: {credential.label}, refused")
        return self._climb()

    def _went_on(self, carried: _Carried, login: BoundLogin, mechanism: Mechanism | None) -> Refused | None:
        """A conversation goes on with the token of the peer, or ends without one."""
        scheme = login.credential.scheme
        token = _token(self._offer, scheme)
        if token and mechanism is not None and not mechanism.is_complete:
            if self._way is Way.TUNNEL_IN_TLS:
                words = f"{NAMES[scheme]} takes more than one step here, and a tunnel in TLS is asked for in one"
                self._refuse(login.credential, words)
                return self._climb()
            self._mechanism = mechanism
            self._carried = carried
            self.work = Work(lambda _certificate: Said(mechanism, mechanism.step(token)))
            return None
        if carried.is_remembered:
            self.space.login = None
            return self._climb()
        who = mechanism.who if mechanism is not None else login.credential.user
        self._refuse(login.credential, f"sent: {NAMES[scheme]} as {who}, refused")
        return self._climb()

    # -- what we say -----------------------------------------------------------------------------------------------

    def _climb(self) -> Refused | None:
        """Begin with what another transfer has learnt meanwhile, else with the strongest scheme that is left."""
        login = self.space.login
        if login is not None and not isinstance(login, BoundLogin):
            self._carry(login, is_remembered=True)
            if self._carried is not None:
                return None
        if self.space.prover not in {None, self}:
            self.is_held = True
            return None
        self.space.prover = self
        for credential in self._usable.credentials:
            if not self.space.is_spent(credential) and self._begin(credential):
                return None
        return self._failed([])

    def _sent_again(self, credential: Credential) -> Refused | None:
        self.space.prover = self
        return None if self._begin(credential) else self._failed([])

    def _begin(self, credential: Credential) -> bool:
        """False if the peer does not offer the scheme, or not in a way that is known here."""
        realm = _realm(self._offer, credential.scheme)
        if realm is None:
            return False
        if credential.scheme in CONNECTION_BOUND:
            if self.is_pinned or self._way is not Way.REQUEST:
                self._converse(credential, is_remembered=False)
            self._is_bound = True
            self.is_pinned = self._way is not Way.TUNNEL_IN_TLS  # if it was not, the first thing is a challenge there
            return True
        if credential.scheme is AuthScheme.DIGEST:
            asked = digest.strongest(self._offer)
            if asked is None:
                return False
            self._carry(DigestLogin(credential, asked), is_remembered=False)
            return True
        folder = self._target[: self._target.partition("?")[0].rfind("/") + 1]
        self._carry(BasicLogin(credential, realm, folder), is_remembered=False)
        return True

    def _carry(self, login: BasicLogin | DigestLogin, *, is_remembered: bool) -> None:
        if self._way is Way.TUNNEL:
            self.is_pinned = False
        self._is_bound = False
        self.field = login.field(self._method, self._target, self._body_bytes)
        self._carried = None if self.field is None else _Carried(login, is_remembered)

    def _body_bytes(self) -> bytes:
        """All of the body, for an answer that covers it. What cannot be read is not sent either, which is told then."""
        body = self._body
        if body is None:
            return b""
        with contextlib.suppress(OSError, EOFError):
            return body.read(body.offset, body.length)
        return b""

    def _converse(self, credential: Credential, *, is_remembered: bool) -> None:
        login = self.space.login
        if not isinstance(login, BoundLogin) or login.credential != credential:
            login = BoundLogin(credential)
        self._carried = _Carried(login, is_remembered)

        def begin(certificate: str) -> Said:
            own = certificate if self._peer.scheme == "https" else ""
            mechanism = self._mechanisms.begin(credential, self._peer, own)
            return Said(mechanism, mechanism.step(None))

        self.work = Work(begin)

    def _notice_per_request(self, port: int | None) -> None:
        """Asked again on the connection where it had been let in."""
        login = self.space.login
        if isinstance(login, BoundLogin) and port in login.ports:
            login.is_per_request = True

    def _clear(self) -> None:
        self.field = self.work = self.port = None
        self._carried = self._mechanism = None

    # -- the end ---------------------------------------------------------------------------------------------------

    def _refuse(self, credential: Credential, words: str) -> None:
        self.space.login = None
        self.space.refusals[credential] = words

    def _failed(self, words: list[str]) -> Refused:
        """Who asked for what, what was sent as whom, and what can be done (user-pains, message rules)."""
        offered = ", ".join(dict.fromkeys(_described(challenge) for challenge in self._offer))
        asked = printable(offered, 200) or "for nothing that is known"
        told = [f"{self._peer.who} answered {self._told}, and asks {asked}"]
        told += [*words, *self.space.refusals.values(), *self._usable.notes]
        left = [one.label for one in self._usable.credentials if one not in self.space.refusals]
        if left:
            told.append(f"not used: {', '.join(left)}")
        elif not self._usable.credentials and not self._usable.notes:
            told.append(f"the job has no credentials for {self._peer.who}")
        self.space.settle(self)
        return Refused(codes.from_http_status(407 if self._peer.is_proxy else 401), "; ".join(told))


def _realm(offer: tuple[Challenge, ...], scheme: AuthScheme) -> str | None:
    """The realm of the first challenge of this scheme, None if there is no such challenge."""
    return next((one.realm for one in offer if one.scheme == scheme.name.lower()), None)


def _token(offer: tuple[Challenge, ...], scheme: AuthScheme) -> bytes:
    """The token of the challenge of this scheme, empty if there is none that can be read."""
    text = next((one.token for one in offer if one.scheme == scheme.name.lower()), "")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _described(challenge: Challenge) -> str:
    name = next((name for scheme, name in NAMES.items() if scheme.name.lower() == challenge.scheme), challenge.scheme)
    return f'{name} (realm "{printable(challenge.realm, _SHOWN)}")' if challenge.realm else name
