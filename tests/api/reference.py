"""The properties in docs/api.md from the registry: `python -m tests.api.reference` writes, `test_reference` looks."""

import enum
from collections.abc import Iterator
from pathlib import Path

from openbits.core import codes
from openbits.core.enums import JobState
from openbits.core.properties import PROPERTIES, Property

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BEGIN, END = "<!-- properties: python -m tests.api.reference -->\n", "<!-- end of properties -->\n"

NON_FINAL = frozenset(state for state in JobState if not state.is_final)


def with_table(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN.rstrip(), *_table(), END + after])


def _table() -> Iterator[str]:
    yield "| property | value | default | set | `openbits.com` | |"
    yield "|---|---|---|---|---|---|"
    for name, rule in PROPERTIES.items():
        cells = (f"`{name}`", _value(rule), _default(rule), _when(rule), _com(rule), rule.doc.replace("<", "&lt;"))
        yield f"| {' | '.join(cells)} |"


def _value(rule: Property) -> str:
    if issubclass(rule.type, enum.IntFlag):
        value = ", ".join(f"{int(flag):#x} {word.lower()}" for word, flag in rule.type.__members__.items())
    elif issubclass(rule.type, enum.Enum):
        value = ", ".join(member.name.lower() for member in rule.type)
    elif rule.type is bool:
        value = "bool"
    elif rule.type is int:
        value = f"{rule.lowest if rule.too_low else 0} … 2^{rule.bits} - 1" + (f" {rule.unit}" if rule.unit else "")
    else:
        value = "GUID" if rule.is_guid else "token" if rule.is_http_token else "text"
        value += "" if rule.is_guid else f", at most {rule.longest} characters ({codes.symbol(rule.too_long)})"
    return value + (", null" if rule.is_optional else "")


def _default(rule: Property) -> str:
    value = rule.default
    if value is None:
        return "null"
    if isinstance(value, enum.IntFlag):
        return str(int(value))
    if isinstance(value, enum.Enum):
        return value.name.lower()
    return str(value).lower() if isinstance(value, bool) else str(value) or "empty"


def _when(rule: Property) -> str:
    parts = []
    if len(rule.job_types) < 3:
        parts.append(
            f"{', '.join(one.name.lower() for one in sorted(rule.job_types))} ({codes.symbol(rule.wrong_type)})"
        )
    if rule.settable_in != NON_FINAL:
        states = rule.settable_in if len(rule.settable_in) < 4 else NON_FINAL - rule.settable_in
        words = ", ".join(sorted(state.name for state in states))
        how = "in" if len(rule.settable_in) < 4 else "not in"
        parts.append(f"{how} {words} ({codes.symbol(rule.wrong_state)})")
    if rule.until_resumed:
        parts.append("before the first Resume (BG_E_READ_ONLY_PROPERTY_AFTER_RESUME)")
    if rule.until_files:
        parts.append("before the first file (BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE)")
    return "; ".join(parts) or "any time"


def _com(rule: Property) -> str:
    if rule.com_property:
        return f"{rule.com_property}, {rule.com_member}"
    return f"Get/Set{rule.com_name}" if rule.com_name else ""


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
