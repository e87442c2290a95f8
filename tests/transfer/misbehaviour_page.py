"""docs/misbehaviours.md: the sixty misbehaviours and what comes of each, from the table that the tests play.

`python -m tests.transfer.misbehaviour_page` writes it anew.
"""

from pathlib import Path
from typing import Final

from tests.transfer.misbehaviour_table import ROWS
from tests.transfer.misbehaviours import KINDS, WAYS, Expected, Row

from openbits.core import codes

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "misbehaviours.md"

HEAD: Final = """# Servers that misbehave

What a download does when a web server does what it should not. `python -m tests.transfer.misbehaviour_page` makes this
page from the table that tests/transfer/test_misbehaviours.py plays, with a real worker against real sockets: {cells}
cells.

Kinds: a fresh file, a resumed one, one made of ranges. Ways: openly, over TLS, through a proxy that forwards, over TLS
through the tunnel of a proxy. Outcomes: **OK** the file is right; **RS** it begins again, and is right; **TR** a
transient error, tried again later; what is here stays; **ER** an error; **CAP** an error after few bytes. Of every cell
that is not OK, a sound server then completes the file; after every cell the worker fetches another file.

| Row | Server | Outcome | Besides |
|---|---|---|---|
"""

DEVIATIONS: Final = """
## Where the outcome is another one than planned

| Row | Server | Planned | Is | Because |
|---|---|---|---|---|
"""


def _outcome(expected: Expected) -> str:
    named = ", ".join(codes.symbol(code) for code in sorted(expected.codes))
    resumed = " by resumes" if expected.by_resumes else ""
    return f"{expected.outcome}{resumed}{f' {named}' if named else ''}"


def _besides(row: Row) -> str:
    only = [
        *([", ".join(row.kinds)] if row.kinds != KINDS else []),
        *([", ".join(row.ways)] if row.ways != WAYS else []),
    ]
    told = [f"{key}: {_outcome(expected)}" for key, expected in row.but.items()]
    return "; ".join([*(f"only {text}" for text in only), *told])


def _name(row: Row) -> str:
    return f"{row.name} {row.variant}".strip()


def page() -> str:
    """The text of the page."""
    cells = sum(len(row.kinds) * len(row.ways) for row in ROWS)
    rows = [f"| {row.number} | {_name(row)} | {_outcome(row.expected)} | {_besides(row)} |\n" for row in ROWS]
    others = [(row, one) for row in ROWS for one in (row.expected, *row.but.values()) if one.tabled]
    deviations = [
        f"| {row.number} | {_name(row)} | {one.tabled} | {_outcome(one)} | {one.why} |\n" for row, one in others
    ]
    return "".join([HEAD.format(cells=cells), *rows, DEVIATIONS, *deviations])


if __name__ == "__main__":
    PAGE.write_text(page())
