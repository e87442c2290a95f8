"""A real `bits-server` for each test that asks for one, ended with the test, and an application for each module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.server.applications import Application
from tests.server.process import ServerProcess

StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """`start_server(directories, server="", limits="")`: see ServerProcess; it accepts connections."""
    running: list[ServerProcess] = []

    def start(directories: str, *, server: str = "", limits: str = "") -> ServerProcess:
        one = ServerProcess(tmp_path / f"server-{len(running)}", directories, server=server, limits=limits)
        running.append(one)
        one.start()
        return one

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    made = Application(tmp_path_factory.mktemp("applications") / "plain")
    yield made
    made.close()


@pytest.fixture
def application(process: Application) -> Application:
    """One that has not been asked yet and would say 200."""
    process.forget()
    return process
