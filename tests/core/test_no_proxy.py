"""The variable no_proxy: one grammar for what the programs of the field read in their own ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.no_proxy import Exceptions


@pytest.mark.parametrize(
    ("text", "host", "port", "is_direct"),
    [
        ("", "h.example", 80, False),
        ("*", "h.example", 80, True),
        ("*", "10.1.2.3", 80, True),
        ("example.org", "example.org", 80, True),
        ("example.org", "EXAMPLE.ORG.", 80, True),
        ("Example.Org", "www.example.org", 80, True),
        ("example.org", "notexample.org", 80, False),
        ("example.org", "example.org.evil.net", 80, False),
        (".example.org", "www.example.org", 80, True),
        (".example.org", "example.org", 80, True),
        ("*.example.org", "a.b.example.org", 80, True),
        ("localhost", "localhost", 80, True),
        ("a.example, b.example", "b.example", 80, True),
        ("a.example b.example", "b.example", 80, True),
        ("a.example,,b.example", "c.example", 80, False),
        ("example.org:8080", "www.example.org", 8080, True),
        ("example.org:8080", "www.example.org", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3", "10.1.2.30", 80, False),
        ("10.1.2.3:81", "10.1.2.3", 81, True),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("10.0.0.0/8", "10.200.1.1", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.1.2.3/8", "10.200.1.1", 80, True),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("::1", "[::1]", 80, True),
        ("[::1]", "[0:0::1]", 80, True),
        ("[::1]:8080", "[::1]", 8080, True),
        ("[::1]:8080", "[::1]", 80, False),
        ("2001:db8::/32", "[2001:db8:1::5]", 80, True),
        ("2001:db8::/32", "[2001:db9::5]", 80, False),
        ("2.3", "10.1.2.3", 80, False),
    ],
)
def test_an_item_names_servers(text: str, host: str, port: int, *, is_direct: bool) -> None:
    assert bool(Exceptions.parse(text).match(host, port)) is is_direct


@pytest.mark.parametrize("item", ["a*b", "10.0.0.0/33", "<local>", "h:99999x", "a..b", "[::1", "b\u00fccher.example"])
def test_what_cannot_be_read_matches_nothing_and_is_listed(item: str) -> None:
    exceptions = Exceptions.parse(f"{item},good.example")
    assert exceptions.ignored == (item,)
    assert exceptions.match("good.example", 80) == "good.example"
    assert exceptions.text == "good.example"


@given(st.text(max_size=80) | st.text("ab.*:/[]012,", max_size=40), st.text("ab.0129:[]", max_size=20))
def test_any_text_is_read_and_written_again(text: str, host: str) -> None:
    exceptions = Exceptions.parse(text)
    again = Exceptions.parse(exceptions.text)
    assert again.items == exceptions.items
    assert exceptions.text.isascii()
    assert exceptions.match(host, 80) == again.match(host, 80)
