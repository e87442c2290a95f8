"""What was entrusted to a job, as the network worker gets it with an order: two memory files (docs/processes.md).

Opened from the vault, read from the stores of the owner and of the network identity, only when a request is about to be
made. Which identity each comes from is the table of identity.md §4: credentials and certificate of the job are the
owner's, ticket cache and stored proxy credentials those of the network identity. The kernel says what is readable: a
file broker of that very identity reads it.
"""

import errno
import json
import os
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from openbits.channel import Message
from openbits.core import codes, names, secrets
from openbits.core.access import Use, may_use_client_certificate
from openbits.core.enums import AuthScheme, ErrorContext, SecurityFlags
from openbits.core.errors import BitsError
from openbits.core.model import File, Job
from openbits.core.policies import Policies
from openbits.core.proxies import Settings
from openbits.core.proxy_files import Credential
from openbits.core.wording import label, name_of
from openbits.service.certificates import Certificates, home_of
from openbits.service.children import Children
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.identities import Source, source_for
from openbits.service.proxy_settings import Effective, ProxyLookup
from openbits.service.record import Record
from openbits.service.ticket_copies import TicketCopies
from openbits.service.vault import Vault

T = TypeVar("T")

STORED: Final = ".config/openbits/credentials.toml"
"""Of the network identity, below its home: what USE_STORED_CREDENTIALS means (jobs.md §13)."""

LM_COMPATIBILITY_LEVEL: Final = 3
"""NTLMv2 responses only: the one level that there is here, which UseLMCompat 1 compares with 2 (identity.md A65)."""

_STORED_KEYS: Final = {"host": str, "port": int, "scheme": str, "user": str, "password": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One entry for the worker. No user: the worker's own identity. `origin`: the one server or proxy it is for."""

    target: str
    scheme: str
    user: str | None
    password: str | None
    origin: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.target}/{self.scheme})"


def rules(policies: Policies) -> dict[str, bool]:
    """The field `authentication` of an order: what the policies say."""
    is_implicit = policies.use_lm_compat == 0 or (policies.use_lm_compat == 1 and LM_COMPATIBILITY_LEVEL >= 2)
    return {
        "implicit_server": is_implicit,
        "implicit_proxy": is_implicit,
        "basic_over_http": not policies.disable_basic_auth_over_http,
    }


def check(job: Job, file: File) -> None:
    """Refuse a client certificate that the network identity may not use (A40), before anything is connected."""
    is_needed = job.certificate is not None and _is_tls(file)
    if not is_needed or may_use_client_certificate(job.helper_token_flags, job.owner.uid):
        return
    text = (
        f"the client certificate of {name_of(job)} is its owner's, {label(job.owner)}, and its network identity is the"
        " helper; remove the certificate, or clear the flag NETWORK of the helper token, then resume the job"
    )
    code = codes.ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY
    raise BitsError(code, text, context=ErrorContext.GENERAL_TRANSPORT)


def parts_of(file: File, *, is_wanted_told: bool = False) -> Message:
    """The ranges that an order speaks of, for the memory file: no message has room for them; what is empty is missing.

    `is_wanted_told`: what is wanted is in it even if that is nothing.
    """
    told = {
        name: [[item.offset, item.length_bytes] for item in parts]
        for name, parts in (("ranges", file.ranges), ("wanted", file.wanted), ("filled", file.filled))
        if parts
    }
    return {"wanted": [], **told} if is_wanted_told else told


