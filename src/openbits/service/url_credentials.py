"""`user:password@` in remote names (jobs.md §8.1, deprecated there): taken out of them and sealed (identity.md S6).

They are credentials for the one server that the URL names, Basic, in a slot of their own: those of SetCredentials are
for whichever server of the job asks, and who wrote a password into one URL has not said so.
"""

import json
from collections.abc import Iterable

from openbits.api.wire import FileToAdd
from openbits.core import codes, secrets
from openbits.core.errors import BitsError
from openbits.core.model import Job, Secret
from openbits.core.names import MAX_URL, check_url
from openbits.core.wording import name_of, public_url
from openbits.service.vault import Vault


def taken_out(job: Job, files: Iterable[FileToAdd], vault: Vault) -> tuple[list[FileToAdd], tuple[Secret, ...]]:
    """The files with names that hold no secret, and the secrets that the job has not got yet.

    Raises BitsError: E_INVALIDARG if the job has other credentials for the server, or the name is none.
    """
    kept: list[FileToAdd] = []
    given: dict[str, str] = {}
    for file in files:
        url, pair = secrets.without_user(file["remote_name"])
        kept.append({**file, "remote_name": url})
        if pair is not None:
            secrets.check_credentials("basic", *pair)
            if len(file["remote_name"]) > MAX_URL:  # the user counts, and no job can have that many long passwords
                text = f"cannot add {public_url(url)[:100]}: with its user it is longer than {MAX_URL} characters"
                raise BitsError(codes.E_INVALIDARG, f"{text}; set credentials instead")
            slot, clear = secrets.slot_of_server(check_url(url)), json.dumps(pair)
            if given.setdefault(slot, clear) != clear or _present(job, slot, vault) not in {None, clear}:
                server = slot.partition("/")[2]
                text = f"cannot add {url.partition('?')[0]}: {name_of(job)} has another user or password for {server}"
                raise BitsError(codes.E_INVALIDARG, f"{text}; use the same, or another job")
    missing = [slot for slot in given if secrets.found(job, slot) is None]
    return kept, tuple(vault.seal(job.job_id, job.owner.uid, slot, given[slot]) for slot in missing)


def _present(job: Job, slot: str, vault: Vault) -> str | None:
    secret = secrets.found(job, slot)
    return None if secret is None else vault.open(job, secret)
