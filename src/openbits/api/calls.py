"""What the blocking and the asyncio client send, and what they make of the answers (docs/api.md)."""

# ruff: noqa: PTH116, PTH120, PTH123  # pathlib costs start-up time

import enum
import os
import uuid
from collections.abc import Iterable, Mapping

from openbits.api import tokens
from openbits.api.framing import Parameters
from openbits.api.tokens import Token
from openbits.api.wire import DirectorySeen, FileToAdd, JobInfo, PropertyValues, RangeInfo, ReplyInfo
from openbits.channel import close_all
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, JobType
from openbits.core.errors import BitsError
from openbits.core.names import check_url, path_of

TAKES_TOKEN = frozenset(
    {
        "CreateJob",
        "ExplainProxy",
        "OpenJob",
        "ListJobs",
        "Complete",
        "TakeOwnership",
        "SetHelperToken",
        "OpenProcessToken",
        "SetNotify",
        "SetNotifyCmdLine",
        "SetCredentials",
        "SetCustomHeaders",
        "GetCustomHeaders",
        "SetClientCertificate",
        "GetClientCertificate",
    }
)
"""Methods in which the identity of the call matters: an impersonated token goes along with them (docs/api.md)."""

GONE = frozenset({codes.BG_E_NOT_FOUND, codes.E_ACCESSDENIED})
"""What opening a job of a list may fail with, because it ended, or went to another owner, since."""


def creation(display_name: str, kind: JobType) -> Parameters:
    """Parameters of CreateJob."""
    return {"display_name": display_name, "type": kind.name.lower(), "umask": _process_umask()}


def subscription(from_seq: int | None, job_ids: Iterable[uuid.UUID] | None, *, all_users: bool) -> Parameters:
    """Parameters of Subscribe."""
    parameters: Parameters = {"all_users": all_users}
    if from_seq is not None:
        parameters["from_seq"] = from_seq
    if job_ids is not None:
        parameters["job_ids"] = [str(job_id) for job_id in job_ids]
    return parameters


def with_token(method: str, parameters: Parameters, *, is_cloaking: bool) -> tuple[Parameters, list[int]]:
    """What to send: with the impersonated token, if there is one and the method takes it."""
    token = tokens.current() if is_cloaking and method in TAKES_TOKEN else None
    return (parameters, []) if token is None else ({**parameters, "token": 0}, [token.fileno()])


Part = tuple[int, int | None]
"""Offset and length of a part of a file; None: up to its end."""


def range_infos(parts: Iterable[Part]) -> list[RangeInfo]:
    """Parts of a file, as the wire has them."""
    return [{"offset": offset, "length": length} for offset, length in parts]


def parts(infos: Iterable[RangeInfo]) -> list[Part]:
    """And back."""
    return [(info["offset"], info["length"]) for info in infos]


def additions(files: Iterable[tuple[str, str | os.PathLike[str]]], ranges: Iterable[Part] | None = None) -> Parameters:
    """Parameters of AddFiles, with the directories as we see them, which may not be what the service sees there.

    `ranges`: the parts of which each of the files is made.
    """
    pairs: list[FileToAdd] = [{"remote_name": url, "local_name": os.fspath(path)} for url, path in files]
    if ranges is not None:
        infos = range_infos(ranges)
        pairs = [{**pair, "ranges": infos} for pair in pairs]
    paths = [os.path.normpath(pair["local_name"]) for pair in pairs]
    paths += [path for pair in pairs if (path := _remote_path(pair["remote_name"])) is not None]
    folders = {os.path.dirname(path) for path in paths}
    seen = {folder: directory for folder in folders if (directory := _seen(folder)) is not None}
    return {"files": pairs, "directories": seen}


def reply_file(path: str | os.PathLike[str] | None) -> Parameters:
    """Parameters of SetReplyFileName; without a path, as NULL and the empty string, nothing."""
    name = os.fspath(path) if path is not None else ""
    if not name:
        return {}
    folder = os.path.dirname(os.path.normpath(name))
    seen = _seen(folder)
    return {"local_name": name, "directories": {} if seen is None else {folder: seen}}


def reply_of(info: JobInfo) -> ReplyInfo:
    """The reply of a job. Raises E_NOTIMPL for a job that has none."""
    if info["reply"] is None:
        what = f'job {info["job_id"]} "{info["properties"]["display_name"]}" is of type {info["type"].upper()}'
        raise BitsError(codes.E_NOTIMPL, f"{what} and has no reply; create an UPLOAD_REPLY job for that")
    return info["reply"]


def bytes_of(answer: Parameters, received: list[int]) -> bytes:
    """What the memory file of an answer holds; nothing if there is none."""
    index = answer["data"]
    try:
        if index is None:
            return b""
        with open(received[index], "rb", closefd=False) as memory:
            memory.seek(0)
            return memory.read()
    finally:
        close_all(received)


def _remote_path(name: str) -> str | None:
    """Of a file of this machine; None for all others, and for a name that the service will refuse."""
    if not name.startswith("/") and name[:5].lower() != "file:":
        return None
    try:
        return path_of(check_url(name))
    except BitsError:
        return None


def _seen(folder: str) -> DirectorySeen | None:
    """None for what we cannot see: it may be there for the helper."""
    try:
        found = os.stat(folder)
    except (OSError, ValueError):
        return None
    return {"dev": found.st_dev, "ino": found.st_ino}


def wire_values(properties: Mapping[str, object]) -> Parameters:
    """Enumerations by their lower-case names, flags as integers (api/wire.py).

    Raises E_INVALIDARG for a name that is no property; the service says only that the values are not of their type.
    """
    known = PropertyValues.__annotations__
    for name in properties:
        if name not in known:
            raise BitsError(codes.E_INVALIDARG, f"there is no property {name!r}; known are {', '.join(known)}")
    return {
        name: value.name.lower() if isinstance(value, enum.Enum) and not isinstance(value, enum.Flag) else value
        for name, value in properties.items()
    }


def credentials(target: AuthTarget, scheme: AuthScheme) -> Parameters:
    """The parameters that say which credentials are meant."""
    return {"target": target.name.lower(), "scheme": scheme.name.lower()}


def given(**optional: object) -> Parameters:
    """Those of the parameters that have a value."""
    return {name: value for name, value in optional.items() if value is not None}


def token_of(answer: Parameters, received: list[int]) -> Token:
    """The token among the received descriptors; surplus ones are closed."""
    index = answer.get("token")
    if not isinstance(index, int) or not 0 <= index < len(received):
        close_all(received)
        raise BitsError(codes.E_FAIL, "the service answered without the token")
    token = Token(received.pop(index))
    close_all(received)
    return token


def _process_umask() -> int:
    """The umask, read without setting it, which would show in other threads."""
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022
