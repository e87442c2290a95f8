"""The functions that a proxy script may call, as documented for PAC files; all values come in, also the time.

What a function is given was written by the script: anything at all. Unusable arguments make the function false, as an
uncaught error would end the script. Names are looked up by whoever evaluates. Ranges include both of their ends:
`timeRange(12, 13)` is from 12:00:00 to 13:00:00; a range whose end is before its beginning goes over midnight, or over
the end of the month or year.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from openbits.core.no_proxy import parse_address

WEEKDAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

MAX_TEXT: Final = 4096
"""Longest argument that is looked at."""

Resolve = Callable[[str], Sequence[str]]
"""Addresses of a host name, in order; none if it is unknown or may not be asked for."""

Function = Callable[..., object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """When and where a script is evaluated."""

    local: datetime
    utc: datetime
    addresses: tuple[str, ...]
    """Of this machine, as servers see them; the first is the one to name."""
    resolve: Resolve


def functions(around: Surroundings) -> Mapping[str, Function]:
    """The functions by name."""
    return {
        "isPlainHostName": _taking(1, lambda host: "." not in _text(host) and parse_address(_text(host)) is None),
        "dnsDomainIs": _taking(2, lambda host, domain: _text(host).lower().endswith(_text(domain).lower())),
        "localHostOrDomainIs": _taking(2, _is_host_or_its_first_label),
        "isResolvable": _taking(1, lambda host: _address_of(around, host, {4}) is not None),
        "isResolvableEx": _taking(1, lambda host: _address_of(around, host, {4, 6}) is not None),
        "isInNet": _taking(3, lambda host, network, mask: _is_in_net(around, host, network, mask)),
        "isInNetEx": _taking(2, _is_in_prefix),
        "dnsResolve": _taking(1, lambda host: _address_of(around, host, {4})),
        "dnsResolveEx": _taking(1, lambda host: ";".join(_addresses_of(around, host, {4, 6}))),
        "convert_addr": _taking(1, _number_of_address),
        "myIpAddress": _taking(0, lambda: next(iter(_of_versions(around.addresses, {4})), "127.0.0.1")),
        "myIpAddressEx": _taking(0, lambda: ";".join(around.addresses)),
        "sortIpAddressList": _taking(1, _sorted_addresses),
        "dnsDomainLevels": _taking(1, lambda host: _text(host).count(".")),
        "shExpMatch": _taking(2, lambda text, pattern: matches(_text(text), _text(pattern))),
        "weekdayRange": lambda *arguments: _is_in_weekdays(around, arguments),
        "dateRange": lambda *arguments: _is_in_dates(around, arguments),
        "timeRange": lambda *arguments: _is_in_times(around, arguments),
        "getClientVersion": _taking(0, lambda: "1.0"),
        "alert": lambda *_: None,
    }


def _taking(count: int, function: Function) -> Function:
    """Called as in JavaScript: what is missing is undefined, what is too much is ignored."""
    return lambda *given: function(*(*given, *[None] * count)[:count])


def matches(text: str, pattern: str) -> bool:
    """Shell pattern: `*` any characters, `?` one. Takes at most len(text) x len(pattern) steps, whatever they are."""
    here = there = 0
    star, resumed = -1, 0
    while here < len(text):
        if there < len(pattern) and pattern[there] == "*":
            star, resumed, there = there, here, there + 1
        elif there < len(pattern) and pattern[there] in {"?", text[here]}:
            here, there = here + 1, there + 1
        elif star >= 0:
            resumed += 1
            here, there = resumed, star + 1
        else:
            return False
    return all(character == "*" for character in pattern[there:])


# Hosts and addresses


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _is_host_or_its_first_label(host: object, whole: object) -> bool:
    name, full = _text(host).lower(), _text(whole).lower()
    return name == full or ("." not in name and full.startswith(f"{name}."))


def _of_versions(addresses: Sequence[str], versions: set[int]) -> list[str]:
    read = [(text, parse_address(text)) for text in addresses]
    return [text for text, address in read if address is not None and address.version in versions]


def _addresses_of(around: Surroundings, host: object, versions: set[int]) -> list[str]:
    name = _text(host)
    if not name:
        return []
    return _of_versions([name] if parse_address(name) is not None else around.resolve(name), versions)


def _address_of(around: Surroundings, host: object, versions: set[int]) -> str | None:
    return next(iter(_addresses_of(around, host, versions)), None)


def _is_in_net(around: Surroundings, host: object, network: object, mask: object) -> bool:
    read = [parse_address(text) for text in (_address_of(around, host, {4}) or "", _text(network), _text(mask))]
    numbers = [int(part) for part in read if isinstance(part, ipaddress.IPv4Address)]
    if len(numbers) != len(read):
        return False
    address, wanted, bits = numbers
    return address & bits == wanted & bits


def _is_in_prefix(host: object, prefix: object) -> bool:
    address = parse_address(_text(host))
    try:
        return address is not None and address in ipaddress.ip_network(_text(prefix), strict=False)
    except ValueError:
        return False


def _number_of_address(text: object) -> int:
    address = parse_address(_text(text))
    return int(address) if isinstance(address, ipaddress.IPv4Address) else 0


def _sorted_addresses(text: object) -> str | bool:
    """IPv6 first, each kind in ascending order; false if one of them is no address."""
    parts = [part.strip() for part in _text(text).split(";")]
    read = [address for address in map(parse_address, parts) if address is not None]
    if len(read) != len(parts):
        return False
    return ";".join(str(address) for address in sorted(read, key=lambda one: (-one.version, int(one))))


# Days and times


def _clock(around: Surroundings, arguments: tuple[object, ...]) -> tuple[datetime, list[object]]:
    """The time that counts, and the arguments without the word GMT."""
    is_utc = bool(arguments) and _text(arguments[-1]).upper() == "GMT"
    return (around.utc, list(arguments[:-1])) if is_utc else (around.local, list(arguments))


def _is_between(now: Sequence[int], first: Sequence[int], last: Sequence[int]) -> bool:
    if list(first) <= list(last):
        return list(first) <= list(now) <= list(last)
    return list(now) >= list(first) or list(now) <= list(last)


def _is_in_weekdays(around: Surroundings, arguments: tuple[object, ...]) -> bool:
    now, days = _clock(around, arguments)
    names = [_text(day).upper() for day in days]
    if len(names) not in {1, 2} or not all(name in WEEKDAYS for name in names):
        return False
    first, last = WEEKDAYS.index(names[0]), WEEKDAYS.index(names[-1])
    return _is_between([now.weekday()], [first], [last])


def _is_in_times(around: Surroundings, arguments: tuple[object, ...]) -> bool:
    now, given = _clock(around, arguments)
    numbers = [_integer(part) for part in given]
    if len(numbers) not in {1, 2, 4, 6} or any(number is None for number in numbers):
        return False
    parts = [number for number in numbers if number is not None]
    if len(parts) == 1:
        return now.hour == parts[0]
    half = len(parts) // 2
    first, last = ([*part, 0, 0][:3] for part in (parts[:half], parts[half:]))
    return _is_between([now.hour, now.minute, now.second], first, last)


def _is_in_dates(around: Surroundings, arguments: tuple[object, ...]) -> bool:
    """One date or two of the same parts; each part is a day, the name of a month, or a year."""
    now, given = _clock(around, arguments)
    parts = [_date_part(value) for value in given]
    if not parts or any(part is None for part in parts):
        return False
    known = [part for part in parts if part is not None]
    units, half = [unit for unit, _ in known], len(known) // 2
    is_range = len(known) % 2 == 0 and units[:half] == units[half:]
    first, last = (dict(known[:half]), dict(known[half:])) if is_range else (dict(known), dict(known))
    if len(first) != (half if is_range else len(known)):
        return False  # a unit twice in one date
    order = [unit for unit in ("year", "month", "day") if unit in first]
    present = {"year": now.year, "month": now.month, "day": now.day}
    low, high, current = ([date[unit] for unit in order] for date in (first, last, present))
    if "year" in first and low > high:
        return False
    return _is_between(current, low, high)


def _date_part(value: object) -> tuple[str, int] | None:
    if isinstance(value, str) and value.upper() in MONTHS:
        return "month", MONTHS.index(value.upper()) + 1
    number = _integer(value)
    if number is None:
        return None
    return ("day", number) if number <= 31 else ("year", number)


def _integer(value: object) -> int | None:
    """A number that a script gave, which may be a fraction or a text; None for what is no whole number."""
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 10:
        return int(value)
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if is_whole and isinstance(value, int | float) and abs(value) < 1e9 else None
