"""What the example stores hold: jobs in every state, typed here and not read from a store.

`of_schema(n)` is the queue that `schema<n>.sql` was made from, with the fields that the model had then; the present
store must read exactly that out of it. All of it lies in FOLDER, whose numbers, like those of the temporary files, are
made up: a test that lets jobs go on puts the real ones in their place.
"""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from openbits.core.enums import (
    CertStore,
    CostFlags,
    ErrorContext,
    FileAclFlags,
    Integrity,
    JobState,
    JobType,
    Notice,
    NotifyFlags,
    PeerCachingFlags,
    Priority,
    ProxyUsage,
    SecurityFlags,
    TokenFlags,
)
from openbits.core.model import (
    Certificate,
    CommandLine,
    Directory,
    File,
    FileNotice,
    Identity,
    Job,
    JobError,
    Leftover,
    Range,
    ReplyFile,
    Secret,
    Temporary,
    Validators,
)
from openbits.core.properties import Properties
from openbits.store import StoredEvent

FOLDER = Directory(path="/srv/example", dev=1_000_001, ino=2_000_001)
SERVER = "http://server.example"
ALICE = Identity(uid=1000, gid=100, groups=(100, 27), name="alice")
ROOT = Identity(uid=0, gid=0, groups=(0,), name="root")
HELPER_UID = 1001
SIZE_BYTES = 4_000
AT = 1_700_000_000.25
EVENTS = 3


def temporary(number: int, *, uid: int = 1000, by_helper: bool = False) -> Temporary:
    """The numbers of its name, inode and birth go together, so that all can be replaced."""
    name = f".BIT{number:08x}.tmp"
    return Temporary(
        name=name, dev=FOLDER.dev, ino=3_000_000 + number, birth_ns=4_000_000 + number, uid=uid, by_helper=by_helper
    )


def _file(name: str, **values: object) -> File:
    local_name = f"{FOLDER.path}/{name}"
    file = File(remote_name=f"{SERVER}/{name}", local_name=local_name, directory=FOLDER, name=name)
    return replace(file, **values)  # type: ignore[arg-type]  # fields by name


def _partial(name: str, number: int, *, uid: int = 1000, by_helper: bool = False) -> File:
    return _file(
        name,
        temporary=temporary(number, uid=uid, by_helper=by_helper),
        validators=Validators(size_bytes=SIZE_BYTES, etag='"v1"', last_modified="Wed, 15 Nov 2023 08:12:31 GMT"),
        size_bytes=SIZE_BYTES,
        transferred_bytes=1_000,
        restarts=1,
        note="resumed at byte 500",
    )


def _whole(name: str, number: int, *, uid: int = 1000) -> File:
    return replace(_partial(name, number, uid=uid), transferred_bytes=SIZE_BYTES, is_transferred=True, note="")


def _job(number: int, name: str, **values: object) -> Job:
    job = Job(
        job_id=UUID(int=number),
        owner=ALICE,
        properties=Properties(display_name=name),
        created_at=AT,
        modified_at=AT + 1,
        state_since=AT + 2,
    )
    return replace(job, **values)  # type: ignore[arg-type]  # fields by name


_REFUSED = JobError(
    code=0x80190194,
    context=ErrorContext.REMOTE_FILE,
    detail="the server said: Not Found",
    identity="alice (uid 1000)",
    subject=f"{SERVER}/missing",
    file_index=1,
    protocol="http",
    at=AT + 2,
)
_BUSY = replace(_REFUSED, code=0x801901F7, detail="", file_index=0, retry_after_seconds=3600.0)


def _of_schema_1() -> Iterator[Job]:
    yield _job(1, "empty")
    yield _job(
        2,
        "every property",
        properties=Properties(
            display_name="every property",
            description="two\nlines",
            priority=Priority.LOW,
            notify_flags=NotifyFlags.JOB_ERROR | NotifyFlags.FILE_TRANSFERRED,
            minimum_retry_delay_seconds=5,
            no_progress_timeout_seconds=0,
            auto_complete=True,
        ),
        umask=0o077,
        files=(_file("a"), _file("b\N{SNOWMAN}")),
    )
    yield _job(3, "queued", state=JobState.QUEUED, was_resumed=True, files=(_file("a"),), owner=ROOT)
    yield _job(4, "connecting", state=JobState.CONNECTING, was_resumed=True, epoch=3, attempt=1, files=(_file("a"),))
    yield _job(
        5,
        "transferring",
        state=JobState.TRANSFERRING,
        owner=ROOT,
        was_resumed=True,
        epoch=2,
        files=(_whole("first", 1, uid=0), _partial("second", 2, uid=0), _file("third")),
    )
    yield _job(
        6,
        "waits for its retry",
        state=JobState.TRANSIENT_ERROR,
        was_resumed=True,
        error=_BUSY,
        error_count=2,
        attempt=2,
        stalled_seconds=77.5,
        files=(_partial("a", 3),),
    )
    yield _job(
        7,
        "failed",
        state=JobState.ERROR,
        was_resumed=True,
        error=_REFUSED,
        error_count=1,
        files=(_whole("a", 4), _file("missing")),
        pending_notice=Notice.ERROR,
        notice_seq=2,
    )
    yield _job(
        8,
        "transferred",
        state=JobState.TRANSFERRED,
        owner=ROOT,
        was_resumed=True,
        transferred_at=AT + 2,
        files=(_whole("done", 5, uid=0),),
        pending_notice=Notice.TRANSFERRED,
        notice_seq=1,
    )
    yield _job(
        9,
        "its helper is gone",
        helper_token_flags=TokenFlags.LOCAL_FILE | TokenFlags.NETWORK,
        had_helper_token=True,
        was_resumed=True,
        files=(_partial("a", 6, uid=HELPER_UID, by_helper=True),),
    )
    yield _job(
        10,
        "with a leftover",
        leftovers=(Leftover(directory=FOLDER, temporary=temporary(7, uid=HELPER_UID, by_helper=True)),),
        files=(_file("a"),),
    )
    for number, state in ((11, JobState.ACKNOWLEDGED), (12, JobState.CANCELLED)):
        file = _partial("a", number, uid=HELPER_UID, by_helper=True)
        yield _job(number, f"tombstone {state.name}", state=state, was_resumed=True, files=(file,))


