"""The table of reliability.md §5, rows 28 to 43: certificates, authentication, and redirects."""

from typing import Any, Final

from tests.transfer import misbehaviour_acts as do
from tests.transfer.misbehaviours import (
    BROKEN,
    FRESH,
    LOST,
    OPEN,
    PLAIN,
    PROXY,
    SECURE,
    Act,
    Row,
    Told,
    capped,
    fatal,
    sound,
    status,
    whole,
)

from openbits.core import codes
from openbits.core.enums import SecurityFlags

CHALLENGE: Final = "WWW-Authenticate"
FLAGS: Final = SecurityFlags
SOUND: Final[Act] = do.saying(do.unchanged)

CERTIFICATE_FAULTS: Final = (
    # what the server shows, the code of the error, the flag that lets it pass
    ("expired", codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID, FLAGS.IGNORE_CERT_DATE_INVALID),
    ("other-name", codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID, FLAGS.IGNORE_CERT_CN_INVALID),
    ("self-signed", codes.ERROR_WINHTTP_SECURE_INVALID_CA, FLAGS.IGNORE_UNKNOWN_CA),
    ("unknown-ca", codes.ERROR_WINHTTP_SECURE_INVALID_CA, FLAGS.IGNORE_UNKNOWN_CA),
)


NOT_THROUGH_THIS_PROXY: Final = fatal(codes.ERROR_WINHTTP_LOGIN_FAILURE)
"""Of a conversation that needs a connection: this proxy closes it after each answer."""


def credential(scheme: str, target: str = "server") -> dict[str, Any]:
    return {"target": target, "scheme": scheme, "user": "anna", "password": "Canary5ecret", "origin": None}


def proven(told: Told, scheme: str = "") -> int:
    """How many requests had proof, by that scheme."""
    sent = (request.headers.get("authorization", "") for request in told.requests)
    return len([one for one in sent if one and one.startswith(scheme)])


def few_proofs(told: Told) -> None:
    """The same password is not sent for ever: the first time, and for three new realms or nonces."""
    assert 1 <= proven(told) <= 4


def no_basic(told: Told) -> None:
    assert proven(told, "NTLM") <= 2
    assert proven(told, "Basic") == 0


def no_proof_for_a_proxy(told: Told) -> None:
    if told.way != PROXY:  # there it is the proxy that says so, as far as anybody can see
        assert all("proxy-authorization" not in request.headers for request in told.requests)


def no_proof_and_no_cookie(told: Told) -> None:
    for request in [*told.requests, *told.aside]:
        assert request.headers.keys().isdisjoint({"authorization", "cookie"})
        assert "secret" not in request.target


def not_asked_aside(told: Told) -> None:
    assert told.aside == []


def eleven_requests(told: Told) -> None:
    assert len([request for request in told.requests if request.method == "GET"]) == 11


def posted_again(told: Told) -> None:
    assert [request.method for request in told.requests][:2] == ["POST", "POST"]


CERTIFICATES: Final = (
    *(
        Row(number=28, name="certificate", variant=kind, act=SOUND, expected=fatal(code), ways=SECURE, certificate=kind)
        for kind, code, _ in CERTIFICATE_FAULTS
    ),
    *(
        Row(
            number=28,
            name="certificate",
            variant=f"{kind}-allowed",
            act=SOUND,
            expected=whole(),
            ways=SECURE,
            certificate=kind,
            flags=flag,
        )
        for kind, _, flag in CERTIFICATE_FAULTS
    ),
    Row(
        number=28,
        name="certificate",
        variant="revoked",
        act=SOUND,
        expected=fatal(codes.ERROR_WINHTTP_SECURE_CERT_REVOKED),
        ways=SECURE,
        certificate="revoked",
        flags=FLAGS.ENABLE_CRL_CHECK,
    ),
    Row(number=29, name="asks-for-ours", act=SOUND, expected=whole(), ways=SECURE, certificate="client-optional"),
    Row(
        number=29,
        name="demands-ours",
        act=SOUND,
        expected=fatal(codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED),
        ways=SECURE,
        certificate="client-required",
    ),
    Row(number=30, name="h2-alone", act=SOUND, expected=whole(), ways=SECURE, certificate="h2-alone"),
    Row(
        number=30,
        name="h2-frames",
        act=do.instead(*[b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18, b"\0\0\x08\6\0\0\0\0\0pingpong" * 3000] * 600),
        expected=capped(BROKEN),
    ),
)

