"""Which revocation lists count, and what they say (RFC 5280 §6.3)."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from tests.real.authority import DER, PEM, Authority, Pair

from openbits.transfer.tls_revocation import Standing, is_fresh, read, standing, urls_of

NOW = dt.datetime.now(dt.UTC)
HOUR = dt.timedelta(hours=1)
ROOT = Authority()
LEAF = ROOT.issue("a.example", crl_url="http://lists.example/part1")


def listed(*extensions: tuple[x509.ExtensionType, bool], revoked: Pair | None = None) -> x509.CertificateRevocationList:
    """A list of ROOT with extensions."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ROOT.certificate.subject)
        .last_update(NOW - HOUR)
        .next_update(NOW + HOUR)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    if revoked is not None:
        serial = revoked.certificate.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - HOUR).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ROOT.key, hashes.SHA256())


def point(
    *,
    url: str = "",
    is_users: bool = False,
    is_authorities: bool = False,
    is_indirect: bool = False,
    reasons: frozenset[x509.ReasonFlags] | None = None,
) -> tuple[x509.ExtensionType, bool]:
    """For which certificates a list is (RFC 5280 §5.2.5)."""
    extension = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)] if url else None,
        relative_name=None,
        only_contains_user_certs=is_users,
        only_contains_ca_certs=is_authorities,
        only_some_reasons=reasons,
        indirect_crl=is_indirect,
        only_contains_attribute_certs=False,
    )
    return extension, True


def said(*lists: x509.CertificateRevocationList, of: Pair = LEAF, at: dt.datetime = NOW) -> Standing:
    return standing(of.certificate, ROOT.certificate, lists, at)


def test_a_list_of_the_issuer_says_good_or_revoked() -> None:
    assert said(listed()) is Standing.GOOD
    assert said(listed(revoked=LEAF)) is Standing.REVOKED
    assert said(listed(revoked=ROOT.issue("b.example"))) is Standing.GOOD


def test_one_list_that_says_revoked_is_enough() -> None:
    assert said(listed(), listed(revoked=LEAF), listed()) is Standing.REVOKED


def test_a_list_holds_between_its_dates() -> None:
    crl = listed(revoked=LEAF)
    assert [said(crl, at=NOW + offset) for offset in (-2 * HOUR, 2 * HOUR)] == [Standing.UNKNOWN] * 2
    assert [is_fresh(crl, NOW + offset) for offset in (-2 * HOUR, 0 * HOUR, 2 * HOUR)] == [False, True, False]


def test_a_list_of_somebody_else_does_not_count() -> None:
    forger = Authority()  # of the same name
    assert said(forger.crl()) is Standing.UNKNOWN
    assert said(Authority("Stranger").crl()) is Standing.UNKNOWN
    assert said(ROOT.crl(signed_by=forger)) is Standing.UNKNOWN
    assert said() is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        (point(is_users=True), Standing.REVOKED),
        (point(is_authorities=True), Standing.UNKNOWN),
        (point(is_indirect=True), Standing.UNKNOWN),
        (point(reasons=frozenset([x509.ReasonFlags.key_compromise])), Standing.UNKNOWN),
        (point(url="http://lists.example/part1"), Standing.REVOKED),
        (point(url="http://lists.example/part2"), Standing.UNKNOWN),
        ((x509.DeltaCRLIndicator(1), True), Standing.UNKNOWN),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True), Standing.UNKNOWN),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False), Standing.REVOKED),
        ((x509.CRLNumber(7), False), Standing.REVOKED),
    ],
    ids=[
        "users",
        "authorities",
        "indirect",
        "reasons",
        "this part",
        "other part",
        "delta",
        "future",
        "aside",
        "number",
    ],
)
def test_a_list_counts_for_the_certificates_that_it_covers(
    extension: tuple[x509.ExtensionType, bool], expected: Standing
) -> None:
    assert said(listed(extension, revoked=LEAF)) is expected


def test_an_issuer_that_may_not_sign_lists_has_none() -> None:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = (
        x509.CertificateBuilder(
            issuer_name=ROOT.certificate.subject,
            subject_name=ROOT.certificate.subject,
            public_key=ROOT.key.public_key(),
            serial_number=1,
            not_valid_before=NOW - HOUR,
            not_valid_after=NOW + HOUR,
        )
        .add_extension(usage, critical=True)
        .sign(ROOT.key, hashes.SHA256())
    )
    assert standing(LEAF.certificate, issuer, [listed()], NOW) is Standing.UNKNOWN


def test_only_http_is_looked_at() -> None:
    assert urls_of(LEAF.certificate) == ["http://lists.example/part1"]
    for url in ("https://lists.example/a", "ldap://lists.example/a", "file:///etc/passwd"):
        assert urls_of(ROOT.issue("a", crl_url=url).certificate) == []
    assert urls_of(ROOT.certificate) == []


def test_lists_are_read_from_pem_and_der() -> None:
    one, two = ROOT.crl(), listed(revoked=LEAF)
    text = b"some words\n" + one.public_bytes(PEM) + b"between\n" + two.public_bytes(PEM)
    assert list(read(text)) == [one, two]
    assert list(read(one.public_bytes(DER))) == [one]
    assert list(read(one.public_bytes(PEM))) == [one]
    assert list(read(one.public_bytes(PEM).strip())) == [one]
    broken = one.public_bytes(PEM).replace(b"MII", b"AAA", 1)
    assert list(read(broken + two.public_bytes(PEM))) in ([two], [one, two])
    assert list(read(b"")) == []


GOOD = listed(point(url="http://lists.example/part1"), revoked=LEAF).public_bytes(DER)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4))
def test_no_changed_list_says_good_or_breaks_the_reader(at: int, change: bytes) -> None:
    changed = GOOD[:at] + change + GOOD[at + len(change) :]
    for crl in read(changed):
        if changed != GOOD:
            assert said(crl) is Standing.UNKNOWN, "its signature is broken"
