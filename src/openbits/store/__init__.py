"""The store: jobs, files and the event stream, so that a crash at any moment loses nothing that was acknowledged.

`changes` are the values it takes and gives, `sqlite` the store in one file with `schema` (its numbered steps), `codec`
(values to rows) and `place` (its directory); `writer` is the one thread that commits. The store decides nothing and
knows no rule of the life cycle: it keeps what `core.lifecycle` made of a job. Helper tokens are never in it.
"""

from openbits.store.changes import (
    AppendEvent,
    Change,
    ForgetJob,
    Head,
    Loaded,
    SaveJob,
    StoreDamagedError,
    StoredEvent,
    StoreError,
)
from openbits.store.sqlite import Store, open_store
from openbits.store.writer import Writer

__all__ = [
    "AppendEvent",
    "Change",
    "ForgetJob",
    "Head",
    "Loaded",
    "SaveJob",
    "Store",
    "StoreDamagedError",
    "StoreError",
    "StoredEvent",
    "Writer",
    "open_store",
]
