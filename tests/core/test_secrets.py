"""What may be entrusted to a job (jobs.md §7.4, §7.8; identity.md A60 to A69); limits and codes are the documented."""

from collections.abc import Callable
from typing import Any

import pytest

from openbits.core import codes, events, secrets
from openbits.core.enums import CertStore, JobState
from openbits.core.errors import BitsError
from openbits.core.lifecycle import step
from openbits.core.model import Certificate, File, Identity, Job, Now, Secret

SCHEMES = ("basic", "digest", "ntlm", "negotiate", "passport")
MARK = "Canary5ecret"


def refusal(call: Callable[..., object], *arguments: Any) -> int:
    """The code, of a text that names nothing of what was entrusted."""
    with pytest.raises(BitsError) as caught:
        call(*arguments)
    assert MARK not in f"{caught.value!r} {caught.value}"
    assert "; " in str(caught.value)
    return caught.value.hresult


# -- credentials


def test_each_target_and_scheme_has_a_slot_of_its_own() -> None:
    slots = [secrets.slot(target, scheme) for target in ("server", "proxy") for scheme in SCHEMES]
    assert len(set(slots)) == 10
    assert slots[0] == "server/basic"
    assert secrets.HEADERS not in slots
    assert secrets.slot("SERVER", "Basic") == "server/basic"


def test_what_is_undefined_is_named() -> None:
    assert refusal(secrets.slot, "origin", "basic") == 0x80200027
    assert refusal(secrets.slot, "server", "bearer") == 0x80200028
    assert refusal(secrets.slot, "", "") == 0x80200027


@pytest.mark.parametrize("scheme", SCHEMES)
def test_user_and_password_are_given_both_or_for_ntlm_and_negotiate_neither(scheme: str) -> None:
    secrets.check_credentials(scheme, "", "")
    assert refusal(secrets.check_credentials, scheme, "u", None) == codes.E_INVALIDARG
    assert refusal(secrets.check_credentials, scheme, None, MARK) == codes.E_INVALIDARG
    if scheme in {"ntlm", "negotiate"}:
        secrets.check_credentials(scheme, None, None)
    else:
        assert refusal(secrets.check_credentials, scheme, None, None) == codes.E_INVALIDARG


def test_lengths_are_counted_in_characters_and_the_limit_itself_is_allowed() -> None:
    secrets.check_credentials("basic", "ü" * 300, "\N{LOCK}" * 65_536)
    assert refusal(secrets.check_credentials, "basic", MARK + "u" * 289, "p") == 0x80200025
    assert refusal(secrets.check_credentials, "basic", "u", MARK + "p" * 65_525) == 0x80200026


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_characters_that_no_protocol_carries_are_refused(odd: str) -> None:
    assert refusal(secrets.check_credentials, "basic", "u", MARK + odd) == codes.E_INVALIDARG
    assert refusal(secrets.check_credentials, "basic", MARK + odd, "p") == codes.E_INVALIDARG


# -- custom headers


def test_lines_end_with_crlf_the_last_one_may_do_without() -> None:
    for text in ("X-A: 1\r\nCookie: a=b; c\r\n", "X-A: 1\r\nCookie: a=b; c"):
        secrets.check_headers(text)
        assert secrets.fields_of(text) == [("X-A", "1"), ("Cookie", "a=b; c")]
    secrets.check_headers("")
    assert secrets.fields_of("") == []
    assert secrets.fields_of("X-Empty:\r\nX-Tab:\t v \t\r\n") == [("X-Empty", ""), ("X-Tab", "v")]


@pytest.mark.parametrize(
    "text",
    [
        MARK,
        f": {MARK}",
        f"X A: {MARK}",
        f"X-A : {MARK}",
        f" folded: {MARK}",
        f"X-A: {MARK}\nX-B: 2",
        f"X-A: {MARK}\rX-B: 2",
        f"X-A: {MARK}\0",
        f"X-A: {MARK}\x7f",
        f"X-A: {MARK}\r\n\r\nbody",
        f"X-A: {MARK}\r\n continued",
        f"X-Ü: {MARK}",
        f"X-A: {MARK}\ud800",
        "\r\n",
    ],
)
def test_what_is_no_header_is_refused(text: str) -> None:
    assert refusal(secrets.check_headers, text) == codes.E_INVALIDARG


