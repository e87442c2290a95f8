"""`bits policy show`: what is in force, why, and that a mistake is seen."""

import json
from collections.abc import Callable
from typing import Any

from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result

Bits = Callable[..., Result]


def a_policy(name: str, value: int | None, origin: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": "number", "value": value, "default": 60, "unit": "jobs", "rule": "a whole number",
        "doc": "jobs of one owner", "origin": origin, "is_used": True, **changes,
    }  # fmt: skip


POLICIES = [
    a_policy("MaxJobsPerUser", 5, "/etc/openbits/policy.d/site.toml:3"),
    a_policy("MaxFilesPerJob", 200, default=200, unit="files"),
    a_policy("EnablePeercaching", 1, "/etc/openbits/policy.d/site.toml:4", kind="boolean", unit="", is_used=False),
    a_policy("MaxInternetBandwidth", None, default=None, unit="kbit/s"),
]


def answer(service: FakeService, policies: list[dict[str, Any]], problem: str = "") -> None:
    told = {"folder": "/etc/openbits/policy.d", "problem": problem, "policies": policies}
    service.overrides["GetPolicies"] = lambda _: told


def test_what_files_set_is_shown_and_the_rest_on_request(bits: Bits, service: FakeService) -> None:
    answer(service, POLICIES)
    shown = bits("policy", "show")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == ["MaxJobsPerUser     5 jobs", "EnablePeercaching  yes  (not used yet)"]
    everything = bits("policy", "show", "--effective").out.splitlines()
    assert [line.split()[0] for line in everything] == [one["name"] for one in POLICIES]
    assert everything[3].split(maxsplit=1)[1] == "not set"


def test_why_names_file_and_line_or_says_that_it_is_the_default(bits: Bits, service: FakeService) -> None:
    answer(service, POLICIES[:2])
    lines = bits("policy", "show", "--effective", "--why").out.splitlines()
    assert lines[0] == "MaxJobsPerUser  5 jobs  (from /etc/openbits/policy.d/site.toml:3)"
    assert lines[1].strip() == "jobs of one owner; a whole number"
    assert lines[2] == "MaxFilesPerJob  200 files  (the default)"


def test_json_has_everything_and_real_booleans(bits: Bits, service: FakeService) -> None:
    answer(service, POLICIES)
    document = json.loads(bits("policy", "show", "--json").out)
    assert document["folder"] == "/etc/openbits/policy.d"
    assert [(one["name"], one["value"]) for one in document["policies"]] == [
        ("MaxJobsPerUser", 5),
        ("EnablePeercaching", True),
    ]


def test_a_mistake_in_the_files_is_told_and_is_the_exit_code(bits: Bits, service: FakeService) -> None:
    answer(service, POLICIES[:1], "/etc/openbits/policy.d/b.toml:1: unknown policy 'X'\x1b")
    shown = bits("policy", "show")
    assert shown.code == 1
    assert shown.out.startswith("MaxJobsPerUser")
    assert shown.err == "bits: not in force: /etc/openbits/policy.d/b.toml:1: unknown policy 'X'?\n"
    failed = next(line for line in bits("doctor").out.splitlines() if line.split()[1] == "policies")
    assert failed.startswith("fail")
    assert "unknown policy 'X'" in failed


def test_without_any_file_it_says_how_to_see_the_defaults(bits: Bits, service: FakeService) -> None:
    answer(service, POLICIES[1:2])
    assert "bits policy show --effective" in bits("policy", "show").out
