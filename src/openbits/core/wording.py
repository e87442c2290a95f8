"""How messages name things: jobs, identities, addresses, instants. Nothing secret gets into a message from here."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command of the CLI names things; few need the model
    from openbits.core.model import Identity, Job

_END_OF_HOST = re.compile(r"[/?#]")


def name_of(job: "Job") -> str:
    """`job 0b1f… "display name"`."""
    return f'job {job.job_id} "{job.properties.display_name}"'


def label(identity: "Identity") -> str:
    """`alice (uid 1000)`, or `uid 1000` for an identity without an account."""
    return f"{identity.name} (uid {identity.uid})" if identity.name else f"uid {identity.uid}"


def public_url(url: str) -> str:
    """The URL without user information, query and fragment: signed links carry their secret there."""
    scheme, separator, rest = url.partition("://")
    path = rest.partition("?")[0].partition("#")[0]
    host, slash, tail = path.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{tail}"


def host_of(url: str) -> str:
    """Host and port of a URL, without user information."""
    return _END_OF_HOST.split(url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def instant(wall: float) -> str:
    """`2026-12-05 14:02 UTC`."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M UTC")
