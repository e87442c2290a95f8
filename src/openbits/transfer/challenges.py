"""What a server or proxy asks: the challenges of WWW-Authenticate and Proxy-Authenticate (RFC 9110 §11).

Values in, values out. One field may have several challenges, and several fields may come: a comma ends a parameter or
a challenge, and only what follows tells which. From where a field makes no sense on, nothing of it counts; what came
before does. A challenge that says one thing twice is none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_CHALLENGES: Final = 32

_GAP: Final = re.compile(r"[ \t,]*")
_SCHEME: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})(?:[ \t]+|(?=,)|$)")
_TOKEN68: Final = re.compile(r"([A-Za-z0-9._~+/-]+=*)[ \t]*(?=,|$)")
_PARAMETER: Final = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*
    (?: "((?:[^"\\]|\\.)*)" | ([!#$%&'*+.^_`|~0-9A-Za-z-]+) )[ \t]*(?=,|$)""",
    re.VERBOSE,
)
_QUOTED_PAIR: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge; `scheme` in lower case. Either `token` or `parameters` has something, or neither."""

    scheme: str
    token: str = ""
    """The token68 of those that go on with a conversation (Negotiate, NTLM)."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""

    @property
    def realm(self) -> str:
        """What the password is for, as the other side says."""
        return self.parameters.get("realm", "")


def parse(values: Iterable[str]) -> tuple[Challenge, ...]:
    """The challenges of all fields of one name, in their order, at most MAX_CHALLENGES."""
    found = [challenge for value in values for challenge in _of_field(value)]
    return tuple(found[:MAX_CHALLENGES])


def _of_field(text: str) -> Iterator[Challenge]:
    position = _skipped(text, 0)
    while position < len(text):
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            return
        token = _TOKEN68.match(text, scheme.end())
        if token is not None:
            yield Challenge(scheme=scheme[1].lower(), token=token[1])
            position = _skipped(text, token.end())
            continue
        parameters, is_sound, position = _parameters(text, scheme.end())
        if is_sound:
            yield Challenge(scheme=scheme[1].lower(), parameters=parameters)


def _parameters(text: str, position: int) -> tuple[dict[str, str], bool, int]:
    """The parameters from here on, whether each has one value, and where the next challenge begins."""
    parameters: dict[str, str] = {}
    is_sound = True
    position = _skipped(text, position)
    while (match := _PARAMETER.match(text, position)) is not None:
        name, quoted, plain = match.groups()
        value = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        is_sound = is_sound and name.lower() not in parameters
        parameters[name.lower()] = value
        position = _skipped(text, match.end())
    is_sound = is_sound and (position == len(text) or _SCHEME.match(text, position) is not None)
    return parameters, is_sound, position


def _skipped(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return position if gap is None else gap.end()
