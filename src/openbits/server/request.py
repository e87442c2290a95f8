"""A request as the checks see it, read from the scope of ASGI. Pure."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openbits.core import codes, packets
from openbits.core.packets import Header, PacketError
from openbits.server import paths
from openbits.server.model import RefusedError

_ONCE: Final = frozenset(
    {one.lower() for one in Header} | {"authorization", "content-length", "host", "content-encoding"}
)
"""Two of these have no meaning; of other fields the values are joined as HTTP says."""

MALFORMED: Final = "a field stands twice, a field or the target is longer than 4 KiB, or the target has a fragment id"
"""What `Request.is_malformed` means, for the log."""

_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{0,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked. `fields`: by lower-case name; the authorisation among them keeps them out of repr."""

    method: str
    version: str
    scheme: str
    target: paths.Target
    fields: Mapping[str, str] = field(repr=False)
    is_malformed: bool = False
    """A field is longer than H5 allows, or stands twice; or the target is too long, or has a fragment id (H10)."""
    client: str = ""
    certificate: str = field(default="", repr=False)
    """PEM, of the client; empty: it has shown none."""

    def get(self, name: str) -> str:
        """The value of a field, empty without it."""
        return self.fields.get(name.lower(), "")

    @property
    def is_secure(self) -> bool:
        """Nobody on the way has read it."""
        return self.scheme == "https"

    @property
    def has_body_of_no_length(self) -> bool:
        """Transfer-Encoding counts as no Content-Length (H2)."""
        return "transfer-encoding" in self.fields or "content-length" not in self.fields

    def length(self) -> int:
        """Content-Length. Raises RefusedError (H2)."""
        if self.has_body_of_no_length:
            raise RefusedError(411, codes.E_INVALIDARG, "no Content-Length")
        try:
            return packets.number("Content-Length", self.get("content-length"))
        except PacketError as error:
            raise RefusedError(400, codes.E_INVALIDARG, str(error)) from None

    @property
    def authority(self) -> str:
        """Host and port that the client has asked for (H10); empty: it has named none that could be one.

        Everything else would change the meaning of the URL that it becomes a part of, or be none at all.
        """
        named = self.target.authority or self.get("host")
        match = _AUTHORITY.fullmatch(named)
        return named if match and (match[1] is None or _is_ipv6(match[1])) else ""

    @property
    def is_for_this_machine(self) -> bool:
        """Asked for as `localhost` or by an address: by no name that could be somebody else's."""
        host = self.authority.rpartition("]")[0].removeprefix("[") or self.authority.partition(":")[0]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host.lower() == "localhost"
        return True

    def url(self, public_url: str) -> str:
        """Absolute, as the client sees it; `public_url` replaces scheme and host."""
        base = public_url or f"{self.scheme}://{self.authority}"
        query = f"?{self.target.query}" if self.target.query else ""
        return f"{base}{self.target.raw_path}{query}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def from_scope(scope: Mapping[str, Any]) -> Request:
    """The request of a scope, whichever server it comes from; `root_path` is where an application is mounted."""
    fields: dict[str, str] = {}
    is_malformed = False
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        is_malformed |= len(raw_value) > packets.MAX_VALUE_BYTES or (name in _ONCE and name in fields)
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    is_malformed |= len(raw_path) + len(query) > packets.MAX_VALUE_BYTES or "#" in f"{raw_path}{query}"
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return Request(
        method=scope["method"],
        version=scope["http_version"],
        scheme=scope["scheme"],
        target=paths.target(raw_path, query, mounted_at=scope.get("root_path", "")),
        fields=fields,
        is_malformed=is_malformed,
        client=(scope.get("client") or ("",))[0],
        certificate=next(iter(chain), ""),
    )
