"""`bits watch`: a line a job with what it does, and how the command ends."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from tests.api.fakeservice import FakeService, Values, new_job
from tests.cli.conftest import Result
from tests.cli.test_main import start

from openbits.api.wire import JobInfo
from openbits.cli import live

Bits = Callable[..., Result]
Eventually = Callable[..., object]

WAITING = {"reason": "metered", "since": 40.0, "next": "a change", "next_at": None, "hint": "allow it"}
ERROR = {"hresult": 0x80190194, "symbol": "BG_E_HTTP_ERROR_404", "context": "remote_file", "message": "not there"}


def line(**values: object) -> str:
    info = {**new_job("0a1b2c3d-0000-0000-0000-000000000000", "nightly"), "state_since": 88.0, **values}
    return live.job_line(cast("JobInfo", info), "0a1b2c3d", 1024.0, 100.0)


def test_a_line_has_phase_peer_progress_speed_and_age() -> None:
    shown = line(state="transferring", bytes_total=4096, bytes_transferred=1024, phase="receiving from h:443")
    assert shown == (
        "0a1b2c3d nightly  transferring 12 s  25% 1.0 KiB/4.0 KiB  1.0 KiB/s  3.0 s left  receiving from h:443"
    )


def test_a_job_that_waits_says_when_it_goes_on_why_not_now_and_what_to_do() -> None:
    shown = line(state="transient_error", bytes_total=1, waiting={**WAITING, "next_at": 141.0})
    assert shown == (
        "0a1b2c3d nightly  transient_error 12 s  0% 0 B/1 B  next in 41 s  metered; next: a change; hint: allow it"
    )


def test_names_cannot_steer_the_terminal() -> None:
    shown = line(properties={"display_name": "evil\x1b[2J\nx"}, waiting={**WAITING, "reason": "a\x1bb"})
    assert "evil?[2J?x" in shown
    assert shown.isprintable()


@pytest.fixture
def play(service: FakeService, eventually: Eventually) -> Iterator[Callable[..., None]]:
    """`play(job id, *changes)`: once the jobs are watched, these things happen to this one."""
    threads: list[threading.Thread] = []

    def start(*changes: tuple[str, Values]) -> None:
        def run() -> None:
            eventually(lambda: service.methods()[-1:] == ["ListJobs"] and "Subscribe" in service.methods())
            for job_id, change in changes:
                service.change(job_id, **change)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)


def test_it_ends_when_every_job_is_over_with_the_code_of_the_first_that_failed(
    bits: Bits, service: FakeService, play: Callable[..., None]
) -> None:
    good = service.add_job("good", state="queued", waiting=WAITING)
    bad = service.add_job("bad", state="transferring", phase="receiving from h:80", created_at=2000.0)
    play((bad, {"state": "error", "error": ERROR, "phase": ""}), (good, {"state": "transferred", "waiting": None}))
    result = bits("watch")
    assert result.code == 1
    lines = result.out.splitlines()
    assert any("good  queued" in line and "metered" in line for line in lines)
    assert any("bad  transferring" in line and "receiving from h:80" in line for line in lines)
    assert any("good  transferred" in line for line in lines)
    assert "error: BG_E_HTTP_ERROR_404 (0x80190194): not there" in result.err
    assert f"bits resume {bad}" in result.err
    assert f"bits complete {good}" in result.err


def test_without_names_new_jobs_are_watched_too_and_with_names_no_others(
    bits: Bits, service: FakeService, play: Callable[..., None]
) -> None:
    first = service.add_job("first", state="queued")
    second = service.add_job("second", state="acknowledged")
    play(
        (second, {"kind": "created", "state": "queued"}), (first, {"state": "cancelled"}), (second, {"state": "error"})
    )
    assert "second  queued" in bits("watch").out
    third = service.add_job("third", state="transferred")
    service.jobs[second]["state"] = "queued"
    result = bits("watch", "third")
    assert result.code == 0
    assert third[:8] in result.out
    assert second[:8] not in result.out


def test_an_empty_queue_ends_at_once_and_says_so(bits: Bits) -> None:
    result = bits("watch")
    assert (result.code, result.out) == (0, "")
    assert "no job is in the queue" in result.err


def test_a_job_that_ended_during_a_restart_is_over(bits: Bits, service: FakeService, eventually: Eventually) -> None:
    job_id = service.add_job("x", state="queued")

    def restart() -> None:
        eventually(lambda: service.methods()[-1:] == ["ListJobs"] and "Subscribe" in service.methods())
        with service.silence():
            service.change(job_id, state="acknowledged")

    thread = threading.Thread(target=restart)
    thread.start()
    result = bits("watch")
    thread.join(10)
    assert result.code == 0
    assert "x  acknowledged" in result.out
    assert "Traceback" not in result.err


def test_a_job_that_failed_during_a_restart_says_why(bits: Bits, service: FakeService, eventually: Eventually) -> None:
    job_id = service.add_job("x", state="transferring")

    def restart() -> None:
        eventually(lambda: service.methods()[-1:] == ["ListJobs"] and "Subscribe" in service.methods())
        with service.silence():
            service.change(job_id, state="error", error=ERROR)

    thread = threading.Thread(target=restart)
    thread.start()
    result = bits("watch")
    thread.join(10)
    assert result.code == 1
    assert "error: BG_E_HTTP_ERROR_404 (0x80190194): not there" in result.err


def test_a_job_that_ended_before_the_events_began_is_over(service: FakeService) -> None:
    """Between the first look and the subscription nobody would tell."""
    job_id = service.add_job("x", state="queued")
    look = service.get_job

    def end_after_the_first_look(parameters: Values) -> Values:
        peer = next(peer for peer in service._peers if parameters["handle"] in peer.handles)
        answer = json.loads(json.dumps(look(peer, parameters)))
        service.jobs[job_id]["state"] = "acknowledged"
        return cast("Values", answer)

    service.overrides["GetJob"] = end_after_the_first_look
    process = start("watch", job_id)
    try:
        assert "acknowledged" in process.communicate(timeout=15)[0]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0


def test_json_lines_are_the_states_and_the_results(bits: Bits, service: FakeService, play: Callable[..., None]) -> None:
    job_id = service.add_job("x", state="queued")
    play((job_id, {"state": "transferring"}), (job_id, {"state": "error", "error": ERROR}))
    result = bits("watch", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["job"]["state"] for line in lines] == ["queued", "transferring", "error", "error"]
    assert (lines[-1]["event"], lines[-1]["outcome"], lines[-1]["exit_code"]) == ("result", "error", 1)
    assert result.err == ""


def test_a_silent_wait_shows_each_job_every_minute(capsys: pytest.CaptureFixture[str]) -> None:
    view = live.Lines()
    info = cast("JobInfo", {**new_job("0a1b2c3d-0000", "x"), "state": "queued", "waiting": WAITING})
    for now in (1000.0, 1059.0, 1061.0, 1062.0):
        view.show([info], None, now, "")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_that_is_too_low_gets_what_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "columns_of", lambda _: 40)
    monkeypatch.setattr(live, "_rows", lambda: 6)
    infos = [cast("JobInfo", new_job(f"{n}a1b2c3d-0000", "a name that is long")) for n in range(9)]
    screen = live.Screen()
    screen.show(infos, None, 1000.0, "")
    first = capsys.readouterr().out
    assert first.count("\n") == 5
    assert "more lines" in first
    screen.show(infos, None, 1001.0, "")
    assert capsys.readouterr().out.startswith("\x1b[5A\r")
