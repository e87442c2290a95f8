"""`bits events`: the numbered stream as lines, its gaps told, its restarts survived."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result
from tests.cli.test_main import start

Bits = Callable[..., Result]
Eventually = Callable[..., object]

PATIENCE_SECONDS = 15.0


class Reading:
    """The command as a process; `line` reads one, `end` presses Ctrl-C."""

    def __init__(self, *arguments: str) -> None:
        self.process: subprocess.Popen[str] = start("events", *arguments)
        self.patience = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        self.patience.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "no event came"
        return line

    def end(self) -> tuple[str, str]:
        os.kill(self.process.pid, signal.SIGINT)
        rest = self.process.communicate(timeout=30)
        assert self.process.returncode == 130
        return rest


@pytest.fixture
def follow(service: FakeService, eventually: Eventually) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def begin(*arguments: str) -> Reading:
        made.append(Reading(*arguments))
        eventually(lambda: "Subscribe" in service.methods())
        return made[-1]

    yield begin
    for reading in made:
        reading.patience.cancel()
        if reading.process.poll() is None:
            reading.process.kill()
        reading.process.communicate()


def test_events_are_lines_with_number_job_kind_state_and_reason(
    service: FakeService, follow: Callable[..., Reading]
) -> None:
    job_id = service.add_job("nightly")
    reading = follow()
    waiting = {"reason": "metered", "since": 0.0, "next": "", "next_at": None, "hint": ""}
    service.change(job_id, kind="progress", bytes_transferred=5)
    service.change(job_id, state="queued", waiting=waiting)
    words = reading.line().split()
    assert (words[0], words[3:]) == ("1", [job_id[:8], "state", "queued", "nightly", "metered"])
    assert reading.end() == ("", "")


def test_json_is_the_event_and_progress_comes_when_asked_for(
    service: FakeService, follow: Callable[..., Reading]
) -> None:
    job_id = service.add_job("nightly")
    reading = follow("--json", "--progress", job_id)
    service.change(job_id, state="transferring")
    service.change(job_id, kind="progress", bytes_transferred=5)
    events: list[dict[str, Any]] = [json.loads(reading.line()) for _ in range(2)]
    assert [(event["seq"], event["kind"], event["job_id"]) for event in events] == [
        (1, "state", job_id),
        (1, "progress", job_id),
    ]
    reading.end()
    asked = next(call.parameters for call in service.calls if call.method == "Subscribe")
    assert asked == {"all_users": False, "job_ids": [job_id]}


def test_a_restart_leaves_no_gap_and_repeats_nothing(service: FakeService, follow: Callable[..., Reading]) -> None:
    job_id = service.add_job("nightly")
    service.change(job_id, state="queued")
    service.change(job_id, state="connecting")
    reading = follow("--from", "1")
    numbers = [int(reading.line().split()[0])]
    with service.silence():
        service.change(job_id, state="transferring")
    numbers.append(int(reading.line().split()[0]))
    service.change(job_id, state="transferred")
    numbers.append(int(reading.line().split()[0]))
    assert numbers == [2, 3, 4]
    assert reading.end()[0] == ""


def test_missed_events_are_told(service: FakeService, follow: Callable[..., Reading]) -> None:
    job_id = service.add_job("nightly")
    service.change(job_id, state="queued")
    service.forget_events()
    reading = follow("--from", "0", "--json")
    event = json.loads(reading.line())
    assert (event["kind"], event["seq"]) == ("overflow", 1)
    assert "missed events: events up to number 1 are not kept any more" in reading.end()[1]


@pytest.mark.parametrize("number", ["x", "-1", "1.5"])
def test_a_number_is_a_number(number: str, bits: Bits) -> None:
    assert bits("events", f"--from={number}").code == 2
