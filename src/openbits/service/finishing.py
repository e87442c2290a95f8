"""The last acts on a file that has all its bytes: what it keeps of its source, its final name (jobs.md §8.4-§8.6)."""

import errno
import stat
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from posixpath import basename

from openbits.core import codes, names
from openbits.core.enums import ErrorContext, FileAclFlags
from openbits.core.errors import BitsError
from openbits.core.model import File, Job
from openbits.service.children import Children
from openbits.service.file_broker import Attributes, BrokerError, Publication
from openbits.service.identities import Source

_PARTS = {FileAclFlags.OWNER: "owner", FileAclFlags.GROUP: "group", FileAclFlags.DACL: "acl"}
"""What a broker calls them; there is no SACL here, so that flag asks for nothing."""


class MissingPrivilegeError(BitsError):
    """What is to be kept of the source needs a right that the identity lacks: tried again later (jobs.md §8.6)."""


def parts_to_keep(job: Job, file: File) -> list[str]:
    """What the file is to have of its source besides bytes and time, as a broker calls it; http has none of it."""
    if names.path_of(file.present_remote_name) is None:
        return []
    return [part for flag, part in _PARTS.items() if flag in job.properties.file_acl_flags]


async def dress(children: Children, maker: Source, file: File, like: Attributes, parts: list[str]) -> None:
    """Give the temporary file these parts of its source.

    Raises MissingPrivilegeError, BrokerError, RefusedError, ChildLostError.
    """
    temporary = file.temporary
    if temporary is None:
        raise ValueError(f"{file.local_name} has no temporary file")
    try:
        await children.with_broker(
            maker.uid, maker.by, lambda broker: broker.dress(file.made_in, temporary, like, parts)
        )
    except BrokerError as error:
        if error.step == "dress" and error.errno == errno.EPERM:
            side = ErrorContext.REMOTE_FILE if file.is_upload else ErrorContext.LOCAL_FILE
            text = f"{error}; set file_acl_flags without it"
            raise MissingPrivilegeError(codes.E_ACCESSDENIED, text, context=side) from error
        raise


async def publish(children: Children, maker: Source, job: Job, files: Sequence[File]) -> int:
    """Give temporary files of one directory their times, rights and final names; that it was done before is fine (P6).

    How many of them, in their order; those behind one that cannot be published are not. Raises BrokerError,
    RefusedError, ChildLostError.
    """
    directory, publications = files[0].made_in, [_publication(job, file) for file in files]
    return await children.with_broker(maker.uid, maker.by, lambda broker: broker.publish(directory, publications))


def _publication(job: Job, file: File) -> Publication:
    if file.temporary is None:
        raise ValueError(f"{file.local_name} has no temporary file")
    is_kept = file.has_source_acl or (file.is_upload and "acl" in parts_to_keep(job, file))
    umask = None if is_kept else _umask(job, file)
    name, modified_ns = _final_name(file), _modified_ns(file)
    return Publication(temporary=file.temporary, name=name, umask=umask, modified_ns=modified_ns)


def is_lost(failure: Exception) -> bool:
    """True if a publication failed because the temporary file is gone or not the one we made: its bytes are lost."""
    if not isinstance(failure, BrokerError):
        return False
    return failure.step == "changed" or (failure.step == "publish" and failure.errno == errno.ENOENT)


def _final_name(file: File) -> str:
    return basename(names.path_of(file.remote_name) or "") if file.is_upload else file.name


def _umask(job: Job, file: File) -> int:
    """That of the client; what others may not do with the source they may not do with its copy (§8.5)."""
    if file.source_mode is None:
        return job.umask
    return job.umask | (~file.source_mode & 0o777 & ~stat.S_IRUSR)


def _modified_ns(file: File) -> int | None:
    """Modification time of the version that was transferred (jobs.md §8.5); None leaves the local time."""
    told = file.validators.last_modified
    if not told:
        return None
    if names.path_of(file.present_remote_name) is not None:
        return int(told)
    try:
        return int(parsedate_to_datetime(told).timestamp()) * 1_000_000_000
    except ValueError:
        return None
