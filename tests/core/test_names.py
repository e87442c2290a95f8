"""Names that AddFile takes and refuses: jobs.md §8.1, OPEN-29, user-pains 23."""

import pytest

from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.core.names import check_path, check_url, file_url, path_of

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
    "file://server/share/file": "of other machines",
    "file:////server/share/file": "SMB",
    "\\\\server\\share\\file": "SMB",
    "//server/share/file": "SMB",
    "file:etc/passwd": "absolute",
    "file://": "absolute",
    "file:///": "directory",
    "file:///srv/": "directory",
    "file:///srv/..": "directory",
    "file:///srv/a?b": "%3F",
    "file:///srv/a#b": "%23",
    "file:///srv/a%": "hexadecimal",
    "file:///srv/a%zz": "hexadecimal",
    "file:///srv/a%2Fb": "%2F",
    "file:///srv/a%2fb": "%2F",
    "file:///srv/a%00b": "NUL",
    "file:///srv/a%0Ab": "line break",
    "file:///srv/ä": "only URL characters",
    "file:///$HOME/x": "not expanded",
    "/srv/a\0b": "NUL",
    "/srv/": "directory",
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


FILE_NAMES = {
    "/srv/in/file": "file:///srv/in/file",
    "file:///srv/in/file": "file:///srv/in/file",
    "file:/srv/in/file": "file:///srv/in/file",
    "FILE://localhost/srv/in/file": "file:///srv/in/file",
    "file://LOCALHOST/srv/./in/../out//file": "file:///srv/out/file",
    "file:///srv/%2e%2e/etc/passwd": "file:///etc/passwd",
    "/srv/a b?c#d%e": "file:///srv/a%20b%3Fc%23d%25e",
    "file:///srv/a%20b%3fc%23d%25e": "file:///srv/a%20b%3Fc%23d%25e",
    "file:///srv/100%25": "file:///srv/100%25",
    "/srv/100%": "file:///srv/100%25",
    "/srv/ä": "file:///srv/%C3%A4",
    "/srv/\udcff": "file:///srv/%FF",
    "/srv/" + "a" * 255: "file:///srv/" + "a" * 255,
}


@pytest.mark.parametrize(("given", "kept"), FILE_NAMES.items())
def test_a_file_of_this_machine_has_one_name_however_it_was_given(given: str, kept: str) -> None:
    assert check_url(given) == kept
    assert check_url(kept) == kept


@pytest.mark.parametrize("path", ["/srv/a b?c#d%e", "/srv/ä", "/srv/\udcff", "/srv/%41"])
def test_the_path_behind_a_remote_name_is_the_one_that_was_given(path: str) -> None:
    assert path_of(check_url(path)) == path
    assert file_url(path) == check_url(path)


def test_other_names_have_no_path() -> None:
    assert path_of("https://example.org/file") is None


@pytest.mark.parametrize("name", ["/srv/" + "a" * 256, "file:///srv/" + "%61" * 256, "/a" * 2048])
def test_the_path_of_a_remote_file_has_the_limits_of_linux(name: str) -> None:
    with pytest.raises(BitsError) as refused:
        check_url(name)
    assert refused.value.hresult == codes.ERROR_FILENAME_EXCED_RANGE


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


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@example.org/x",
        "https://user:secret{@example.org/x",
        "https://user:secret@example.org/a b",
        "https:/user:secret@example.org/x",
        "ftp://user:secret @example.org/x",
        "file://user:secret@example.org/x",
        "//user:secret@example.org/x",
        "user:secret@example.org/x",
        "http://example.org/x?secret={",
        "example.org/x?secret",
    ],
)
def test_a_refusal_shows_the_server_and_no_secret_of_the_name(url: str) -> None:
    with pytest.raises(BitsError) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)
    assert "example.org" in str(refused.value)
