"""Every field of the model survives the store; documents of other versions can be read."""

import enum
import json
import types
import typing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.reading import jobs_in

from openbits.core.enums import ErrorContext, JobState, NotifyFlags, Priority
from openbits.core.model import Directory, File, Identity, Job, JobError, Secret
from openbits.core.properties import Properties
from openbits.store import SaveJob, codec, open_store

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates: names that are not UTF-8
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: TEXT,
    bool: st.booleans(),
    UUID: st.uuids(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the model, every field filled: fields added to the model are tried without a word here."""
    if isinstance(hint, types.UnionType):
        return st.one_of([st.none() if part is types.NoneType else values_of(part) for part in typing.get_args(hint)])
    if typing.get_origin(hint) is tuple:
        return st.lists(values_of(typing.get_args(hint)[0]), max_size=3).map(tuple)
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        parts: dict[str, st.SearchStrategy[Any]] = {item.name: values_of(hints[item.name]) for item in fields(hint)}
        return st.builds(typing.cast("type", hint), **parts)
    if issubclass(hint, enum.Flag):
        return st.integers(0, sum(member.value for member in hint)).map(hint)
    if issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    return BY_TYPE[hint]


def with_sound_secrets(job: Job) -> Job:
    """Each slot once, in order, and all of it text of ours: what a vault makes of whatever it is given."""
    by_slot = {secret.slot.encode("utf-8", "replace").hex(): secret for secret in job.secrets}
    secrets = tuple(
        Secret(slot=slot, key_id=secret.key_id.encode("utf-8", "replace").hex(), sealed=str(number))
        for number, (slot, secret) in enumerate(sorted(by_slot.items()))
    )
    return replace(job, secrets=secrets)


JOBS = values_of(Job).map(with_sound_secrets)


def as_stored(job: Job) -> Job:
    """What the model says is not stored: instants of the boot clock, and of files what is not durable yet."""
    files = tuple(map(file_as_stored, job.files))
    return replace(job, retry_at=None, stalled_since=None, transferring_since=None, files=files)


def file_as_stored(file: File) -> File:
    """Where the file of a name that is not stored lies is not stored either."""
    return replace(file, new_remote_name="", remote_directory=None if file.new_remote_name else file.remote_directory)


@given(first=JOBS, second=JOBS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_job_comes_back_as_it_was_saved_when_new_and_after_any_change(first: Job, second: Job) -> None:
    second = replace(second, job_id=first.job_id)
    with TemporaryDirectory() as name:
        store = open_store(Path(name))
        store.commit([SaveJob(before=None, after=first)])
        assert jobs_in(store) == [as_stored(first)]
        store.commit([SaveJob(before=first, after=second)])
        assert jobs_in(store) == [as_stored(second)]
        store.close()


PLACE = Directory(path="/srv", dev=1, ino=2)


def a_job() -> Job:
    error = JobError(code=0x80190194, context=ErrorContext.REMOTE_FILE, file_index=0)
    return Job(
        job_id=UUID(int=7),
        owner=Identity(uid=1000, gid=100),
        created_at=1.0,
        modified_at=2.0,
        state_since=3.0,
        state=JobState.TRANSIENT_ERROR,
        properties=Properties(priority=Priority.LOW, auto_complete=True, notify_flags=NotifyFlags.DISABLE),
        error=error,
    )


def test_enumerations_are_stored_by_number_and_ids_as_canonical_text() -> None:
    *columns, text = codec.job_to_row(a_job())

    assert columns == ["00000000-0000-0000-0000-000000000007", 1000, 5, 3, 3.0, 2.0, True]
    document = json.loads(text)
    assert document["state"] == 5
    assert document["properties"]["priority"] == 3
    assert document["properties"]["notify_flags"] == 4
    assert document["error"]["context"] == 5


def test_fields_added_later_load_with_their_defaults() -> None:
    job_id, *_, text = codec.job_to_row(a_job())
    document = json.loads(text)
    assert document.keys().isdisjoint({"umask", "error_count", "leftovers", "notice_seq"})
    assert "identity" not in document["error"]
    del document["properties"]["auto_complete"], document["properties"]["minimum_retry_delay_seconds"]

    job = codec.job_from_document(job_id, json.dumps(document), ())

    expected = a_job()
    assert job == replace(expected, properties=replace(expected.properties, auto_complete=False))


def test_what_has_its_default_is_not_written_but_properties_are() -> None:
    """Another default in a later version must not change jobs that are there; 10 files have no room for nothing."""
    *_, text = codec.job_to_row(a_job())
    document = json.loads(text)

    assert document["properties"].keys() == {item.name for item in fields(Properties)}
    needed = {"owner", "created_at", "modified_at", "state_since"}
    assert document.keys() == needed | {"state", "properties", "error"}
    *_, text = codec.file_to_row(File(remote_name="r", local_name="l", directory=PLACE, name="n"))
    assert json.loads(text).keys() == {"remote_name", "local_name", "directory", "name"}


def test_fields_of_a_newer_openbits_with_the_same_schema_are_ignored() -> None:
    job_id, *_, text = codec.job_to_row(a_job())
    document = json.loads(text)
    document["colour"] = document["properties"]["colour"] = {"deep": [1]}

    assert codec.job_from_document(job_id, json.dumps(document), ()) == a_job()


def test_a_document_without_a_needed_field_is_refused() -> None:
    with pytest.raises(TypeError, match="remote_name"):
        codec.file_from_row((0, 0, 0, "{}"))


def test_a_change_of_files_or_boot_clock_alone_leaves_the_row_of_the_job() -> None:
    job = a_job()

    secrets = (Secret(slot="headers", key_id="k", sealed="c2VhbGVk"),)
    waiting = replace(job, retry_at=5.0, stalled_since=6.0, transferring_since=7.0)
    assert codec.is_same_row(job, replace(waiting, files=(), secrets=secrets))
    assert not codec.is_same_row(job, replace(job, notice_seq=1))


def test_a_kind_of_field_without_a_rule_is_noticed_at_import() -> None:
    with pytest.raises(TypeError, match="no rule for reading"):
        codec._reader(dict)


@given(values_of(File))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_file_row_holds_every_field_once(file: File) -> None:
    transferred_bytes, is_transferred, is_published, text = codec.file_to_row(file)

    assert (transferred_bytes, is_transferred, is_published) == (
        file.transferred_bytes,
        file.is_transferred,
        file.is_published,
    )
    assert json.loads(text).keys().isdisjoint({"transferred_bytes", "is_transferred", "is_published"})
    assert codec.file_from_row((transferred_bytes, is_transferred, is_published, text)) == file_as_stored(file)
