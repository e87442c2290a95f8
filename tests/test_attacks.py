"""Every attack that applies is made by a test."""

import re
from pathlib import Path

import pytest
from tests import attacks
from tests.attacks import ATTACKS

TESTS = Path(__file__).parent


def test_the_table_has_the_thirty_rows() -> None:
    assert [attack.number for attack in ATTACKS] == list(range(1, 31))


def test_each_attack_that_applies_is_made_and_no_other() -> None:
    marks = (re.findall(r"mark\.attack\(([\d, ]+)\)", path.read_text()) for path in TESTS.rglob("test_*.py"))
    made = {int(number) for found in marks for group in found for number in group.split(",")}
    assert made == {attack.number for attack in ATTACKS if not attack.later}


def test_a_success_of_an_attack_is_said() -> None:
    def report(outcome: str, numbers: list[int], **properties: int) -> pytest.TestReport:
        made = pytest.TestReport("x", ("x", 1, "x"), {}, outcome, None, "call")  # type: ignore[arg-type]
        made.user_properties = [("attacks", numbers), *properties.items()]
        return made

    lines = attacks.summary([report("passed", [1], tries=7), report("failed", [2]), report("passed", [2])])
    assert "0 successes in 7 tries of 1 tests" in lines[0]
    assert "1 of 2 tests FAILED" in lines[1]
    assert "NOT TRIED" in lines[2]
    assert "not yet, comes with the dashboard" in lines[25]
