"""Jobs and files change hands: TakeOwnership in every state (jobs.md §3.3, §7.2), copies of temporaries (P6, P7)."""

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from tests.core.happened import created

from openbits.core import access, codes, events
from openbits.core.enums import Integrity, JobState, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import InvariantBrokenError, admitted_uids, is_forgotten, step
from openbits.core.model import File, Identity, Job, Leftover, Now, Temporary, Validators
from openbits.core.properties import Properties
from openbits.core.requests import STRIPPED

Make = Callable[..., Job]
MakeFile = Callable[..., File]
MakeTemporary = Callable[..., Temporary]

ROOT = Identity(uid=0, gid=0, name="root")
VERSION = Validators(size_bytes=100, etag='"1"')


@pytest.fixture
def copy(a_temporary: MakeTemporary) -> Temporary:
    """What the new identity's broker made."""
    return a_temporary(".BIT0000c09e.tmp", ino=77, uid=ROOT.uid)


@pytest.fixture
def noted(copy: Temporary, a_file: MakeFile) -> Leftover:
    return Leftover(directory=a_file().directory, temporary=copy)


# -- TakeOwnership in every state -------------------------------------------------------------------------------------

AFTER = {
    JobState.SUSPENDED: JobState.SUSPENDED,
    JobState.QUEUED: JobState.QUEUED,
    JobState.CONNECTING: JobState.QUEUED,  # the transfer stops and goes on under the new owner (T9)
    JobState.TRANSFERRING: JobState.QUEUED,
    JobState.TRANSIENT_ERROR: JobState.TRANSIENT_ERROR,
    JobState.ERROR: JobState.ERROR,
    JobState.TRANSFERRED: JobState.TRANSFERRED,
}


@pytest.mark.parametrize("state", list(JobState))
def test_take_ownership_in_every_state(
    a_job: Make, now: Now, state: JobState, copy: Temporary, noted: Leftover
) -> None:
    job = a_job(state, leftovers=(noted,), had_helper_token=True, helper_token_flags=TokenFlags.NETWORK)
    if state.is_final:
        with pytest.raises(BitsError, match="cannot take ownership of") as refused:
            step(job, events.TakeOwnership(owner=ROOT), now)
        assert refused.value.hresult == codes.BG_E_INVALID_STATE
        return
    copies = ((0, copy),) if job.files[0].temporary else ()
    taking = events.TakeOwnership(owner=ROOT, integrity=Integrity.SYSTEM, copies=copies)
    after, effects = step(job, taking, now)
    assert (after.state, after.owner, after.error) == (AFTER[state], ROOT, job.error)
    assert (job.owner_integrity, after.owner_integrity) == (Integrity.MEDIUM, Integrity.SYSTEM)
    assert (after.had_helper_token, after.helper_token_flags) == (False, TokenFlags.NETWORK)
    assert (events.StopTransfer() in effects) == state.is_active
    assert events.RemoveTemporaries() in effects
    assert after.pending_notice is job.pending_notice, "the callback stays"


def test_a_job_that_is_being_completed_is_not_taken(a_job: Make, now: Now) -> None:
    with pytest.raises(BitsError, match="is being completed") as refused:
        step(a_job(JobState.TRANSFERRED, is_completing=True), events.TakeOwnership(owner=ROOT), now)
    assert refused.value.hresult == codes.BG_E_INVALID_STATE


def test_the_owner_who_takes_his_own_job_keeps_his_files_and_loses_the_token(a_job: Make, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, files=a_job(JobState.ERROR).files, had_helper_token=True)
    after, effects = step(job, events.TakeOwnership(owner=job.owner), now)
    assert (after.files, after.had_helper_token, effects) == (job.files, False, [])


def test_progress_and_version_go_with_the_copies_and_what_the_old_owner_made_is_left_over(
    a_job: Make, a_file: MakeFile, a_temporary: MakeTemporary, now: Now, copy: Temporary, noted: Leftover
) -> None:
    half = a_file(temporary=a_temporary(), transferred_bytes=50, validators=VERSION)
    empty = a_file("second", temporary=a_temporary(".BIT00000002.tmp"))
    helpers = a_file("third", temporary=a_temporary(".BIT00000003.tmp", uid=1003, by_helper=True), transferred_bytes=9)
    job = a_job(JobState.SUSPENDED, files=(half, empty, helpers), leftovers=(noted,))
    after, _ = step(job, events.TakeOwnership(owner=ROOT, copies=((0, copy),)), now)
    assert after.files[0] == replace(half, temporary=copy)
    assert after.files[1].temporary is None
    assert after.files[2] == helpers, "a helper's file is none of the owner's"
    assert {leftover.temporary.name for leftover in after.leftovers} == {".BIT00000001.tmp", ".BIT00000002.tmp"}


