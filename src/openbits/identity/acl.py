"""Default ACLs: the mode of a published file where its directory has one (design.md §2, OPEN-33).

A temporary file is made with mode 0600, which limits everything that it inherits. Publishing gives it the ACL that
the kernel would have given to a file created in the directory with mode 0666: the entries of the default ACL, in which
owner, others and mask (without a mask: the owning group) lose what 0666 does not grant, that is execution
(acl(5), "Object creation and default ACLs"). Setting that ACL sets the mode bits with it.
"""

import errno
import os
import struct

PUBLISHED_MODE = 0o666
"""Mode of a published file, less the client's umask where no default ACL decides."""

_DEFAULT = "system.posix_acl_default"
_ACCESS = "system.posix_acl_access"
_HEAD_BYTES = 4
_ENTRY = struct.Struct("<HHI")  # tag, permissions, uid or gid: struct posix_acl_xattr_entry
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_READ_WRITE = 0o6


def default_of(dir_fd: int) -> bytes | None:
    """The default ACL of a directory, which may be open as O_PATH only; None if it has none."""
    try:
        return os.getxattr(f"/proc/self/fd/{dir_fd}", _DEFAULT)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return None
        raise


def of_file(file_fd: int) -> bytes | None:
    """The access list of a file; None if it has no more than its mode."""
    try:
        return os.getxattr(file_fd, _ACCESS)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return None
        raise


def give(file_fd: int, mode: int, access: bytes | None) -> None:
    """Give the file this mode, and this access list if its file system has any."""
    os.fchmod(file_fd, mode)
    try:
        if access is not None:
            os.setxattr(file_fd, _ACCESS, access)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def apply(file_fd: int, default: bytes) -> None:
    """Give the file the ACL, and so the mode, that creation with PUBLISHED_MODE under this default ACL gives."""
    entries = list(_ENTRY.iter_unpack(default[_HEAD_BYTES:]))
    group_class = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    limited = {_USER_OBJ, group_class, _OTHER}
    inherited = b"".join(
        _ENTRY.pack(tag, permissions & _READ_WRITE if tag in limited else permissions, qualifier)
        for tag, permissions, qualifier in entries
    )
    os.setxattr(file_fd, _ACCESS, default[:_HEAD_BYTES] + inherited)
