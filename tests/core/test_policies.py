"""The table of the policies against jobs.md §17, typed from there."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from openbits.core.policies import DEFAULTS, POLICIES, Policies, contradiction

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
EXAMPLE = Path(__file__).parents[2] / "packaging" / "policy.toml"

U32 = (1 << 32) - 1

DOCUMENTED = {
    "JobInactivityTimeout": (90, 1, 999),
    "MaxDownloadTime": (7_776_000, 1, U32),
    "MaxJobsPerMachine": (300, 1, U32),
    "MaxJobsPerUser": (60, 1, U32),
    "MaxFilesPerJob": (200, 1, U32),
    "MaxRangesPerFile": (500, 1, U32),
    "MaxInternetBandwidth": (None, 0, 4_294_967_200),
    "MaxCacheSize": (1, 1, 80),
    "MaxContentAge": (90, 1, 120),
    "MaxBandwidthServed": (1_048_576, 1_048_576, 4_294_967_200),
    "ForegroundTransferPolicy": (None, 1, 5),
    "HighTransferPolicy": (None, 1, 5),
    "NormalTransferPolicy": (None, 1, 5),
    "LowTransferPolicy": (None, 1, 5),
}
"""Default, lowest, highest."""

SWITCHES = {
    "EnableBandwidthLimits", "EnableMaintenanceLimits", "EnablePeercaching", "DisablePeerCachingClient",
    "DisablePeerCachingServer", "DisableBranchCache", "AllowServiceNotifyCmdLine", "DisableBasicAuthOverHttp",
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_numbers_have_the_documented_default_and_range(name: str) -> None:
    default, lowest, highest = DOCUMENTED[name]
    policy = POLICIES[name]
    assert (policy.default, policy.lowest, policy.highest) == (default, lowest, highest)
    assert [policy.accepts(value) for value in (lowest - 1, lowest, highest, highest + 1)] == [False, True, True, False]
    assert not any(policy.accepts(value) for value in (True, 1.0, "60", None, [60]))


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_are_off_and_take_true_or_false(name: str) -> None:
    policy = POLICIES[name]
    assert policy.default is False
    assert [policy.accepts(value) for value in (True, False, 1, 0, "true")] == [True, True, False, False, False]


def test_implicit_credentials_are_0_1_or_2() -> None:
    policy = POLICIES["UseLMCompat"]
    assert policy.default == 2
    assert [policy.accepts(value) for value in (-1, 0, 1, 2, 3)] == [False, True, True, True, False]


def test_only_what_works_claims_to() -> None:
    assert {name for name, policy in POLICIES.items() if policy.is_used} == {
        "JobInactivityTimeout", "MaxDownloadTime", "MaxJobsPerMachine", "MaxJobsPerUser", "MaxJobsPerDisplayName",
        "MaxFilesPerJob", "MaxRangesPerFile", "AllowServiceNotifyCmdLine", "UseLMCompat", "DisableBasicAuthOverHttp",
    }  # fmt: skip


def test_every_row_is_a_field_and_says_what_it_does() -> None:
    assert [policy.field for policy in POLICIES.values()] == [item.name for item in fields(Policies)]
    assert all(policy.doc for policy in POLICIES.values())
    assert all(policy.default is None or policy.accepts(policy.default) for policy in POLICIES.values())


@pytest.mark.parametrize(
    ("user", "machine", "fits"), [(60, 300, True), (59, 60, True), (60, 60, False), (61, 60, False)]
)
def test_the_limit_of_a_user_is_below_that_of_the_machine(user: int, machine: int, *, fits: bool) -> None:
    refusal = contradiction(Policies(max_jobs_per_user=user, max_jobs_per_machine=machine))
    assert (refusal == "") is fits
    assert fits or (f"MaxJobsPerUser ({user})" in refusal and f"MaxJobsPerMachine ({machine})" in refusal)
    assert contradiction(DEFAULTS) == ""


# -- what people read -------------------------------------------------------------------------------------------------


def shown(value: int | None) -> str:
    """As it stands in a policy file."""
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def table() -> Iterator[str]:
    """The table of docs/configuration.md."""
    yield "| Policy | Default | Unit | Values | Effect |"
    yield "|---|---|---|---|---|"
    for policy in POLICIES.values():
        use = "" if policy.is_used else " (not used yet)"
        yield f"| `{policy.name}` | {shown(policy.default)} | {policy.unit} | {policy.rule} | {policy.doc}{use} |"


def test_the_page_has_the_table() -> None:
    assert "\n".join(table()) in PAGE.read_text()


def test_the_example_has_every_policy_with_its_default() -> None:
    text = EXAMPLE.read_text()
    assert tomllib.loads(text) == {}  # as installed it changes nothing
    uncommented = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert list(uncommented) == list(POLICIES)
    assert all(POLICIES[name].accepts(value) for name, value in uncommented.items())
    defaults = {name: policy.default for name, policy in POLICIES.items() if policy.default is not None}
    assert {name: uncommented[name] for name in defaults} == defaults
