"""docs/cli.md from the parsers. `python -m tests.cli.reference` writes it, `test_reference` compares."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from openbits.cli.main import COMMANDS, EXIT_CODES, parser_of
from openbits.cli.property_options import BY_CLI_NAME, kind_of, shown
from openbits.core.properties import PROPERTIES

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"

HEAD = """# The command line: `bits`

Made from the parsers (`python -m tests.cli.reference`). JOB is an id, the beginning of one (4 characters or more), or
a display name that only one job has; what several jobs have is refused with their ids. What is waited for is told on
standard error, at least every minute where that is no terminal; `--json` prints lines or a document with the keys of
[the API](api.md), which stay. Errors name the object, the code as symbol and number, and the next step.

| exit code | |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD + "".join(f"| {code[0]} | {code[2:]} |\n" for code in EXIT_CODES)]
    parts.append("130 after Ctrl-C. With several jobs: the code of the first that failed.\n")
    group = ""
    for name, command in COMMANDS.items():
        if command.group != group:
            group = command.group
            parts.append(f"## {group.capitalize()}\n")
        parts.append("\n".join(_section(name)))
    return "\n".join([*parts, *_properties()])


def _properties() -> Iterator[str]:
    yield "## Properties of a job\n"
    yield "`bits create`, `bits get` and `bits put` have them as options (`--priority high`, `--auto-complete`;"
    yield "`bits put` those that an upload can have), `bits set` as `priority=high`, `auto-complete=yes`. WORDS are"
    yield "words with commas between them, or `none`; where `none` is a value of its own, `0` is no word. Some are kept"
    yield "and not yet used by transfers:"
    yield "[which](api.md#properties-of-a-job).\n"
    yield "| property | values | default | |\n|---|---|---|---|"
    for name, rule in BY_CLI_NAME.items():
        yield f"| `{name}` | {_cell(kind_of(rule))} | {_cell(shown(rule, rule.default))} | {_cell(rule.doc)} |"
    yield ""


def _section(name: str) -> Iterator[str]:
    parser, command = parser_of(name), COMMANDS[name]
    yield f"### bits {name}\n"
    yield f"{command.summary.capitalize()}. Example: `{command.example}`\n"
    yield "| | |\n|---|---|"
    yield from _rows(parser)
    yield ""


def _rows(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or action.dest in PROPERTIES:
            continue
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield f"| `{choice.dest}` | {choice.help} |"
                yield from _rows(action.choices[choice.dest], f"{choice.dest} ")
            continue
        yield f"| `{prefix}{_cell(_spelling(action))}` | {_cell((action.help or '').replace('%%', '%'))} |"


def _spelling(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
    if not action.option_strings:
        return str(value)
    return ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 and value else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page())
