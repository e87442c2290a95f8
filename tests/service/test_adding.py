"""Names that AddFile takes and refuses: jobs.md §8.1, OPEN-29, user-pains 23."""

import pytest

from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.service.adding import check_path, check_url

GOOD_URLS = [
    "http://example.org/file",
    "https://example.org:8443/a/b?c=d&e=%20",
    "HTTP://EXAMPLE.ORG/",
    "http://[::1]:80/x",
    "http://example.org/" + "a" * 260,
]

BAD_URLS = {
    "": "only URL characters",
    "example.org/file": "scheme",
    "ftp://example.org/file": "scheme",
    "file:///etc/passwd": "scheme",
    "http:///file": "host is missing",
    "http://example.org:99999/file": "not a URL",
    "http://[::1/file": "not a URL",
    "http://example.org/a b": "only URL characters",
    "http://example.org/ä": "only URL characters",
    "http://example.org/a\r\nX: y": "only URL characters",
    "http://example.org/a\0": "only URL characters",
    "http://user:secret@example.org/file": "credentials",
    "http://example.org/" + "a" * 261: "longer than 260",
    "http://example.org/" + "/".join(["a" * 200] * 11): "limit is 2200",
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_legal_url_is_kept_as_it_is(url: str) -> None:
    assert check_url(url) == url


def test_a_fragment_is_not_sent_to_a_server_and_is_dropped() -> None:
    assert check_url("http://example.org/file#part") == "http://example.org/file"


@pytest.mark.parametrize(("url", "rule"), BAD_URLS.items())
def test_a_bad_url_is_refused_with_the_rule(url: str, rule: str) -> None:
    with pytest.raises(BitsError) as refused:
        check_url(url)
    assert refused.value.hresult == codes.E_INVALIDARG
    assert rule in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


GOOD_PATHS = {
    "/srv/in/file": "/srv/in/file",
    "/srv/./in/../out/file": "/srv/out/file",
    "//srv//file": "/srv/file",
    "/srv/100%": "/srv/100%",
    "/srv/price$USD.txt": "/srv/price$USD.txt",
    "/srv/a~": "/srv/a~",
    "/" + "a" * 255: "/" + "a" * 255,
}

BAD_PATHS = {
    "": "absolute",
    "file": "absolute",
    "./file": "absolute",
    "~/file": "not expanded",
    "~bob/file": "not expanded",
    "$HOME/file": "$HOME was not expanded",
    "${HOME}/file": "not expanded",
    "%TEMP%/file": "%TEMP% was not expanded",
    "/srv/$USER/file": "$USER was not expanded",
    "/srv/a\0b": "NUL",
    "/srv/a\nb": "line break",
    "/srv/": "names a directory",
    "/srv/..": "names a directory",
}


@pytest.mark.parametrize(("path", "normal"), GOOD_PATHS.items())
def test_a_legal_path_is_normalised(path: str, normal: str) -> None:
    assert check_path(path) == normal


@pytest.mark.parametrize(("path", "rule"), BAD_PATHS.items())
def test_a_bad_path_is_refused_with_the_rule(path: str, rule: str) -> None:
    with pytest.raises(BitsError) as refused:
        check_path(path)
    assert refused.value.hresult == codes.E_INVALIDARG
    assert rule in str(refused.value)


@pytest.mark.parametrize("path", ["/" + "a" * 256, "/" + "/".join(["a" * 200] * 21)])
def test_a_path_beyond_the_limits_is_too_long(path: str) -> None:
    with pytest.raises(BitsError) as refused:
        check_path(path)
    assert refused.value.hresult == 0x800700CE
    assert "too long" in str(refused.value)