def test_a_whole_file_that_was_not_copied_is_a_defect(a_job: Make, now: Now) -> None:
    with pytest.raises(InvariantBrokenError):
        step(a_job(JobState.TRANSFERRED), events.TakeOwnership(owner=ROOT), now)


def test_the_old_owner_stays_admitted_until_his_files_are_removed(
    a_job: Make, now: Now, copy: Temporary, noted: Leftover
) -> None:
    job = a_job(JobState.TRANSFERRED, leftovers=(noted,))
    alice = job.owner.uid
    assert admitted_uids(job) == {alice, ROOT.uid}, "the copy of one who is not the owner yet"
    taken, _ = step(job, events.TakeOwnership(owner=ROOT, copies=((0, copy),)), now)
    assert admitted_uids(taken) == {alice, ROOT.uid}
    cleaned, _ = step(taken, events.TemporariesRemoved(file_indexes=(), leftovers=taken.leftovers), now)
    assert admitted_uids(cleaned) == {ROOT.uid}


@pytest.mark.parametrize(("umask", "then"), [(0, 0o022), (0o022, 0o022), (0o077, 0o077), (0o007, 0o027)])
def test_the_old_owner_lets_nobody_write_files_of_the_new_one(a_job: Make, now: Now, umask: int, then: int) -> None:
    taken, _ = step(a_job(JobState.SUSPENDED, umask=umask), events.TakeOwnership(owner=ROOT), now)
    assert taken.umask == then


KEPT = {
    *("job_id", "type", "state", "properties", "owner", "umask", "files", "error", "error_count"),
    *("created_at", "modified_at", "transferred_at", "state_since", "helper_token_flags", "was_resumed"),
    *("is_completing", "epoch", "attempt", "retry_at", "retry_by_event", "stalled_seconds", "stalled_since"),
    *("leftovers", "pending_notice", "notice_seq", "untold_files", "transfer_seconds", "transferring_since", "reply"),
    "settled_files",  # follows from the files
    "owner_integrity",  # that of the new owner
    "needs_certificate_callback",  # without it the job would connect unasked (jobs.md §9.8 V6)
}
KEPT_PROPERTIES = {
    *("display_name", "description", "priority", "notify_flags", "minimum_retry_delay_seconds"),
    *("no_progress_timeout_seconds", "proxy_usage", "proxy_list", "proxy_bypass_list", "auto_complete"),
    *("maximum_download_seconds", "file_acl_flags", "peer_caching_flags", "security_flags", "http_method"),
    *("cost_flags", "dynamic_content", "high_performance", "max_download_size_bytes"),
    *("use_stored_proxy_credentials", "minimum_notification_interval_ms", "on_demand_mode"),
    *("parallel_files", "maximum_rate_bytes_per_second", "segments"),
}
TAKEN_PROPERTIES = {"notification_clsid"}
"""The program would be that of whoever set the class."""


def test_of_every_field_it_is_decided_whether_a_new_owner_gets_it() -> None:
    """Credentials, client certificate, custom headers, command line and helper token he must not get (A5, OPEN-20)."""
    assert {field.name for field in fields(Job)} - KEPT == STRIPPED.keys(), "decide about the new field"
    assert {field.name for field in fields(Properties)} - KEPT_PROPERTIES == TAKEN_PROPERTIES, "decide about it"


def test_the_class_of_a_program_goes_with_the_right_to_run_it(a_job: Make, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, properties=Properties(notification_clsid="x", description="y"))
    after, _ = step(job, events.TakeOwnership(owner=ROOT), now)
    assert after.properties == Properties(description="y")


# -- another identity for local files ---------------------------------------------------------------------------------


@pytest.fixture
def adopting(a_job: Make, a_file: MakeFile, a_temporary: MakeTemporary, noted: Leftover) -> Job:
    """The helper's file has 50 bytes, and the owner's broker has copied them."""
    helpers = a_temporary(uid=1003, by_helper=True)
    file = a_file(temporary=helpers, transferred_bytes=50, validators=VERSION, size_bytes=100)
    return a_job(JobState.CONNECTING, files=(file,), leftovers=(noted,))


