"""The registry of job properties: each once, with type, default, limits and the rules for setting it.

`Properties` is the value a job carries; the metadata of its fields is the registry `PROPERTIES` that store, wire, API,
CLI and tests read (jobs.md §7.2, §13). A new property is a new field here and a new member of
`api.wire.PropertyValues`.

On the wire an enumeration is the lower-case name of its member and flags are a number. `changed` checks what a client
sent: wrong types and unknown names are E_INVALIDARG, undefined values of an enumeration or of flags E_NOTIMPL (jobs.md
§2.3). Texts are counted in Unicode code points (OPEN-01); control characters and unpaired surrogates are refused, since
texts end up in terminals, logs and UTF-8. Whether the job may change at all is decided by `lifecycle` and `access`.
"""

import enum
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Never

from openbits.core import codes
from openbits.core.enums import JobState, NotifyFlags, Priority, ProxyUsage, Verb
from openbits.core.errors import BitsError

_U32_MAX = 0xFFFFFFFF
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that no text may have: controls, surrogates, separators of lines and paragraphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Values of all properties of one job."""

    display_name: str = field(
        default="", metadata={"doc": "name of the job, need not be unique", "com_name": "DisplayName", "longest": 256}
    )
    description: str = field(
        default="",
        metadata={"doc": "free text", "com_name": "Description", "longest": 1024, "may_have_lines": True},
    )
    priority: Priority = field(
        default=Priority.NORMAL, metadata={"doc": "order in the queue and manner of transfer", "com_name": "Priority"}
    )
    notify_flags: NotifyFlags = field(
        default=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR,
        metadata={"doc": "events that the subscriber is told", "com_name": "NotifyFlags"},
    )
    minimum_retry_delay_seconds: int = field(
        default=600,
        metadata={
            "doc": "longest wait between two attempts after a transient error; smaller values than 5 become 5",
            "com_name": "MinimumRetryDelay",
            "unit": "seconds",
            "raised_to": 5,
        },
    )
    no_progress_timeout_seconds: int = field(
        default=1_209_600,
        metadata={
            "doc": "how long a job without progress tries again before it fails; 0: it never tries again",
            "com_name": "NoProgressTimeout",
            "unit": "seconds",
        },
    )
    proxy_usage: ProxyUsage = field(
        default=ProxyUsage.PRECONFIG,
        metadata={
            "doc": "how a proxy is found; override: by proxy_list, which every other value empties",
            "com_name": "ProxySettings",
        },
    )
    proxy_list: str = field(
        default="",
        metadata={
            "doc": "proxies for override: [protocol=][protocol://]server[:port], separated by spaces",
            "com_name": "ProxySettings",
            "longest": 32_000,
            "too_long": codes.BG_E_PROXY_LIST_TOO_LARGE,
        },
    )
    proxy_bypass_list: str = field(
        default="",
        metadata={
            "doc": "hosts that override reaches directly: names, addresses, *.example.org, <local>",
            "com_name": "ProxySettings",
            "longest": 32_000,
            "too_long": codes.BG_E_PROXY_BYPASS_LIST_TOO_LARGE,
        },
    )
    auto_complete: bool = field(
        default=False, metadata={"doc": "publish the files as soon as all are transferred, without a call of Complete"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One row of the registry: a field of `Properties` and the metadata of that field.

    `longest` counts characters (0: not a text), `too_long` is the code for more of them; integers are 32-bit without
    sign and silently raised to `raised_to`. A setter is allowed in `settable_in`, to callers who may do `verb`.
    """

    name: str
    type: type
    default: object
    doc: str
    com_name: str = ""
    unit: str = ""
    longest: int = 0
    too_long: int = codes.BG_E_STRING_TOO_LONG
    may_have_lines: bool = False
    raised_to: int = 0
    settable_in: frozenset[JobState] = frozenset(state for state in JobState if not state.is_final)
    verb: Verb = Verb.CHANGE

    @property
    def getter(self) -> str | None:
        """Method of IBackgroundCopyJob that reads it; None for a property that only we have."""
        return f"Get{self.com_name}" if self.com_name else None

    @property
    def setter(self) -> str | None:
        """Method of IBackgroundCopyJob that sets it."""
        return f"Set{self.com_name}" if self.com_name else None

    @property
    def cli_name(self) -> str:
        """Name on command lines: `no-progress-timeout`."""
        return self.name.removesuffix(f"_{self.unit}").replace("_", "-")


PROPERTIES: Final[Mapping[str, Property]] = {
    item.name: Property(name=item.name, type=item.type, default=item.default, **item.metadata)
    for item in fields(Properties)
    if isinstance(item.type, type)
}


