"""docs/conformance.md from the tables of this folder."""

from collections.abc import Iterator
from pathlib import Path

from tests.conformance.bad_input import BAD_INPUT
from tests.conformance.codes import FILES, ROWS, Row
from tests.conformance.interfaces import INTERFACES, MANAGER_CLASSES, METHODS, Interface, Method
from tests.conformance.numbers import NUMBERS, STRUCTURES
from tests.conformance.states import CELLS, CODES, PREFIXES, STATES, split
from tests.conformance.states import ROWS as STATE_ROWS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

HEAD = """# Conformance

What the documented interfaces of BITS 10.3 promise for jobs, and the test that proves each promise. Made from the
tables in tests/conformance (`python -m tests.conformance page`), which are typed from the documentation and not from
the code; a test fails when a method is missing here, when a class has other methods or parameters, or when a named test
does not exist. Test files are below `tests/`.

In the tables of states a cell is what the call answers, and after → the state that follows; * where the scheduler may
move the job. The jobs are downloads with one file. Every cell is a test of its own:
`real/test_com_states.py::test_a_method_in_a_state[METHOD-STATE]`.

What holds for every method (NULL, foreign jobs, exhausted memory) differs in one point: where BITS answers
E_OUTOFMEMORY, Python raises MemoryError.

"""


def state_rows(method: Method) -> list[str]:
    """The rows of the state table that are about this method."""
    return [
        row
        for row in STATE_ROWS
        if method.interface in PREFIXES.get(split(row)[0], ()) and split(row)[1] == method.name
    ]


def proof_of(row: Row) -> str:
    """The node id of the test, or the reason."""
    if row.proof == "state":
        for cell_method, state, cell in CELLS:
            is_this = cell_method in state_rows(METHODS[row.method])
            if is_this and CODES[cell.removesuffix("*").partition(">")[0]][0] == row.code:
                return f"{FILES['states']}::test_a_method_in_a_state[{cell_method}-{state}]"
        raise LookupError(f"no cell of {row.method} says {row.code}")
    if row.proof == "arg":
        whose = "the_manager" if row.method.startswith("IBackgroundCopyManager") else "a_job"
        name = METHODS[row.method].name
        return f"{FILES['args']}::test_an_argument_of_{whose}[{name}-{row.code}]"
    file, separator, name = row.proof.partition("::")
    return f"{FILES.get(file, file)}::{name}" if separator else row.proof


def page() -> str:
    """The whole page."""
    return (
        HEAD
        + "\n".join([*_summary(), *_interfaces(), *_classes(), *_states(), *_codes(), *_bad_input(), *_numbers()])
        + "\n"
    )


def _summary() -> Iterator[str]:
    built = [method for method in METHODS.values() if INTERFACES[method.interface].is_built]
    differs = [row for row in ROWS if row.proof.startswith("differs")]
    yield f"{len(INTERFACES)} interfaces with {len(METHODS)} methods, of which {len(built)} are built; {len(CELLS)}"
    yield f"cells of method and state; {len(ROWS)} rows of method and code, of which {len(differs)} differ.\n"


def _interfaces() -> Iterator[str]:
    yield "## Interfaces (jobs.md §2.1)\n"
    yield "Proved by com/test_interfaces.py and conformance/test_conformance.py.\n"
    yield "| Interface | Since | Parent | IID | QueryInterface |\n|---|---|---|---|---|"
    for one in INTERFACES.values():
        said = "yes" if one.is_built else "E_NOINTERFACE: peer caching is not built"
        yield f"| {one.name} | {one.since} | {one.parent} | {one.iid} | {said} |"
    yield ""


def _classes() -> Iterator[str]:
    yield "## Manager classes (jobs.md §2.2)\n"
    yield "| Class | CLSID |\n|---|---|"
    for name, clsid in MANAGER_CLASSES.items():
        yield f"| {name} | {clsid} |"
    yield ""


def _states() -> Iterator[str]:
    yield "## Methods and states (jobs.md §3.3, §7, §13, §14)\n"
    for one in INTERFACES.values():
        rows = [row for method in one.methods for row in state_rows(method)]
        if rows:
            yield f"### {one.name} ({one.section})\n"
            yield f"| | {' | '.join(STATES)} |\n|---|{'---|' * len(STATES)}"
            for row in rows:
                cells = (_cell(STATE_ROWS[row][state]) for state in STATES)
                yield f"| {row.rpartition('.')[2]} | {' | '.join(cells)} |"
            yield ""


def _cell(cell: str) -> str:
    answer, _, after = cell.removesuffix("*").partition(">")
    moved = f" → {after}" if after else "*" if cell.endswith("*") else ""
    return CODES[answer][0] + moved


def _codes() -> Iterator[str]:
    yield "## Methods and codes (jobs.md §7, errors.md §7)\n"
    for one in INTERFACES.values():
        if one.is_built:
            yield f"### {one.name}: codes\n"
            yield "| Method | Code | When | Proved by |\n|---|---|---|---|"
            yield from _code_rows(one)
            yield ""
    names = ", ".join(one.name for one in INTERFACES.values() if not one.is_built)
    yield f"{names}: every method differs, since QueryInterface gives none of them: E_NOINTERFACE"
    yield "(`com/test_interfaces.py`). The peer-caching flags of a job are stored.\n"


def _code_rows(one: Interface) -> Iterator[str]:
    for method in one.methods:
        signature = f"{method.name}({', '.join(method.parameters)})"
        rows = [row for row in ROWS if row.method == method.full_name]
        if state_rows(method) and all(row.code != "S_OK" for row in rows):
            yield f"| {signature} | S_OK, and others by state | see the table of states | every cell |"
            signature = ""
        for row in rows:
            yield f"| {signature} | {row.code} | {row.when} | {_shown(proof_of(row))} |"
            signature = ""


def _shown(proof: str) -> str:
    return proof if proof.startswith("differs") else f"`{proof.removeprefix('tests/')}`"


def _bad_input() -> Iterator[str]:
    yield "## Bad input\n"
    yield "| What is fed | Proved by |\n|---|---|"
    for what, proof in BAD_INPUT.items():
        yield f"| {what} | {_shown(proof)} |"
    yield ""


def _numbers() -> Iterator[str]:
    yield "## Constants and structures (jobs.md §1)\n"
    yield "Proved by conformance/test_conformance.py.\n"
    yield "| Constant | Value |\n|---|---|"
    for name, number in NUMBERS.items():
        yield f"| {name} | {number:#x} |"
    yield "\n| Structure | Members |\n|---|---|"
    for name, members in STRUCTURES.items():
        yield f"| {name} | {', '.join(members)} |"
