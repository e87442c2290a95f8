"""AddFile and AddFileSet: names checked here, directories by a broker of the local-file identity (P1)."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from openbits.api.wire import DirectorySeen, FileToAdd
from openbits.core import codes, events, lifecycle
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File
from openbits.core.wording import label, public_url
from openbits.failpoints import failpoint
from openbits.service.children import BrokerError, ChildLostError, Children
from openbits.service.engine import Engine
from openbits.service.identities import Source, source_for
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError, SpawnerLink
from openbits.service.transfers import CHILD_ENDED, code_of_broker_error

SCHEMES = ("http", "https")

MAX_URL = 2200
MAX_SEGMENT = 260
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255

_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_UNEXPANDED = re.compile(r"^~[^/]*|(?<![^/])(?:%[A-Za-z_]\w*%|\$\{?[A-Za-z_]\w*\}?)")


class Adding:
    """Adds files to jobs, all or nothing."""

    def __init__(self, engine: Engine, children: Children, link: SpawnerLink) -> None:
        self._engine = engine
        self._children = children
        self._link = link
        self._admitted: defaultdict[int, set[Directory]] = defaultdict(set)

    def forget(self, uid: int) -> None:
        """The last job of an owner has ended, and its entry with it."""
        self._admitted.pop(uid, None)

    async def add(
        self, record: Record, files: Sequence[FileToAdd], by: Cookie, seen: Mapping[str, DirectorySeen]
    ) -> None:
        """Check, resolve and add; `by` vouches for the owner's identity. Raises BitsError, and nothing was added.

        `seen`: what the caller says its directories are, by their paths.
        """
        if not files:
            raise BitsError(codes.E_INVALIDARG, "the list of files is empty; give at least one pair of names")
        lifecycle.check_not_final(record.job)
        owner = record.job.owner
        checked = [(check_url(file["remote_name"]), check_path(file["local_name"])) for file in files]
        source = source_for(record, Use.DIRECTORY_CHECK, ErrorContext.LOCAL_FILE)
        resolved = [_at_the_same_place(await self._resolve(source, by, url, path), seen) for url, path in checked]
        failpoint("add.resolved")
        try:
            await self.admit(owner.uid, by, {file.directory for file in resolved})
            failpoint("add.admitted")
            if record.job.owner.uid != owner.uid:  # a caller may hold up the broker of his identity as long as he likes
                text = f"cannot add the files: {label(record.job.owner)} has taken the job over; obtain it anew"
                raise BitsError(codes.E_ACCESSDENIED, text)
            committed = self._engine.apply(record, events.AddFiles(files=tuple(resolved)))
        except RefusedError as error:
            raise BitsError(error.hresult, f"cannot add the files: {error}") from error
        finally:
            self._engine.let_go({owner.uid})  # his last job may have ended meanwhile
        await committed

    async def admit(self, uid: int, by: Cookie, directories: set[Directory]) -> None:
        """Have the owner admitted, and his confined brokers let into these directories, too. Raises RefusedError."""
        known = self._admitted[uid]
        new = directories - known
        if known and not new:
            return
        await self._link.admit(uid, by, list(new))
        known |= new  # of no use if the owner was dismissed meanwhile
        self._children.retire_confined(uid)

    async def _resolve(self, source: Source, by: Cookie, url: str, path: str) -> File:
        def failed(code: int, error: Exception) -> BitsError:
            return BitsError(code, f"cannot use {path} as {source.label}: {error}", context=ErrorContext.LOCAL_FILE)

        try:
            directory, name = await self._children.with_broker(
                source.uid, source.by or by, lambda broker: broker.resolve(path)
            )
        except BrokerError as error:
            raise failed(code_of_broker_error(error), error) from error
        except ChildLostError as error:
            raise failed(CHILD_ENDED, error) from error
        except RefusedError as error:
            raise failed(error.hresult, error) from error
        return File(remote_name=url, local_name=path, directory=directory, name=name)


def _at_the_same_place(file: File, seen: Mapping[str, DirectorySeen]) -> File:
    """The file, if who adds it sees the same directory as the service (T-16). Raises BitsError E_INVALIDARG."""
    theirs, ours = seen.get(posixpath.dirname(file.local_name)), file.directory
    if theirs is not None and (theirs["dev"], theirs["ino"]) != (ours.dev, ours.ino):
        raise BitsError(
            codes.E_INVALIDARG,
            f"cannot use {file.local_name}: the path is not the same for the service, which sees another directory"
            " there than you do, in your mount namespace (PrivateTmp, a container); use a directory that both see",
            context=ErrorContext.LOCAL_FILE,
        )
    return file


def check_url(url: str) -> str:
    """jobs.md §8.1: legal characters only, known scheme, lengths; raises BitsError E_INVALIDARG naming the rule."""

    def refuse(rule: str) -> BitsError:
        shown = public_url(url) if _URL_CHARACTERS.fullmatch(url) else ascii(url[:100])
        return BitsError(codes.E_INVALIDARG, f"cannot use the remote name {shown}: {rule}")

    if len(url) > MAX_URL:
        raise refuse(f"it has {len(url)} characters, the limit is {MAX_URL}")
    if not _URL_CHARACTERS.fullmatch(url):
        raise refuse("only URL characters are allowed; escape the others with %XX and write host names in ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refuse(f"it is not a URL ({error})") from None
    if parts.scheme.lower() not in SCHEMES:
        raise refuse(f"the scheme must be one of {', '.join(SCHEMES)}")
    if not parts.hostname or port == 0:
        raise refuse("a host is missing")
    if any(len(segment) > MAX_SEGMENT for segment in parts.path.split("/")):
        raise refuse(f"a path segment is longer than {MAX_SEGMENT} characters")
    if parts.username is not None or parts.password is not None:
        raise refuse("user name and password do not belong into a URL; set credentials instead")
    return url.partition("#")[0]


def check_path(path: str) -> str:
    """OPEN-29: an absolute path within the limits, `.` and `..` taken away; raises BitsError naming the rule."""

    def refuse(rule: str, code: int = codes.E_INVALIDARG) -> BitsError:
        return BitsError(code, f"cannot use the local name {path[:100]!a}: {rule}", context=ErrorContext.LOCAL_FILE)

    if "\0" in path or "\r" in path or "\n" in path:
        raise refuse("it contains NUL or a line break")
    unexpanded = _UNEXPANDED.search(path)
    if unexpanded:
        raise refuse(f"{unexpanded.group()} was not expanded; the service expands nothing, give the final path")
    if not path.startswith("/"):
        raise refuse("it must be an absolute path, beginning with /")
    if path.endswith("/") or posixpath.basename(path) in {".", ".."}:
        raise refuse("it names a directory; add the name of the file")
    normal = posixpath.normpath(path)
    normal = "/" + normal.lstrip("/")
    try:
        data = normal.encode("utf-8", "surrogateescape")  # names that are not UTF-8 travel as lone surrogates
    except UnicodeEncodeError:
        raise refuse("it has characters that no file name can have") from None
    if len(data) >= MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in data.split(b"/")):
        raise refuse(
            f"it is too long (limits: {MAX_PATH_BYTES - 1} bytes, {MAX_NAME_BYTES} for each name)",
            codes.from_errno(36),
        )
    return normal
