"""Digest (RFC 7616, and RFC 2069 where no qop is asked for): the answer to a challenge.

Values in, values out: the client's nonce comes from the caller. auth-int, which covers the body too, is answered where
the server takes nothing else. A challenge that asks for what is not known here is no challenge.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from openbits.transfer.challenges import Challenge

SCHEME: Final = "digest"

_HASHES: Final[dict[str, Callable[[bytes], str]]] = {
    # strongest first
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
_SESSION: Final = "-SESS"
_QOPS: Final = ("auth", "auth-int")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A challenge that can be answered. `qop`: empty for the old form without."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str | None
    """As it was written, None if it was not."""
    hash_name: str
    is_session: bool
    qop: str
    is_stale: bool
    is_user_hashed: bool
    is_utf8: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The request that is answered for: its method and its target as it is sent, and the place of the answer in order.

    `count`: how many answers this nonce has had, this one included. `client_nonce`: random, of the caller. `body`:
    called where the answer covers it.
    """

    method: str
    target: str
    count: int
    client_nonce: str
    body: Callable[[], bytes] = field(default=bytes, repr=False)


def strongest(challenges: Iterable[Challenge]) -> Asked | None:
    """The best Digest challenge among these that can be answered."""
    known = [asked for asked in map(_read, challenges) if asked is not None]
    order = list(_HASHES)
    return min(known, key=lambda asked: order.index(asked.hash_name), default=None)


def answer(asked: Asked, user: str, password: str, question: Question) -> str:
    """The value of Authorization or Proxy-Authorization."""
    hashed = _HASHES[asked.hash_name]

    def digest(*parts: str) -> str:
        return hashed(":".join(parts).encode())

    secret = digest(user, asked.realm, password)
    if asked.is_session:
        secret = digest(secret, asked.nonce, question.client_nonce)
    subject = [question.method, question.target]
    if asked.qop == "auth-int":
        subject.append(hashed(question.body()))
    count = f"{question.count:08x}"
    numbered = [count, question.client_nonce, asked.qop] if asked.qop else []
    response = digest(secret, asked.nonce, *numbered, digest(*subject))
    name = digest(user, asked.realm) if asked.is_user_hashed else user
    fields = [
        _user_field(name, is_utf8=asked.is_utf8),
        f"realm={_quoted(asked.realm)}",
        f"nonce={_quoted(asked.nonce)}",
        f"uri={_quoted(question.target)}",
        *([f"algorithm={asked.algorithm}"] if asked.algorithm is not None else []),
        *([f"cnonce={_quoted(question.client_nonce)}"] if asked.qop or asked.is_session else []),
        *([f"nc={count}", f"qop={asked.qop}"] if asked.qop else []),
        f'response="{response}"',
        *([f"opaque={_quoted(asked.opaque)}"] if asked.opaque is not None else []),
        *(["userhash=true"] if asked.is_user_hashed else []),
    ]
    return f"Digest {', '.join(fields)}"


def _read(challenge: Challenge) -> Asked | None:
    given = challenge.parameters
    algorithm = given.get("algorithm")
    name = (algorithm or "MD5").upper()
    offered = [qop.strip().lower() for qop in given.get("qop", "").split(",") if qop.strip()]
    qop = next((qop for qop in _QOPS if qop in offered), "")
    if challenge.scheme != SCHEME or "realm" not in given or "nonce" not in given:
        return None
    if name.removesuffix(_SESSION) not in _HASHES or (offered and not qop):
        return None
    return Asked(
        realm=given["realm"],
        nonce=given["nonce"],
        opaque=given.get("opaque"),
        algorithm=algorithm,
        hash_name=name.removesuffix(_SESSION),
        is_session=name.endswith(_SESSION),
        qop=qop,
        is_stale=given.get("stale", "").lower() == "true",
        is_user_hashed=given.get("userhash", "").lower() == "true",
        is_utf8=given.get("charset", "").lower() == "utf-8",
    )


def _user_field(name: str, *, is_utf8: bool) -> str:
    """A name outside ASCII is sent as it is where nothing was agreed, as curl and browsers do."""
    if name.isascii() or not is_utf8:
        return f"username={_quoted(name)}"
    safe = "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"%{byte:02X}" for byte in name.encode()
    )
    return f"username*=UTF-8''{safe}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