def _of_schema_2() -> Iterator[Job]:
    yield from _of_schema_1()
    proxies = {"proxy_usage": ProxyUsage.OVERRIDE, "proxy_list": "a:1 b", "proxy_bypass_list": "<local>"}
    yield _job(13, "proxies", properties=Properties(display_name="proxies", **proxies))  # type: ignore[arg-type]


def _of_schema_3() -> Iterator[Job]:
    yield from _of_schema_2()
    yield _job(
        14,
        "every option",
        owner_integrity=Integrity.HIGH,
        properties=Properties(
            display_name="every option",
            maximum_download_seconds=1_000,
            file_acl_flags=FileAclFlags.OWNER | FileAclFlags.DACL,
            peer_caching_flags=PeerCachingFlags.DISABLE_BRANCH_CACHE,
            security_flags=SecurityFlags.ENABLE_CRL_CHECK | SecurityFlags.REDIRECT_DISALLOW,
            cost_flags=CostFlags.UNRESTRICTED | CostFlags.IGNORE_CONGESTION,
            notification_clsid="01234567-89ab-cdef-0123-456789abcdef",
            dynamic_content=True,
            max_download_size_bytes=2**64 - 1,
            use_stored_proxy_credentials=True,
            minimum_notification_interval_ms=0,
        ),
        command_line=CommandLine(program="/usr/bin/true", parameters="true 'a b'", setter=ALICE),
        activation=CommandLine(program="", parameters="01234567-89ab-cdef-0123-456789abcdef", setter=ALICE),
        secrets=(
            Secret(slot="credentials:server:basic", key_id="k1", sealed="c2VhbGVk"),
            Secret(slot="headers", key_id="k1", sealed="aGVhZGVycw=="),
        ),
        certificate=Certificate(location=CertStore.CURRENT_USER, store="MY", sha1="ab" * 20),
        has_write_only_headers=True,
        needs_certificate_callback=True,
        transfer_seconds=12.5,
    )
    parts = (Range(offset=100, length_bytes=50), Range(offset=900, length_bytes=None))
    yield _job(
        15,
        "ranges and random access",
        properties=Properties(display_name="ranges and random access", on_demand_mode=True),
        files=(
            _file("parts", ranges=parts),
            _file("random", wanted=parts[:1], filled=(Range(offset=2_000, length_bytes=10),), size_bytes=SIZE_BYTES),
        ),
    )
    yield _job(
        16,
        "untold",
        state=JobState.TRANSFERRED,
        was_resumed=True,
        files=(replace(_whole("told", 16), is_valid=True, response_headers="HTTP/1.1 200 OK\r\n"), _whole("not", 17)),
        pending_notice=Notice.TRANSFERRED,
        notice_seq=3,
        untold_files=(FileNotice(file_index=1, notice_seq=2),),
    )
    yield _job(
        17,
        "upload with reply",
        type=JobType.UPLOAD_REPLY,
        files=(_file("source", is_upload=True),),
        reply=ReplyFile(local_name=f"{FOLDER.path}/reply", directory=FOLDER, name="reply"),
    )


OF_SCHEMA = {1: _of_schema_1, 2: _of_schema_2, 3: _of_schema_3, 4: _of_schema_3}
"""A new schema step needs a row here, and its dump (`python -m tests.store.examples make`)."""


def of_schema(number: int) -> list[Job]:
    """The jobs of `schema<number>.sql`, in the order of their creation."""
    return list(OF_SCHEMA[number]())


def events() -> list[StoredEvent]:
    """The end of the event stream, the same in every example."""
    job_id = UUID(int=8)
    kinds = ("created", "files-added", "state")
    return [
        StoredEvent(seq=seq, at=AT + seq, kind=kind, job_id=job_id, owner_uid=0, data={"state": "suspended"})
        for seq, kind in enumerate(kinds, start=1)
    ]