@pytest.mark.parametrize(
    "name",
    [
        "Host", "Content-Length", "Content-Range", "Range", "Transfer-Encoding", "Connection",  # OPEN-25
        "BITS-Session-Id", "bits-packet-type", "hOST", "Accept-Encoding", "If-Range",
    ],
)  # fmt: skip
def test_what_the_transfer_decides_about_is_refused_by_name(name: str) -> None:
    with pytest.raises(BitsError, match=f"line 2 is refused: {name} "):
        secrets.check_headers(f"X-A: 1\r\n{name}: x\r\n")
    assert refusal(secrets.check_headers, f"{name}:{MARK}") == codes.E_INVALIDARG


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "User-Agent", "Accept", "X-BITS", "Referer"])
def test_everything_else_may_be_sent(name: str) -> None:
    secrets.check_headers(f"{name}: {MARK}\r\n")


def test_with_the_terminator_there_may_be_16384_characters() -> None:
    head = f"X-A: {MARK}"
    secrets.check_headers(head + "v" * (16_383 - len(head)))
    assert refusal(secrets.check_headers, head + "v" * (16_384 - len(head))) == codes.BG_E_STRING_TOO_LONG


# -- certificates

SHA1 = "0123456789abcdef0123456789abcdef01234567"


def test_a_certificate_is_named_by_its_hash_or_its_subject() -> None:
    assert secrets.certificate_reference("current_user", "MY", SHA1.upper(), "") == Certificate(
        location=CertStore.CURRENT_USER, store="MY", sha1=SHA1
    )
    assert secrets.certificate_reference("local_machine", "s" * 256, "", "x" * 256).subject == "x" * 256


@pytest.mark.parametrize(
    ("location", "store", "sha1", "subject", "code"),
    [
        ("current_service", "MY", SHA1, "", codes.E_NOTIMPL),
        ("users", "MY", SHA1, "", codes.E_NOTIMPL),
        ("local_machine_enterprise", "MY", SHA1, "", codes.E_NOTIMPL),
        ("moon", "MY", SHA1, "", codes.E_NOTIMPL),
        ("current_user", "s" * 257, SHA1, "", codes.BG_E_STRING_TOO_LONG),
        ("current_user", "MY", "", "x" * 257, codes.BG_E_STRING_TOO_LONG),
        ("current_user", "MY", "", "", codes.E_INVALIDARG),
        ("current_user", "MY", SHA1, "alice", codes.E_INVALIDARG),
        ("current_user", "MY", SHA1[:-2], "", 0x800706F7),
        ("current_user", "MY", SHA1 + "00", "", 0x800706F7),
        ("current_user", "MY", "z" * 40, "", 0x800706F7),
        ("current_user", "", SHA1, "", 0x80070002),
        ("current_user", "..", SHA1, "", 0x80070002),
        ("current_user", ".", SHA1, "", 0x80070002),
        ("current_user", "a/b", SHA1, "", 0x80070002),
        ("current_user", "a\0b", SHA1, "", 0x80070002),
    ],
)
def test_what_names_no_certificate_has_the_documented_code(
    location: str, store: str, sha1: str, subject: str, code: int
) -> None:
    assert refusal(secrets.certificate_reference, location, store, sha1, subject) == code


# -- what becomes of them in a job

ONE = Secret(slot="server/basic", key_id="k", sealed="b25l")
OTHER = Secret(slot="headers", key_id="k", sealed="b3RoZXI=")


