"""`bits credentials`, `bits headers`, `bits certificate`: where secrets come from, and what the service is told."""

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService
from tests.cli.conftest import Result

from openbits.core import codes

Bits = Callable[..., Result]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`typed(text)`: what standard input holds."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.fixture
def told(service: FakeService) -> Callable[..., list[dict[str, Any]]]:
    """`told(method, answer)`: the parameters of all calls of a method from now on, which is answered so."""
    service.add_job("x")

    def take(method: str, answer: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def hear(parameters: dict[str, Any]) -> dict[str, Any]:
            calls.append({name: value for name, value in parameters.items() if name != "handle"})
            return answer or {}

        service.overrides[method] = hear
        return calls

    return take


def descriptor_with(text: str) -> str:
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return str(reading)


# -- credentials


def test_the_password_comes_from_standard_input_or_a_descriptor(
    bits: Bits, told: Callable[..., Any], typed: Callable[[str], None]
) -> None:
    calls = told("SetCredentials")
    typed("s3cret\n")
    assert bits("credentials", "set", "x", "--user", "alice") == Result(0, "", "")
    where = ("--target", "proxy", "--scheme", "digest", "--password-fd", descriptor_with("other\nnot this\n"))
    assert bits("credentials", "set", "x", "--user", "alice", *where) == Result(0, "", "")
    assert calls == [
        {"target": "server", "scheme": "basic", "user": "alice", "password": "s3cret"},
        {"target": "proxy", "scheme": "digest", "user": "alice", "password": "other"},
    ]


def test_the_own_identity_has_no_password(bits: Bits, told: Callable[..., Any]) -> None:
    calls = told("SetCredentials")
    assert bits("credentials", "set", "x", "--own-identity", "--scheme", "negotiate").code == 0
    assert calls == [{"target": "server", "scheme": "negotiate"}]


@pytest.mark.parametrize("arguments", [(), ("--user", "a", "--own-identity"), ("--user", "a", "--scheme", "bearer")])
def test_what_says_not_whose_is_usage(bits: Bits, arguments: tuple[str, ...]) -> None:
    assert bits("credentials", "set", "x", *arguments).code == 2


def test_a_password_cannot_be_an_argument(bits: Bits) -> None:
    assert bits("credentials", "set", "x", "--user", "a", "--password", "b").code == 2
    assert bits("credentials", "set", "x", "--user", "a", "b").code == 2


@pytest.mark.parametrize(("hresult", "said"), [(0, ""), (1, "there were no basic credentials")])
def test_removing_says_if_there_were_none(bits: Bits, told: Callable[..., Any], hresult: int, said: str) -> None:
    calls = told("RemoveCredentials", {"hresult": hresult})
    result = bits("credentials", "remove", "x")
    assert (result.code, result.out) == (0, "")
    assert said in result.err
    assert calls == [{"target": "server", "scheme": "basic"}]


def test_who_is_not_the_owner_is_denied(bits: Bits, service: FakeService, typed: Callable[[str], None]) -> None:
    service.add_job("x")

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise FailedError(codes.E_ACCESSDENIED)

    service.overrides["SetCredentials"] = refuse
    typed("s3cret\n")
    result = bits("credentials", "set", "x", "--user", "alice")
    assert result.code == 5
    assert "s3cret" not in result.err


# -- headers


@pytest.mark.parametrize("text", ["X-A: 1\nX-B: 2", "X-A: 1\nX-B: 2\n", "X-A: 1\r\nX-B: 2\r\n\r\n"])
def test_headers_are_lines(bits: Bits, told: Callable[..., Any], typed: Callable[[str], None], text: str) -> None:
    calls = told("SetCustomHeaders")
    typed(text)
    assert bits("headers", "set", "x") == Result(0, "", "")
    assert bits("headers", "set", "x", "--fd", descriptor_with(text)) == Result(0, "", "")
    assert calls == [{"headers": "X-A: 1\r\nX-B: 2\r\n"}] * 2


def test_no_lines_are_usage_and_take_nothing_away(
    bits: Bits, told: Callable[..., Any], typed: Callable[[str], None]
) -> None:
    calls = told("SetCustomHeaders")
    typed("")
    assert bits("headers", "set", "x").code == 2
    assert bits("headers", "set", "x", "--fd", "987").code == 2
    assert calls == []


def test_headers_are_shown_removed_and_made_write_only(bits: Bits, told: Callable[..., Any]) -> None:
    told("GetCustomHeaders", {"headers": "X-A: 1\r\nX-B: \x1b[2J\r\n"})
    result = bits("headers", "show", "x")
    assert result.out.startswith("X-A: 1\nX-B: ")
    assert "\x1b" not in result.out
    removed, sealed = told("SetCustomHeaders"), told("MakeCustomHeadersWriteOnly")
    assert bits("headers", "remove", "x").code == bits("headers", "write-only", "x").code == 0
    assert (removed, sealed) == ([{}], [{}])


# -- certificates


def test_a_certificate_is_chosen_by_hash_or_subject(bits: Bits, told: Callable[..., Any]) -> None:
    calls = told("SetClientCertificate")
    assert bits("certificate", "set", "x", "--sha1", "AB:CD").code == 0
    assert bits("certificate", "set", "x", "--location", "machine", "--store", "WEB", "--subject", "alice").code == 0
    assert calls == [
        {"location": "current_user", "store": "MY", "sha1": "ABCD"},
        {"location": "local_machine", "store": "WEB", "subject": "alice"},
    ]
    assert bits("certificate", "set", "x").code == 2
    assert bits("certificate", "set", "x", "--sha1", "00", "--subject", "alice").code == 2


def test_a_certificate_is_shown_and_removed(bits: Bits, told: Callable[..., Any]) -> None:
    named = {"location": "local_machine", "store": "WEB"}
    told("GetClientCertificate", {"certificate": {**named, "sha1": "", "subject": "alice, DE"}})
    assert bits("certificate", "show", "x") == Result(0, "subject 'alice, DE' of WEB (machine)\n", "")
    told("GetClientCertificate", {"certificate": {**named, "sha1": "00ff", "subject": ""}})
    assert bits("certificate", "show", "x") == Result(0, "sha1 00ff of WEB (machine)\n", "")
    told("RemoveClientCertificate", {"hresult": 1})
    assert "there was no client certificate" in bits("certificate", "remove", "x").err
