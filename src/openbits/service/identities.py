"""Which identity does what for a job right now: the pure table of `core.access` joined with live tokens."""

import asyncio
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, replace

from openbits.core import codes
from openbits.core.access import Use, Who, identity_for
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Identity, Temporary
from openbits.core.wording import label
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An identity and what vouches for it to the spawner: a connection, a token, or None for an admitted owner."""

    uid: int
    by: Cookie | None
    label: str


def source_for(record: Record, use: Use, context: ErrorContext) -> Source:
    """The identity that `use` of this job needs now.

    Raises BitsError BG_E_TOKEN_REQUIRED in `context` if that is a helper token and there is none (jobs.md §14 H5).
    """
    if identity_for(record.job.helper_token_flags, use) is not Who.HELPER:
        owner = record.job.owner
        return Source(uid=owner.uid, by=None, label=label(owner))
    if record.helper_token is None:
        raise BitsError(
            codes.BG_E_TOKEN_REQUIRED,
            "no helper token is set, and the flags of the job ask for one",
            context=context,
        )
    helper = record.helper_token.record
    return Source(uid=helper.identity.uid, by=helper.cookie, label=label(helper.identity))


def source_of_maker(record: Record, temporary: Temporary, others: Iterable[Record]) -> Source | None:
    """The identity that made a temporary file, if anything vouches for it now: only it may publish or remove it."""
    owner = record.job.owner
    if temporary.uid == owner.uid:
        return Source(uid=owner.uid, by=None, label=label(owner))
    if not temporary.by_helper:  # an owner before or after this one, who is admitted until it is removed
        return Source(uid=temporary.uid, by=None, label=f"uid {temporary.uid}")
    for candidate in (record, *others):
        token = candidate.helper_token
        if token is not None and token.record.identity.uid == temporary.uid:
            return Source(uid=temporary.uid, by=token.record.cookie, label=label(token.record.identity))
    return None


async def named(identity: Identity) -> Identity:
    """The identity with its account name; the look-up may wait for a directory service, so it has a thread."""
    return replace(identity, name=await asyncio.to_thread(name_of_uid, identity.uid) or identity.name)


def name_of_uid(uid: int) -> str:
    """Account name of a uid; empty if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
