"""Names that a file of a job may have: remote names (jobs.md §8.1) and local ones (OPEN-29).

A remote name is a URL. A file of this machine may be given as `/path` or `file:///path`, and is kept as the latter:
percent-encoded, without `.` and `..`, so that one file has one name whatever it was given as.
"""

import posixpath
import re
from collections.abc import Callable
from urllib.parse import quote, unquote_to_bytes, urlsplit

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.wording import public_url

_PORTS = {"http": 80, "https": 443}
HTTP_SCHEMES = tuple(_PORTS)
SCHEMES = (*HTTP_SCHEMES, "file")

MAX_URL = 2200
MAX_SEGMENT = 260
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255

_FILE = "file://"
_SAFE_IN_FILE_URL = "/-._~!$&'()*+,;=:@"
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BARE_PATH = re.compile(r"/(?!/)")
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_UNEXPANDED = re.compile(r"^~[^/]*|(?<![^/])(?:%[A-Za-z_]\w*%|\$\{?[A-Za-z_]\w*\}?)")


_NO_SHARES = "network shares come with the SMB transport; mount the share and give a path below its mount point"

Refuse = Callable[..., BitsError]
"""Makes the error that names a rule, and perhaps another code than E_INVALIDARG."""


def check_url(url: str) -> str:
    """jobs.md §8.1: legal characters only, known scheme, lengths; raises BitsError E_INVALIDARG naming the rule.

    Returns the name as it is kept.
    """

    def refuse(rule: str, code: int = codes.E_INVALIDARG) -> BitsError:
        return BitsError(code, f"cannot use the remote name {_shown(url)}: {rule}")

    if url.startswith(("\\\\", "//")):
        raise refuse(_NO_SHARES)
    if url.startswith("/"):
        return file_url(_normal_path(url, refuse))
    if url[:5].lower() == "file:":
        return file_url(_normal_path(_path_in(url, refuse), refuse))
    return _web_url(url, refuse)


def _shown(url: str) -> str:
    """What a message may tell of a name that was refused: no password in it, wherever its writer has put one."""
    text = public_url(url)
    if "://" not in url and not _BARE_PATH.match(url):
        text = text.partition("?")[0].rpartition("@")[2]
    return text if _URL_CHARACTERS.fullmatch(text) else ascii(text[:100])


def _web_url(url: str, refuse: Refuse) -> str:
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


def reported_url(url: str) -> str:
    """The URL that a redirect led to, if a client could have given it as well; else empty (jobs.md §9.4)."""
    try:
        return check_url(url) if is_http(url) else ""
    except BitsError:
        return ""


def file_url(path: str) -> str:
    """The remote name of a file of this machine, by its normalised path."""
    return _FILE + quote(path, safe=_SAFE_IN_FILE_URL, encoding="utf-8", errors="surrogateescape")


def path_of(url: str) -> str | None:
    """The path that a remote name of this machine stands for; None for the name of anything else."""
    if not url.startswith(_FILE + "/"):
        return None
    return unquote_to_bytes(url.removeprefix(_FILE)).decode("utf-8", "surrogateescape")


def _path_in(url: str, refuse: Refuse) -> str:
    """The path of a file URL as somebody wrote it (RFC 8089), decoded once."""
    if not _URL_CHARACTERS.fullmatch(url):
        raise refuse("only URL characters are allowed; escape the others with %XX, or give the bare path")
    rest = url[5:]
    if "?" in rest or "#" in rest:
        raise refuse("a file has neither query nor fragment; write ? as %3F and # as %23, or give the bare path")
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
        server = host.rpartition("@")[2]
        if host.lower() not in {"", "localhost"}:
            raise refuse(f"it names a file of {server[:60]}; of other machines there is only http and https")
    if rest.startswith("//"):
        raise refuse(_NO_SHARES)
    if _BROKEN_ESCAPE.search(rest):
        raise refuse("a % is not followed by two hexadecimal digits; write % as %25, or give the bare path")
    if "%2f" in rest.lower():
        raise refuse("no name can have a / in it, written as %2F")
    return unquote_to_bytes(rest).decode("utf-8", "surrogateescape")


def is_http(url: str) -> bool:
    """True of a remote name that is fetched over HTTP: what has ranges and random access (jobs.md §8.7, §8.9)."""
    return url.partition(":")[0].lower() in HTTP_SCHEMES


def peer_of(url: str) -> str:
    """Scheme, host and port of a web URL: whose server it is."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    host = (parts.hostname or "").lower()
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS.get(scheme, 0)}"


def check_path(path: str) -> str:
    """OPEN-29: an absolute path within the limits, `.` and `..` taken away; raises BitsError naming the rule."""

    def refuse(rule: str, code: int = codes.E_INVALIDARG) -> BitsError:
        return BitsError(code, f"cannot use the local name {path[:100]!a}: {rule}", context=ErrorContext.LOCAL_FILE)

    return _normal_path(path, refuse)


def _normal_path(path: str, refuse: Refuse) -> str:
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


def check_reply_path(path: str) -> str:
    """The same for SetReplyFileName, where a name that is too long is E_INVALIDARG, too (jobs.md §7.4).

    The limits are those of Linux (OPEN-29), not the documented 260 characters: who may add a file somewhere may have
    the reply there.
    """
    try:
        return check_path(path)
    except BitsError as error:
        raise BitsError(codes.E_INVALIDARG, error.text, context=error.context) from None
