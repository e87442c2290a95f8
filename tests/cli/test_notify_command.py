"""`bits command`: words become the one text of the interface, and what is shown of it."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result

from openbits import commandline

Bits = Callable[..., Result]


@pytest.fixture
def told(service: FakeService) -> list[dict[str, Any]]:
    """The parameters of all calls of SetNotifyCmdLine."""
    service.add_job("x")
    calls: list[dict[str, Any]] = []

    def hear(parameters: dict[str, Any]) -> dict[str, Any]:
        calls.append({name: value for name, value in parameters.items() if name != "handle"})
        return {}

    service.overrides["SetNotifyCmdLine"] = hear
    return calls


def test_words_arrive_as_they_are_with_the_program_first(bits: Bits, told: list[dict[str, Any]]) -> None:
    words = ["/opt/my tools/done", "-v", "a b", "", 'say "hi"', "back\\slash\\", "--", "$HOME"]
    assert bits("command", "set", "x", *words) == Result(0, "", "")
    (call,) = told
    assert call["program"] == words[0]
    assert commandline.split(call["program"], call["parameters"]) == words


def test_a_program_alone_has_no_parameters(bits: Bits, told: list[dict[str, Any]]) -> None:
    assert bits("command", "set", "x", "/bin/true").code == 0
    assert told == [{"program": "/bin/true"}]


def test_remove_names_nothing(bits: Bits, told: list[dict[str, Any]]) -> None:
    assert bits("command", "remove", "x").code == 0
    assert told == [{}]


def test_a_program_that_cannot_be_written_is_refused_here(bits: Bits, told: list[dict[str, Any]]) -> None:
    result = bits("command", "set", "x", '/opt/"a"', "b")
    assert result.code != 0
    assert "quotation mark" in result.err
    assert told == []


@pytest.mark.parametrize(
    ("parameters", "note", "shown"),
    [
        ("", "", "/bin/a, as beth (uid 7)"),
        ("/bin/a x", "", "/bin/a x, as beth (uid 7)"),
        ('"/bin/a" x', "ended with exit code 1", '"/bin/a" x, as beth (uid 7); ended with exit code 1'),
        ("x y", "", "/bin/a: x y, as beth (uid 7)"),
        ("/bin/a \x1b[31m", "", "/bin/a ?[31m, as beth (uid 7)"),
    ],
)
def test_what_is_shown(bits: Bits, service: FakeService, parameters: str, note: str, shown: str) -> None:
    about = {"program": "/bin/a", "parameters": parameters, "setter_uid": 7, "setter_name": "beth", "note": note}
    service.add_job("x", notify_command=about)
    assert bits("command", "show", "x").out == f"{shown}\n"
    assert f"command      {shown}\n" in bits("explain", "x").out


def test_a_job_without_one(bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    assert bits("command", "show", "x").out == "none\n"
    assert "command  " not in bits("explain", "x").out
