"""`bits token`: where the password comes from, and whose identity the job gets."""

import io
import os
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result

Bits = Callable[..., Result]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`typed(text)`: what standard input holds."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_set_logs_on_impersonates_and_sets_the_flags(
    bits: Bits, service: FakeService, typed: Callable[[str], None]
) -> None:
    job_id = service.add_job("x")
    typed("secret\n")
    assert bits("token", "set", "x", "--user", "beth", "--flags", "local-file,network") == Result(0, "", "")
    assert service.jobs[job_id]["helper_name"] == "beth"
    assert service.jobs[job_id]["helper_token_flags"] == 3
    assert "beth (S-of-beth), for local-file,network" in bits("token", "show", "x").out
    assert bits("token", "clear", "x").code == 0
    assert "no token, for local-file,network" in bits("token", "show", "x").out
    assert bits("token", "flags", "x", "network") == Result(0, "", "")
    assert service.jobs[job_id]["helper_token_flags"] == 2
    assert bits("token", "flags", "x", "none") == Result(0, "", "")
    assert bits("token", "show", "x").out == "none\n"


def test_the_password_may_come_from_a_descriptor(bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    reading, writing = os.pipe()
    os.write(writing, b"secret\nnot this\n")
    os.close(writing)
    assert bits("token", "set", "x", "--user", "beth", "--password-fd", str(reading)).code == 0


@pytest.mark.parametrize(("password", "code"), [("wrong\n", 5), ("", 2)])
def test_a_wrong_password_is_denied_and_none_is_usage(
    password: str, code: int, bits: Bits, service: FakeService, typed: Callable[[str], None]
) -> None:
    job_id = service.add_job("x")
    typed(password)
    result = bits("token", "set", "x", "--user", "beth")
    assert result.code == code
    assert "wrong'" not in result.err
    assert service.jobs[job_id]["helper_sid"] is None


def test_a_descriptor_that_is_not_open_is_usage(bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    result = bits("token", "set", "x", "--user", "beth", "--password-fd", "987")
    assert result.code == 2
    assert "descriptor 987" in result.err


def test_unknown_words_are_usage(bits: Bits) -> None:
    assert bits("token", "set", "x", "--user", "beth", "--flags", "disk").code == 2


@pytest.mark.parametrize("source", [[], ["--wait"], ["--run", "--", "true"]])
def test_in_an_own_service_nobody_is_asked_for_a_second_identity(
    source: list[str], bits: Bits, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.add_job("x")
    hello = service.hello
    service.overrides["Hello"] = lambda parameters: {**hello(service._peers[-1], parameters), "mode": "user"}
    monkeypatch.setattr("openbits.cli.tokens.read_password", lambda *_: pytest.fail("asked for a password"))
    result = bits("token", "set", "x", "--user", "beth", *source)
    assert result.code == 5
    assert "beth" in result.err
    assert "machine's, started by root" in result.err
