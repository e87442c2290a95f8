"""Proxy settings in files: our table, and the variables of the environment (jobs.md §9.7, OPEN-48)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.proxies import BadProxiesError, Settings, Usage, read
from openbits.core.proxy_files import Credential, Environment, read_environment, read_table

FILE = "/home/a/.config/openbits/proxy.toml"
CANARY = "canary-4711"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", None),
        ("[proxy]", None),
        ('[proxy]\nusage = "environment"', None),
        ('[proxy]\nusage = "no-proxy"', Settings(usage=Usage.NO_PROXY, source=FILE)),
        ('[proxy]\nusage = "autodetect"', Settings(usage=Usage.AUTODETECT, source=FILE)),
        (
            '[proxy]\nusage = "override"\nlist = "http=p:1 q:2"\nbypass = "<local>"',
            Settings(usage=Usage.OVERRIDE, proxy_list="http=p:1 q:2", bypass="<local>", source=FILE),
        ),
        (
            '[proxy]\nusage = "script"\nurl = "https://h.example/proxy.pac"',
            Settings(usage=Usage.SCRIPT, script_url="https://h.example/proxy.pac", source=FILE),
        ),
    ],
)
def test_a_table_says_which_proxy(text: str, settings: Settings | None) -> None:
    assert read_table(text, FILE) == settings


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        (f"[proxy]\nusage = {CANARY}", 2, "this is not TOML"),
        ('[proxy\nusage = "no-proxy"', 1, "this is not TOML"),
        (f'# {CANARY}\n[proxies]\nusage = "no-proxy"', 2, "the only table of this file is [proxy]"),
        ('proxy = "p:1"', 1, "write [proxy]"),
        (f'[proxy]\n\nlists = "{CANARY}"', 3, "the keys of [proxy] are usage, list, bypass, url"),
        (f'[proxy]\nusage = "{CANARY}"', 2, "usage is one of environment, no-proxy, override, autodetect, script"),
        ("[proxy]\nusage = 1", 2, "usage is one of"),
        ("[proxy]\nlist = [1]", 2, "list is a text"),
        ('[proxy]\nlist = "p:1"', 2, 'it goes with usage = "override" alone'),
        ('[proxy]\nusage = "script"\nbypass = "h"\nurl = "http://h/"', 3, "override"),
        ('[proxy]\nusage = "no-proxy"\nurl = "http://h/"', 3, 'it goes with usage = "script" alone'),
        ('[proxy]\nusage = "override"', 1, "names no proxy"),
        (f'[proxy]\nusage = "override"\nlist = "ftp={CANARY}:1"', 3, "the protocol before = is one of"),
        (f'[proxy]\nusage = "override"\nlist = "p:1"\nbypass = "{CANARY}.*"', 4, "write a host name"),
        (f'[proxy]\nusage = "script"\nurl = "file:///{CANARY}"', 3, "http or https"),
        ('[proxy]\nusage = "script"', 1, "http or https"),
    ],
)
def test_a_mistake_is_told_by_file_line_and_rule_and_never_by_content(text: str, line: int, rule: str) -> None:
    with pytest.raises(BadProxiesError) as caught:
        read_table(text, FILE)
    told = str(caught.value)
    assert told.startswith(f"cannot use {FILE}: line {line}: ")
    assert rule in told
    assert CANARY not in told


def variables(*texts: str) -> Environment | None:
    return read_environment([(f"/e/{number}.conf", text) for number, text in enumerate(texts)], "/e")


def chosen(text: str, scheme: str, host: str = "h.example", port: int = 80) -> list[str]:
    found = variables(text)
    assert found is not None
    return [proxy.label for proxy in read(found.settings).of(scheme, host, port)]


@pytest.mark.parametrize(
    ("text", "for_http", "for_https"),
    [
        ("http_proxy=http://p:3128", ["p:3128"], []),
        ("https_proxy=http://p:3128/", [], ["p:3128"]),
        ("http_proxy=p:1\nhttps_proxy=q:2", ["p:1"], ["q:2"]),
        ("all_proxy=socks5h://s", ["socks5://s:1080"], ["socks5://s:1080"]),
        ("all_proxy=a:1\nhttp_proxy=b:2", ["b:2"], ["a:1"]),
        ("HTTP_PROXY=p:1", ["p:1"], []),
        ("HTTP_PROXY=upper:1\nhttp_proxy=lower:2", ["lower:2"], []),
        ("http_proxy=p", ["p:80"], []),
        ("http_proxy=https://p", ["https://p:443"], []),
        ("http_proxy=http://[2001:db8::1]:8080", ["[2001:db8::1]:8080"], []),
        ('  export http_proxy="p:1"  # the one', ["p:1"], []),
        ("http_proxy='p:1'", ["p:1"], []),
        ("# http_proxy=q:2\nhttp_proxy=p:1", ["p:1"], []),
        ("http_proxy=q:2\nhttp_proxy=p:1", ["p:1"], []),
        ('PATH=$HOME/bin:${PATH}\n*?!\nhttp_proxy=p:1\nX="unfinished', ["p:1"], []),
        ("all_proxy=a:1\nhttp_proxy=", ["a:1"], ["a:1"]),
    ],
)
def test_variables_say_which_proxy(text: str, for_http: list[str], for_https: list[str]) -> None:
    assert (chosen(text, "http"), chosen(text, "https")) == (for_http, for_https)


def test_no_proxy_has_exceptions_and_says_what_it_does_not_understand() -> None:
    text = "http_proxy=p:1\nno_proxy=.example.org,10.0.0.0/8,<local>"
    assert chosen(text, "http", "www.example.org") == []
    assert chosen(text, "http", "10.9.9.9") == []
    assert chosen(text, "http", "other.example") == ["p:1"]
    found = variables(text)
    assert found is not None
    assert found.settings.source == "/e (not understood in no_proxy: 1 of its items)"


def test_later_files_win() -> None:
    found = variables("http_proxy=first:1\nhttps_proxy=first:1", "http_proxy=second:2")
    assert found is not None
    assert found.settings.proxy_list == "http=http://second:2 https=http://first:1"


@pytest.mark.parametrize("text", ["", "PATH=/bin", "http_proxy=", "no_proxy=localhost", 'HTTP_PROXY=""'])
def test_files_that_name_no_proxy_say_nothing(text: str) -> None:
    assert variables(text) is None


def test_an_exception_for_everything_is_a_word_for_direct_connections() -> None:
    assert variables("no_proxy=*") == Environment(settings=Settings(usage=Usage.NO_PROXY, source="/e"))


def test_user_and_password_are_kept_apart() -> None:
    found = variables("https_proxy=http://me:p%40ss@p:3128")
    assert found is not None
    assert found.credentials == (Credential(label="p:3128", user="me", password="p@ss"),)
    assert found.settings.proxy_list == "https=http://p:3128"
    assert "p@ss" not in repr(found)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (f"http_proxy={CANARY}:port", "[kind://][user:password@]server[:port]"),
        (f"http_proxy=ftp://{CANARY}", "kind one of http, https, socks5, socks5h"),
        (f"http_proxy=http://u:{CANARY}@p:0", "[kind://][user:password@]server[:port]"),
        (f"http_proxy=http://p/{CANARY}", "[kind://][user:password@]server[:port]"),
        (f'http_proxy="{CANARY}', "write http_proxy=value"),
        (f"http_proxy = {CANARY}:1", "write http_proxy=value"),
        (f"http_proxy=${CANARY}", "has to stand there as it is"),
        (f"http_proxy={CANARY}\\:1", "has to stand there as it is"),
        (f"http_proxy={CANARY} {CANARY}", "[kind://][user:password@]server[:port]"),
    ],
)
def test_a_mistake_in_a_variable_is_told_by_file_and_line(line: str, rule: str) -> None:
    with pytest.raises(BadProxiesError) as caught:
        variables("all_proxy=p:1", f"# first\n{line}")
    told = str(caught.value)
    assert told.startswith("cannot use /e/1.conf: line 2: ")
    assert rule in told
    assert CANARY not in told


@given(st.text(max_size=200) | st.text("htps_proxyno=:/@[]#'\"$ \n1.*,", max_size=120))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """What is understood can be used, and fits into a message to the worker."""
    for reading in (lambda: read_table(text, FILE), lambda: variables(text, f"http_proxy={text}")):
        try:
            found = reading()
        except BadProxiesError as error:
            assert f"{FILE}: line " in str(error) or ".conf: line " in str(error)  # noqa: PT017  # as it says
            continue
        settings = found.settings if isinstance(found, Environment) else found
        if settings is not None:
            read(settings)
            assert (settings.proxy_list + settings.no_proxy).isascii()
