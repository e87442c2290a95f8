"""What clients ask for single files: names, validation, parts (jobs.md §7.5, §7.11, §8.7 to §8.9)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import codes, events, file_requests, ranges
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.lifecycle import step
from openbits.core.model import Directory, File, Job, JobError, Leftover, Now, Range, Temporary, Validators, totals
from openbits.core.properties import Properties
from openbits.core.scheduler import waiting_for

Make = Callable[..., Job]
MakeFile = Callable[..., File]

ON_DEMAND = Properties(on_demand_mode=True)
BEGUN = Validators(size_bytes=100, etag='"1"', last_modified="Wed, 01 Oct 2025 12:00:00 GMT")
OTHER = "https://mirror.example/data.bin"
FINAL = [state for state in JobState if state.is_final]


def part(offset: int, length: int | None) -> Range:
    return Range(offset=offset, length_bytes=length)


def refused(job: Job, event: events.Event, now: Now) -> int:
    with pytest.raises(BitsError) as error:
        step(job, event, now)
    assert str(job.job_id) in error.value.text
    return error.value.hresult


def named(job: Job, *names: str) -> Job:
    """The job with its files under these names."""
    return replace(job, files=tuple(replace(job.files[0], remote_name=name) for name in names))


def renamed(job: Job, now: Now, url: str = OTHER, index: int = 0) -> Job:
    return step(job, events.SetRemoteNames(names=((index, url),)), now)[0]


# -- SetRemoteName ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_another_name_is_seen_at_once_and_kept_by_resume(a_job: Make, now: Now, state: JobState) -> None:
    job = a_job(state)
    old = job.files[0].remote_name
    after, effects = step(job, events.SetRemoteNames(names=((0, OTHER),)), now)
    file = after.files[0]
    assert (file.present_remote_name, file.remote_name) == (OTHER, old)
    assert after.state is (JobState.QUEUED if state.is_active else state)
    assert effects == ([events.StopTransfer()] if state.is_active else [])
    resumed, _ = step(after, events.Resume(), now)
    assert (resumed.files[0].remote_name, resumed.files[0].new_remote_name) == (OTHER, "")


@pytest.mark.parametrize("state", FINAL)
def test_names_of_a_final_job_stay(a_job: Make, now: Now, state: JobState) -> None:
    assert refused(a_job(state), events.SetRemoteNames(names=((0, OTHER),)), now) == codes.BG_E_INVALID_STATE


def test_progress_and_time_stamp_go_on_under_another_name_but_no_entity_tag(a_job: Make, now: Now) -> None:
    """§9.3: size and time stamp are the version; the tag of another server says nothing about it (OPEN-43)."""
    begun = replace(a_job(JobState.TRANSFERRING).files[0], validators=BEGUN)
    file = renamed(a_job(JobState.SUSPENDED, files=(begun,)), now).files[0]
    assert file.transferred_bytes == 50
    assert file.validators == replace(BEGUN, etag=None)


def test_the_same_name_again_changes_nothing_of_the_file(a_job: Make, now: Now) -> None:
    begun = replace(a_job(JobState.TRANSFERRING).files[0], validators=BEGUN, remote_name=OTHER)
    job = a_job(JobState.TRANSFERRING, files=(begun,))
    after, effects = step(job, events.SetRemoteNames(names=((0, OTHER),)), now)
    assert (after.files, after.state, effects) == (job.files, JobState.TRANSFERRING, [])


def test_the_old_name_again_takes_the_new_one_back(a_job: Make, now: Now) -> None:
    job = named(a_job(), "https://old.example/a")
    file = renamed(renamed(job, now), now, "https://old.example/a").files[0]
    assert (file.remote_name, file.new_remote_name) == ("https://old.example/a", "")


def test_a_finished_file_keeps_its_data_and_a_request_for_another_file_goes_on(a_job: Make, now: Now) -> None:
    whole, half = a_job(JobState.TRANSFERRED).files[0], a_job(JobState.TRANSFERRING).files[0]
    whole = replace(whole, validators=BEGUN)
    job = a_job(JobState.TRANSFERRING, files=(whole, half, a_job().files[0]))
    for index in (0, 2):
        after, effects = step(job, events.SetRemoteNames(names=((index, OTHER),)), now)
        assert (after.state, effects) == (JobState.TRANSFERRING, [])
    done = renamed(job, now).files[0]
    assert (done.is_transferred, done.transferred_bytes, done.validators) == (True, 100, BEGUN)
    assert renamed(a_job(JobState.TRANSFERRED), now).state is JobState.TRANSFERRED


def test_a_file_that_is_prepared_beside_the_current_one_is_asked_for_anew_under_its_new_name(
    a_job: Make, now: Now
) -> None:
    half = a_job(JobState.TRANSFERRING).files[0]
    job = a_job(JobState.TRANSFERRING, files=(half, half))
    after, effects = step(job, events.SetRemoteNames(names=((1, OTHER),)), now)
    assert (after.state, effects) == (JobState.QUEUED, [events.StopTransfer()])


@pytest.mark.parametrize("url", ["", "ftp://h/a", "no url", "http://h/" + "a" * 261, "http://h/" + "a/" * 1096])
def test_a_bad_name_is_refused_and_none_is_changed(a_job: Make, now: Now, url: str) -> None:
    job = replace(a_job(), files=a_job().files * 2)
    with pytest.raises(BitsError) as error:
        step(job, events.SetRemoteNames(names=((0, OTHER), (1, url))), now)
    assert error.value.hresult == codes.E_INVALIDARG


def test_a_name_may_have_2200_characters(a_job: Make, now: Now) -> None:
    longest = "http://h/" + "a/" * 1095 + "b"
    assert len(longest) == 2200
    assert renamed(a_job(), now, longest).files[0].present_remote_name == longest


@pytest.mark.parametrize("index", [-1, 1])
def test_there_must_be_such_a_file(a_job: Make, now: Now, index: int) -> None:
    job = a_job()
    for event in (
        events.SetRemoteNames(names=((index, OTHER),)),
        events.ValidationAccepted(file_index=index),
        events.ValidationRefused(file_index=index, is_from_peer=False),
        events.RequestRanges(file_index=index, ranges=(part(0, 1),)),
        events.UpdateDownloadPosition(file_index=index, offset=0),
    ):
        assert refused(job, event, now) == codes.E_INVALIDARG


def test_what_was_found_under_the_old_name_is_not_that_of_the_new_one(a_job: Make, a_file: MakeFile, now: Now) -> None:
    found = a_file(remote_directory=Directory(path="/srv/a", dev=1, ino=5))
    assert renamed(a_job(files=(found,)), now, "file:///srv/b/data.bin").files[0].remote_directory is None


# -- ReplaceRemotePrefix ----------------------------------------------------------------------------------------------


def test_a_prefix_is_replaced_in_every_name_that_begins_with_it_case_counting(a_job: Make) -> None:
    job = named(a_job(), "http://a/x/1", "http://b/x/2", "http://a/x/3", "HTTP://A/x/4", "http://c/?u=http://a/x")
    assert file_requests.with_prefix(job, "http://a/", "https://z:8/y/") == (
        (0, "https://z:8/y/x/1"),
        (2, "https://z:8/y/x/3"),
    )
    assert file_requests.with_prefix(job, "http://nobody/", "http://z/") == ()
    assert file_requests.with_prefix(job, "ttp://a/", "http://z/") == ()


def test_the_present_names_count(a_job: Make, now: Now) -> None:
    job = renamed(named(a_job(), "http://a/1"), now, "http://b/1")
    assert file_requests.with_prefix(job, "http://a/", "http://c/") == ()
    assert file_requests.with_prefix(job, "http://b/", "http://c/") == ((0, "http://c/1"),)


@pytest.mark.parametrize(("old", "new"), [("", "http://a/"), ("http://a/", "")])
def test_prefixes_must_not_be_empty(a_job: Make, old: str, new: str) -> None:
    with pytest.raises(BitsError) as error:
        file_requests.with_prefix(a_job(), old, new)
    assert error.value.hresult == codes.E_INVALIDARG


def test_uploads_have_neither_other_names_nor_ranges(a_job: Make, a_file: MakeFile, now: Now) -> None:
    upload = a_job(type=JobType.UPLOAD)
    assert refused(upload, events.SetRemoteNames(names=((0, OTHER),)), now) == codes.E_NOTIMPL
    with pytest.raises(BitsError) as error:
        file_requests.with_prefix(upload, "http", "https")
    assert error.value.hresult == codes.E_NOTIMPL
    ranged = a_file(ranges=(part(0, 5),))
    assert refused(a_job(type=JobType.UPLOAD, files=()), events.AddFiles(files=(ranged,)), now) == codes.E_NOTIMPL


# -- files with ranges ------------------------------------------------------------------------------------------------


def test_ranges_go_neither_with_made_content_nor_with_other_protocols(a_job: Make, a_file: MakeFile, now: Now) -> None:
    ranged = a_file(ranges=(part(0, 5),))
    dynamic = a_job(properties=Properties(dynamic_content=True))
    assert refused(dynamic, events.AddFiles(files=(ranged,)), now) == codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION
    local = replace(ranged, remote_name="file:///srv/a")
    assert refused(a_job(), events.AddFiles(files=(local,)), now) == codes.E_INVALIDARG
    job, _ = step(a_job(files=()), events.AddFiles(files=(ranged,)), now)
    assert refused(job, events.SetRemoteNames(names=((0, "file:///srv/a"),)), now) == codes.E_INVALIDARG


def test_the_total_of_a_file_with_ranges_counts_the_ranges(a_job: Make, a_file: MakeFile, now: Now) -> None:
    for chosen, total in (((part(10, 20), part(0, 5)), 25), ((part(10, 20), part(90, None)), 30)):
        file = a_file(ranges=chosen, size_bytes=ranges.local_size(chosen, None))
        job = a_job(JobState.CONNECTING, files=(file,))
        told = events.Connected(epoch=1, file_index=0, validators=Validators(size_bytes=100), size_bytes=100)
        after, _ = step(job, told, now)
        assert totals(after).bytes_total == total
        assert after.files[0].validators.size_bytes == 100


def test_a_range_beyond_the_remote_file_is_an_error_when_its_size_is_known(
    a_job: Make, a_file: MakeFile, now: Now
) -> None:
    job = a_job(JobState.CONNECTING, files=(a_file(ranges=(part(0, 5), part(90, 11))),))
    told = events.Connected(epoch=1, file_index=0, validators=Validators(), size_bytes=100)
    after, effects = step(job, told, now)
    assert (after.state, effects[0]) == (JobState.ERROR, events.StopTransfer())
    assert after.error is not None
    assert (after.error.code, after.error.file_index) == (codes.BG_E_INVALID_RANGE, 0)
    assert "90-100 is not inside the file, which has 100 bytes" in after.error.detail


@pytest.mark.parametrize("is_ranged", [True, False])
def test_delivered_parts_end_with_the_first_change_of_the_remote_file(
    a_job: Make, a_file: MakeFile, now: Now, *, is_ranged: bool
) -> None:
    file = a_file(ranges=(part(0, 5),)) if is_ranged else a_file(wanted=(part(0, 5),))
    job = a_job(JobState.TRANSFERRING, files=(file,), properties=Properties() if is_ranged else ON_DEMAND)
    after, _ = step(job, events.FileRestarted(epoch=1, file_index=0, note="other size"), now)
    assert after.state is JobState.ERROR
    assert after.error is not None
    assert after.error.code == codes.BG_E_REMOTE_FILE_CHANGED


# -- validation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [events.ValidationAccepted(file_index=0), events.ValidationRefused(file_index=0, is_from_peer=False)],
)
def test_a_file_is_not_judged_before_it_is_there(a_job: Make, now: Now, event: events.Event) -> None:
    assert refused(a_job(JobState.TRANSFERRING), event, now) == codes.E_PENDING


def test_a_valid_file_is_valid_until_it_is_fetched_anew(a_job: Make, now: Now) -> None:
    job = a_job(JobState.TRANSFERRED)
    assert not job.files[0].is_valid
    valid, _ = step(job, events.ValidationAccepted(file_index=0), now)
    assert (valid.state, valid.files[0].is_valid) == (JobState.TRANSFERRED, True)
    bad, effects = step(valid, events.ValidationRefused(file_index=0, is_from_peer=False), now)
    assert bad.error is not None
    assert (bad.state, bad.error.code) == (JobState.ERROR, codes.BG_E_VALIDATION_FAILED)
    assert effects == [events.Notify(bad.notice_seq)]
    file = bad.files[0]
    assert (file.transferred_bytes, file.is_transferred, file.is_valid) == (0, False, False)
    again, _ = step(bad, events.Resume(), now)
    assert again.state is JobState.QUEUED


def test_a_refused_file_of_a_failed_job_is_its_error_and_the_first_one_is_told(a_job: Make, now: Now) -> None:
    whole, failed = a_job(JobState.TRANSFERRED).files[0], a_job(JobState.ERROR)
    job = replace(failed, files=(whole, *failed.files))
    after, effects = step(job, events.ValidationRefused(file_index=0, is_from_peer=False), now)
    assert after.error is not None
    assert (after.state, effects, after.error.code) == (JobState.ERROR, [], codes.BG_E_VALIDATION_FAILED)
    assert "BG_E_HTTP_ERROR_404" in after.error.detail
    assert not after.files[0].is_transferred


def test_complete_validates(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.TRANSFERRED), events.Complete(), now)
    published, _ = step(job, events.FilesPublished(file_indexes=(0,)), now)
    assert published.files[0].is_valid


# -- random access ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_accessed_at_random(a_job: Make, a_file: MakeFile, now: Now) -> None:
    plain = a_file()
    for job in (
        a_job(type=JobType.UPLOAD),
        a_job(properties=Properties(dynamic_content=True)),
        a_job(files=(replace(plain, ranges=(part(0, 5),)),)),
        a_job(files=(replace(plain, remote_name="file:///srv/a"),)),
    ):
        for event in (
            events.RequestRanges(file_index=0, ranges=(part(0, 1),)),
            events.UpdateDownloadPosition(file_index=0, offset=0),
        ):
            assert refused(job, event, now) == codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED
        with pytest.raises(BitsError):
            file_requests.check_random_access(job, 0)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ((), codes.E_INVALIDARG),
        ((part(0, 0),), codes.BG_E_INVALID_RANGE),
        ((part(99, 2),), codes.BG_E_INVALID_RANGE),
        ((part(100, None),), codes.BG_E_INVALID_RANGE),
        ((part(2**64 - 1, None),), codes.BG_E_INVALID_RANGE),
        (tuple(part(4 * each, 1) for each in range(ranges.MOST + 1)), codes.BG_E_TOO_MANY_RANGES_IN_FILE),
    ],
)
def test_a_request_that_no_file_can_fulfil(
    a_job: Make, a_file: MakeFile, now: Now, asked: tuple[Range, ...], code: int
) -> None:
    size = 100 if len(asked) < 3 else None
    job = a_job(files=(a_file(size_bytes=size),), properties=ON_DEMAND)
    assert refused(job, events.RequestRanges(file_index=0, ranges=asked), now) == code


def test_an_offset_has_64_bits(a_job: Make, now: Now) -> None:
    for offset in (-1, 2**64):
        assert refused(a_job(), events.UpdateDownloadPosition(file_index=0, offset=offset), now) == codes.E_INVALIDARG
    step(a_job(), events.UpdateDownloadPosition(file_index=0, offset=2**64 - 1), now)


def test_a_request_to_a_suspended_job_only_records(a_job: Make, now: Now) -> None:
    """OPEN-41; then Resume, a slot, and the attempt at the first file of which something is wanted."""
    first = a_job(JobState.TRANSFERRING).files[0]
    job = a_job(JobState.SUSPENDED, files=(first, first), properties=ON_DEMAND)
    asked, effects = step(job, events.RequestRanges(file_index=1, ranges=(part(60, None), part(40, 30))), now)
    assert (asked.state, effects) == (JobState.SUSPENDED, [])
    assert asked.files[1].wanted == (part(60, 40), part(50, 10))
    queued, _ = step(asked, events.Resume(), now)
    connecting, effects = step(queued, events.SlotGranted(), now)
    assert connecting.state is JobState.CONNECTING
    assert effects == [events.StartTransfer(epoch=1)]


def test_t11_nothing_requested_means_no_traffic(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.SUSPENDED, properties=ON_DEMAND), events.Resume(), now)
    after, effects = step(job, events.SlotGranted(), now)
    assert (job.state, after.state, effects) == (JobState.QUEUED, JobState.SUSPENDED, [])
    waiting = waiting_for(after, [], now)
    assert waiting is not None
    assert "nothing of its files is requested" in waiting.reason


def test_a_job_of_whole_files_that_is_on_demand_is_transferred(a_job: Make, now: Now) -> None:
    whole = a_job(JobState.TRANSFERRED).files
    after, _ = step(a_job(JobState.QUEUED, files=whole, properties=ON_DEMAND), events.SlotGranted(), now)
    assert after.state is JobState.TRANSFERRED


def test_a_request_for_an_earlier_file_comes_first_the_same_file_goes_on(a_job: Make, now: Now) -> None:
    half = a_job(JobState.TRANSFERRING).files[0]
    files = (half, replace(half, wanted=(part(60, 5),)))
    job = a_job(JobState.TRANSFERRING, files=files, properties=ON_DEMAND)
    more, effects = step(job, events.RequestRanges(file_index=1, ranges=(part(70, 5),)), now)
    assert (more.state, more.files[1].wanted) == (JobState.TRANSFERRING, (part(70, 5), part(60, 5)))
    assert effects == [events.RepositionTransfer(file_index=1)]
    other, effects = step(job, events.RequestRanges(file_index=0, ranges=(part(70, 5),)), now)
    assert (other.state, effects) == (JobState.QUEUED, [events.StopTransfer()])


def filled(*parts: Range, index: int = 0) -> events.RangesFilled:
    return events.RangesFilled(epoch=1, file_index=index, ranges=parts)


def test_t11_what_is_wanted_up_to_the_end_ends_with_the_file(a_job: Make, now: Now) -> None:
    """Requested before anybody knew the size."""
    begun = a_job(JobState.TRANSFERRING).files[0]
    asked = replace(begun, size_bytes=None, validators=Validators(), wanted=(part(60, None),))
    job = a_job(JobState.TRANSFERRING, files=(asked,), properties=ON_DEMAND)
    known, _ = step(job, events.Connected(epoch=1, file_index=0, size_bytes=100, validators=BEGUN), now)
    after, effects = step(known, filled(part(60, 40)), now)
    assert after.files[0].wanted == ()
    assert (after.state, effects) == (JobState.SUSPENDED, [events.StopTransfer()])


def test_a_position_that_was_reached_is_no_request_any_more(a_job: Make, now: Now) -> None:
    """Or the next attempt would ask for what is behind the end of the file."""
    begun = replace(a_job(JobState.TRANSFERRING).files[0], size_bytes=None, validators=Validators())
    job = a_job(JobState.TRANSFERRING, files=(begun,))
    asked, _ = step(job, events.UpdateDownloadPosition(file_index=0, offset=60), now)
    connected = events.Connected(epoch=1, file_index=0, size_bytes=100, validators=BEGUN)
    after, _ = step(step(asked, connected, now)[0], filled(part(60, 40)), now)
    again, _ = step(after, connected, now)
    assert (again.state, again.files[0].wanted) == (JobState.TRANSFERRING, ())


def test_parts_that_arrive_are_progress_and_not_wanted_any_more(a_job: Make, now: Now) -> None:
    half = replace(a_job(JobState.TRANSFERRING).files[0], wanted=(part(60, 20), part(90, 10)))
    job = a_job(JobState.TRANSFERRING, files=(half,), properties=ON_DEMAND, attempt=3)
    after, effects = step(job, filled(part(60, 5), part(65, 5)), now)
    file = after.files[0]
    assert (file.wanted, file.filled, file.transferred_bytes) == ((part(70, 10), part(90, 10)), (part(60, 10),), 50)
    assert (after.state, effects, after.attempt) == (JobState.TRANSFERRING, [], 0)
    assert totals(after).bytes_transferred == 60
    joined, _ = step(after, filled(part(50, 10)), now)
    assert (joined.files[0].transferred_bytes, joined.files[0].filled) == (70, ())


def test_with_the_last_part_the_file_is_transferred(a_job: Make, now: Now) -> None:
    half = replace(a_job(JobState.CONNECTING).files[0], size_bytes=100, wanted=(part(0, 100),))
    job = a_job(JobState.CONNECTING, files=(half,), properties=ON_DEMAND)
    after, effects = step(job, filled(part(0, 100)), now)
    assert (after.state, effects) == (JobState.TRANSFERRED, [events.StopTransfer(), events.Notify(1)])
    file = after.files[0]
    assert (file.is_transferred, file.transferred_bytes, file.filled, file.wanted) == (True, 100, (), ())


def test_when_a_file_has_what_was_requested_the_next_one_follows(a_job: Make, now: Now) -> None:
    half = replace(a_job(JobState.TRANSFERRING).files[0], wanted=(part(60, 5),))
    job = a_job(JobState.TRANSFERRING, files=(half, half), properties=ON_DEMAND)
    after, effects = step(job, filled(part(60, 5)), now)
    assert (after.state, after.next_file, effects) == (JobState.TRANSFERRING, 1, [])


def test_parts_that_arrive_out_of_order_do_not_end_an_ordinary_download(a_job: Make, now: Now) -> None:
    half = replace(a_job(JobState.TRANSFERRING).files[0], wanted=(part(60, 5),))
    after, effects = step(a_job(JobState.TRANSFERRING, files=(half,)), filled(part(60, 5)), now)
    assert (after.state, effects, after.files[0].wanted) == (JobState.TRANSFERRING, [], ())
    over, _ = step(after, events.Progressed(epoch=1, file_index=0, transferred_bytes=60), now)
    assert (over.files[0].transferred_bytes, over.files[0].filled) == (65, ())


def test_late_parts_are_dropped(a_job: Make, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, epoch=1)
    assert step(job, filled(part(0, 5)), now) == (job, [])


def test_a_requested_part_outside_of_the_file_fails_the_job_once(a_job: Make, a_file: MakeFile, now: Now) -> None:
    asked = a_file(wanted=(part(0, 5), part(200, 5)))
    job = a_job(JobState.CONNECTING, files=(asked,), properties=ON_DEMAND)
    told = events.Connected(epoch=1, file_index=0, validators=Validators(), size_bytes=100)
    after, _ = step(job, told, now)
    assert after.error is not None
    assert (after.state, after.error.code) == (JobState.ERROR, codes.BG_E_INVALID_RANGE)
    assert after.files[0].wanted == ()


def test_a_position_puts_the_rest_of_the_file_first(a_job: Make, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    after, effects = step(job, events.UpdateDownloadPosition(file_index=0, offset=80), now)
    assert (after.state, effects) == (JobState.TRANSFERRING, [events.RepositionTransfer(file_index=0)])
    assert after.files[0].wanted == (part(80, 20),)


def test_a_copy_of_the_beginning_has_nothing_beyond_it(
    a_job: Make, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    """P6: the bytes of another identity are copied up to the first gap; what was filled beyond is fetched anew."""
    half = replace(a_job(JobState.TRANSFERRING).files[0], filled=(part(60, 10),))
    copy = a_temporary(".BIT0000c09e.tmp", ino=77)
    noted = Leftover(directory=half.directory, temporary=copy)
    job = a_job(JobState.TRANSFERRING, files=(half,), leftovers=(noted,))
    after, _ = step(job, events.TemporaryAdopted(epoch=1, file_index=0, temporary=copy), now)
    assert (after.files[0].transferred_bytes, after.files[0].filled) == (50, ())


# -- response headers -------------------------------------------------------------------------------------------------


def test_the_last_response_is_kept_whatever_it_said(a_job: Make, an_error: Callable[..., JobError], now: Now) -> None:
    def told(text: str) -> events.Connected:
        return events.Connected(epoch=1, file_index=0, validators=Validators(), size_bytes=None, response_headers=text)

    job, _ = step(a_job(JobState.CONNECTING), told("HTTP/1.1 200 OK\r\n\r\n"), now)
    assert job.files[0].response_headers == "HTTP/1.1 200 OK\r\n\r\n"
    same, _ = step(job, told(""), now)  # all bytes were here: nobody was asked
    assert same.files[0].response_headers == "HTTP/1.1 200 OK\r\n\r\n"
    error = an_error(codes.BG_E_HTTP_ERROR_404, file_index=0)
    failed = events.AttemptFailed(epoch=1, error=error, response_headers="HTTP/1.1 404 Not Found\r\n\r\n")
    assert step(job, failed, now)[0].files[0].response_headers == "HTTP/1.1 404 Not Found\r\n\r\n"
    silent = events.AttemptFailed(epoch=1, error=error)
    assert step(job, silent, now)[0].files[0].response_headers == "HTTP/1.1 200 OK\r\n\r\n"


def test_a_fatal_failure_is_fatal_whatever_its_code(a_job: Make, an_error: Callable[..., JobError], now: Now) -> None:
    job = a_job(JobState.CONNECTING)
    error = an_error(codes.E_NOTIMPL, file_index=0)
    assert step(job, events.AttemptFailed(epoch=1, error=error), now)[0].state is JobState.TRANSIENT_ERROR
    assert step(job, events.AttemptFailed(epoch=1, error=error, is_fatal=True), now)[0].state is JobState.ERROR
