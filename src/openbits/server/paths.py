"""From the target of a request to a path below the root (upload-protocol.md §13). Pure.

A target is decoded once; every component that could mean something else to a file system than to a URL is refused, not
repaired.
"""

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote_to_bytes

from openbits.core import codes
from openbits.server.model import RefusedError

SESSIONS_FOLDER: Final = "BITS-Sessions"
"""Where replies are found under a virtual directory; nothing can be uploaded below it."""

REPLY_NAME: Final = "responsefile.bin"

MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of a request: decoded path, raw path and query, and the authority of one in absolute form (H10)."""

    path: str
    raw_path: str
    query: str = ""
    authority: str = ""


def target(raw_path: str, query: str, *, mounted_at: str = "") -> Target:
    """Decode once; bytes that are no UTF-8 stay visible as surrogates, which `relative` refuses."""
    authority = ""
    if raw_path.lower().startswith(("http://", "https://")):
        authority, slash, rest = raw_path.partition("://")[2].partition("/")
        raw_path = slash + rest or "/"
    path = unquote_to_bytes(raw_path).decode("utf-8", "surrogateescape").removeprefix(mounted_at)
    return Target(path=path, raw_path=raw_path, query=query, authority=authority)


def relative(path: str) -> PurePosixPath:
    """The path below the root of a decoded URL path; a slash at its end does not matter. Raises RefusedError."""
    names = path.removeprefix("/").removesuffix("/").split("/")
    if not path.startswith("/") or (path != "/" and not all(map(_is_name, names))):
        raise RefusedError(403, codes.E_ACCESSDENIED, "path refused")
    if any(name.casefold() == SESSIONS_FOLDER.casefold() for name in names):
        raise RefusedError(403, codes.E_ACCESSDENIED, f"path in {SESSIONS_FOLDER} refused")
    return PurePosixPath(*filter(None, names))


def is_directory_path(path: str) -> bool:
    """True of what may name a virtual directory: `/`, `/inbox/`."""
    try:
        relative(path)
    except RefusedError:
        return False
    return path.endswith("/") and "%" not in path


def reply_of(path: str) -> tuple[str, str] | None:
    """Where a reply of `replies.reply_url` belongs: path of its directory, session id. None: it is no such path."""
    names = path.split("/")
    if len(names) < 5 or names[-4].casefold() != SESSIONS_FOLDER.casefold():
        return None
    if names[-3].casefold() != "replies" or names[-1].casefold() != REPLY_NAME or not names[-2]:
        return None
    return "/".join([*names[:-4], ""]), names[-2]


def _is_name(name: str) -> bool:
    """One component that means itself and nothing else."""
    if name in {"", ".", ".."} or "\\" in name:
        return False
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return False  # controls, and surrogates: what was no UTF-8
    return len(name.encode()) <= MAX_NAME_BYTES
