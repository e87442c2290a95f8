"""The functions of proxy scripts, by their documentation: each row is an example or a sentence of it."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.pac_functions import Surroundings, functions, matches

NAMES = {
    "www.example.org": ["198.95.249.79"],
    "six.example.org": ["2001:db8::7"],
    "both.example.org": ["2001:db8::8", "10.0.0.8"],
}


def call(name: str, *arguments: Any, at: str = "2026-11-21 12:30:15", utc: str = "2026-11-21 11:30:15") -> Any:
    """The function, on a Saturday."""
    around = Surroundings(
        local=datetime.fromisoformat(at),
        utc=datetime.fromisoformat(utc),
        addresses=("192.0.2.7", "2001:db8::2"),
        resolve=lambda host: NAMES.get(host, ()),
    )
    return functions(around)[name](*arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("isPlainHostName", ("www",), True),
        ("isPlainHostName", ("www.mozilla.org",), False),
        ("isPlainHostName", ("::1",), False),
        ("dnsDomainIs", ("www.mozilla.org", ".mozilla.org"), True),
        ("dnsDomainIs", ("www", ".mozilla.org"), False),
        ("dnsDomainIs", ("WWW.Mozilla.org", ".mozilla.ORG"), True),
        ("localHostOrDomainIs", ("www.mozilla.org", "www.mozilla.org"), True),
        ("localHostOrDomainIs", ("www", "www.mozilla.org"), True),
        ("localHostOrDomainIs", ("www.google.com", "www.mozilla.org"), False),
        ("localHostOrDomainIs", ("home.mozilla.org", "www.mozilla.org"), False),
        ("localHostOrDomainIs", ("ww", "www.mozilla.org"), False),
        ("isResolvable", ("www.example.org",), True),
        ("isResolvable", ("bogus.example.org",), False),
        ("isResolvable", ("six.example.org",), False),
        ("isResolvableEx", ("six.example.org",), True),
        ("isInNet", ("www.example.org", "198.95.249.79", "255.255.255.255"), True),
        ("isInNet", ("www.example.org", "198.95.0.0", "255.255.0.0"), True),
        ("isInNet", ("198.95.3.4", "198.95.0.0", "255.255.0.0"), True),
        ("isInNet", ("198.96.3.4", "198.95.0.0", "255.255.0.0"), False),
        ("isInNet", ("both.example.org", "10.0.0.0", "255.0.0.0"), True),
        ("isInNet", ("bogus.example.org", "198.95.0.0", "255.255.0.0"), False),
        ("isInNet", ("198.95.3.4", "net", "255.255.0.0"), False),
        ("isInNetEx", ("198.95.249.79", "198.95.249.79/32"), True),
        ("isInNetEx", ("2001:db8::7", "2001:db8::/32"), True),
        ("isInNetEx", ("2001:db9::7", "2001:db8::/32"), False),
        ("isInNetEx", ("2001:db8::7", "198.95.0.0/16"), False),
        ("isInNetEx", ("2001:db8::7", "2001:db8::/200"), False),
        ("dnsResolve", ("www.example.org",), "198.95.249.79"),
        ("dnsResolve", ("10.1.1.1",), "10.1.1.1"),
        ("dnsResolve", ("bogus.example.org",), None),
        ("dnsResolveEx", ("both.example.org",), "2001:db8::8;10.0.0.8"),
        ("dnsResolveEx", ("bogus.example.org",), ""),
        ("convert_addr", ("104.16.41.2",), 1745889538),
        ("convert_addr", ("host",), 0),
        ("myIpAddress", (), "192.0.2.7"),
        ("myIpAddressEx", (), "192.0.2.7;2001:db8::2"),
        ("sortIpAddressList", ("10.2.3.9;2001:4898:28:3:201:2ff:feea:fc14;::1;127.0.0.1;::9",),
         "::1;::9;2001:4898:28:3:201:2ff:feea:fc14;10.2.3.9;127.0.0.1"),
        ("sortIpAddressList", ("10.0.0.1;host",), False),
        ("dnsDomainLevels", ("www",), 0),
        ("dnsDomainLevels", ("mozilla.org",), 1),
        ("dnsDomainLevels", ("www.mozilla.org",), 2),
        ("shExpMatch", ("http://home.netscape.com/people/ari/index.html", "*/ari/*"), True),
        ("shExpMatch", ("http://home.netscape.com/people/montulli/index.html", "*/ari/*"), False),
        ("alert", ("anything", 1), None),
        ("dnsDomainLevels", ("www.mozilla.org", 1, []), 2),
        ("isInNet", (), False),
    ],
)  # fmt: skip
def test_a_function_does_what_is_documented(name: str, arguments: tuple[Any, ...], expected: object) -> None:
    assert call(name, *arguments) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "ABC", False),
        ("abc", "a?c", True),
        ("abc", "a*", True),
        ("abc", "*c", True),
        ("abc", "*", True),
        ("", "*", True),
        ("", "?", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("a+c", "a+c", True),
        ("aab", "*ab", True),
        ("mississippi", "m*iss*ip*i", True),
        ("mississippi", "m*iss*ip*x", False),
        ("abc", "", False),
    ],
)
def test_a_shell_pattern_matches_the_whole_text(text: str, pattern: str, *, expected: bool) -> None:
    assert matches(text, pattern) is expected


@pytest.mark.parametrize(
    ("arguments", "at", "expected"),
    [
        (("MON", "FRI"), "2026-11-20 23:59:59", True),
        (("MON", "FRI"), "2026-11-21 00:00:00", False),
        (("SAT",), "2026-11-21 10:00:00", True),
        (("FRI", "MON"), "2026-11-22 10:00:00", True),
        (("FRI", "MON"), "2026-11-24 10:00:00", False),
        (("sat", "sun"), "2026-11-22 10:00:00", True),
        (("SAT", "GMT"), "2026-11-22 10:00:00", True),
        (("SUN", "GMT"), "2026-11-22 10:00:00", False),
        (("SATURDAY",), "2026-11-21 10:00:00", False),
        ((), "2026-11-21 10:00:00", False),
    ],
)
def test_weekdays(arguments: tuple[Any, ...], at: str, *, expected: bool) -> None:
    """With GMT it is still Saturday."""
    assert call("weekdayRange", *arguments, at=at, utc="2026-11-21 23:00:00") is expected


@pytest.mark.parametrize(
    ("arguments", "at", "expected"),
    [
        ((1,), "2026-11-01", True),
        ((1,), "2026-11-02", False),
        ((1, "GMT"), "2026-11-02", True),
        ((1, 15), "2026-11-15", True),
        ((1, 15), "2026-11-16", False),
        ((24, "DEC"), "2026-12-24", True),
        ((24, "DEC"), "2026-12-25", False),
        ((24, "DEC", 1995), "1995-12-24", True),
        ((24, "DEC", 1995), "1996-12-24", False),
        (("JAN", "MAR"), "2026-03-31", True),
        (("JAN", "MAR"), "2026-04-01", False),
        (("NOV", "FEB"), "2026-01-05", True),
        ((1, "JUN", 15, "AUG"), "2026-06-01", True),
        ((1, "JUN", 15, "AUG"), "2026-08-16", False),
        ((20, "DEC", 6, "JAN"), "2026-01-06", True),
        ((20, "DEC", 6, "JAN"), "2026-01-07", False),
        ((1, "JUN", 1995, 15, "AUG", 1995), "1995-08-15", True),
        ((1, "JUN", 1995, 15, "AUG", 1995), "1996-07-01", False),
        (("OCT", 1995, "MAR", 1996), "1996-01-01", True),
        (("OCT", 1995, "MAR", 1996), "1996-04-01", False),
        ((1995,), "1995-07-07", True),
        ((1995, 1997), "1998-01-01", False),
        ((1997, 1995), "1996-01-01", False),
        (("JULY",), "2026-07-01", False),
        ((1, "JAN", 2), "2026-01-01", False),
        ((1.5,), "2026-01-01", False),
        ((), "2026-01-01", False),
    ],
)
def test_dates(arguments: tuple[Any, ...], at: str, *, expected: bool) -> None:
    """With GMT it is the first of the month."""
    assert call("dateRange", *arguments, at=f"{at} 10:00:00", utc="2026-11-01 23:00:00") is expected


@pytest.mark.parametrize(
    ("arguments", "at", "expected"),
    [
        ((12,), "12:59:59", True),
        ((12,), "13:00:00", False),
        ((12, 13), "12:00:00", True),
        ((12, 13), "13:00:00", True),
        ((12, 13), "13:00:01", False),
        ((12, "GMT"), "13:30:00", True),
        ((9, 17), "16:59:59", True),
        ((9, 17), "08:59:59", False),
        ((8, 30, 17, 0), "08:30:00", True),
        ((8, 30, 17, 0), "08:29:59", False),
        ((0, 0, 0, 0, 0, 30), "00:00:30", True),
        ((0, 0, 0, 0, 0, 30), "00:00:31", False),
        ((22, 6), "23:00:00", True),
        ((22, 6), "05:00:00", True),
        ((22, 6), "12:00:00", False),
        (("9", "17"), "10:00:00", True),
        ((1, 2, 3), "01:30:00", False),
        ((None,), "01:30:00", False),
    ],
)
def test_times(arguments: tuple[Any, ...], at: str, *, expected: bool) -> None:
    """With GMT it is half past twelve."""
    assert call("timeRange", *arguments, at=f"2026-11-21 {at}", utc="2026-11-21 12:30:00") is expected


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(
        sorted(
            functions(
                Surroundings(
                    local=datetime.fromisoformat("2026-01-01"),
                    utc=datetime.fromisoformat("2026-01-01"),
                    addresses=(),
                    resolve=lambda _: (),
                )
            )
        )
    ),
    st.lists(ANYTHING | st.sampled_from(["MON", "JAN", 1, 31, 1999, "GMT", "10.0.0.1"]), max_size=7),
)
def test_no_arguments_break_a_function(name: str, arguments: list[Any]) -> None:  # fmt: skip
    answer = call(name, *arguments)
    assert answer is None or isinstance(answer, bool | int | str)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_patterns_mean_what_a_plain_search_finds(pattern: str, text: str) -> None:
    def found(rest: str, wanted: str) -> bool:
        if not wanted:
            return not rest
        if wanted[0] == "*":
            return any(found(rest[cut:], wanted[1:]) for cut in range(len(rest) + 1))
        return bool(rest) and wanted[0] in {"?", rest[0]} and found(rest[1:], wanted[1:])

    assert matches(text, pattern) is found(text, pattern)
