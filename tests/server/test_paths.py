"""From URL to path (upload-protocol.md §13): decode once, refuse whatever could mean something else."""

from pathlib import PurePosixPath

import pytest

from openbits.core import codes
from openbits.server import paths
from openbits.server.model import RefusedError


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/inbox/report-17.bin", "inbox/report-17.bin"),
        ("/inbox/a%20b", "inbox/a b"),
        ("/inbox/gr%C3%BC%C3%9F", "inbox/grüß"),
        ("/inbox/..data", "inbox/..data"),
        ("/inbox/...", "inbox/..."),
        ("/inbox/%252e%252e", "inbox/%2e%2e"),  # decoded once, so this is a name
        ("/inbox/", "inbox"),
        ("/", "."),
        ("/" + "n" * 255, "n" * 255),
    ],
)
def test_a_target_becomes_a_path_below_the_root(raw: str, path: str) -> None:
    assert paths.relative(paths.target(raw, "").path) == PurePosixPath(path)


@pytest.mark.parametrize(
    "raw",
    [
        "/inbox/../../etc/passwd",
        "/inbox/%2e%2e/%2e%2e/etc/passwd",
        "/inbox/..%2f..%2fetc%2fpasswd",
        "/inbox/./a",
        "/inbox//a",
        "//etc/passwd",
        "/inbox/a//",
        "/inbox/a%00b",
        "/inbox/a%0Ab",
        "/inbox/a%7F",
        "/inbox/a%C2%85b",  # a control of C1
        "/inbox/a%5Cb",
        "/inbox/a\\b",
        "/inbox/%FF",  # no UTF-8
        "/inbox/%ED%A0%80",  # a surrogate is no UTF-8 either
        "/" + "n" * 256,
        "/" + "%C3%BC" * 128,  # 256 bytes
        "/inbox/BITS-Sessions/Requests/x",
        "/inbox/bits-SESSIONS/x",
        "/inbox/BITS-Sessions",
        "inbox/a",
        "",
    ],
)
def test_what_could_mean_something_else_is_refused_with_403(raw: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        paths.relative(paths.target(raw, "").path)
    assert (refusal.value.status, refusal.value.hresult) == (403, codes.E_ACCESSDENIED)


@pytest.mark.parametrize(
    ("raw", "path", "authority"),
    [
        ("http://files.example.net/inbox/a", "/inbox/a", "files.example.net"),
        ("HTTPS://files.example.net:8443/inbox/a", "/inbox/a", "files.example.net:8443"),
        ("http://files.example.net", "/", "files.example.net"),
    ],
)
def test_h10_a_target_in_absolute_form_has_its_host_in_it(raw: str, path: str, authority: str) -> None:
    target = paths.target(raw, "q=1")
    assert (target.path, target.authority, target.query) == (path, authority, "q=1")


def test_where_an_application_is_mounted_does_not_belong_to_the_path() -> None:
    assert paths.target("/bits/inbox/a", "", mounted_at="/bits").path == "/inbox/a"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/inbox/BITS-Sessions/Replies/{5C0E}/responsefile.bin", ("/inbox/", "{5C0E}")),
        ("/inbox/sub/BITS-Sessions/Replies/{5C0E}/responsefile.bin", ("/inbox/sub/", "{5C0E}")),
        ("/BITS-Sessions/Replies/{5C0E}/responsefile.bin", ("/", "{5C0E}")),
        ("/inbox/BITS-Sessions/Requests/{5C0E}/requestfile.bin", None),
        ("/inbox/BITS-Sessions/Replies/{5C0E}/", None),
        ("/inbox/BITS-Sessions/Replies/{5C0E}/responsefile.bin/x", None),
        ("/inbox/BITS-Sessions/Replies//responsefile.bin", None),
        ("/inbox/responsefile.bin", None),
    ],
)
def test_a_reply_is_found_below_its_directory_and_nothing_else_is(path: str, found: tuple[str, str] | None) -> None:
    assert paths.reply_of(path) == found
