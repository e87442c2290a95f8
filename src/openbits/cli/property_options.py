"""Job properties on command lines: the registry `core.properties` read as options and as `name=value`.

A value is what the registry says it is: a word of its enumeration, words of its flags with commas between them (or
`none`), yes or no, a whole number in its unit, a GUID, or text. A property that may be without a value has `none` for
that, and `0` for no flags. The rules of a value are the service's.
"""

import argparse
import enum
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.core.properties import PROPERTIES, Property

E = TypeVar("E", bound=enum.Enum)

UNITS = {"seconds": "seconds", "ms": "milliseconds", "bytes": "bytes", "bytes_per_second": "bytes/second"}
SHORT_UNITS = {"seconds": "s", "ms": "ms", "bytes": "bytes", "bytes_per_second": "bytes/s"}

BY_CLI_NAME: Mapping[str, Property] = {rule.cli_name: rule for rule in PROPERTIES.values()}


def add_options(
    parser: argparse.ArgumentParser, *, without: Collection[str] = (), defaults: Mapping[str, object] | None = None
) -> None:
    """An option for each property whose name is not in `without`.

    One that is not given has the value of `defaults` (other than the registry's), or no attribute.
    """
    for rule in PROPERTIES.values():
        if rule.name in without:
            continue
        default = (defaults or {}).get(rule.name, rule.default)
        option, about = f"--{rule.cli_name}", f"{rule.doc} (default: {shown(rule, default)})".replace("%", "%%")
        value = default if rule.name in (defaults or {}) else argparse.SUPPRESS
        if rule.type is bool:
            parser.add_argument(
                option, dest=rule.name, action=argparse.BooleanOptionalAction, default=value, help=about
            )
        else:
            parser.add_argument(
                option,
                dest=rule.name,
                type=_reader(rule),
                default=value,
                metavar=kind_of(rule),
                help=about,
            )


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The properties among the options."""
    return {name: value for name, value in vars(options).items() if name in PROPERTIES}


def assigned(assignments: Collection[str]) -> dict[str, object]:
    """Properties from `name=value`. Raises E_INVALIDARG that names the word and the rule."""
    values: dict[str, object] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        rule = BY_CLI_NAME.get(name)
        if rule is None or not separator:
            known = ", ".join(BY_CLI_NAME)
            what = "it is not of the form name=value" if not separator else "there is no such property"
            raise BitsError(codes.E_INVALIDARG, f"cannot set {assignment!r}: {what}; known are {known}")
        if rule.name in values:
            raise BitsError(codes.E_INVALIDARG, f"cannot set {name} twice at once; name it once")
        try:
            values[rule.name] = parse(rule, text)
        except ValueError as error:
            raise BitsError(codes.E_INVALIDARG, f"cannot set {name} to {text!r}: {error}") from None
    return values


def parse(rule: Property, text: str) -> object:
    """A value from its word. Raises ValueError with the rule."""
    if text == "none" and (rule.is_optional or rule.is_guid):
        return None if rule.is_optional else ""
    if issubclass(rule.type, enum.IntFlag):
        words = _words(rule.type)
        chosen = rule.type(0)
        for word in () if text == _no_flags(rule) else text.split(","):
            if word not in words:
                known = f"{_no_flags(rule)}, or some of {','.join(words)}"
                raise ValueError(f"{word!r} is unknown; use {'none, ' if rule.is_optional else ''}{known}")
            chosen |= words[word]
        return chosen
    if issubclass(rule.type, enum.Enum):
        return _chosen(text, _words(rule.type))
    if rule.type is bool:
        return _chosen(text, {"yes": True, "no": False})
    if rule.type is int:
        if not text.isdecimal():
            also = ", or none" if rule.is_optional else ""
            raise ValueError(f"use a whole number{f' of {UNITS[rule.unit]}' if rule.unit else ''}{also}")
        return int(text)
    return text


def word_of(rule: Property, value: object) -> str:
    """A value as its word: what `parse` reads."""
    if value is None:
        return "none"
    if isinstance(value, enum.IntFlag):
        return ",".join(word for word, flag in _words(type(value)).items() if value & flag) or _no_flags(rule)
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", "-")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def shown(rule: Property, value: object) -> str:
    """A value as people read it: with its unit."""
    unit = f" {SHORT_UNITS[rule.unit]}" if rule.unit and value is not None else ""
    return f"{word_of(rule, value)}{unit}" or "none"


def changes(values: Mapping[str, object], *, without: Collection[str] = ()) -> Iterator[str]:
    """What is not as in a new job, as `bits set` reads it; `values` are those of the API."""
    for rule in PROPERTIES.values():
        value: Any = values.get(rule.name, rule.default)
        if issubclass(rule.type, enum.IntFlag) and value is not None:
            value = rule.type(value)
        elif issubclass(rule.type, enum.Enum):
            value = rule.type[value.upper()] if isinstance(value, str) else value
        if value != rule.default and rule.name not in without:
            yield f"{rule.cli_name}={word_of(rule, value)}"


def _no_flags(rule: Property) -> str:
    return "0" if rule.is_optional else "none"


def _words(kind: type[E]) -> dict[str, E]:
    return {name.lower().replace("_", "-"): member for name, member in kind.__members__.items()}


def _chosen(text: str, words: Mapping[str, object]) -> object:
    if text not in words:
        raise ValueError(f"use one of {', '.join(words)}")
    return words[text]


def kind_of(rule: Property) -> str:
    """What its values are: the words themselves where there are few."""
    if issubclass(rule.type, enum.IntFlag):
        kind = "WORDS"
    elif issubclass(rule.type, enum.Enum):
        kind = "|".join(_words(rule.type))
    elif rule.type is bool:
        kind = "yes|no"
    elif rule.type is int:
        kind = UNITS.get(rule.unit, "number").upper()
    else:
        kind = "GUID" if rule.is_guid else "TEXT"
    return f"{kind}|none" if rule.is_optional or rule.is_guid else kind


def _reader(rule: Property) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return parse(rule, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return read