def changed(properties: Properties, values: Mapping[str, object]) -> Properties:
    """The properties with these wire values put in, all or none.

    Raises BitsError E_INVALIDARG, E_NOTIMPL or the code for a text that is too long; it names the property, the value
    and the rule.
    """
    accepted: dict[str, Any] = {}
    for name, value in values.items():
        found = PROPERTIES.get(name)
        if found is None:
            known = ", ".join(PROPERTIES)
            raise BitsError(codes.E_INVALIDARG, f"cannot set {_shown(name)}: unknown property; known are {known}")
        accepted[name] = _accepted(found, value)
    return _with_proxies(properties, accepted)


def to_wire(properties: Properties) -> Any:
    """All values as they cross the socket, in the shape of `api.wire.PropertyValues`, a type of a layer above."""
    return {name: _plain(getattr(properties, name)) for name in PROPERTIES}


def check_display_name_at_create(name: object) -> None:
    """The rule of CreateJob, where a name that is too long is E_INVALIDARG, unlike in the setter (OPEN-17)."""
    rule = PROPERTIES["display_name"]
    if isinstance(name, str) and len(name) > rule.longest:
        _refuse(rule, name, codes.E_INVALIDARG, f"it has {len(name)} characters; use at most {rule.longest}")
    _accepted(rule, name)


def _with_proxies(properties: Properties, accepted: dict[str, Any]) -> Properties:
    """The new values, if the proxy settings fit together: lists with OVERRIDE, and only with it (jobs.md §7.2)."""
    is_override = accepted.get("proxy_usage", properties.proxy_usage) is ProxyUsage.OVERRIDE
    if not is_override:
        accepted = {"proxy_list": "", "proxy_bypass_list": "", **accepted}
    after = replace(properties, **accepted)
    if is_override and not after.proxy_list:
        step = "proxy_list names no proxy; give one, or another usage"
        _refuse(PROPERTIES["proxy_usage"], "override", codes.E_INVALIDARG, step)
    for name in ("proxy_list", "proxy_bypass_list"):
        value = getattr(after, name)
        if value and not is_override:
            _refuse(PROPERTIES[name], value, codes.E_INVALIDARG, "proxy_usage is not override; set both together")
        if "@" in value:
            step = "user names and passwords do not belong into a proxy list; leave them out"
            raise BitsError(codes.E_INVALIDARG, f"cannot set {name}: {step}")
    return after


def _accepted(rule: Property, value: object) -> object:
    if issubclass(rule.type, enum.IntFlag):
        return _flags(rule, rule.type, value)
    if issubclass(rule.type, enum.Enum):
        return _member(rule, rule.type, value)
    if rule.type is bool:
        return value if isinstance(value, bool) else _refuse(rule, value, codes.E_INVALIDARG, "use true or false")
    if rule.type is int:
        return max(rule.raised_to, _number(rule, value))
    return _text(rule, value)


def _text(rule: Property, value: object) -> str:
    if not isinstance(value, str):
        _refuse(rule, value, codes.E_INVALIDARG, "use a text")
    if len(value) > rule.longest:
        step = f"it has {len(value)} characters; use at most {rule.longest}"
        _refuse(rule, value, rule.too_long, step)
    allowed = "\t\n\r" if rule.may_have_lines else ""
    bad = next((one for one in value if unicodedata.category(one) in _UNSAFE and one not in allowed), None)
    if bad is not None:
        _refuse(rule, value, codes.E_INVALIDARG, f"U+{ord(bad):04X} is a control character; leave it out")
    return value


def _member(rule: Property, kind: type[enum.Enum], value: object) -> enum.Enum:
    members = {member.name.lower(): member for member in kind}
    if not isinstance(value, str):
        _refuse(rule, value, codes.E_INVALIDARG, f"use one of {', '.join(members)}")
    if value not in members:
        _refuse(rule, value, codes.E_NOTIMPL, f"it is undefined; use one of {', '.join(members)}")
    return members[value]


def _flags(rule: Property, kind: type[enum.IntFlag], value: object) -> enum.IntFlag:
    bits = {name.lower(): int(flag) for name, flag in kind.__members__.items()}
    number = _number(rule, value)
    if number & ~sum(bits.values()):
        known = ", ".join(f"{bit} {name}" for name, bit in bits.items())
        _refuse(rule, value, codes.E_NOTIMPL, f"it has undefined bits; add up some of {known}")
    return kind(number)


def _number(rule: Property, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U32_MAX:
        _refuse(rule, value, codes.E_INVALIDARG, f"use a whole number from 0 to {_U32_MAX}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, enum.IntFlag):
        return int(value)
    return value.name.lower() if isinstance(value, enum.Enum) else value


def _refuse(rule: Property, value: object, code: int, reason_and_step: str) -> Never:
    raise BitsError(code, f"cannot set {rule.name} to {_shown(value)}: {reason_and_step}")


def _shown(value: object) -> str:
    """A value in a message: printable and short."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
