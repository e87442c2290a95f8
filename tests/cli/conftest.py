"""The command over the fake service, in this process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.api.conftest import service
from tests.api.fakeservice import FakeService

from openbits.cli.main import main

__all__ = ["service"]


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
