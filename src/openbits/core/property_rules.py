"""What a client may set a property to, and when: the rows of `properties.PROPERTIES`, applied.

On the wire an enumeration is the lower-case name of its member and flags are a number. `changed` checks what a client
sent: wrong types and unknown names are E_INVALIDARG, undefined values of an enumeration or of flags E_NOTIMPL (jobs.md
§2.3). Texts are counted in Unicode code points (OPEN-01); control characters and unpaired surrogates are refused, since
texts end up in terminals, logs and UTF-8. `check_settable` looks at the job; whether it may change at all is decided by
`requests` and `access`.
"""

import enum
import re
import unicodedata
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Never

from openbits.core import codes
from openbits.core.enums import JobType, Priority, ProxyUsage
from openbits.core.errors import BitsError
from openbits.core.model import Job
from openbits.core.properties import PROPERTIES, Properties, Property
from openbits.core.wording import name_of

USUAL_METHODS: Final[Mapping[JobType, str]] = {
    JobType.DOWNLOAD: "GET",
    JobType.UPLOAD: "BITS_POST",
    JobType.UPLOAD_REPLY: "BITS_POST",
}

_UNSAFE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that no text may have: controls, surrogates, separators of lines and paragraphs."""

_HTTP_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


def changed(properties: Properties, values: Mapping[str, object], job_type: JobType = JobType.DOWNLOAD) -> Properties:
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
    if accepted.get("http_method") == USUAL_METHODS[job_type]:
        accepted["http_method"] = ""
    return _with_method(properties, _with_proxies(properties, accepted), accepted)


def check_settable(job: Job, names: Iterable[str], after: Properties) -> None:
    """Refuse what the type, the state, the past or the files of the job forbid. Raises BitsError with the row's code.

    `after`: all properties as they would be.
    """
    for rule in (PROPERTIES[name] for name in names):
        if job.type not in rule.job_types:
            _forbid(rule, job, rule.wrong_type, f"it is for {_listed(rule.job_types)} jobs; leave it out")
        if job.state not in rule.settable_in:
            _forbid(rule, job, rule.wrong_state, f"it is {job.state.name}; set it in {_listed(rule.settable_in)}")
        if rule.until_resumed and job.was_resumed:
            code = codes.BG_E_READ_ONLY_PROPERTY_AFTER_RESUME
            _forbid(rule, job, code, "the job was resumed already; set it in a new job")
        if rule.until_files and job.files:
            code = codes.BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE
            _forbid(rule, job, code, "the job has files already; set it in a new job, before the first file")
    if after.dynamic_content and any(file.ranges for file in job.files):
        step = "it has files with ranges, which need a server that knows them; use one of both"
        _forbid(PROPERTIES["dynamic_content"], job, codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION, step)


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


def _with_method(before: Properties, after: Properties, named: Container[str]) -> Properties:
    """A method of one's own: in the foreground for good, and not with what needs the usual method (jobs.md §9.9)."""
    method = after.http_method
    if not method:
        return after
    code = codes.BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD
    for name in ("dynamic_content", "on_demand_mode"):
        if getattr(after, name) and name in named:
            _refuse(PROPERTIES[name], True, code, f"the job has the HTTP method {method}; use one of both")
        if getattr(after, name):
            _refuse(PROPERTIES["http_method"], method, code, f"the job has {name}; use one of both, in a new job")
    if "priority" in named and (before.http_method or after.priority is not Priority.FOREGROUND):
        step = f"with the HTTP method {method} it is foreground for good; leave it out"
        _refuse(PROPERTIES["priority"], after.priority.name.lower(), code, step)
    return replace(after, priority=Priority.FOREGROUND)


def _accepted(rule: Property, value: object) -> object:
    if value is None and rule.is_optional:
        return None
    if issubclass(rule.type, enum.IntFlag):
        return _flags(rule, rule.type, value)
    if issubclass(rule.type, enum.Enum):
        return _member(rule, rule.type, value)
    if rule.type is bool:
        return value if isinstance(value, bool) else _refuse(rule, value, codes.E_INVALIDARG, "use true or false")
    if rule.type is int:
        number = _number(rule, value)
        if number < rule.lowest and rule.too_low is not None:
            _refuse(rule, value, rule.too_low, f"use a number from {rule.lowest} on")
        return max(rule.lowest, number if rule.highest is None else min(rule.highest, number))
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
    if rule.is_http_token and value and not _HTTP_TOKEN.fullmatch(value):
        _refuse(rule, value, codes.E_INVALIDARG, "it is no HTTP method; use letters, digits and !#$%&'*+-.^_`|~")
    return _guid(rule, value) if rule.is_guid and value else value


def _guid(rule: Property, value: str) -> str:
    """The usual spelling; empty for the null GUID, which clears."""
    try:
        given = uuid.UUID(value)
    except ValueError:
        _refuse(rule, value, codes.E_INVALIDARG, "it is no GUID; write it as 01234567-89ab-cdef-0123-456789abcdef")
    return str(given) if given.int else ""


def _member(rule: Property, kind: type[enum.Enum], value: object) -> enum.Enum:
    members = {member.name.lower(): member for member in kind}
    if not isinstance(value, str):
        _refuse(rule, value, codes.E_INVALIDARG, f"use one of {', '.join(members)}")
    if value not in members:
        _refuse(rule, value, rule.undefined, f"it is undefined; use one of {', '.join(members)}")
    return members[value]


def _flags(rule: Property, kind: type[enum.IntFlag], value: object) -> enum.IntFlag:
    bits = {name.lower(): int(flag) for name, flag in kind.__members__.items()}
    number = _number(rule, value)
    if number & ~sum(bits.values()):
        known = ", ".join(f"{bit} {name}" for name, bit in bits.items())
        _refuse(rule, value, rule.undefined, f"it has undefined bits; add up some of {known}")
    if (number & rule.exclusive).bit_count() > 1:
        either = " and ".join(name for name, bit in bits.items() if bit & rule.exclusive)
        _refuse(rule, value, rule.undefined, f"{either} exclude each other; use one of both")
    return kind(number)


def _number(rule: Property, value: object) -> int:
    highest = (1 << rule.bits) - 1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        _refuse(rule, value, codes.E_INVALIDARG, f"use a whole number from 0 to {highest}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, enum.IntFlag):
        return int(value)
    return value.name.lower() if isinstance(value, enum.Enum) else value


def _refuse(rule: Property, value: object, code: int, reason_and_step: str) -> Never:
    raise BitsError(code, f"cannot set {rule.name} to {_shown(value)}: {reason_and_step}")


def _forbid(rule: Property, job: Job, code: int, reason_and_step: str) -> Never:
    raise BitsError(code, f"cannot set {rule.name} of {name_of(job)}: {reason_and_step}")


def _listed(members: Iterable[enum.Enum]) -> str:
    return ", ".join(sorted(member.name for member in members))


def _shown(value: object) -> str:
    """A value in a message: printable and short."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…{text[-1]}"  # with its quotation mark