def test_the_file_goes_on_at_the_byte_and_in_the_version_it_had(adopting: Job, now: Now, copy: Temporary) -> None:
    after, effects = step(adopting, events.TemporaryAdopted(epoch=1, file_index=0, temporary=copy), now)
    (before,) = adopting.files
    assert after.files == (replace(before, temporary=copy),)
    assert [leftover.temporary for leftover in after.leftovers] == [before.temporary]
    assert effects == [events.RemoveTemporaries()]
    assert after.state is JobState.CONNECTING


@pytest.mark.parametrize("late", [{"epoch": 0}, {"state": JobState.SUSPENDED}, {"state": JobState.CANCELLED}])
def test_a_copy_that_comes_too_late_stays_a_leftover(
    adopting: Job, now: Now, copy: Temporary, late: dict[str, object]
) -> None:
    event = events.TemporaryAdopted(epoch=int(str(late.pop("epoch", 1))), file_index=0, temporary=copy)
    job = replace(adopting, **late)  # type: ignore[arg-type]  # a state
    assert step(job, event, now) == (job, [])


def test_what_was_never_noted_is_not_adopted(adopting: Job, now: Now, copy: Temporary) -> None:
    unknown = replace(copy, ino=78)
    with pytest.raises(InvariantBrokenError):
        step(adopting, events.TemporaryAdopted(epoch=1, file_index=0, temporary=unknown), now)


@pytest.mark.parametrize("state", list(JobState))
def test_a_copy_is_known_before_it_exists_and_confirmed_under_the_same_name(
    a_job: Make, noted: Leftover, now: Now, state: JobState
) -> None:
    """P6: the store knows every file; for a job that is over none is made."""
    planned = replace(noted, temporary=replace(noted.temporary, ino=0, birth_ns=0))
    job, effects = step(a_job(state), events.LeftoverNoted(leftover=planned), now)
    assert job.leftovers == (() if state.is_final else (planned,))
    confirmed, _ = step(job, events.LeftoverNoted(leftover=noted), now)
    assert confirmed.leftovers == (() if state.is_final else (noted,))
    assert effects == []


def test_leftovers_are_looked_after_when_the_service_comes_back(a_job: Make, noted: Leftover, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, leftovers=(noted,))
    assert events.RemoveTemporaries() in step(job, events.ServiceRestarted(), now)[1]
    assert step(replace(job, leftovers=()), events.ServiceRestarted(), now)[1] == []


def test_a_copy_of_a_cancelled_job_keeps_its_tombstone_until_it_is_removed(adopting: Job, now: Now) -> None:
    job, effects = step(adopting, events.Cancel(), now)
    assert events.RemoveTemporaries() in effects
    job, _ = step(job, events.TemporariesRemoved(file_indexes=(0,)), now)
    assert not is_forgotten(job)
    job, _ = step(job, events.TemporariesRemoved(file_indexes=(), leftovers=job.leftovers), now)
    assert is_forgotten(job)


def test_why_a_file_begins_again_under_another_identity_stays_in_its_note(
    a_job: Make, a_temporary: MakeTemporary, now: Now
) -> None:
    job, made = a_job(JobState.TRANSFERRING), a_temporary(".BIT00000002.tmp", ino=0, uid=1003)
    job, _ = step(job, created(1, 0, made, note="because"), now)
    confirmed = replace(made, ino=5)
    job, _ = step(job, created(1, 0, confirmed, note="because"), now)
    assert (job.files[0].note, job.files[0].transferred_bytes) == ("because", 0)
    job, _ = step(job, events.Connected(epoch=1, file_index=0, validators=VERSION, size_bytes=100), now)
    assert job.files[0].note == "because"


# -- who gets the bytes of a helper -----------------------------------------------------------------------------------

ALICE = Identity(uid=1000, gid=1000, name="alice")
BOB = Identity(uid=1001, gid=1001, name="bob")
SUDOER = Identity(uid=1002, gid=1002, groups=(27,), name="sudoer")
SETTINGS = access.Settings(privileged_groups=frozenset({0, 27}))


@pytest.mark.parametrize(
    ("owner", "helper", "expected"),
    [
        (ALICE, BOB, True),
        (ALICE, SUDOER, False),
        (ALICE, ROOT, False),
        (SUDOER, SUDOER, True),
        (ROOT, BOB, True),
        (ROOT, SUDOER, True),
    ],
)
def test_bytes_of_a_privileged_helper_go_to_no_ordinary_owner(
    owner: Identity, helper: Identity, *, expected: bool
) -> None:
    """The owner may not choose the flags of such a token (identity.md §3 row 2), so he does not get its bytes."""
    assert access.may_hand_over(helper, owner, SETTINGS) is expected
