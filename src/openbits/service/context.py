"""What the parts of the manager share; the connections see the service through it."""

import asyncio
from dataclasses import dataclass, field

from openbits.api.wire import EventInfo
from openbits.core.access import Settings as AccessSettings
from openbits.service.adding import Adding
from openbits.service.certificate_checks import CertificateChecks
from openbits.service.certificates import Certificates
from openbits.service.children import Children
from openbits.service.commands import Commands
from openbits.service.connections import Caller
from openbits.service.engine import Engine, wire_event
from openbits.service.events import Subscriber, overflow
from openbits.service.logons import Logons
from openbits.service.notify import Notifier
from openbits.service.ownership import Ownership
from openbits.service.policies import PolicyWatch
from openbits.service.proxy_settings import ProxyLookup
from openbits.service.publishing import Publishing
from openbits.service.quotas import Quotas
from openbits.service.spawner_link import SpawnerLink
from openbits.service.tokens import Tokens
from openbits.service.vault import Vault
from openbits.store.sqlite import Store


@dataclass(slots=True, eq=False, kw_only=True)
class Context:
    """The service as one connection sees it."""

    mode: str
    uid: int
    process_ids: dict[str, int]
    access: AccessSettings
    policies: PolicyWatch
    quotas: Quotas
    link: SpawnerLink
    logons: Logons
    tokens: Tokens
    engine: Engine
    children: Children
    proxies: ProxyLookup
    adding: Adding
    ownership: Ownership
    publishing: Publishing
    notifier: Notifier
    commands: Commands
    certificate_checks: CertificateChecks
    vault: Vault
    certificates: Certificates
    store: Store
    streams: dict[Caller, list[Subscriber]] = field(default_factory=dict)

    async def missed_events(self, subscriber: Subscriber, from_seq: int | None) -> list[EventInfo]:
        """Stored events after `from_seq` that this subscriber may see; read in a thread, not on the loop."""
        if from_seq is None:
            return []
        owner_uid = None if subscriber.sees_all else subscriber.uid
        until = self.engine.stream.committed_seq
        if not self.store.first_seq - 1 <= from_seq <= until:  # trimmed, or numbers of a store that was set aside
            return [overflow(until, self.engine.now().wall)]
        stored = await asyncio.to_thread(self.store.events_after, from_seq, owner_uid, -1)
        return [
            wire_event(event)
            for event in stored
            if event.seq <= until and subscriber.wants(event.owner_uid, str(event.job_id))
        ]
