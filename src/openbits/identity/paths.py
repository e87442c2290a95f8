"""The path recipe (identity.md §12): the only code of the service that opens, makes, renames or removes a user's file.

It runs in a file broker, under the one identity whose files these are; root never calls it for somebody else.
It is not a protocol: `broker` speaks to the manager, this module takes and returns values and descriptors.

Rules that hold for every function but `resolve`:
- the directory is opened anew from its canonical path without following a symlink, and must be the one, by device and
  inode, that was fixed when the file was added (P2); every act then names one component relative to that descriptor;
- a temporary file is touched only if it is the one we made: device, inode, birth time and owner (P4);
- no file is opened before its status said that it is that one, and then through the descriptor that was asked, so
  nothing planted in the directory (FIFO, device, symlink) can hang or mislead us;
- what was promised is on the disk: file before rename, directory after it.

A failure is a PathError: errno, step, object, and a text that names identity, object and next step.
"""

# ruff: noqa: PTH101, PTH115, PTH118  # paths are bytes, which pathlib does not carry

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from openbits.failpoints import failpoint
from openbits.identity import acl
from openbits.identity.filecalls import Opener, Status, copy_range, statx
from openbits.identity.path_errors import (
    NAME_BYTES,
    PATH_BYTES,
    PathError,
    changed,
    failing,
    failure,
    may_not_create,
    moved,
    unreachable,
    volume_changed,
)

_TEMPORARY_MODE = 0o600

