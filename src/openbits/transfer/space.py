"""What the transfers of a job know of one peer together: what it has accepted, what it has refused, and who tries.

Values in, values out. What was accepted once is sent at once where the scheme says that it would be asked for again:
Basic below the folder of the question (RFC 7617 §2.2), Digest at the whole server (RFC 7616 §3.3).
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from openbits.core.enums import AuthScheme
from openbits.transfer import digest
from openbits.transfer.auth import Credential


@dataclass(slots=True)
class BasicLogin:
    """Accepted for everything below the folder of the request that was asked about (RFC 7617 §2.2)."""

    credential: Credential
    realm: str
    folder: str

    def field(self, _method: str, target: str, _body: Callable[[], bytes] = bytes) -> str | None:
        """The value of the field, None if it will not be asked for."""
        if not target.startswith(self.folder):
            return None
        pair = f"{self.credential.user}:{self.credential.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


@dataclass(slots=True)
class DigestLogin:
    """Accepted for the whole server. `count`: how often the nonce was used."""

    credential: Credential
    asked: digest.Asked
    count: int = 0

    @property
    def realm(self) -> str:
        """See Challenge."""
        return self.asked.realm

    def field(self, method: str, target: str, body: Callable[[], bytes] = bytes) -> str | None:
        """The value of the field."""
        self.count += 1
        client_nonce = secrets.token_urlsafe(18)
        question = digest.Question(method=method, target=target, count=self.count, client_nonce=client_nonce, body=body)
        return digest.answer(self.asked, self.credential.user or "", self.credential.password or "", question)


@dataclass(slots=True)
class BoundLogin:
    """A conversation that was accepted. `is_per_request`: the connection is not enough, each request needs one.

    `ports`: local ports of the connections on which it was.
    """

    credential: Credential
    is_per_request: bool = False
    ports: set[int] = field(default_factory=set)


Login = BasicLogin | DigestLogin | BoundLogin


class Space:
    """What the transfers of a job know of one peer."""

    def __init__(self) -> None:
        self.login: Login | None = None
        self.refusals: dict[Credential, str] = {}
        """What was refused or could not even be sent, and in which words."""
        self.prover: object | None = None
        """Who is trying; the others wait."""
        self._waiting: list[Callable[[], None]] = []

    def wait(self, callback: Callable[[], None]) -> None:
        """Call back when the one who tries knows, which may be so already."""
        if self.prover is None:
            callback()
        else:
            self._waiting.append(callback)

    def settle(self, prover: object) -> None:
        """Let the others go on, if it was this one that tried."""
        if self.prover is prover:
            self.prover = None
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()

    def is_spent(self, credential: Credential) -> bool:
        """True if it, or what it would give away, was refused."""
        if self.refusals and credential.scheme is AuthScheme.BASIC:
            return True
        return any(
            one.scheme is credential.scheme
            or (not one.is_implicit and (one.user, one.password) == (credential.user, credential.password))
            for one in self.refusals
        )
