"""Every class of faults of a server's certificate is found by itself, anywhere in the chain, with any others."""

import itertools
import ssl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.real.authority import CLIENT, DER, SERVER, Authority, Pair, PrivateKey, self_signed

from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.transfer.tls import Fault, Trust, judge, pin
from openbits.transfer.tls_verify import Verifier

HOST = "files.example"
CA = codes.ERROR_WINHTTP_SECURE_INVALID_CA
DATE = codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID
NAME = codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID
USAGE = codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE
OTHER = codes.ERROR_WINHTTP_SECURE_INVALID_CERT

FLAGS = {
    CA: SecurityFlags.IGNORE_UNKNOWN_CA,
    DATE: SecurityFlags.IGNORE_CERT_DATE_INVALID,
    NAME: SecurityFlags.IGNORE_CERT_CN_INVALID,
    USAGE: SecurityFlags.IGNORE_CERT_WRONG_USAGE,
}
"""jobs.md §9.6: each flag and its class."""

EXPIRED, FUTURE = (-3, -1), (1, 3)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


@pytest.fixture
def verifier(root: Authority, tmp_path: Path) -> Verifier:
    return Verifier(str(root.file(tmp_path)))


def found(verifier: Verifier, chain: Sequence[bytes], host: str = HOST) -> set[int]:
    return {fault.hresult for fault in verifier.examine(chain, host).faults}


def test_a_good_certificate_has_no_fault(verifier: Verifier, root: Authority) -> None:
    pair = root.issue(HOST)
    findings = verifier.examine(pair.chain, HOST)
    assert findings.faults == ()
    assert findings.chain == (pair.certificate, root.certificate)
    assert judge(findings, SecurityFlags(0)) == Trust(pins=frozenset([pin(pair.certificate)]))


def test_intermediates_are_part_of_the_chain(verifier: Verifier, root: Authority) -> None:
    upper = Authority("Upper", above=root)
    lower = Authority("Lower", above=upper)
    pair = lower.issue(HOST)
    findings = verifier.examine(pair.chain, HOST)
    assert findings.faults == ()
    assert findings.chain == (pair.certificate, lower.certificate, upper.certificate, root.certificate)
    jumbled = [pair.chain[0], *reversed(pair.chain[1:]), self_signed("x").certificate.public_bytes(DER)]
    assert found(verifier, jumbled) == set()


def test_a_missing_intermediate_is_an_unknown_issuer(verifier: Verifier, root: Authority) -> None:
    pair = Authority("Between", above=root).issue(HOST)
    assert found(verifier, pair.chain[:1]) == {CA}


STRANGER = Authority("Stranger")
CASES: dict[frozenset[int], Callable[[Authority], Pair]] = {
    frozenset([CA]): lambda _: STRANGER.issue(HOST),
    frozenset([DATE]): lambda root: root.issue(HOST, days=EXPIRED),
    frozenset([NAME]): lambda root: root.issue("other.example"),
    frozenset([USAGE]): lambda root: root.issue(HOST, usage=[CLIENT]),
    frozenset([CA, DATE]): lambda _: STRANGER.issue(HOST, days=EXPIRED),
    frozenset([CA, NAME]): lambda _: self_signed("other.example"),
    frozenset([CA, USAGE]): lambda _: STRANGER.issue(HOST, usage=[CLIENT]),
    frozenset([DATE, NAME]): lambda root: root.issue("other.example", days=FUTURE),
    frozenset([DATE, USAGE]): lambda root: root.issue(HOST, days=EXPIRED, usage=[CLIENT]),
    frozenset([NAME, USAGE]): lambda root: root.issue("other.example", usage=[CLIENT]),
    frozenset([CA, DATE, NAME]): lambda _: STRANGER.issue("other.example", days=EXPIRED),
    frozenset([CA, DATE, USAGE]): lambda _: STRANGER.issue(HOST, days=EXPIRED, usage=[CLIENT]),
    frozenset([CA, NAME, USAGE]): lambda _: STRANGER.issue("other.example", usage=[CLIENT]),
    frozenset([DATE, NAME, USAGE]): lambda root: root.issue("other.example", days=EXPIRED, usage=[CLIENT]),
    frozenset([CA, DATE, NAME, USAGE]): lambda _: STRANGER.issue("o.example", days=EXPIRED, usage=[CLIENT]),
}


@pytest.mark.parametrize("wrong", CASES, ids=lambda wrong: "-".join(f"{one:x}" for one in sorted(wrong)))
def test_each_flag_ignores_exactly_its_class(verifier: Verifier, root: Authority, wrong: frozenset[int]) -> None:
    """jobs.md §9.6, every set of faults with every set of flags."""
    findings = verifier.examine(CASES[wrong](root).chain, HOST)
    assert {fault.hresult for fault in findings.faults} == wrong
    for number in range(len(FLAGS) + 1):
        for ignored in itertools.combinations(FLAGS, number):
            flags = SecurityFlags(0)
            for one in ignored:
                flags |= FLAGS[one]
            verdict = judge(findings, flags)
            if wrong <= set(ignored):
                assert isinstance(verdict, Trust)
                assert verdict.is_chain_checked == (wrong <= {NAME})
                assert verdict.is_name_checked == (NAME not in wrong)
            else:
                assert isinstance(verdict, Fault)
                assert verdict.hresult in wrong - set(ignored)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda root: Authority("I", above=root, days=EXPIRED), {DATE}),
        (lambda root: Authority("I", above=root, usage=[CLIENT]), {USAGE}),
        (lambda root: Authority("I", above=root, days=FUTURE, usage=[CLIENT]), {DATE, USAGE}),
        (lambda _: Authority("I", above=STRANGER), {CA}),
        (lambda _: Authority("I", above=STRANGER, days=EXPIRED, usage=[CLIENT]), {CA, DATE, USAGE}),
    ],
    ids=["expired", "usage", "future and usage", "stranger", "all"],
)
def test_faults_of_an_intermediate_are_found_too(
    verifier: Verifier, root: Authority, make: Callable[[Authority], Authority], wrong: set[int]
) -> None:
    assert found(verifier, make(root).issue(HOST).chain) == wrong


