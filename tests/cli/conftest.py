"""The command over the fake service, in this process."""

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from tests.api.conftest import service
from tests.api.fakeservice import FakeService, Values

from openbits.cli.main import main

__all__ = ["service"]

Eventually = Callable[..., object]


MOVING = {"kind": "progress", "state": "transferring", "bytes_transferred": 50, "bytes_total": 100}
"""A job, half way."""


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def bits(
    service: FakeService,  # noqa: ARG001  # what the command talks to
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """`bits(*arguments)`: run the command."""

    def run(*arguments: str) -> Result:
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def play(service: FakeService, eventually: Eventually) -> Iterator[Callable[..., None]]:
    """`play(*states)`: once the command watches its job, the job goes through these."""
    threads: list[threading.Thread] = []

    def start(*changes: Values) -> None:
        def run() -> None:
            eventually(lambda: service.methods()[-2:] == ["Subscribe", "GetJob"])
            (job_id,) = service.jobs
            for change in changes:
                service.change(job_id, **change)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)
