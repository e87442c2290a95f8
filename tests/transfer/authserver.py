"""Servers that ask who somebody is: answers for `FaultServer`, which check what they get with code of their own."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError
from tests.transfer.faultserver import Request, Step, head, part, size_only, whole

BODY = bytes(range(256)) * 40
USER = "anna"
PASSWORD = "Canary5ecret, \u00e4"
REALM = "files"
FIELDS = ('ETag: "v1"',)

Answering = Callable[[Request], Sequence[Step]]


def file(request: Request) -> Sequence[Step]:
    """The file or the part of it that is asked for."""
    if request.method == "HEAD":
        return size_only(BODY, *FIELDS)
    return whole(BODY, *FIELDS) if request.offset is None else part(BODY, request.offset, *FIELDS)


def ask(*challenges: str, fields: Sequence[str] = (), status: str = "401 Unauthorized") -> Sequence[Step]:
    """The answer to somebody unknown, one field for each challenge."""
    name = "Proxy-Authenticate" if status.startswith("407") else "WWW-Authenticate"
    body = b"who are you?"
    lines = [f"{name}: {challenge}" for challenge in challenges]
    return [head(status, f"Content-Length: {len(body)}", *lines, *fields), body]


def basic(*, user: str = USER, password: str = PASSWORD) -> Answering:
    """Basic, and nothing else."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(request: Request) -> Sequence[Step]:
        if request.headers.get("authorization") == expected:
            return file(request)
        return ask(f'Basic realm="{REALM}", charset="UTF-8"')

    return answer


class Digest:
    """Digest with one nonce at a time, each good for `uses` requests, whose counts it checks."""

    def __init__(
        self, *, algorithm: str = "SHA-256", qop: str = "auth", password: str = PASSWORD, uses: int = 1000
    ) -> None:
        self.counts: list[int] = []
        self.nonces = 1
        self._algorithm, self._qop, self._password, self._uses = algorithm, qop, password, uses
        self._left = uses

    def __call__(self, request: Request) -> Sequence[Step]:
        given = request.headers.get("authorization", "")
        if not given:
            return self._ask()
        fields = {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|[^",\s]+)', given)}
        if fields["nonce"] != f"nonce{self.nonces}" or self._left == 0:
            self.nonces += 1
            self._left = self._uses
            return self._ask(", stale=true")
        if not self._is_right(request, fields):
            self.nonces += 1
            return self._ask()
        self._left -= 1
        self.counts.append(int(fields["nc"], 16))
        return file(request)

    def _ask(self, more: str = "") -> Sequence[Step]:
        parts = f'realm="{REALM}", nonce="nonce{self.nonces}", qop="{self._qop}", algorithm={self._algorithm}'
        return ask(f"Digest {parts}{more}")

    def _is_right(self, request: Request, fields: dict[str, str]) -> bool:
        """RFC 7616 §3.4."""
        name = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[self._algorithm.removesuffix("-sess")]

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        first = digest(f"{USER}:{REALM}:{self._password}")
        if self._algorithm.endswith("-sess"):
            first = digest(f"{first}:{fields['nonce']}:{fields['cnonce']}")
        second = f"{request.method}:{request.target}"
        if self._qop == "auth-int":
            second += ":" + digest("")
        middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
        expected = digest(f"{first}:{middle}:{digest(second)}")
        return fields["uri"] == request.target and fields["response"] == expected and fields["username"] == USER


class Conversing:
    """NTLM, alone or inside SPNEGO, which authenticates the connection; pyspnego is the other side.

    `bindings`: what the client must have bound the conversation to. `is_proxy`: it asks as proxies do. `let_in`: what
    somebody known gets.
    """

    def __init__(
        self,
        scheme: str,
        accounts: Path,
        *,
        bindings: bytes | None = None,
        others: Sequence[str] = (),
        is_proxy: bool = False,
        let_in: Answering = file,
    ) -> None:
        accounts.write_text(f":{USER}:{PASSWORD}\n")
        self._scheme = scheme
        self._bindings = None if bindings is None else GssChannelBindings(application_data=bindings)
        self._others = others
        self._let_in = let_in
        self._field = "proxy-authorization" if is_proxy else "authorization"
        self._status = "407 Proxy Authentication Required" if is_proxy else "401 Unauthorized"
        self._contexts: dict[int, spnego.ContextProxy] = {}
        self.users: dict[int, str] = {}
        """Who each connection belongs to."""
        self.refusals = 0

    def __call__(self, request: Request) -> Sequence[Step]:
        given = request.headers.get(self._field, "")
        if not given:
            return self._let_in(request) if request.connection in self.users else self._ask()
        scheme, _, token = given.partition(" ")
        assert scheme == self._scheme
        context = self._contexts.get(request.connection)
        if context is None:
            context = self._contexts[request.connection] = self._context()
        try:
            answer = context.step(base64.b64decode(token), channel_bindings=self._bindings)
        except SpnegoError:
            self.refusals += 1
            del self._contexts[request.connection]
            return self._ask()
        text = "" if answer is None else " " + base64.b64encode(answer).decode()
        if not context.complete:
            return self._ask(text)
        self.users[request.connection] = str(context.client_principal)
        return self._let_in(request)

    def _ask(self, more: str = "") -> Sequence[Step]:
        return ask(f"{self._scheme}{more}", *self._others, status=self._status)

    def _context(self) -> spnego.ContextProxy:
        if self._scheme == "NTLM":
            return spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
        return spnego.server(protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate)
