"""When a property may be set: every property in every state for every type of job (jobs.md §2.3, §3.1, §7, §13)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import events, property_rules
from openbits.core.enums import JobState, JobType, Priority, SecurityFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import step
from openbits.core.model import File, Job, Now, Range
from openbits.core.properties import PROPERTIES, Properties

Make = Callable[..., Job]

INVALID_STATE = 0x80200002
DOWNLOADS_ONLY = 0x80200060
AFTER_ADDFILE = 0x80200061
AFTER_RESUME = 0x80200062
WHEN_ACTIVE = 0x80200075
UNSUPPORTED_CONFIGURATION = 0x80200072

ANOTHER = {
    "display_name": "another",
    "description": "another",
    "priority": "high",
    "notify_flags": 0,
    "minimum_retry_delay_seconds": 60,
    "no_progress_timeout_seconds": 60,
    "proxy_usage": "no_proxy",
    "proxy_list": "",
    "proxy_bypass_list": "",
    "maximum_download_seconds": 60,
    "file_acl_flags": 15,
    "peer_caching_flags": 7,
    "security_flags": 1,
    "http_method": "POST",
    "cost_flags": 1,
    "notification_clsid": "d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11",
    "dynamic_content": True,
    "high_performance": True,
    "max_download_size_bytes": 2**40,
    "use_stored_proxy_credentials": True,
    "minimum_notification_interval_ms": 60,
    "on_demand_mode": True,
    "parallel_files": 8,
    "maximum_rate_bytes_per_second": 10**6,
    "segments": 4,
    "auto_complete": False,
}
"""A value for each property, which changes it where that needs nothing else."""

FOR_DOWNLOADS = {"dynamic_content", "high_performance", "max_download_size_bytes", "on_demand_mode", "segments"}
BEFORE_RESUME = {"http_method", "dynamic_content", "max_download_size_bytes"}
BEFORE_ADDFILE = {"high_performance"}
NOT_WHEN_TRANSFERRED = {"file_acl_flags"}
WHEN_STOPPED = {"on_demand_mode"}
STOPPED = {JobState.SUSPENDED, JobState.ERROR}
FINAL = {JobState.ACKNOWLEDGED, JobState.CANCELLED}


def refusal(name: str, state: JobState, job_type: JobType, *, was_resumed: bool, has_files: bool) -> int:
    """The code that the documents give, 0 if the call succeeds."""
    rules = (
        (state in FINAL, INVALID_STATE),
        (name in FOR_DOWNLOADS and job_type is not JobType.DOWNLOAD, DOWNLOADS_ONLY),
        (name in NOT_WHEN_TRANSFERRED and state is JobState.TRANSFERRED, INVALID_STATE),
        (name in WHEN_STOPPED and state not in STOPPED, WHEN_ACTIVE),
        (name in BEFORE_RESUME and was_resumed, AFTER_RESUME),
        (name in BEFORE_ADDFILE and has_files, AFTER_ADDFILE),
    )
    return next((code for is_so, code in rules if is_so), 0)


def setting(job: Job, now: Now, **values: object) -> Job:
    """The job after SetProperties."""
    changed = property_rules.changed(job.properties, values, job.type)
    after, _ = step(job, events.SetProperties(properties=changed, names=tuple(values)), now)
    return after


def test_there_is_a_value_for_each_property() -> None:
    assert PROPERTIES.keys() == ANOTHER.keys()


@pytest.mark.parametrize("job_type", list(JobType))
@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("name", ANOTHER)
def test_a_property_in_a_state_of_a_job_type(
    a_job: Make, now: Now, name: str, state: JobState, job_type: JobType
) -> None:
    job = a_job(state, type=job_type)
    code = refusal(name, state, job_type, was_resumed=job.was_resumed, has_files=True)
    if not code:
        assert property_rules.to_wire(setting(job, now, **{name: ANOTHER[name]}).properties)[name] == ANOTHER[name]
        return
    with pytest.raises(BitsError) as caught:
        setting(job, now, **{name: ANOTHER[name]})
    assert caught.value.hresult == code
    assert "; " in caught.value.text
    assert str(job.job_id) in caught.value.text
    assert name in caught.value.text or state in FINAL


@pytest.mark.parametrize("name", ANOTHER)
@pytest.mark.parametrize("was_resumed", [False, True])
@pytest.mark.parametrize("has_files", [False, True])
def test_a_property_of_a_stopped_download_with_a_past(
    a_job: Make, now: Now, name: str, *, was_resumed: bool, has_files: bool
) -> None:
    job = a_job(JobState.SUSPENDED, was_resumed=was_resumed)
    job = job if has_files else replace(job, files=())
    code = refusal(name, job.state, job.type, was_resumed=was_resumed, has_files=has_files)
    if not code:
        setting(job, now, **{name: ANOTHER[name]})
        return
    with pytest.raises(BitsError) as caught:
        setting(job, now, **{name: ANOTHER[name]})
    assert caught.value.hresult == code


def test_one_refused_property_refuses_all(a_job: Make, now: Now) -> None:
    job = a_job(JobState.QUEUED)
    with pytest.raises(BitsError):
        setting(job, now, description="new", on_demand_mode=True)
    assert job.properties.description == ""


def test_content_that_is_made_as_it_is_sent_has_no_ranges(a_job: Make, a_file: Callable[..., File], now: Now) -> None:
    ranged = a_file(ranges=(Range(offset=0, length_bytes=10),))
    with pytest.raises(BitsError, match="ranges") as caught:
        setting(a_job(JobState.SUSPENDED, files=(a_file(), ranged)), now, dynamic_content=True)
    assert caught.value.hresult == UNSUPPORTED_CONFIGURATION
    assert setting(a_job(JobState.SUSPENDED, files=(a_file(),)), now, dynamic_content=True).properties.dynamic_content


# -- what restarts a running request (T9) -----------------------------------------------------------------------------

RESTARTS = {"priority", "proxy_usage", "peer_caching_flags", "security_flags"}


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING])
@pytest.mark.parametrize("name", sorted(ANOTHER.keys() - BEFORE_RESUME - BEFORE_ADDFILE - WHEN_STOPPED))
def test_what_a_request_was_made_of_restarts_it(a_job: Make, now: Now, state: JobState, name: str) -> None:
    job = a_job(state)
    after = setting(job, now, **{name: ANOTHER[name]})
    assert after.state is (JobState.QUEUED if name in RESTARTS else state)
    again = setting(after, now, **{name: ANOTHER[name]})
    assert again.state is after.state, "the same value once more changes nothing"


CRL, ANY_NAME = SecurityFlags.ENABLE_CRL_CHECK, SecurityFlags.IGNORE_CERT_CN_INVALID


@pytest.mark.parametrize(
    ("before", "after", "is_restart"),
    [
        (SecurityFlags(0), CRL, True),
        (ANY_NAME, ANY_NAME | CRL, True),
        (CRL, SecurityFlags(0), False),
        (CRL, CRL | ANY_NAME, False),
        (SecurityFlags(0), ANY_NAME, False),
        (CRL, CRL, False),
    ],
)
def test_of_the_security_flags_only_switching_the_revocation_check_on_restarts(
    a_job: Make, now: Now, before: SecurityFlags, after: SecurityFlags, *, is_restart: bool
) -> None:
    job = a_job(JobState.TRANSFERRING, properties=Properties(security_flags=before))
    changed = setting(job, now, security_flags=int(after))
    assert changed.state is (JobState.QUEUED if is_restart else JobState.TRANSFERRING)
    assert changed.properties.security_flags == after
    assert changed.files[0].transferred_bytes == (0 if is_restart else 50)


def test_the_revocation_check_begins_unfinished_https_files_again_and_no_others(
    a_job: Make, a_file: Callable[..., File], now: Now
) -> None:
    """jobs.md §9.6: what came before came from a server of which nobody knew; finished files are not rechecked."""
    whole = a_file("whole", size_bytes=9, transferred_bytes=9, is_transferred=True)
    half, parts = (
        a_file("half", size_bytes=9, transferred_bytes=4),
        a_file("parts", filled=(Range(offset=5, length_bytes=2),)),
    )
    plain = replace(half, remote_name="http://files.example/half")
    job = a_job(JobState.SUSPENDED, files=(whole, half, parts, plain))
    after = setting(job, now, security_flags=int(CRL))
    assert [file.arrived_bytes for file in after.files] == [9, 0, 0, 4]
    assert setting(after, now, security_flags=int(CRL)) == after


def test_a_job_that_only_waits_stays_where_it_is(a_job: Make, now: Now) -> None:
    job = a_job(JobState.TRANSIENT_ERROR)
    assert setting(job, now, priority="high").state is JobState.TRANSIENT_ERROR
    assert setting(job, now, priority="high").properties.priority is Priority.HIGH
