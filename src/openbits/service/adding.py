"""AddFile, AddFileSet, SetReplyFileName: names checked by the core, directories by a broker of their user (P1)."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from openbits.api.wire import DirectorySeen, FileToAdd
from openbits.core import codes, events, file_requests, lifecycle, ranges, reply
from openbits.core.access import Use
from openbits.core.enums import ErrorContext, JobType
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Identity, Job, Range, ReplyFile, Secret
from openbits.core.names import check_path, check_reply_path, check_url, path_of
from openbits.core.wording import label, public_url
from openbits.failpoints import failpoint
from openbits.identity.broker import FILES_AT_ONCE
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.failures import CHILD_ENDED, code_of_broker_error
from openbits.service.file_broker import NAMES_BYTES, BrokerError
from openbits.service.identities import Source, source_for
from openbits.service.places import RemotePlaces, directories_of
from openbits.service.quotas import Quotas
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError, SpawnerLink
from openbits.service.views import ranges_of


@dataclass(slots=True)
class Entry:
    """What the spawner has recorded of an owner since this manager began."""

    is_there: bool = False
    made: set[Directory] = field(default_factory=set)
    """Directories in which the owner makes files."""
    read: set[Directory] = field(default_factory=set)
    """Those in which it only reads them."""


class Adding:
    """Adds files to jobs, all or nothing."""

    def __init__(self, engine: Engine, children: Children, link: SpawnerLink, quotas: Quotas) -> None:
        self._engine = engine
        self._quotas = quotas
        self._children = children
        self._link = link
        self._admitted: dict[int, Entry] = {}
        self.places = RemotePlaces(children, self.admit)

    def forget(self, uid: int) -> None:
        """The last job of an owner has ended, and its entry with it."""
        self._admitted.pop(uid, None)

    async def add(
        self,
        record: Record,
        files: Sequence[FileToAdd],
        by: Cookie,
        seen: Mapping[str, DirectorySeen],
        secrets: tuple[Secret, ...] = (),
    ) -> None:
        """Check, resolve and add; `by` vouches for the owner's identity. Raises BitsError, and nothing was added.

        `seen`: what the caller says its directories are, by their paths. `secrets`: what their URLs had, sealed.
        """
        if not files:
            raise BitsError(codes.E_INVALIDARG, "the list of files is empty; give at least one pair of names")
        lifecycle.check_not_final(record.job)
        owner = record.job.owner
        self._quotas.check_files(owner, len(record.job.files), len(files))
        is_upload = record.job.type is not JobType.DOWNLOAD
        checked = [(check_url(file["remote_name"]), check_path(file["local_name"])) for file in files]
        for url, _ in checked:
            file_requests.check_may_be_remote(record.job, url)
        parts = [self._parts(record.job, file) for file in files]
        source = source_for(record, Use.DIRECTORY_CHECK, ErrorContext.LOCAL_FILE)
        local = await self._resolve(source, by, checked, is_upload=is_upload)
        resolved = [_at_the_same_place(await self.places.placed(record, file, by), seen) for file in local]
        failpoint("add.resolved")
        made = tuple(_of_parts(file, chosen) for file, chosen in zip(resolved, parts, strict=True))
        answer = reply.file_of(replace(record.job, files=record.job.files + made))
        places = directories_of(resolved if answer is None else (*resolved, answer))
        await self._apply(record, events.AddFiles(files=made, secrets=secrets), places, owner, by)

    def _parts(self, job: Job, file: FileToAdd) -> tuple[Range, ...]:
        """The ranges that the file is to be made of; none for the whole. Raises BitsError (jobs.md §8.7)."""
        given, name = file.get("ranges"), file["remote_name"]
        if given is None:
            return ()
        file_requests.check_may_have_ranges(job, name)
        try:
            return ranges.check(ranges_of(given), self._quotas.most_ranges(job.owner))
        except BitsError as error:
            raise BitsError(error.hresult, f"cannot add {public_url(name)} with ranges: {error.text}") from None

    async def set_reply_file(
        self, record: Record, path: str | None, by: Cookie, seen: Mapping[str, DirectorySeen]
    ) -> None:
        """SetReplyFileName, the same way; without a path the file goes beside the upload. Raises BitsError."""
        lifecycle.check_not_final(record.job, events.SetReplyFile)
        reply.check_changeable(record.job)
        owner = record.job.owner
        if not path:
            beside = reply.file_of(replace(record.job, reply=None))
            places = directories_of(() if beside is None else (beside,))
            await self._apply(record, events.SetReplyFile(file=None), places, owner, by)
            return
        source = source_for(record, Use.DIRECTORY_CHECK, ErrorContext.LOCAL_FILE)
        (found,) = await self._resolve(source, by, [("", check_reply_path(path))], is_upload=False)
        place = _at_the_same_place(found, seen)
        file = ReplyFile(local_name=place.local_name, directory=place.directory, name=place.name)
        await self._apply(record, events.SetReplyFile(file=file), ({place.directory}, set()), owner, by)

    async def _apply(
        self,
        record: Record,
        event: events.Event,
        directories: tuple[set[Directory], set[Directory]],
        owner: Identity,
        by: Cookie,
    ) -> None:
        """Admit what the event needs, apply it, and wait for the commit. Raises BitsError.

        `directories`: where files are made, and where they are read.
        """
        try:
            await self.admit(owner.uid, by, *directories)
            failpoint("add.admitted")
            if record.job.owner.uid != owner.uid:  # a caller may hold up the broker of his identity as long as he likes
                text = f"cannot use the local names: {label(record.job.owner)} has taken the job over; obtain it anew"
                raise BitsError(codes.E_ACCESSDENIED, text)
            if isinstance(event, events.AddFiles):  # others may have been faster
                self._quotas.check_files(owner, len(record.job.files), len(event.files))
            committed = self._engine.apply(record, event)
        except RefusedError as error:
            raise BitsError(error.hresult, f"cannot use the local names: {error}") from error
        finally:
            self._engine.let_go({owner.uid})  # his last job may have ended meanwhile
        await committed

    async def admit(self, uid: int, by: Cookie, made: set[Directory], read: set[Directory]) -> None:
        """Have the owner admitted, and his confined brokers let into these directories, too. Raises RefusedError.

        They may make files in those of `made`, and only read files in those of `read`.
        """
        entry = self._admitted.setdefault(uid, Entry())
        new, new_read = made - entry.made, read - entry.made - made - entry.read
        if entry.is_there and not new and not new_read:
            return
        await self._link.admit(uid, by, list(new), list(new_read))
        entry.is_there = True  # of no use if the owner was dismissed meanwhile, as are these
        entry.made |= new
        entry.read |= new_read
        if new or new_read:
            self._children.retire_confined(uid)

    async def _resolve(
        self, source: Source, by: Cookie, pairs: Sequence[tuple[str, str]], *, is_upload: bool
    ) -> list[File]:
        """The files of these pairs of remote and local names, their directories fixed."""
        files = list[File]()
        while len(files) < len(pairs):
            bunch = _bunch(pairs[len(files) :])
            directory, count = await self._resolve_some(source, by, [path for _, path in bunch], is_upload=is_upload)
            files += [
                File(
                    remote_name=url,
                    local_name=path,
                    directory=directory,
                    name=posixpath.basename(path),
                    is_upload=is_upload,
                )
                for url, path in bunch[:count]
            ]
        return files

    async def _resolve_some(
        self, source: Source, by: Cookie, paths: Sequence[str], *, is_upload: bool
    ) -> tuple[Directory, int]:
        def failed(code: int, error: Exception) -> BitsError:
            return BitsError(code, f"cannot use {paths[0]} as {source.label}: {error}", context=ErrorContext.LOCAL_FILE)

        try:
            return await self._children.with_broker(
                source.uid, source.by or by, lambda broker: broker.resolve_several(paths, is_source=is_upload)
            )
        except BrokerError as error:
            raise failed(code_of_broker_error(error), error) from error
        except ChildLostError as error:
            raise failed(CHILD_ENDED, error) from error
        except RefusedError as error:
            raise failed(error.hresult, error) from error


def _bunch(pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The first, and the next ones of the same directory that a message has room for."""
    folder, room = posixpath.dirname(pairs[0][1]), NAMES_BYTES
    for count, (_, path) in enumerate(pairs):
        room -= len(json.dumps(posixpath.basename(path)))
        if count and (posixpath.dirname(path) != folder or room < 0 or count == FILES_AT_ONCE):
            return pairs[:count]
    return pairs


def _of_parts(file: File, parts: tuple[Range, ...]) -> File:
    return replace(file, ranges=parts, size_bytes=ranges.local_size(parts, None)) if parts else file


def _at_the_same_place(file: File, seen: Mapping[str, DirectorySeen]) -> File:
    """The file, if who adds it sees the same directory as the service (T-16). Raises BitsError E_INVALIDARG."""
    places = [(file.local_name, file.directory)]
    remote_path = path_of(file.remote_name)
    if remote_path is not None and file.remote_directory is not None:
        places.append((remote_path, file.remote_directory))
    for path, ours in places:
        theirs = seen.get(posixpath.dirname(path))
        if theirs is not None and (theirs["dev"], theirs["ino"]) != (ours.dev, ours.ino):
            raise BitsError(
                codes.E_INVALIDARG,
                f"cannot use {path}: the path is not the same for the service, which sees another directory"
                " there than you do, in your mount namespace (PrivateTmp, a container); use a directory that both see",
                context=ErrorContext.LOCAL_FILE,
            )
    return file
