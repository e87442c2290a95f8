"""docs/cli.md, the README and the page of transfers say what the parsers know."""

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.reference import PAGE, page

from openbits.cli.main import COMMANDS, parser_of

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_parsers() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.cli.reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_understood(name: str) -> None:
    program, command, *arguments = shlex.split(COMMANDS[name].example)
    assert (program, command) == ("bits", name)
    parser_of(name).parse_args(arguments)


@pytest.mark.parametrize("name", ["README.md", "docs/transfers.md", "docs/uploads.md"])
def test_every_command_of_a_page_is_understood(name: str) -> None:
    lines = re.findall(r"^    bits (.*?)(?: < \S+)?(?: +#.*)?$", (ROOT / name).read_text(), re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        verbs, *arguments = shlex.split(line)
        for verb in verbs.split("|"):
            parser_of(verb).parse_args(arguments)
