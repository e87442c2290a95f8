"""What the parts of the manager share; the connections see the service through it."""

import asyncio
import pwd
from dataclasses import dataclass, field, replace

from openbits.api.wire import EventInfo
from openbits.core.access import Settings as AccessSettings
from openbits.core.model import Identity
from openbits.service.adding import Adding
from openbits.service.children import Children
from openbits.service.connections import Caller
from openbits.service.engine import Engine, wire_event
from openbits.service.events import Subscriber, overflow
from openbits.service.notify import Notifier
from openbits.service.publishing import Publishing
from openbits.service.spawner_link import SpawnerLink, Token
from openbits.store.sqlite import Store

MISSED_EVENTS = 10_000


@dataclass(slots=True, eq=False, kw_only=True)
class Context:
    """The service as one connection sees it."""

    mode: str
    uid: int
    process_ids: dict[str, int]
    access: AccessSettings
    link: SpawnerLink
    engine: Engine
    children: Children
    adding: Adding
    publishing: Publishing
    notifier: Notifier
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
        stored = await asyncio.to_thread(self.store.events_after, from_seq, owner_uid, MISSED_EVENTS)
        return [
            wire_event(event)
            for event in stored
            if event.seq <= until and subscriber.wants(event.owner_uid, str(event.job_id))
        ]

    async def named(self, token: Token) -> Token:
        """The token with the account name of its uid."""
        identity = await named(token.record.identity)
        token.record = replace(token.record, identity=identity)
        self.link.remember(token.record)
        return token


async def named(identity: Identity) -> Identity:
    """The identity with its account name; the look-up may wait for a directory service, so it has a thread."""
    return replace(identity, name=await asyncio.to_thread(name_of_uid, identity.uid))


def name_of_uid(uid: int) -> str:
    """Account name of a uid; empty if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