AUTHENTICATION: Final = (
    Row(
        number=31,
        name="401-with-new-realm",
        act=do.new_challenge('Basic realm="{}"'),
        expected=fatal(status(401)),
        credentials=(credential("basic"),),
        check=few_proofs,
    ),
    Row(
        number=32,
        name="401-unknown-scheme",
        act=do.answer("401 Unauthorized", (CHALLENGE, 'Mystery realm="x"')),
        expected=fatal(status(401)),
        credentials=(credential("basic"), credential("digest")),
        check=no_proof_and_no_cookie,
    ),
    Row(
        number=33,
        name="digest-always-stale",
        act=do.new_challenge('Digest realm="x", qop="auth", algorithm=SHA-256, stale=true, nonce="n{}"'),
        expected=fatal(status(401)),
        credentials=(credential("digest"),),
        check=few_proofs,
    ),
    Row(
        number=34,
        name="ntlm-breaks-off",
        act=do.answer("401 Unauthorized", (CHALLENGE, "NTLM"), (CHALLENGE, 'Basic realm="x"')),
        expected=fatal(status(401)),
        but={PROXY: NOT_THROUGH_THIS_PROXY},
        credentials=(credential("ntlm"), credential("basic")),
        check=no_basic,
    ),
    Row(
        number=34,
        name="ntlm-says-nonsense",
        act=do.by_proof(
            {
                "": do.answer("401 Unauthorized", (CHALLENGE, "NTLM"), (CHALLENGE, 'Basic realm="x"')),
                "NTLM": do.answer("401 Unauthorized", (CHALLENGE, "NTLM bm9uc2Vuc2U=")),
                "Basic": SOUND,
            }
        ),
        expected=fatal(status(401)),
        but={PROXY: NOT_THROUGH_THIS_PROXY},
        credentials=(credential("ntlm"), credential("basic")),
        check=no_basic,
    ),
    Row(
        number=35,
        name="407-from-origin",
        act=do.answer("407 Proxy Authentication Required", ("Proxy-Authenticate", 'Basic realm="x"')),
        expected=fatal(status(407)),
        credentials=(credential("basic", "proxy"),),
        check=no_proof_for_a_proxy,
    ),
)

REDIRECTS: Final = (
    Row(
        number=36,
        name="many-hops",
        act=do.hops,
        expected=capped(LOST),
        check=eleven_requests,
    ),
    Row(
        number=37,
        name="to-itself",
        act=do.redirected("/file"),
        expected=fatal(LOST),
        check=no_proof_and_no_cookie,
    ),
    Row(
        number=38,
        name="https-to-http",
        act=do.redirected("http://{aside}/file"),
        expected=fatal(LOST),
        ways=SECURE,
        aside=SOUND,
        check=not_asked_aside,
    ),
    Row(
        number=38,
        name="https-to-http",
        variant="allowed",
        act=do.redirected("http://{aside}/file"),
        expected=whole(),
        ways=SECURE,
        aside=SOUND,
        flags=FLAGS.REDIRECT_ALLOW_HTTPS_TO_HTTP,
    ),
    *(
        Row(number=39, name="redirect", variant=to.partition(":")[0], act=do.redirected(to), expected=fatal(LOST))
        for to in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "unix:///run/x", "http+unix://%2Frun%2Fx/y")
    ),
    Row(
        number=40,
        name="to-a-denied-network",
        act=do.redirected("http://{aside}/file"),
        expected=fatal(codes.E_ACCESSDENIED),
        ways=(PLAIN,),
        aside=SOUND,
        aside_host="127.0.0.2",
        check=not_asked_aside,
    ),
    Row(
        number=40,
        name="to-localhost",
        act=do.redirected("http://{aside}/file"),
        expected=whole(),
        ways=OPEN,
        aside=SOUND,
        aside_host="localhost",
    ),
    Row(
        number=41,
        name="userinfo",
        act=do.elsewhere("//eve:secret@{self}/other"),
        expected=whole(),
        check=no_proof_and_no_cookie,
    ),
    Row(number=42, name="location", variant="relative", act=do.elsewhere("a/../b?x=1"), expected=whole()),
    Row(number=42, name="location", variant="missing", act=do.answer("302 Found"), expected=fatal(status(302))),
    Row(number=42, name="location", variant="20-KiB", act=do.redirected("/" + "x" * 20_000), expected=fatal(LOST)),
    Row(number=42, name="location", variant="64-KiB", act=do.redirected("/" + "x" * 65_536), expected=fatal(BROKEN)),
    Row(number=42, name="location", variant="cr", act=do.redirected("/a\rX: b"), expected=fatal(BROKEN)),
    Row(number=42, name="location", variant="encoded-crlf", act=do.elsewhere("/a%0d%0aX:%20b"), expected=whole()),
    Row(
        number=43,
        name="307-on-post",
        act=lambda request, count: (
            do.redirected("/other", "307 Temporary Redirect")(request, count)
            if next(count) == 0
            else sound(request).steps()
        ),
        expected=whole(),
        kinds=(FRESH,),
        method="POST",
        check=posted_again,
    ),
)

ON_THE_WAY: Final = (*CERTIFICATES, *AUTHENTICATION, *REDIRECTS)