def test_an_intermediate_for_servers_is_no_fault(verifier: Verifier, root: Authority) -> None:
    assert found(verifier, Authority("I", above=root, usage=[SERVER]).issue(HOST).chain) == set()


def test_a_certificate_without_purposes_is_for_every_one(verifier: Verifier, root: Authority) -> None:
    assert found(verifier, root.issue(HOST, usage=None).chain) == set()


def test_who_is_no_authority_cannot_sign_whatever_the_flags(verifier: Verifier, root: Authority) -> None:
    """The server of another host signs a certificate for this one."""
    other = root.issue("other.example", usage=None)
    forger = Authority("server", above=root)
    forger.certificate, forger.key, forger.between = other.certificate, other.key, (other.certificate,)
    findings = verifier.examine(forger.issue(HOST, subject="victim").chain, HOST)
    assert OTHER in {fault.hresult for fault in findings.faults}
    assert isinstance(judge(findings, SecurityFlags(0x1F)), Fault)


def test_a_forged_signature_is_never_ignored(verifier: Verifier, root: Authority) -> None:
    forger = Authority()  # of the same name, with another key
    forged = forger.issue(HOST)
    chain = [forged.chain[0], root.certificate.public_bytes(DER)]
    assert isinstance(judge(verifier.examine(chain, HOST), SecurityFlags(0x1F)), Fault)


@pytest.mark.parametrize(
    "weak",
    [
        pytest.param(rsa.generate_private_key(65537, 1024), id="short key"),  # noqa: S505  # that is the point
        pytest.param(ec.generate_private_key(ec.SECP192R1()), id="short curve"),
    ],
)
def test_a_weak_key_is_never_ignored(verifier: Verifier, root: Authority, weak: PrivateKey) -> None:
    assert found(verifier, root.issue(HOST, key=weak).chain) == {OTHER}


def test_what_is_no_certificate_is_a_fault_of_its_own(verifier: Verifier, root: Authority) -> None:
    for chain in ([b""], [b"\x30\x03abc"], [root.issue(HOST).chain[0], b"no certificate"]):
        findings = verifier.examine(chain, HOST)
        assert [fault.hresult for fault in findings.faults] == [OTHER]
        assert isinstance(judge(findings, SecurityFlags(0x1F)), Fault)


def test_without_authorities_it_is_said_what_to_install(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for ca_file in (None, str(broken)):
        (fault,) = Verifier(ca_file).examine(self_signed(HOST).chain, HOST).faults
        assert fault.hresult == CA
        assert "package ca-certificates" in fault.words


def test_a_fault_names_subject_issuer_dates_and_hosts(verifier: Verifier, root: Authority) -> None:
    """user-pains 31."""
    pair = root.issue("other.example", "192.0.2.7", subject="www", days=EXPIRED)
    for fault in verifier.examine(pair.chain, HOST).faults:
        for part in ("CN=www", "CN=Test Root", f"{pair.certificate.not_valid_after_utc:%Y-%m-%d}", "other.example"):
            assert part in fault.words


def test_what_a_certificate_says_is_shown_without_control_characters(verifier: Verifier) -> None:
    stranger = Authority("evil\x1b[2J\n" + "x" * 50)
    for fault in verifier.examine(stranger.issue(HOST, subject="a\x1b]0;b\n").chain, HOST).faults:
        assert fault.words.isprintable()
        assert len(fault.words) < 1000


def test_an_expired_root_of_the_same_key_does_not_hide_a_good_one(tmp_path: Path) -> None:
    """As with the roots that expired in 2020 and 2021: a bundle has both."""
    good = Authority("Root")
    old = Authority("Root", days=EXPIRED)
    bundle = tmp_path / "both.pem"
    bundle.write_text(old.pem + good.pem)
    assert found(Verifier(str(bundle)), good.issue(HOST).chain) == set()


@pytest.mark.real("openssl")
def test_a_weak_signature_is_never_ignored(tmp_path: Path) -> None:
    """SHA-1, which no library of today signs with unless it is told to."""
    root, key = tmp_path / "root.pem", tmp_path / "root.key"
    request, old = tmp_path / "old.csr", tmp_path / "old.pem"
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-addext", f"subjectAltName=DNS:{HOST}")
    for arguments in (
        ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Root", "-keyout", key, "-out", root),
        (*new, "-subj", "/CN=old", "-keyout", tmp_path / "old.key", "-out", request),
        ("x509", "-req", "-sha1", "-in", request, "-CA", root, "-CAkey", key, "-copy_extensions", "copy", "-out", old),
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    der = ssl.PEM_cert_to_DER_cert(old.read_text())
    assert found(Verifier(str(root)), [der]) == {OTHER}


GOOD = Authority().issue(HOST).chain[0]


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=6))
def test_no_changed_certificate_breaks_the_look_or_is_trusted(at: int, change: bytes) -> None:
    changed = GOOD[:at] + change + GOOD[at + len(change) :]
    verdict = judge(Verifier(None).examine([changed], HOST), SecurityFlags(0))
    assert isinstance(verdict, Fault)
    assert verdict.words.isprintable()
