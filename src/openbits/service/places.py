"""Where the remote files of file:// names are: found as the network identity, the owner let in (docs/processes.md).

What is wrong with such a place is no error of the call that names it; the job says it when it runs (jobs.md §10).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from openbits.core import events, names
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.file_broker import ANSWER_SECONDS, BrokerError
from openbits.service.identities import source_for
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError

log = logging.getLogger("openbits.manager")

Admit = Callable[[int, Cookie, set[Directory], set[Directory]], Awaitable[None]]
"""Owner, what vouches for it, the directories it makes files in, those it only reads in. Raises RefusedError."""


class RemotePlaces:
    """Finds the directories of remote files of this machine."""

    def __init__(self, children: Children, admit: Admit) -> None:
        self._children = children
        self._admit = admit

    async def placed(self, record: Record, file: File, by: Cookie) -> File:
        """A new file with its remote directory, if that can be found now; `by` vouches for the owner."""
        directory = await self._look(record, file, file.remote_name, by)
        return file if directory is None else replace(file, remote_directory=directory)

    async def find(
        self, record: Record, by: Cookie, renamed: Mapping[int, str] | None = None
    ) -> list[events.RemoteDirectoryFound]:
        """What is found now and was not before, for a caller who can let the owner in; `renamed`: names to be given.

        Known directories are made sure of, too: a helper may have found them, to whom nobody had to be let in.
        """
        owner_uid, found, waiting = record.job.owner.uid, [], list[File]()
        if record.job.state.is_final:
            return []
        for index, file in enumerate(record.job.files):
            name = (renamed or {}).get(index, file.present_remote_name)
            if file.is_transferred or names.path_of(name) is None:
                continue
            known = file.remote_directory if name == file.present_remote_name else None
            directory = known or await self._look(record, file, name, by)
            if directory is not None:
                waiting.append(replace(file, remote_directory=directory))
            if directory is not None and known is None:
                found.append(events.RemoteDirectoryFound(file_index=index, remote_name=name, directory=directory))
        try:
            if waiting:
                await self._admit(owner_uid, by, *directories_of(waiting))
        except RefusedError as error:  # an administrator cannot vouch for the owner
            log.info("not_let_in job=%s why=%s", record.job.job_id, error)
            return []
        return found if record.job.owner.uid == owner_uid else []

    async def _look(self, record: Record, file: File, name: str, by: Cookie) -> Directory | None:
        path = names.path_of(name)
        if path is None:
            return None
        is_source = not file.is_upload
        try:
            identity = source_for(record, Use.SMB_REMOTE_FILE, ErrorContext.REMOTE_FILE)
            directory, _ = await self._children.with_broker(
                identity.uid,
                identity.by or by,
                lambda broker: broker.resolve(path, is_source=is_source, within=ANSWER_SECONDS),
            )
        except (BitsError, BrokerError, ChildLostError, RefusedError) as error:
            log.info("remote_directory_not_found job=%s why=%s", record.job.job_id, error)
            return None
        return directory


def directories_of(files: Iterable[File]) -> tuple[set[Directory], set[Directory]]:
    """Where the files, a reply among them, are made, and where they are read; the latter without the former."""
    made, read = set[Directory](), set[Directory]()
    for file in files:
        (read if file.is_upload else made).add(file.directory)
        if file.remote_directory is not None:
            (made if file.is_upload else read).add(file.remote_directory)
    return made, read - made
