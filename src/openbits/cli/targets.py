"""Where files go: absolute paths from what people write, names from URLs, and URLs that get the name of a file."""

import os
from urllib.parse import quote, unquote, urlsplit

from openbits.cli import render
from openbits.core import codes
from openbits.core.errors import BitsError

MAX_NAME_BYTES = 255
FALLBACK_NAME = "download"


def destinations(urls: list[str], path: str) -> list[tuple[str, str]]:
    """Pairs of URL and absolute local path. Raises E_INVALIDARG where two files would be one."""
    if len(urls) > 1 and not is_folder(path):
        raise BitsError(codes.E_INVALIDARG, f"cannot put {len(urls)} files into {path!r}: it is no existing folder")
    taken: dict[str, str] = {}
    for url in urls:
        local = destination(url, path)
        if local in taken:
            raise BitsError(
                codes.E_INVALIDARG,
                f"cannot get {taken[local]} and {url} at once: both would be {local}; get one by one",
            )
        taken[local] = url
    return [(url, local) for local, url in taken.items()]


def destination(url: str, path: str) -> str:
    """The absolute path of the file: `path` itself, or for a folder (one that exists, or `…/`) a file in it."""
    base = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow links now, as us
    return os.path.join(base, safe_name(url)) if is_folder(path) else base  # noqa: PTH118


def upload_target(url: str, path: str) -> str:
    """What the file at `path` becomes: `url` itself, or in a folder (`…/`; of this machine, one that exists) its name.

    A bare path stays one: the service makes the URL of it. A query stays behind the name.
    """
    name = os.path.basename(path)  # noqa: PTH119
    if url.startswith("/"):
        return os.path.join(url, name) if is_folder(url) else url  # noqa: PTH118
    place, mark, query = url.partition("?")
    is_host_alone = place.count("/") == 2
    if is_host_alone or place.endswith("/"):
        place = f"{place}{'/' if is_host_alone else ''}{quote(os.fsencode(name), safe='')}"
    return f"{place}{mark}{query}"


def is_folder(path: str) -> bool:
    """True if files go into it."""
    return path.endswith("/") or os.path.isdir(path)  # noqa: PTH112


def is_remote(name: str) -> bool:
    """True for what can be a remote name: a URL, or the absolute path of a file of this machine."""
    return "://" in name or name.startswith("/")


def safe_name(url: str) -> str:
    """The last segment of the URL's path as one file name: no separators, no control characters, never `..`."""
    path = url if url.startswith("/") else unquote(urlsplit(url).path).replace("\\", "/")
    segment = path.rstrip("/").rpartition("/")[2]
    name = render.printable(segment).strip()
    if name[:1] in {"~", "$", "%"}:  # the service takes these for variables that somebody forgot to expand
        name = f"_{name[1:]}"
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return FALLBACK_NAME if name in {"", ".", ".."} else name
