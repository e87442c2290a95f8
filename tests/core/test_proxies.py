"""Which proxy a request goes through: the grammar and the choice of jobs.md §9.7."""

import pytest

from openbits.core.enums import ProxyUsage
from openbits.core.proxies import MAX_TOGETHER, BadProxiesError, of_settings


def chosen(proxy_list: str, url: str, bypass: str = "") -> list[str]:
    """The proxies for `scheme://host`, as labels."""
    scheme, _, host = url.partition("://")
    return [proxy.label for proxy in of_settings(ProxyUsage.OVERRIDE, proxy_list, bypass).of(scheme, host)]


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
        ("socks5://p:1", "", "socks5"),
        ("https://p:1", "", "https is not built"),
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
        of_settings(ProxyUsage.OVERRIDE, proxy_list, bypass)
    assert shown in str(caught.value)
    assert str(caught.value).isascii()


def test_only_override_reads_the_lists_and_only_autodetect_has_a_note() -> None:
    made = {usage: of_settings(usage, "p:1" if usage is ProxyUsage.OVERRIDE else "", "") for usage in ProxyUsage}
    direct = [usage.name for usage, proxies in made.items() if not proxies.of("http", "h")]
    assert direct == ["PRECONFIG", "NO_PROXY", "AUTODETECT"]
    assert [usage.name for usage, proxies in made.items() if proxies.note] == ["AUTODETECT"]