AT_ONCE = os.O_NONBLOCK | os.O_CLOEXEC
"""Nothing is waited for, neither the other end of a FIFO nor a lease on the file, which is EAGAIN (P5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A destination directory as it was fixed when the file was added (P1); `path` is canonical."""

    path: bytes
    dev: int
    ino: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporary:
    """A temporary file and what proves that it is still the same one (P4).

    `ino` 0: its name was announced, but its creation never confirmed; only `remove` knows what to do with that.
    """

    name: bytes
    dev: int
    ino: int
    birth_ns: int
    uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a temporary file becomes (P6).

    A mode of 0666 less `umask`, None: mode and access list that it has; `modified_ns` None: the local time.
    """

    temporary: Temporary
    name: bytes
    umask: int | None
    modified_ns: int | None


_One = TypeVar("_One")
_Next = TypeVar("_Next")

_Ready = tuple[Publication, int | None]
"""A file with its mode and time, and its open descriptor; None: it has its final name already."""


def resolve(path: bytes, opener: Opener, *, is_source: bool = False) -> tuple[Directory, bytes]:
    """Directory and name of a destination file: the only time that symlinks in its path are followed (P1).

    Raises PathError with step `directory`; EISDIR if the destination is a directory, EEXIST if it is a device, FIFO
    or socket, which publishing would replace by a file. Of a file that will be read only the directory has to be there.
    """
    _check_path(path)
    parent, name = os.path.split(path)
    try:
        parent_fd = opener(parent, os.O_PATH | os.O_DIRECTORY, follow=True)
    except OSError as error:
        raise unreachable(error.errno or 0, parent) from error
    try:
        with failing("directory", parent):
            canonical = os.readlink(b"/proc/self/fd/%d" % parent_fd)
            found = statx(parent_fd)
    finally:
        os.close(parent_fd)
    directory = Directory(path=canonical, dev=found.dev, ino=found.ino)
    if is_source:
        return directory, name
    with opened(directory, opener) as dir_fd, failing("directory", path):
        with contextlib.suppress(PermissionError):  # who may not search the directory hears so from the next check
            _check_replaceable(_find(dir_fd, name), path, "directory")
        _check_may_create(dir_fd, canonical)
    return directory, name


def count_replaceable(directory: Directory, names: Sequence[bytes], opener: Opener) -> int:
    """How many of these names may be those of destination files, too, before the first that may not (P1).

    The directory is one that `resolve` has just found; what is wrong with the next name that says. Raises PathError.
    """
    with opened(directory, opener) as dir_fd:
        for count, name in enumerate(names):
            try:
                with failing("directory", name):
                    _check_replaceable(_find(dir_fd, name), name, "directory")
            except PathError:
                return count
    return len(names)


def create(directory: Directory, name: bytes, opener: Opener) -> tuple[Temporary, int]:
    """Make the temporary file `name`, mode 0600, and open it write-only (P3).

    Raises PathError, and there is no such file of ours; EEXIST with step `create` if the name is taken: it is never
    reused.
    """
    subject = os.path.join(directory.path, name)
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
    with opened(directory, opener) as dir_fd, failing("create", subject):
        try:
            file_fd = opener(name, flags, mode=_TEMPORARY_MODE, dir_fd=dir_fd)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise may_not_create("create", directory.path, os.fstat(dir_fd)) from error
            raise
        failpoint("temporary.created")
        try:
            found = statx(file_fd)
            _check_owner(found, subject)
            os.fchmod(file_fd, _TEMPORARY_MODE)  # a default ACL may have given the owner less
            failpoint("temporary.checked")
        except BaseException:
            os.close(file_fd)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=dir_fd)
            raise
    return Temporary(name=name, dev=found.dev, ino=found.ino, birth_ns=found.birth_ns, uid=found.uid), file_fd


def reopen(directory: Directory, temporary: Temporary, opener: Opener) -> tuple[int, int]:
    """Size in bytes and write-only descriptor of a temporary file that is still the one we made (P5)."""
    subject = os.path.join(directory.path, temporary.name)
    with opened(directory, opener) as dir_fd, failing("reopen", subject):
        file_fd, size_bytes = open_temporary(dir_fd, temporary, subject, opener)
        return size_bytes, file_fd


def read(directory: Directory, temporary: Temporary, opener: Opener) -> int:
    """Read-only descriptor of a temporary file that is still the recorded one (P4), whoever made it.

    Whether this identity may read it, the kernel decides.
    """
    subject = os.path.join(directory.path, temporary.name)
    with opened(directory, opener) as dir_fd, failing("read", subject):
        path_fd = opener(temporary.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
        try:
            found = statx(path_fd)
            _check_recorded(found, temporary, subject)
            return os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | AT_ONCE)
        except PermissionError as error:
            mode = stat.S_IMODE(found.mode)
            raise failure(errno.EACCES, "read", subject, f"uid {found.uid} made it with mode {mode:04o}") from error
        finally:
            os.close(path_fd)


def copy(
    directory: Directory, temporary: Temporary, source_fd: int, opener: Opener, *, offset: int, length: int
) -> None:
    """Copy bytes of another identity's file to the same place of our temporary file; they are durable on return.

    Raises PathError; ENODATA with step `copy` if the source is shorter.
    """
    subject = os.path.join(directory.path, temporary.name)
    with opened(directory, opener) as dir_fd, failing("copy", subject):
        file_fd, _ = open_temporary(dir_fd, temporary, subject, opener)
        try:
            if copy_range(source_fd, file_fd, offset, length) < length:
                raise failure(errno.ENODATA, "copy", subject, "somebody cut the file that it is made from")
            os.fdatasync(file_fd)
            failpoint("copy.synced")
        finally:
            os.close(file_fd)


def place(directory: Directory, temporary: Temporary, name: bytes, opener: Opener) -> None:
    """Give a temporary file its final name before it has its bytes (HIGH_PERFORMANCE); its mode stays 0600.

    What has the name is replaced as by `publish`. Nothing is synced: a crash takes what was written anyway.
    """
    final_path = os.path.join(directory.path, name)
    with opened(directory, opener) as dir_fd, failing("publish", final_path):
        _check_ours(statx(dir_fd, temporary.name), temporary, os.path.join(directory.path, temporary.name))
        _check_replaceable(_find(dir_fd, name), final_path, "publish")
        os.rename(temporary.name, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    failpoint("temporary.placed")


def publish(directory: Directory, files: Sequence[Publication], opener: Opener) -> int:
    """Give temporary files of one directory their modes, modification times and final names, durably (P6).

    Returns how many: one that cannot be published ends it, and those before it are. All are changed before the first
    is synced, since a file system writes what it has to write of all of them with the first; the directory is synced
    once.

    A symlink at a final name is replaced, not followed. Published before (the temporary's name is gone and the final
    name is that file): nothing is left to do but the sync. Raises PathError if the first cannot be published: ENOENT
    with step `publish` if neither name is our file, EISDIR if the final name is a directory.
    """
    with opened(directory, opener) as dir_fd:
        with contextlib.ExitStack() as descriptors:
            ready = _as_far_as_it_goes(files, lambda one: _prepare(dir_fd, directory, one, opener, descriptors))
            synced = _as_far_as_it_goes(ready, lambda one: _synced(directory, one))
            published = _as_far_as_it_goes(synced, lambda one: _rename(dir_fd, directory, one))
        with failing("publish", directory.path):
            _sync_directory(dir_fd)
        failpoint("publish.directory-synced")
    return len(published)


def _as_far_as_it_goes(ones: Sequence[_One], act: Callable[[_One], _Next]) -> list[_Next]:
    """What `act` makes of each, up to the first that it raises PathError for; raises it if that is the very first."""
    done: list[_Next] = []
    for one in ones:
        try:
            done.append(act(one))
        except PathError:
            if not done:
                raise
            break
    return done


def _prepare(
    dir_fd: int, directory: Directory, one: Publication, opener: Opener, descriptors: contextlib.ExitStack
) -> _Ready:
    temporary = one.temporary
    temporary_path, final_path = (os.path.join(directory.path, each) for each in (temporary.name, one.name))
    with failing("publish", final_path):
        before = _find(dir_fd, temporary.name)
        if before is None:
            published = _find(dir_fd, one.name)
            if published is None or not _is_ours(published, temporary):
                raise failure(errno.ENOENT, "publish", temporary_path, "it is gone; the file must be fetched again")
            return one, None
        file_fd, _ = open_temporary(dir_fd, temporary, temporary_path, opener)
        descriptors.callback(os.close, file_fd)
        if one.umask is None:
            os.fchmod(file_fd, stat.S_IMODE(before.mode))  # opening it may have taken some
        else:
            _set_mode(file_fd, dir_fd, one.umask)
        failpoint("publish.mode-set")
        if one.modified_ns is not None:
            os.utime(file_fd, ns=(os.fstat(file_fd).st_atime_ns, one.modified_ns))
        return one, file_fd


def _synced(directory: Directory, ready: _Ready) -> _Ready:
    one, file_fd = ready
    if file_fd is not None:
        with failing("publish", os.path.join(directory.path, one.name)):
            os.fsync(file_fd)
        failpoint("publish.synced")
    return ready


def _rename(dir_fd: int, directory: Directory, ready: _Ready) -> None:
    one, file_fd = ready
    if file_fd is None:
        return
    temporary = one.temporary
    temporary_path, final_path = (os.path.join(directory.path, each) for each in (temporary.name, one.name))
    with failing("publish", final_path):
        _check_ours(statx(dir_fd, temporary.name), temporary, temporary_path)
        _check_replaceable(_find(dir_fd, one.name), final_path, "publish")  # Landlock would call it denied
        os.rename(temporary.name, one.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    failpoint("publish.renamed")


def remove(directory: Directory, temporary: Temporary, opener: Opener) -> None:
    """Remove the temporary file if it is the one we made (P7); a name that does not exist any more is success.

    A temporary that was only announced (`ino` 0) is removed if it is what a creation just before a crash leaves: an
    empty regular file of this identity with one link.
    """
    subject = os.path.join(directory.path, temporary.name)
    with opened(directory, opener) as dir_fd, failing("remove", subject):
        found = _find(dir_fd, temporary.name)
        if found is not None:
            if not (_is_ours(found, temporary) if temporary.ino else _is_just_created(found)):
                raise changed(subject, "another file has its name")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary.name, dir_fd=dir_fd)
                failpoint("temporary.unlinked")
        _sync_directory(dir_fd)


# -- the directory ----------------------------------------------------------------------------------------------------


def is_normalised(path: bytes) -> bool:
    """True if the path is absolute and has no empty, `.` or `..` component."""
    return path == b"/" or (path.startswith(b"/") and not {b"", b".", b".."} & set(path.split(b"/")[1:]))


def _check_path(path: bytes) -> None:
    """OPEN-29. The manager has normalised the path, which is not believed."""
    if not path.startswith(b"/") or b"\0" in path:
        raise failure(errno.EINVAL, "directory", path, "the path must be absolute and without a NUL byte")
    components = path.split(b"/")[1:]
    if len(path) > PATH_BYTES or max(map(len, components)) > NAME_BYTES:
        raise failure(errno.ENAMETOOLONG, "directory", path)
    if components[-1] == b"":
        raise failure(errno.EISDIR, "directory", path, "it names a directory; add the name of the file")
    if not is_normalised(path):
        raise failure(errno.EINVAL, "directory", path, "the path must be written without //, . and ..")


@contextlib.contextmanager
def opened(directory: Directory, opener: Opener) -> Iterator[int]:
    """O_PATH descriptor of the directory, if it is still the one that was fixed (P2)."""
    try:
        dir_fd = opener(directory.path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:  # a component has become a symlink or a file
            raise moved(directory.path) from error
        raise unreachable(error.errno or 0, directory.path) from error
    try:
        with failing("directory", directory.path):
            found = statx(dir_fd)
        if found.dev != directory.dev:
            raise volume_changed(directory.path)
        if found.ino != directory.ino:
            raise moved(directory.path)
        yield dir_fd
    finally:
        os.close(dir_fd)


def _check_may_create(dir_fd: int, path: bytes) -> None:
    if os.access(b".", os.W_OK | os.X_OK, dir_fd=dir_fd, effective_ids=True):
        return
    if os.fstatvfs(dir_fd).f_flag & os.ST_RDONLY:
        raise failure(errno.EROFS, "directory", path)
    raise may_not_create("directory", path, os.fstat(dir_fd))


def _check_replaceable(found: Status | None, path: bytes, step: str) -> None:
    """Rename replaces a file or a symlink; it must not replace the likes of /dev/null."""
    if found is None or stat.S_ISREG(found.mode) or stat.S_ISLNK(found.mode):
        return
    if stat.S_ISDIR(found.mode):
        raise failure(errno.EISDIR, step, path)
    raise failure(errno.EEXIST, step, path, "a device, FIFO or socket has this name; choose another one")


def _sync_directory(dir_fd: int) -> None:
    """Make what was done to the names in the directory durable."""
    try:
        readable_fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except PermissionError:  # a drop box, which may be written but not read, can only be synced with everything else
        os.sync()
        return
    try:
        os.fsync(readable_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the answer of file systems that know no sync of a directory
            raise
    finally:
        os.close(readable_fd)


# -- the temporary file -----------------------------------------------------------------------------------------------


def _find(dir_fd: int, name: bytes) -> Status | None:
    try:
        return statx(dir_fd, name)
    except FileNotFoundError:
        return None


def open_temporary(dir_fd: int, temporary: Temporary, subject: bytes, opener: Opener) -> tuple[int, int]:
    """Write-only descriptor and size of our temporary file.

    It is checked under an O_PATH descriptor, which opens nothing, and opened through that: whatever has its name by
    then. A publication cut short may have left it without the owner's right to write (umask 0222, an ACL).
    """
    path_fd = opener(temporary.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        found = statx(path_fd)
        _check_ours(found, temporary, subject)
        same_file = f"/proc/self/fd/{path_fd}"
        if not found.mode & stat.S_IWUSR:
            os.chmod(same_file, _TEMPORARY_MODE)
        return os.open(same_file, os.O_WRONLY | AT_ONCE), found.size_bytes
    finally:
        os.close(path_fd)


def _is_recorded(found: Status, temporary: Temporary) -> bool:
    """P4. Device and inode alone would not do: inodes are given out again."""
    return (
        stat.S_ISREG(found.mode)
        and (found.dev, found.ino, found.birth_ns) == (temporary.dev, temporary.ino, temporary.birth_ns)
        and found.uid == temporary.uid
    )


def _is_ours(found: Status, temporary: Temporary) -> bool:
    """P4, and that it belongs to this identity."""
    return _is_recorded(found, temporary) and found.uid == os.geteuid()


def _is_just_created(found: Status) -> bool:
    return stat.S_ISREG(found.mode) and found.size_bytes == 0 and found.links == 1 and found.uid == os.geteuid()


def _check_ours(found: Status, temporary: Temporary, subject: bytes) -> None:
    if not _is_ours(found, temporary):
        raise changed(subject, "another file has its name")
    _check_recorded(found, temporary, subject)


def _check_recorded(found: Status, temporary: Temporary, subject: bytes) -> None:
    if not _is_recorded(found, temporary):
        raise changed(subject, "another file has its name")
    if found.links != 1:
        raise changed(subject, f"it has {found.links} names (hard links)")


def _check_owner(made: Status, subject: bytes) -> None:
    """A network or FAT file system may give a new file to another uid, whose file it then is."""
    if made.uid != os.geteuid():
        reason = f"the file system gives it to uid {made.uid}; choose a directory on another one"
        raise failure(errno.EPERM, "create", subject, reason)


def _set_mode(file_fd: int, dir_fd: int, umask: int) -> None:
    """0666 less the client's umask; where the directory has a default ACL that decides instead (design.md §2)."""
    default_acl = acl.default_of(dir_fd)
    if default_acl is None:
        os.fchmod(file_fd, acl.PUBLISHED_MODE & ~umask)
    else:
        acl.apply(file_fd, default_acl)
