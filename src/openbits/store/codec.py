"""Jobs, files and events to rows and back.

A job is one JSON document; the columns beside it are copies, and all that a start reads (`Head`): the document is read
when somebody needs the job.
Its files have rows of their own: columns for the progress, a document for the rest. So have its secrets. A document
lacks fields that have their default, and may lack those that were added later: they load with their defaults. Fields
that a newer OpenBITS added within the same schema are ignored.
So a new property needs no schema step; a renamed field, one without a default, or another default of a field does.

Enumerations are stored by number. Boot-clock instants mean nothing after a restart and load as None.
"""

import builtins
import enum
import functools
import json
import operator
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from openbits.core import lifecycle
from openbits.core.enums import JobState, Priority
from openbits.core.model import File, Job, Secret
from openbits.core.properties import Properties
from openbits.store.changes import Head, StoredEvent

Value = TypeVar("Value")
Document = dict[str, Any]
Reader = Callable[[Any], Any]

HeadRow = tuple[str, int, int, int, float, float, int]
"""job_id, owner_uid, state, priority, state_since, modified_at, wakes"""
JobRow = tuple[str, int, int, int, float, float, int, str]
"""those of its head, document"""
FileRow = tuple[int, int, int, str]
"""transferred_bytes, is_transferred, is_published, document"""
EventRow = tuple[int, float, str, str, int, int | None, str]
"""seq, at, kind, job_id, owner_uid, file_index, data"""

_NOT_IN_DOCUMENT: dict[type, set[str]] = {
    Job: {"job_id", "files", "secrets", "retry_at", "stalled_since", "transferring_since", "settled_files"},
    File: {"transferred_bytes", "is_transferred", "is_published", "new_remote_name"},
}
"""Fields with a column or a table of their own, and what is not stored: boot-clock instants, undurable names."""

_ALWAYS: Any = object()
"""In place of the default of a field that every document has."""

_FIELDS: dict[type, dict[str, Any]] = {}
"""The fields of each class that its document holds, in order, and the value that is left out.

Properties are written whole: their defaults may change some day, and not for jobs that are there.
"""
_READERS: dict[type, dict[str, Reader]] = {}
"""What turns the JSON of such a field into its value; fields that JSON says as they are have none."""


def _plain(value: object) -> object:
    found = _FIELDS.get(type(value))
    if found is not None:
        values = {name: getattr(value, name) for name in found}
        return {name: item for name, item in values.items() if item is not found[name] and item != found[name]}
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"cannot store a value of type {type(value).__name__}")


_in_row = operator.attrgetter(
    *(
        item.name
        for item in fields(Job)
        if item.name not in {"files", "secrets", "retry_at", "stalled_since", "transferring_since", "settled_files"}
    )
)
_to_json = json.JSONEncoder(default=_plain, separators=(",", ":"), check_circular=False).encode


def job_to_row(job: Job) -> JobRow:
    """The row of the job itself, without its files."""
    instants, wakes = (job.state_since, job.modified_at), lifecycle.wakes(job)
    return str(job.job_id), job.owner.uid, job.state, job.properties.priority, *instants, wakes, _to_json(job)


def head_from_row(row: HeadRow) -> Head:
    """The head of a row; raises ValueError, TypeError or AttributeError if a column does not hold what it should."""
    job_id, owner_uid, state, priority, state_since, modified_at, wakes = row
    since, modified = float(state_since), float(modified_at)
    return Head(UUID(job_id), owner_uid, JobState(state), Priority(priority), since, modified, bool(wakes))


def is_same_row(before: Job, after: Job) -> bool:
    """True if both have the same row: at most files, secrets and boot-clock instants differ."""
    return bool(_in_row(before) == _in_row(after))


def job_from_document(job_id: str, text: str, files: Iterable[File], secrets: Iterable[Secret] = ()) -> Job:
    """The job of a row, with its files and secrets.

    Raises ValueError, TypeError or AttributeError if it is not a job's document.
    """
    return _build(Job, json.loads(text), job_id=UUID(job_id), files=tuple(files), secrets=tuple(secrets))


def file_to_row(file: File) -> FileRow:
    """The row of a file, without its job and index.

    What was found under a name that is not stored is none of the name that is.
    """
    if file.new_remote_name and file.remote_directory is not None:
        file = replace(file, remote_directory=None)
    return file.transferred_bytes, file.is_transferred, file.is_published, _to_json(file)


def file_from_row(row: FileRow) -> File:
    """The file of a row; raises ValueError, TypeError or AttributeError if it is not a file's document."""
    transferred_bytes, is_transferred, is_published, text = row
    return _build(
        File,
        json.loads(text),
        transferred_bytes=transferred_bytes,
        is_transferred=bool(is_transferred),
        is_published=bool(is_published),
    )


def event_to_row(event: StoredEvent) -> EventRow:
    """The row of an event."""
    return (
        event.seq,
        event.at,
        event.kind,
        str(event.job_id),
        event.owner_uid,
        event.file_index,
        _to_json(dict(event.data)),
    )


def event_from_row(row: EventRow) -> StoredEvent:
    """The event of a row; raises ValueError if its data cannot be read."""
    seq, at, kind, job_id, owner_uid, file_index, data = row
    return StoredEvent(
        seq=seq,
        at=at,
        kind=kind,
        job_id=UUID(job_id),
        owner_uid=owner_uid,
        file_index=file_index,
        data=json.loads(data),
    )


def _build(cls: type[Value], document: Document, **columns: object) -> Value:
    """An instance from the fields of a document and the values of its columns."""
    if not document.keys() <= _FIELDS[cls].keys():
        document = {name: value for name, value in document.items() if name in _FIELDS[cls]}
    for name, read in _READERS[cls].items():
        if (value := document.get(name)) is not None:
            document[name] = read(value)
    return cls(**document, **columns)


def _learn(cls: Any) -> None:
    """Enter a class of the model, and those its fields hold, in the two tables."""
    hints = typing.get_type_hints(cls)
    held = [item for item in fields(cls) if item.name not in _NOT_IN_DOCUMENT.get(cls, ())]
    is_whole = cls is Properties
    _FIELDS[cls] = {item.name: _ALWAYS if is_whole or item.default is MISSING else item.default for item in held}
    _READERS[cls] = {item.name: read for item in held if (read := _reader(hints[item.name])) is not None}


def _reader(hint: Any) -> Reader | None:
    match typing.get_origin(hint), typing.get_args(hint):
        case types.UnionType, (some, types.NoneType):
            return _reader(some)
        case builtins.tuple, (item, builtins.Ellipsis):
            return _tuple_reader(_reader(item))
    if is_dataclass(hint):
        _learn(hint)
        return functools.partial(_build, typing.cast("type", hint))
    if issubclass(hint, enum.Enum):
        return typing.cast("Reader", hint)
    if hint in {int, float, str, bool}:
        return None
    raise TypeError(f"no rule for reading a field of type {hint}")


def _tuple_reader(read: Reader | None) -> Reader:
    return tuple if read is None else lambda items: tuple(map(read, items))


for _stored in (Job, File):
    _learn(_stored)
