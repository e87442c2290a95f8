"""`bits proxy explain`: what it asks, what it prints, how it ends."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result

Bits = Callable[..., Result]

TOLD: dict[str, Any] = {
    "url": "http://data.example/set",
    "uid": 1000,
    "identity": "alice (uid 1000)",
    "usage": "override",
    "source": "/home/alice/.config/openbits/proxy.toml",
    "why": "the list of proxies",
    "choice": ["a:3128", "socks5://b:1080", "direct"],
    "notes": ["passed over for a while, because it could not be reached: c:1"],
    "asked": "a:3128",
    "answer": "HTTP/1.1 407 Proxy Authentication Required",
    "schemes": ["negotiate", "basic"],
    "problem": None,
}


def test_it_prints_who_says_what_and_what_the_proxy_says(service: FakeService, bits: Bits) -> None:
    service.overrides["ExplainProxy"] = lambda _: TOLD
    done = bits("proxy", "explain", "http://data.example/set?key=1")
    assert done.code == 0
    assert [line.split(maxsplit=1) for line in done.out.splitlines()] == [
        ["url", "http://data.example/set"],
        ["identity", "alice (uid 1000)"],
        ["settings", "override, says /home/alice/.config/openbits/proxy.toml"],
        ["tried", "a:3128, then socks5://b:1080, then direct"],
        ["because", "the list of proxies"],
        ["note", "passed over for a while, because it could not be reached: c:1"],
        ["asked", "a:3128"],
        ["it", "says      HTTP/1.1 407 Proxy Authentication Required"],
        ["it", "offers    negotiate, basic"],
    ]
    (call,) = [call for call in service.calls if call.method == "ExplainProxy"]
    assert call.parameters == {"url": "http://data.example/set?key=1"}


def test_with_a_job_it_asks_as_that_job(service: FakeService, bits: Bits) -> None:
    service.add_job("nightly")
    assert bits("proxy", "explain", "http://h/", "--job", "nightly").code == 0
    (call,) = [call for call in service.calls if call.method == "ExplainProxy"]
    assert "handle" in call.parameters


def test_a_problem_is_said_with_its_code_and_fails(service: FakeService, bits: Bits) -> None:
    problem = {"hresult": 0x8020003F, "text": "cannot use /home/alice/.config/openbits/proxy.toml: line 3: x"}
    nothing: dict[str, Any] = {
        "choice": [],
        "why": "",
        "notes": [],
        "asked": None,
        "answer": "",
        "schemes": [],
        "source": "",
    }
    service.overrides["ExplainProxy"] = lambda _: {**TOLD, **nothing, "problem": problem}
    done = bits("proxy", "explain", "http://h/")
    assert done.code == 1
    assert "line 3" in done.err
    assert "0x8020003F" in done.err
    assert "not known" in done.out


def test_as_json_it_is_what_the_service_says(service: FakeService, bits: Bits) -> None:
    service.overrides["ExplainProxy"] = lambda _: TOLD
    done = bits("proxy", "explain", "http://h/", "--json")
    assert json.loads(done.out) == TOLD


def test_what_a_proxy_says_cannot_steer_the_terminal(service: FakeService, bits: Bits) -> None:
    service.overrides["ExplainProxy"] = lambda _: {**TOLD, "answer": "\x1b[2J407", "notes": ["a\nb"]}
    done = bits("proxy", "explain", "http://h/")
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 9


@pytest.mark.parametrize("arguments", [(), ("explain",), ("forget", "http://h/")])
def test_half_a_command_is_a_mistake(bits: Bits, arguments: tuple[str, ...]) -> None:
    assert bits("proxy", *arguments).code == 2
