"""Which certificate is meant: by SHA-1, or by the subject as jobs.md §7.8 writes it; real certificates, real parser."""

import datetime as dt
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openbits.core.enums import CertStore
from openbits.core.model import Certificate
from openbits.service.certificates import is_meant, parsed, subject_of

KEY = ec.generate_private_key(ec.SECP256R1())
MONDAY = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
DER = serialization.Encoding.DER


def a_certificate(
    *names: tuple[x509.ObjectIdentifier, str], purposes: list[x509.ObjectIdentifier] | None = None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(MONDAY)
        .not_valid_after(MONDAY + dt.timedelta(days=9000))
    )
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(KEY, hashes.SHA256())


ALICE = a_certificate(
    (NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Example Org"), (NameOID.COMMON_NAME, "alice")
)


def by(*, sha1: str = "", subject: str = "") -> Certificate:
    return Certificate(location=CertStore.CURRENT_USER, store="MY", sha1=sha1, subject=subject)


def test_the_hash_is_that_of_the_whole_certificate() -> None:
    sha1 = hashlib.sha1(ALICE.public_bytes(DER), usedforsecurity=False).hexdigest()
    assert is_meant(ALICE, by(sha1=sha1))
    assert not is_meant(ALICE, by(sha1="0" * 40))


def test_the_subject_is_reversed_and_has_no_types() -> None:
    assert subject_of(ALICE) == "alice, Example Org, DE"


@pytest.mark.parametrize("part", ["alice", "lic", "alice, Example Org", "Example Org, DE", "alice, Example Org, DE"])
def test_a_part_of_the_subject_is_enough(part: str) -> None:
    assert is_meant(ALICE, by(subject=part))


@pytest.mark.parametrize("part", ["DE, Example Org", "CN=alice", "bob", "Example Org, alice"])
def test_another_subject_is_not_meant(part: str) -> None:
    assert not is_meant(ALICE, by(subject=part))


def test_by_subject_it_must_be_for_clients_if_it_says_for_what_it_is() -> None:
    name = (NameOID.COMMON_NAME, "alice")
    client = a_certificate(name, purposes=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    server = a_certificate(name, purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert is_meant(client, by(subject="alice"))
    assert not is_meant(server, by(subject="alice"))
    sha1 = hashlib.sha1(server.public_bytes(DER), usedforsecurity=False).hexdigest()
    assert is_meant(server, by(sha1=sha1))  # who names one by its hash means it


def test_what_is_no_certificate_is_left_out() -> None:
    pem = ALICE.public_bytes(serialization.Encoding.PEM)
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert list(parsed(broken + pem + broken + pem)) == [ALICE, ALICE]
    assert list(parsed(b"")) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", id="version"),
        pytest.param(b"\x0c\x05alice", b"\x0c\x05\xff\xff\xff\xff\xff", id="subject"),
    ],
)
def test_one_that_cannot_be_read_does_not_hide_the_others(good: bytes, bad: bytes) -> None:
    """Its owner, or a program of his, may have put anything there."""
    der = ALICE.public_bytes(DER)
    assert good in der
    broken = ssl.DER_cert_to_PEM_cert(der.replace(good, bad)).encode()
    pem = ALICE.public_bytes(serialization.Encoding.PEM)
    assert [is_meant(one, by(subject="alice")) for one in parsed(broken + pem)] == [True]
