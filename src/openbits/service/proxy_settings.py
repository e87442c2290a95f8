"""Which proxy settings are in effect for a job, and who says so (jobs.md §9.7, OPEN-48).

PRECONFIG is looked up under the network identity of the job, in this order; the first that says something counts:

1. `~/.config/openbits/proxy.toml` of that identity;
2. the proxy variables in `~/.config/environment.d/*.conf` of that identity;
3. the table `[proxy]` of the settings of the service;
4. the proxy variables in /etc/environment.

A file broker of the identity reads what is the identity's own. System accounts have nothing of their own (A55). The
environment of whoever started the service says nothing: that would be chance. Looked up once for each attempt of a job:
the next one sees what was changed.
"""

import asyncio
import errno
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openbits.channel import Message
from openbits.core import codes, proxies, proxy_files
from openbits.core.access import Use
from openbits.core.enums import ErrorContext, ProxyUsage
from openbits.core.errors import BitsError
from openbits.core.properties import Properties
from openbits.core.proxies import BadProxiesError, Settings, Usage
from openbits.core.proxy_files import Credential, Environment
from openbits.service.certificates import home_of
from openbits.service.children import Children
from openbits.service.failures import code_of_broker_error
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.identities import Source, source_for
from openbits.service.record import Record

OF_USER: Final = ".config/openbits/proxy.toml"

ENVIRONMENT_OF_USER: Final = ".config/environment.d"

ENVIRONMENT: Final = Path("/etc/environment")

NOBODY_SAYS: Final = "no configuration names a proxy"

_NOTHING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})

_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """Settings in effect, and user and password that the variables of an environment had for their proxies."""

    settings: Settings
    credentials: tuple[Credential, ...] = ()


class ProxyLookup:
    """Finds the settings in effect."""

    def __init__(self, children: Children, of_service: Settings | None, system_uid_max: int) -> None:
        self._children = children
        self._of_service = of_service
        self._system_uid_max = system_uid_max
        self._remembered: OrderedDict[tuple[object, ...], Effective] = OrderedDict()

    async def of_attempt(self, record: Record) -> Effective:
        """For the present attempt of a job. Raises BitsError, ChildLostError, RefusedError."""
        network = source_for(record, Use.PROXY_USER_SETTINGS, ErrorContext.GENERAL_TRANSPORT)
        properties = record.job.properties
        attempt = (record.job_id, record.job.epoch, network, properties.proxy_usage)
        known = self._remembered.get(attempt) if properties.proxy_usage is ProxyUsage.PRECONFIG else None
        if known is None:
            known = self._remembered[attempt] = await self.of_job(properties, network)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return known

    async def of_job(self, properties: Properties, network: Source) -> Effective:
        """For a job with this network identity now. Raises as `of_attempt`."""
        if properties.proxy_usage is ProxyUsage.PRECONFIG:
            return await self.of_identity(network)
        check(properties)
        return Effective(settings=of_job(properties))

    async def of_identity(self, identity: Source) -> Effective:
        """What PRECONFIG means for this identity now. Raises BitsError, ChildLostError, RefusedError."""
        if identity.uid > self._system_uid_max:
            home = await home_of(identity.uid)
            own = None if home is None else await self._of_user(identity, home)
            if own is not None:
                return own
        if self._of_service is not None:
            return Effective(settings=self._of_service)
        return await asyncio.to_thread(_of_machine) or Effective(settings=Settings(source=NOBODY_SAYS))

    async def _of_user(self, identity: Source, home: Path) -> Effective | None:
        path = str(home / OF_USER)
        file = await self._read(identity, path, lambda broker: broker.settings(path))
        if file is not None:
            with _told(f" of {identity.label}"):
                settings = proxy_files.read_table(file.decode(errors="replace"), path)
            if settings is not None:
                return Effective(settings=settings)
        folder = str(home / ENVIRONMENT_OF_USER)
        files = await self._read(identity, folder, lambda broker: broker.settings_folder(folder, ".conf"))
        if files is None:
            return None
        with _told(f" of {identity.label}"):
            return _effective(proxy_files.read_environment(json.loads(files), f"{folder}/*.conf"))

    async def _read(self, identity: Source, path: str, act: Callable[[Broker], Awaitable[int]]) -> bytes | None:
        """None: there is no such file or folder. What is there and cannot be read must not lead past a proxy."""
        try:
            memory = await self._children.with_reader(identity.uid, identity.by, act)
        except BrokerError as error:
            if error.errno in _NOTHING:
                return None
            text = f"cannot read {path} as {identity.label}, which may name a proxy: {error}; have reading allowed"
            raise BitsError(code_of_broker_error(error), text, context=ErrorContext.GENERAL_TRANSPORT) from error
        with os.fdopen(memory, "rb") as copy:
            return copy.read()


def of_job(properties: Properties) -> Settings:
    """What the job itself says; not for PRECONFIG."""
    if properties.proxy_usage is ProxyUsage.OVERRIDE:
        return Settings(
            usage=Usage.OVERRIDE,
            proxy_list=properties.proxy_list,
            bypass=properties.proxy_bypass_list,
            source="the job",
        )
    usage = Usage.AUTODETECT if properties.proxy_usage is ProxyUsage.AUTODETECT else Usage.NO_PROXY
    return Settings(usage=usage, source="the job")


def check(properties: Properties) -> None:
    """Setters store the lists unread; that they cannot be used is found here (§7.2). Raises BG_E_INVALID_PROXY_INFO."""
    if properties.proxy_usage is not ProxyUsage.PRECONFIG:
        with _told(""):
            proxies.read(of_job(properties))


def message_of(settings: Settings) -> Message:
    """As a worker is told of them (docs/processes.md)."""
    return {
        "usage": settings.usage,
        "list": settings.proxy_list,
        "bypass": settings.bypass,
        "no_proxy": settings.no_proxy,
        "script_url": settings.script_url,
    }


@contextmanager
def _told(whose: str) -> Iterator[None]:
    try:
        yield
    except BadProxiesError as error:
        text = f"{error}{whose}"
        raise BitsError(codes.BG_E_INVALID_PROXY_INFO, text, context=ErrorContext.GENERAL_TRANSPORT) from None


def _of_machine() -> Effective | None:
    try:
        text = ENVIRONMENT.read_text(errors="replace")
    except OSError:
        return None
    with _told(""):
        return _effective(proxy_files.read_environment([(str(ENVIRONMENT), text)], str(ENVIRONMENT)))


def _effective(found: Environment | None) -> Effective | None:
    if found is None:
        return None
    proxies.read(found.settings)
    return Effective(settings=found.settings, credentials=found.credentials)
