"""docs/conformance.md has every method with a test for every promise, and the classes have what the documents say."""

import inspect
import subprocess
import sys
import uuid
from dataclasses import fields
from pathlib import Path

import pytest
from tests.conformance.bad_input import BAD_INPUT
from tests.conformance.codes import ROWS
from tests.conformance.interfaces import INTERFACES, MANAGER_CLASSES, METHODS, NOT_BUILT, Method
from tests.conformance.numbers import NUMBERS, STRUCTURES
from tests.conformance.page import PAGE, page, proof_of, state_rows
from tests.conformance.states import CELLS, CODES, PREFIXES, STATES, WITHOUT_JOB, split
from tests.conformance.states import ROWS as STATE_ROWS

from openbits import com
from openbits.core import codes

ROOT = Path(__file__).parents[2]
BUILT = [method for method in METHODS.values() if method.interface not in NOT_BUILT]
IMPLEMENTED_BY_CLIENTS = {name for name in INTERFACES if "Callback" in name}


def test_the_page_is_that_of_the_tables() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.conformance page"


# -- the tables are whole ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BUILT, ids=lambda method: method.full_name)
def test_every_method_has_its_states_and_codes(method: Method) -> None:
    name = method.full_name
    rows = [row for row in ROWS if row.method == name]
    if name in WITHOUT_JOB or name.partition(".")[0] in IMPLEMENTED_BY_CLIENTS:
        assert any(row.code == "S_OK" for row in rows), "nothing proves that it ever succeeds"
    else:
        assert state_rows(method), "tests/conformance/states.py has no row"


def test_every_row_is_about_a_method_that_there_is() -> None:
    assert {row.method for row in ROWS} <= {method.full_name for method in BUILT}
    for row in STATE_ROWS:
        prefix, name, _ = split(row)
        found = {f"{interface}.{name}" for interface in PREFIXES[prefix]} & METHODS.keys()
        assert found or name == "QueryInterface", row
    pairs = [(row.method, row.code) for row in ROWS]
    assert len(pairs) == len(set(pairs))


def test_every_cell_is_a_code_and_a_state() -> None:
    assert len(CELLS) == len(STATE_ROWS) * len(STATES) == len(STATE_ROWS) * 9
    for method, state, cell in CELLS:
        answer, _, after = cell.removesuffix("*").partition(">")
        assert answer in CODES, (method, state)
        assert after in {"", *STATES}, (method, state)
    for symbol, number in CODES.values():
        assert getattr(com, symbol) == number


def test_every_code_of_a_cell_but_success_has_a_row() -> None:
    """What a method answers in some state stands in the table of codes, too, with the rule."""
    said = {(row.method, row.code) for row in ROWS}
    for method in BUILT:
        for row in state_rows(method):
            for cell in STATE_ROWS[row].values():
                code = CODES[cell.removesuffix("*").partition(">")[0]][0]
                is_covered = (method.full_name, code) in said
                assert is_covered or code in {"S_OK", "BG_E_ERROR_INFORMATION_UNAVAILABLE", "BG_E_NOT_FOUND"}, row


def test_every_row_names_a_code_and_a_test_or_a_reason() -> None:
    for row in ROWS:
        assert codes.symbol(getattr(com, row.code)) == row.code, row
        assert row.when, row
        proof = proof_of(row)
        reason = proof.removeprefix("differs: ")
        assert "::" in proof or (reason != proof and reason), row


def test_every_named_test_exists() -> None:
    wanted = {proof for row in ROWS if "::" in (proof := proof_of(row))} | set(BAD_INPUT.values())
    files = sorted({proof.partition("::")[0] for proof in wanted})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    there = set(listed) | {line.partition("[")[0] for line in listed}
    assert wanted - there == set()


# -- the classes are what the tables say ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTERFACES)
def test_an_interface_has_its_id_and_parent(name: str) -> None:
    interface, known = getattr(com, name), INTERFACES[name]
    assert uuid.UUID(known.iid) == interface.IID
    assert issubclass(interface, getattr(com, known.parent))
    assert name in com.__all__


@pytest.mark.parametrize(("name", "clsid"), MANAGER_CLASSES.items())
def test_a_manager_class_has_its_id(name: str, clsid: str) -> None:
    assert uuid.UUID(clsid) == getattr(com, name).CLSID
    assert issubclass(getattr(com, name), com.IBackgroundCopyManager)


@pytest.mark.parametrize("method", BUILT, ids=lambda method: method.full_name)
def test_a_method_has_the_documented_parameters_in_order(method: Method) -> None:
    interface, name = getattr(com, method.interface), method.name
    assert callable(getattr(interface, name, None)), f"{interface.__name__} has no {name}"
    _, *parameters = inspect.signature(getattr(interface, name)).parameters.values()
    assert [one.name for one in parameters] == list(method.parameters)
    assert all(one.default is inspect.Parameter.empty for one in parameters)


@pytest.mark.parametrize("name", [name for name in INTERFACES if name not in NOT_BUILT])
def test_a_class_has_no_method_that_is_not_documented(name: str) -> None:
    own = set(vars(getattr(com, name)))
    bases = {one for base in getattr(com, name).__mro__[1:] for one in vars(base)}
    documented = {method.name for method in INTERFACES[name].methods}
    assert {one for one in own if one[0].isupper()} - {"IID"} - bases <= documented


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_a_constant_has_its_number(name: str, number: int) -> None:
    assert getattr(com, name) == number


@pytest.mark.parametrize(("name", "members"), STRUCTURES.items())
def test_a_structure_has_its_members_in_order(name: str, members: tuple[str, ...]) -> None:
    assert tuple(one.name for one in fields(getattr(com, name))) == members
