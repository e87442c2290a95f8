"""docs/upload-conformance.md has every rule of the upload protocol, with tests that there are."""

import re
import subprocess
import sys

import pytest
from tests.conformance.test_conformance import ROOT
from tests.conformance.uploads import DECISIONS, FRAGMENTS, NUMBERED, REQUIREMENTS, RULES, Rule
from tests.conformance.uploads_page import PAGE, page


def test_the_page_is_that_of_the_tables() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.conformance page"


def test_no_number_is_missing() -> None:
    for rules, letter, last in ((REQUIREMENTS, "H", 14), (FRAGMENTS, "F", 13), (DECISIONS, "D", 29)):
        assert [rule.number for rule in rules] == [f"{letter}{number}" for number in range(1, last + 1)]


@pytest.mark.parametrize("rule", NUMBERED, ids=lambda rule: rule.number)
def test_a_rule_has_a_test_with_its_number(rule: Rule) -> None:
    in_a_name = re.compile(rf"(?<![A-Za-z0-9]){rule.number}(?![0-9])", re.IGNORECASE)
    names = (proof.partition("::")[2].replace("_", "-") for proof in rule.proofs)
    assert any(in_a_name.search(name) for name in names)


def test_every_named_test_exists() -> None:
    wanted = {proof for rule in RULES for proof in rule.proofs}
    files = sorted({proof.partition("::")[0] for proof in wanted})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    there = set(listed) | {line.partition("[")[0] for line in listed}
    assert wanted - there == set()
