"""Upload servers that lead elsewhere: redirects, host ids, replies (see `upload_rows`)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tests.transfer.faultserver import SILENCE, Step
from tests.transfer.misbehaviours import BROKEN, PLAIN, SECURE, status
from tests.transfer.upload_rows import PLAIN_ONLY, C, F, P
from tests.transfer.upload_stage import (
    FRESH,
    RESUME,
    Row,
    Told,
    failed,
    fatal,
    repeated,
    transient,
    whole,
)
from tests.transfer.uploadserver import (
    Act,
    Answer,
    Exchange,
    UploadServer,
    honest,
    says,
    says_raw,
)

from openbits.core import codes
from openbits.core.packets import Header

NOBODY: Final = "127.0.0.1:1"


def redirected(to: str, label: str) -> Answer:
    return Answer(label, (("Location", to), ("Content-Length", "0")))


def unbound(server: UploadServer) -> None:
    """Sessions hold for every URL."""
    server.binds_urls = False


def nothing_aside(told: Told) -> None:
    assert told.aside is not None
    assert told.aside.packets == []


# -- D24: redirects ---------------------------------------------------------------------------------------------------

REDIRECTS: Final = (
    *(
        Row(
            rule="D24",
            name=f"{packet}-{number}-same-authority",
            told={packet: [says(redirected("/elsewhere", f"{number} Moved")), honest]},
            prepare=unbound,
            expected=whole(),
            kinds=(RESUME,) if packet == P else (FRESH,),
        )
        for packet in (C, P)
        for number in (307, 308)
    ),
    *(
        Row(
            rule="D24",
            name=f"{packet}-{number}-same-authority",
            told={packet: [says(redirected("/elsewhere", f"{number} Moved")), honest]},
            prepare=unbound,
            expected=fatal(status(number)),
        )
        for packet in (C, F)
        for number in (301, 302, 303)
    ),
    Row(
        rule="D24",
        name="Fragment-307-same-authority",
        told={F: [says(redirected("/elsewhere", "307 Moved")), honest]},
        prepare=unbound,
        expected=fatal(status(307)),
    ),
    *(
        Row(
            rule="D24",
            name=f"{packet}-{number}-other-authority",
            told={packet: [says(redirected("http://{aside}/elsewhere", f"{number} Moved"))]},
            aside={},
            expected=fatal(status(number)),
            check=nothing_aside,
        )
        for packet in (C, F)
        for number in (301, 302, 307)
    ),
    Row(
        rule="D24",
        name="Create-307-for-ever",
        told={C: [says(redirected("/elsewhere", "307 Moved"))]},
        expected=failed(status(307), codes.ERROR_WINHTTP_REDIRECT_FAILED),
        most_bytes=0,
    ),
)

# -- §12: host ids ----------------------------------------------------------------------------------------------------


def host(value: str, seconds: int | None = None) -> Callable[[UploadServer], None]:
    """What Create-Session says of the host."""

    def prepare(server: UploadServer) -> None:
        server.host_id, server.fallback_seconds = value, seconds

    return prepare


def everything_aside(told: Told) -> None:
    assert told.aside is not None
    assert [packet.kind for packet in told.aside.packets][:2] == [P, F], "a switch is tested with Ping (§7.1)"
    assert not told.sent(F)


def never_left(told: Told) -> None:
    assert {packet.headers["host"] for packet in told.server.packets} == {f"127.0.0.1:{told.server.port}"}


HOSTS: Final = (
    Row(
        rule="D5",
        name="host-with-port",
        prepare=host("{aside}"),
        aside={},
        expected=whole(),
        check=everything_aside,
        most_bytes=0,
    ),
    Row(rule="12", name="host-that-is-the-same", prepare=host("127.0.0.1"), expected=whole()),
    *(
        Row(
            rule="12",
            name=f"host-{name}",
            prepare=host(value),
            expected=repeated(),
            check=never_left,
            most_bytes=0,
        )
        for name, value in (
            ("with-user", "eve@127.0.0.1"),
            ("with-path", "127.0.0.1/x"),
            ("with-scheme", "http://127.0.0.1"),
            ("file", "file:///etc/passwd"),
            ("of-301-characters", "a" * 301),
            ("with-blank", "127.0.0.1 x"),
            ("with-port-70000", "127.0.0.1:70000"),
        )
    ),
    Row(
        rule="12",
        name="host-unreachable",
        is_lost=True,
        prepare=host(NOBODY, 86_400),
        expected=transient(codes.ERROR_WINHTTP_CANNOT_CONNECT, context="general_transport"),
        ways=(PLAIN,),
        most_bytes=0,
    ),
    Row(
        rule="12",
        name="host-unreachable-for-ever",
        is_lost=True,
        prepare=host(NOBODY),
        expected=transient(codes.ERROR_WINHTTP_CANNOT_CONNECT, context="general_transport"),
        ways=(PLAIN,),
        most_bytes=0,
    ),
    Row(
        rule="12",
        name="host-unreachable-falls-back",
        prepare=host(NOBODY, 0),
        expected=whole(attempts=2),
        ways=(PLAIN,),
    ),
    Row(
        rule="12",
        name="host-never-answers-falls-back",
        prepare=host("{aside}", 0),
        aside={P: [says_raw(SILENCE)]},
        expected=whole(attempts=2),
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="12",
        name="host-has-another-certificate",
        is_lost=True,
        prepare=host("localhost"),
        expected=fatal(codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID, context=""),
        ways=SECURE,
        most_bytes=0,
    ),
)

# -- §8.3: replies ----------------------------------------------------------------------------------------------------


def reply(value: str) -> Mapping[str, list[Act]]:
    """What the last fragment is answered with."""

    def act(exchange: Exchange) -> Iterable[Step]:
        answer = exchange.honest()
        upload = exchange.server.sessions[exchange.packet.session_id]
        return (answer.having(Header.REPLY_URL, value) if upload.is_complete else answer).steps()

    return {F: [act]}


def resolves_to(url: str) -> Callable[[Told], None]:
    def check(told: Told) -> None:
        session: Any = told.upload.session
        origin = f"{'https' if told.way in SECURE else 'http'}://127.0.0.1:{told.server.port}"
        assert session["reply_url"] == url.replace("{origin}", origin)
        assert session["is_received"]

    return check


REPLY_PATH: Final = "/inbox/BITS-Sessions/Replies/%7Bid%7D/responsefile.bin"
RESOLVED: Final = (
    ("relative-with-back-slashes", r"BITS-Sessions\Replies\{id}\responsefile.bin", "{origin}" + REPLY_PATH),
    ("of-the-root", "/a b/c", "{origin}/a%20b/c"),
    ("escaped", "/a%7Bb%20c", "{origin}/a%7Bb%20c"),
    ("with-query", "/r?x=1&y=2", "{origin}/r?x=1&y=2"),
)

REPLIES: Final = (
    *(
        Row(
            rule="8.3",
            name=f"reply-{name}",
            told=reply(value),
            is_reply_wanted=True,
            expected=whole(),
            check=resolves_to(url),
        )
        for name, value, url in RESOLVED
    ),
    Row(
        rule="8.3",
        name="reply-on-another-host",
        told=reply("https://other.example/r"),
        is_reply_wanted=True,
        expected=whole(),
        check=resolves_to("https://other.example/r"),
    ),
    Row(
        rule="8.3",
        name="reply-downgraded",
        told=reply("http://other.example/r"),
        is_reply_wanted=True,
        expected=repeated(),
        ways=SECURE,
    ),
    *(
        Row(
            rule="8.3",
            name=f"reply-{name}",
            told=reply(value),
            is_reply_wanted=True,
            expected=repeated(),
        )
        for name, value in (
            ("javascript", "javascript:alert(1)"),
            ("file", "file:///etc/passwd"),
            ("ftp", "ftp://127.0.0.1/x"),
            ("of-3000-characters", "/" + "x" * 3000),
        )
    ),
    Row(
        rule="8.2",
        name="reply-nobody-asked-for",
        told=reply("javascript:alert(1)"),
        expected=whole(),
    ),
    Row(rule="D19", name="no-reply", is_reply_wanted=True, expected=whole(), check=resolves_to("")),
    Row(
        rule="D19",
        name="no-reply-strict",
        is_lost=True,
        is_reply_wanted=True,
        is_strict=True,
        expected=fatal(BROKEN),
        ways=PLAIN_ONLY,
    ),
)

ELSEWHERE: Final = (*REDIRECTS, *HOSTS, *REPLIES)
