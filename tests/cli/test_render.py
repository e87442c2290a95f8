"""Numbers, times and reasons in words; the progress line; when a heartbeat is due."""

from typing import cast

import pytest
from tests.api.fakeservice import new_job

from openbits.api.wire import JobInfo, WaitingInfo
from openbits.cli import render
from openbits.cli.watch import Heartbeat, Rate, progress_line


def job(**values: object) -> JobInfo:
    """A job with these values."""
    return cast("JobInfo", {**new_job("0a1b2c3d-0000-0000-0000-000000000000", "x"), **values})


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**64, "16384.0 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert render.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0, "0 s"), (0.45, "0.4 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"),
        (7200, "2 h 0 min"), (172_800, "2 d 0 h"), (1_209_600, "14 d 0 h"),
    ],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert render.span(seconds) == text


@pytest.mark.parametrize(("done", "total", "percent"), [(0, 0, 100), (999, 1000, 99), (1000, 1000, 100), (1, 3, 33)])
def test_a_hundred_percent_means_that_nothing_is_missing(done: int, total: int, percent: int) -> None:
    assert render.percent(done, total) == percent


def test_a_reason_has_since_next_and_hint() -> None:
    waiting: WaitingInfo = {"reason": "held up", "since": 100.0, "next": "a retry", "next_at": 241.0, "hint": "resume"}
    assert render.waiting_text(waiting, 112.0) == "held up, since 12 s; next: in 2 min: a retry; hint: resume"


def test_short_ids_grow_until_they_differ() -> None:
    ids = ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"]
    assert list(render.short_ids(ids).values()) == ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"]
    assert render.short_ids(["aaaaaaaa-1"]) == {"aaaaaaaa-1": "aaaaaaaa"}


def test_the_rate_is_that_of_the_last_seconds_and_starts_anew_with_the_file() -> None:
    rate = Rate()
    rate.add(0, 0.0)
    assert rate.bps() == 0
    for second in range(1, 11):
        rate.add(second * 100, float(second))
    rate.add(3000, 11.0)
    assert rate.bps() == pytest.approx((3000 - 600) / 5)
    rate.add(10, 12.0)
    assert rate.bps() == 0


def test_the_progress_line_says_how_much_how_fast_how_long_and_what() -> None:
    moving = job(state="transferring", bytes_total=4096, bytes_transferred=1024, phase="GET h:80")
    assert progress_line(moving, 1024.0, 0.0) == "25% 1.0 KiB/4.0 KiB  1.0 KiB/s  3.0 s left  GET h:80"
    unknown = job(state="transferring", bytes_total=None, bytes_transferred=1024)
    assert progress_line(unknown, 1024.0, 0.0) == "1.0 KiB of unknown size  1.0 KiB/s  transferring"


def test_a_heartbeat_comes_with_each_state_and_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    heartbeat = Heartbeat()
    for now, state in ((0.0, "queued"), (59.0, "queued"), (61.0, "queued"), (62.0, "connecting"), (70.0, "connecting")):
        heartbeat.show(job(state=state), now)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit("  ", 1)[1] for line in lines] == ["queued", "queued", "connecting"]


def test_a_step_that_the_error_names_already_is_no_hint() -> None:
    message = "X (0x80072EFD): refused; check the port; the job tries again by itself"
    error = {"hresult": 0x80072EFD, "symbol": "X", "message": message}
    waiting = {"reason": "refused", "since": 0.0, "next": "attempt 2", "next_at": 59.0}
    hint = "check the port; resume it to try now"
    info = job(state="transient_error", error=error, waiting={**waiting, "hint": hint})
    assert list(render.reasons(info, 0.0)) == [
        f"error: {message}",
        "next: in 59 s: attempt 2",
        "hint: resume it to try now",
    ]
