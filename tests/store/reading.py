"""What the tests read of a store."""

from openbits.core.model import Job
from openbits.store import Store


def jobs_in(store: Store) -> list[Job]:
    """Every job of the store, whole, in the order of their creation."""
    return [store.job(head.job_id) for head in store.load().heads]