def test_a_slot_has_one_secret_and_the_others_stay(a_job: Callable[..., Job], now: Now) -> None:
    job, _ = step(a_job(secrets=(ONE,)), events.SetSecret(secret=OTHER), now)
    assert job.secrets == (OTHER, ONE)
    newer = Secret(slot="server/basic", key_id="k", sealed="bmV3")
    job, _ = step(job, events.SetSecret(secret=newer), now)
    assert job.secrets == (OTHER, newer)
    job, _ = step(job, events.RemoveSecret(slot="headers"), now)
    assert job.secrets == (newer,)
    assert job.modified_at == now.wall


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_secrets_are_taken_up_to_transferred_and_stop_nothing(
    a_job: Callable[..., Job], now: Now, state: JobState
) -> None:
    certificate = secrets.certificate_reference("current_user", "MY", SHA1, "")
    job = a_job(state, secrets=(OTHER,))
    for event in (
        events.SetSecret(secret=ONE),
        events.RemoveSecret(slot="headers"),
        events.MakeHeadersWriteOnly(),
        events.SetCertificate(certificate=certificate),
    ):
        job, effects = step(job, event, now)
        assert (job.state, effects) == (state, [])
    assert (job.secrets, job.has_write_only_headers, job.certificate) == ((ONE,), True, certificate)


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
@pytest.mark.parametrize(
    "event",
    [
        events.SetSecret(secret=ONE),
        events.RemoveSecret(slot="headers"),
        events.MakeHeadersWriteOnly(),
        events.SetCertificate(certificate=None),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_final_job_takes_none(a_job: Callable[..., Job], now: Now, state: JobState, event: events.Event) -> None:
    with pytest.raises(BitsError) as caught:
        step(a_job(state), event, now)
    assert caught.value.hresult == codes.BG_E_INVALID_STATE


def test_cancel_and_complete_erase_them_also_while_temporaries_are_left(a_job: Callable[..., Job], now: Now) -> None:
    job, _ = step(a_job(JobState.TRANSFERRING, secrets=(ONE, OTHER)), events.Cancel(), now)
    assert (job.state, job.secrets) == (JobState.CANCELLED, ())
    job, _ = step(a_job(JobState.TRANSFERRED, secrets=(ONE, OTHER)), events.Complete(), now)
    assert job.secrets == (ONE, OTHER)  # publishing may fail, and the job go on
    job, _ = step(job, events.FilesPublished(file_indexes=(0,)), now)
    job, _ = step(job, events.PublishingEnded(error=None), now)
    assert (job.state, job.secrets) == (JobState.ACKNOWLEDGED, ())


def test_a_new_owner_gets_nothing_of_it(a_job: Callable[..., Job], now: Now) -> None:
    certificate = secrets.certificate_reference("current_user", "MY", SHA1, "")
    job = a_job(secrets=(ONE, OTHER), certificate=certificate, has_write_only_headers=True)
    job, _ = step(job, events.TakeOwnership(owner=Identity(uid=0, gid=0)), now)
    assert (job.secrets, job.certificate, job.has_write_only_headers) == ((), None, False)


def test_a_new_seal_changes_nothing_else(a_job: Callable[..., Job], now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, secrets=(ONE,))
    newer = Secret(slot="server/basic", key_id="k2", sealed="bmV3")
    after, effects = step(job, events.SecretsResealed(secrets=(newer,)), now)
    assert (after.secrets, after.modified_at, effects) == ((newer,), job.modified_at, [])


def test_no_event_can_carry_a_clear_secret() -> None:
    """What the engine is told is the sealed form: there is no field for another."""
    assert set(events.SetSecret.__annotations__) == {"secret"}
    assert set(Secret.__annotations__) == {"slot", "key_id", "sealed"}


# -- what was part of a URL (identity.md S6)


@pytest.mark.parametrize(
    ("url", "clean", "pair"),
    [
        ("http://alice:pw@a.example/x?y#z", "http://a.example/x?y#z", ("alice", "pw")),
        ("HTTPS://alice@a.example:8443", "HTTPS://a.example:8443", ("alice", "")),
        ("https://a%40b:p%2Fw%3A@a.example/@", "https://a.example/@", ("a@b", "p/w:")),
        ("https://a:b:c@d@a.example/", "https://a.example/", ("a", "b:c@d")),
        ("https://:pw@a.example/", "https://a.example/", ("", "pw")),
        ("https://@a.example/", "https://a.example/", ("", "")),
    ],
)
def test_user_and_password_are_taken_out_of_a_url(url: str, clean: str, pair: tuple[str, str]) -> None:
    assert secrets.without_user(url) == (clean, pair)


@pytest.mark.parametrize(
    "url", ["https://a.example/x@y", "https://a.example?u=a@b", "https://a.example#a@b", "ftp://u:p@a.example/", "/a@b"]
)
def test_an_at_sign_elsewhere_is_no_user(url: str) -> None:
    assert secrets.without_user(url) == (url, None)


def test_credentials_of_a_url_are_for_its_server_alone() -> None:
    same = {secrets.slot_of_server(url) for url in ("https://A.example/x", "https://a.example:443/y?z")}
    assert same == {"url/https://a.example:443"}
    for other in ("http://a.example/x", "https://a.example:8443/x", "https://b.example/x"):
        assert secrets.slot_of_server(other) not in same


def test_files_bring_what_their_urls_had(a_job: Callable[..., Job], a_file: Callable[..., File], now: Now) -> None:
    event = events.AddFiles(files=(a_file("second"),), secrets=(OTHER,))
    job, _ = step(a_job(secrets=(ONE,)), event, now)
    assert job.secrets == (OTHER, ONE)
