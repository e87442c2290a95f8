"""Brings what is sealed under an older master key under the newest, so that the older one can be taken away.

It is done beside the work after a start, part by part: each part is on the disk before the next one is read.
"""

import asyncio
import itertools
from collections.abc import Iterable

from openbits.core import events
from openbits.core.errors import BitsError
from openbits.core.model import JobId
from openbits.service.engine import WAKE_SLICE, Engine
from openbits.service.record import Record
from openbits.service.vault import Vault


async def renew(engine: Engine, vault: Vault, job_ids: Iterable[JobId]) -> None:
    """Seal anew the secrets of these jobs; those that cannot be opened stay as they are."""
    remaining = iter(job_ids)
    while part := list(itertools.islice(remaining, WAKE_SLICE)):
        records = [record for job_id in part if (record := engine.records.get(job_id)) is not None]
        try:
            await asyncio.gather(*itertools.chain.from_iterable(_renew(engine, vault, one) for one in records))
        except BitsError:  # the store cannot be read or written: the manager ends
            return


def _renew(engine: Engine, vault: Vault, record: Record) -> "list[asyncio.Future[None]]":
    engine.wake(record)
    secrets = vault.resealed(record.job)
    return [engine.apply(record, events.SecretsResealed(secrets=secrets))] if secrets != record.job.secrets else []
