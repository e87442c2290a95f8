"""Which proxy a request goes through: the grammar and the choice of jobs.md §9.7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.proxies import MAX_TOGETHER, BadProxiesError, Kind, Proxies, Settings, Usage, read


def chosen(proxy_list: str, url: str, bypass: str = "") -> list[str]:
    """The proxies for `scheme://host`, as labels."""
    scheme, _, host = url.partition("://")
    return [proxy.label for proxy in override(proxy_list, bypass).of(scheme, host, 80)]


def override(proxy_list: str, bypass: str = "", no_proxy: str = "") -> Proxies:
    return read(Settings(usage=Usage.OVERRIDE, proxy_list=proxy_list, bypass=bypass, no_proxy=no_proxy))


@pytest.mark.parametrize(
    ("proxy_list", "for_http", "for_https"),
    [
        ("p", ["p:80"], ["p:80"]),
        ("p:3128", ["p:3128"], ["p:3128"]),
        ("http://p:3128", ["p:3128"], ["p:3128"]),
        ("HTTP://p:3128/", ["p:3128"], ["p:3128"]),
        ("http=a:1 https=b:2", ["a:1"], ["b:2"]),
        ("http=http://a:1 c:3", ["a:1"], ["c:3"]),
        ("https=b:2", [], ["b:2"]),
        ("a:1 b:2  c:3", ["a:1", "b:2", "c:3"], ["a:1", "b:2", "c:3"]),
        ("http=a:1;https=b:2;http=c:3", ["a:1", "c:3"], ["b:2"]),
        ("[2001:db8::1]:8080 10.0.0.1", ["[2001:db8::1]:8080", "10.0.0.1:80"], ["[2001:db8::1]:8080", "10.0.0.1:80"]),
        ("p:65535", ["p:65535"], ["p:65535"]),
        ("https://p", ["https://p:443"], ["https://p:443"]),
        ("https=https://p:8443 http=q", ["q:80"], ["https://p:8443"]),
        ("socks5://p", ["socks5://p:1080"], ["socks5://p:1080"]),
        ("socks5h://p:9 SOCKS5://[::1]:9", ["socks5://p:9", "socks5://[::1]:9"], ["socks5://p:9", "socks5://[::1]:9"]),
    ],
)
def test_a_proxy_list_is_read(proxy_list: str, for_http: list[str], for_https: list[str]) -> None:
    assert chosen(proxy_list, "http://h.example") == for_http
    assert chosen(proxy_list, "https://h.example") == for_https


@pytest.mark.parametrize(
    ("bypass", "host", "is_direct"),
    [
        ("", "h.example", False),
        ("h.example", "h.example", True),
        ("H.Example", "h.example", True),
        ("h.example", "h.example.", True),
        ("h.example", "www.h.example", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "example.org.evil.net", False),
        ("*example.org", "myexample.org", True),
        ("*", "anything.example", True),
        ("<local>", "intranet", True),
        ("<LOCAL>", "intranet", True),
        ("<local>", "intranet.example", False),
        ("<local>", "[::1]", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.10", False),
        ("::1", "[::1]", True),
        ("[2001:DB8:0::1]", "[2001:db8::1]", True),
        ("a.example b.example;c.example", "c.example", True),
    ],
)
def test_the_bypass_list_names_whom_to_reach_directly(bypass: str, host: str, *, is_direct: bool) -> None:
    assert (chosen("p:1", f"http://{host}", bypass) == []) is is_direct


@pytest.mark.parametrize(
    ("proxy_list", "bypass", "shown"),
    [
        (" ; ", "", "names no proxy"),
        ("ftp=p:1", "", "ftp=p:1"),
        ("socks4://p:1", "", "one of http, https, socks5, socks5h"),
        ("socks5=p:1", "", "one of http, https"),
        ("p:0", "", "p:0"),
        ("p:65536", "", "p:65536"),
        ("p:port", "", "p:port"),
        ("p q!", "", "q!"),
        ("http://", "", "http://"),
        ("[::zz]:1", "", "::zz"),
        ("[1::2::3]:1", "", "1::2::3"),
        ("b\u00fccher:1", "", "b\\xfccher"),
        ("p:1", "aaa.*", "aaa.*"),
        ("p:1", "a*b", "a*b"),
        ("p:1", "10.0.0.0/8", "10.0.0.0/8"),
        ("p:1", "<remote>", "<remote>"),
        ("p:1", "h:80", "h:80"),
        ("p" * (MAX_TOGETHER - 2), "h.e", "48001 characters"),
    ],
)
def test_what_cannot_be_read_is_named(proxy_list: str, bypass: str, shown: str) -> None:
    with pytest.raises(BadProxiesError) as caught:
        override(proxy_list, bypass)
    assert shown in str(caught.value)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("usage", [usage for usage in Usage if usage is not Usage.OVERRIDE])
def test_only_override_reads_the_lists(usage: Usage) -> None:
    assert read(Settings(usage=usage, proxy_list="no!list")).of("http", "h", 80) == ()


@pytest.mark.parametrize(
    ("bypass", "no_proxy", "host", "port", "why"),
    [
        ("*.example.org", "", "www.example.org", 80, "*.example.org"),
        ("", "example.org:8080", "example.org", 8080, "example.org:8080"),
        ("", "example.org:8080", "example.org", 80, ""),
        ("<local>", "*", "intranet", 80, "<local>"),
        ("", "", "h", 80, ""),
    ],
)
def test_who_is_reached_directly_is_told_why(bypass: str, no_proxy: str, host: str, port: int, why: str) -> None:
    proxies = override("p:1", bypass, no_proxy)
    assert proxies.why_bypassed(host, port) == why
    assert (proxies.of("http", host, port) == ()) is bool(why)


@given(st.text(max_size=60) | st.text("ps:/=.;[]1 5ht", max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_read_or_refused(proxy_list: str, bypass: str, host: str) -> None:
    """Whatever comes out of a list can be written into it again, and means the same."""
    try:
        proxies = override(proxy_list, bypass)
    except BadProxiesError as error:
        assert str(error).isascii()  # noqa: PT017  # either way is right
        return
    proxies.of("https", host, 443)
    for protocol, proxy in proxies.rows:
        assert 0 < proxy.port < 65536
        again = f"{proxy.kind}://{proxy.label}" if proxy.kind is Kind.HTTP else proxy.label
        assert override(f"{protocol}={again}" if protocol else again).rows == ((protocol, proxy),)
