"""The example of docs/server-applications.md does what the page says."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.processes import Daemon, free_port
from tests.server.process import ServerProcess
from tests.server.proxies import Client

from openbits.server.properties import BY_NAME

PAGE = (Path(__file__).parents[2] / "docs" / "server-applications.md").read_text()


def example(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where the application of the page listens."""
    chosen = free_port()
    program = tmp_path / "application.py"
    program.write_text(example("python").replace("8010", str(chosen)))
    daemon = Daemon([sys.executable, program], [chosen], tmp_path / "application.log")
    yield chosen
    daemon.close()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[ServerProcess]:
    anonymous = "allow_anonymous = true\nquota_bytes = 1000000\n"
    made = ServerProcess(tmp_path, example("toml").replace("8010", str(port)) + anonymous)
    made.start()
    yield made
    made.close()


def test_the_lines_of_an_upload_are_counted(server: ServerProcess) -> None:
    path, content = "/inbox/report.txt", b"one\ntwo\nthree\n"
    with contextlib.closing(Client(server.port)) as client:
        session = client.create(path)
        answer = client.fragment(path, session, (0, len(content) - 1, len(content)), content)
        reply = client.ask("GET", answer.fields["bits-reply-url"].removeprefix(server.url))
    assert reply.body == b"3 lines\n"
    assert (server.inbox / "report.txt").read_bytes() == content
    assert "application_notified directory=/inbox/" in server.log()


def test_every_key_of_the_page_is_one_of_the_settings() -> None:
    keys = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Settings")[2].partition("##")[0], re.MULTILINE)
    assert {key for key in BY_NAME if "otification" in key} | {"max_reply"} == set(keys)