def in_memory(content: Message) -> int:
    """A memory file for what no message has room for."""
    memory = os.memfd_create("entrusted", os.MFD_CLOEXEC)
    with os.fdopen(memory, "wb", closefd=False) as copy:
        copy.write(json.dumps(content).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


class Entrusting:
    """Collects what goes with an order."""

    def __init__(self, children: Children, vault: Vault, certificates: Certificates, lookup: ProxyLookup) -> None:
        self._lookup = lookup
        self._children = children
        self._vault = vault
        self._certificates = certificates
        self._copies = TicketCopies(lambda network: self._asked(network, lambda broker: broker.tickets()))

    async def proxies(self, record: Record, file: File) -> Effective:
        """The proxy settings in effect for an HTTP order. Raises BitsError, and what reading them raises."""
        if names.path_of(file.present_remote_name) is not None:
            return Effective(settings=Settings())
        return await self._lookup.of_attempt(record)

    async def collect(
        self, record: Record, file: File, policies: Policies, of_proxies: Sequence[Credential], told: set[Source]
    ) -> list[int]:
        """Descriptors for an HTTP order: what was entrusted, then the ticket cache; none if there is nothing.

        `of_proxies`: what the proxy settings had, which counts if neither the job nor the identity has any for a proxy.
        `told`: whose tickets went with another order a moment ago, which need not be asked for again; kept up here.
        Raises BitsError: UNREADABLE, BG_E_TOKEN_REQUIRED, and what is wrong with certificate or stored credentials.
        """
        job = record.job
        if names.path_of(file.present_remote_name) is not None:
            return []  # SetCredentials is for web servers (A43)
        headers = self._vault.headers(job)
        credentials = self._credentials(job, file)
        if job.properties.use_stored_proxy_credentials:
            keeper = source_for(record, Use.PROXY_STORED_CREDENTIALS, ErrorContext.REMOTE_FILE)
            credentials += await self._stored(keeper)
        if not any(one.target == "proxy" for one in credentials):
            credentials += [one for credential in of_proxies for one in _of_variable(credential)]
        certificate = await self._certificate(job, file)
        tickets, caches = None, list[int]()
        if rules(policies)["implicit_server"] or any(one.user is None for one in credentials):
            network = source_for(record, Use.SERVER_CHALLENGE_IMPLICIT, ErrorContext.REMOTE_FILE)
            if network not in told:
                tickets, caches = await self._tickets(record, network)
                told.add(network)
        lists = ""
        if SecurityFlags.ENABLE_CRL_CHECK in job.properties.security_flags:
            lists = await self._certificates.revocation_lists()
        parts = parts_of(file)
        if headers is None and not (credentials or certificate or tickets or lists or parts):
            return []
        content = {
            "headers": secrets.fields_of(headers or ""),
            "credentials": [asdict(one) for one in credentials],
            "certificate": certificate,
            "revocation_lists": lists,
            "tickets": tickets,
            **parts,
        }
        return [in_memory(content), *caches]

    def _credentials(self, job: Job, file: File) -> list[Credentials]:
        """Those of SetCredentials, and those that were part of this URL, which are for its server alone."""
        if not job.secrets:
            return []
        found = []
        for target, scheme, secret in secrets.credentials(job):
            user, password = json.loads(self._vault.open(job, secret))
            found.append(Credentials(target=target, scheme=scheme, user=user, password=password))
        slot = secrets.slot_of_server(file.client_remote_name)
        of_url = secrets.found(job, slot)
        if of_url is not None:
            user, password = json.loads(self._vault.open(job, of_url))
            origin = slot.partition("/")[2]
            found.append(Credentials(target="server", scheme="basic", user=user, password=password, origin=origin))
        return found + _inherited(found)

    async def _tickets(self, record: Record, network: Source) -> tuple[dict[str, str], list[int]]:
        """Name of the ticket cache, or why there is none, and its copy if it is a file; root has a keytab instead."""
        if network.uid == 0:
            return {"name": "", "problem": ""}, []
        return await self._copies.of_attempt(record, network)

    async def _certificate(self, job: Job, file: File) -> str | None:
        """Certificates and key as PEM, from the store of the owner."""
        if job.certificate is None or not _is_tls(file):
            return None
        owner = Source(uid=job.owner.uid, by=None, label=label(job.owner))
        return await self._certificates.key_pair(job.certificate, job.owner, lambda act: self._asked(owner, act))

    async def _stored(self, network: Source) -> list[Credentials]:
        """The proxy credentials that the network identity keeps. Raises BG_E_INVALID_CREDENTIALS."""
        home = await home_of(network.uid)
        if home is None:
            return []
        path = home / STORED
        try:
            memory = await self._asked(network, lambda broker: broker.settings(str(path), is_secret=True))
        except BrokerError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return []
            raise _unusable(f"{error} ({network.label})") from error
        with os.fdopen(memory, "rb") as copy:
            return parsed(copy.read(), f"{path} of {network.label}")

    async def _asked(self, source: Source, act: Callable[[Broker], Awaitable[T]]) -> T:
        return await self._children.with_reader(source.uid, source.by, act)


def _of_variable(found: Credential) -> list[Credentials]:
    """Nothing says for which scheme they are: those that take user and password, and no account of a domain."""
    return [
        Credentials(target="proxy", scheme=scheme, user=found.user, password=found.password, origin=found.label)
        for scheme in ("basic", "digest")
    ]


def parsed(content: bytes, place: str) -> list[Credentials]:
    """The stored credentials: tables `[[proxy]]` with host, port, scheme, user, password. Each is for that proxy alone.

    Raises BG_E_INVALID_CREDENTIALS, which says where and why and quotes nothing.
    """
    try:
        document = tomllib.loads(content.decode())
    except ValueError:  # whose words may have what is in the line
        raise _unusable(f"cannot read {place}: it is no TOML; it has tables [[proxy]]") from None
    rows = document.get("proxy")
    if document.keys() - {"proxy"} or not isinstance(rows, list):
        raise _unusable(f"cannot read {place}: it has tables [[proxy]] and nothing else")
    return [_row(row, number, place) for number, row in enumerate(rows, 1)]


def _row(row: Any, number: int, place: str) -> Credentials:
    where = f"cannot use [[proxy]] number {number} of {place}"
    if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != _STORED_KEYS:
        raise _unusable(f"{where}: it has host, scheme, user and password as texts, port as a number, nothing else")
    if row["scheme"].upper() not in AuthScheme.__members__:
        known = ", ".join(name.lower() for name in AuthScheme.__members__)
        raise _unusable(f"{where}: its scheme must be one of {known}")
    origin = f"{row['host']}:{row['port']}"
    scheme = row["scheme"].lower()
    return Credentials(target="proxy", scheme=scheme, user=row["user"], password=row["password"], origin=origin)


def _inherited(given: list[Credentials]) -> list[Credentials]:
    """Implicit credentials for a proxy are good for the server too, unless it has explicit ones (A42)."""
    if any(one.target == "server" and one.user is not None for one in given):
        return []
    present = {one.scheme for one in given if one.target == "server"}
    return [
        Credentials(target="server", scheme=one.scheme, user=None, password=None)
        for one in given
        if one.target == "proxy" and one.user is None and one.scheme not in present
    ]


def _is_tls(file: File) -> bool:
    """A client certificate is shown to the server that the URL names, if that is spoken to over TLS."""
    return file.client_remote_name.partition(":")[0].lower() == "https"


def _unusable(text: str) -> BitsError:
    return BitsError(codes.BG_E_INVALID_CREDENTIALS, text, context=ErrorContext.REMOTE_FILE)
