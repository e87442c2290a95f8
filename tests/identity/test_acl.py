"""Default ACLs: a published file is as if it had been created with mode 0666 (design.md §2)."""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbits.identity import paths
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Temporary

RunAs = Callable[[int | None, Callable[[], Any]], Any]
Refused = Callable[..., PathError]
Publish = Callable[[Directory, Temporary], None]
Acts = Callable[[Directory, Temporary], dict[str, Callable[[], object]]]

NAME = b".BIT0123abcd.tmp"

pytestmark = pytest.mark.usefixtures("bounded")


_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF
_ACLS = {
    "minimal": [(_USER_OBJ, 7, _NOBODY), (_GROUP_OBJ, 5, _NOBODY), (_OTHER, 0, _NOBODY)],
    "closed": [(_USER_OBJ, 4, _NOBODY), (_GROUP_OBJ, 0, _NOBODY), (_OTHER, 0, _NOBODY)],
    "with a user": [
        (_USER_OBJ, 7, _NOBODY),
        (_USER, 7, 61_002),
        (_GROUP_OBJ, 7, _NOBODY),
        (_MASK, 7, _NOBODY),
        (_OTHER, 5, _NOBODY),
    ],
    "with a narrow mask": [
        (_USER_OBJ, 7, _NOBODY),
        (_USER, 7, 61_002),
        (_GROUP_OBJ, 5, _NOBODY),
        (_GROUP, 6, 61_002),
        (_MASK, 5, _NOBODY),
        (_OTHER, 1, _NOBODY),
    ],
}


def set_default_acl(place: Path, name: str) -> None:
    """As `setfacl -d` does."""
    entries = b"".join(struct.pack("<HHI", *entry) for entry in _ACLS[name])
    os.setxattr(place, "system.posix_acl_default", struct.pack("<I", 2) + entries)


def access(path: Path) -> tuple[int, bytes | None]:
    """Mode and access ACL of a file."""
    names = os.listxattr(path)
    acl = os.getxattr(path, "system.posix_acl_access") if "system.posix_acl_access" in names else None
    return stat.S_IMODE(path.stat().st_mode), acl


@pytest.mark.parametrize("first", ["the default ACL", "the temporary file"])
@pytest.mark.parametrize("name", _ACLS)
def test_a_default_acl_decides_as_if_the_file_had_been_created_with_mode_0666(
    name: str, first: str, directory: Directory, place: Path, opener: Opener, publish: Callable[..., None]
) -> None:
    if first == "the default ACL":
        set_default_acl(place, name)
    made, descriptor = paths.create(directory, NAME, opener)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    os.close(descriptor)
    set_default_acl(place, name)
    os.close(os.open(place / "by-the-kernel", os.O_CREAT | os.O_WRONLY, 0o666))
    publish(directory, made, umask=0o077, modified_ns=None)
    assert access(place / "file") == access(place / "by-the-kernel")
