"""Which hosts a certificate is for: the rules of libcurl and RFC 6125."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.real.authority import Authority, Pair

from openbits.transfer.tls_names import is_for, names_of

ROOT = Authority()


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["a.example"], "a.example"),
        (["a.example"], "A.Example"),
        (["a.example"], "a.example."),
        (["A.EXAMPLE"], "a.example"),
        (["b.example", "a.example"], "a.example"),
        (["*.a.example"], "b.a.example"),
        (["*.a.example"], "B.A.EXAMPLE"),
        (["localhost"], "localhost"),
        (["192.0.2.1"], "192.0.2.1"),
        (["2001:db8::1"], "[2001:db8::1]"),
        (["2001:db8::1"], "[2001:DB8:0::1]"),
        (["fe80::1"], "[fe80::1%25eth0]"),
    ],
)
def test_these_hosts_are_meant(names: list[str], host: str) -> None:
    assert is_for(ROOT.issue(*names).certificate, host)


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["a.example"], "b.example"),
        (["a.example"], "sub.a.example"),
        (["*.a.example"], "a.example"),
        (["*.a.example"], "x.y.a.example"),
        (["*.a.example"], ".a.example"),
        (["*.example"], "a.example"),  # a whole top-level domain
        (["*"], "example"),
        (["a*.example.org"], "ab.example.org"),  # a part of a label
        (["x.*.example"], "x.y.example"),
        (["192.0.2.1"], "192.0.2.2"),
        (["*.0.2.1"], "192.0.2.1"),  # an address is no name
        (["192.0.2.1", "a.example"], "b.example"),
        (["a.example"], "192.0.2.1"),
        (["2001:db8::1"], "[2001:db8::2]"),
        ([], "server.example"),
    ],
)
def test_these_hosts_are_not_meant(names: list[str], host: str) -> None:
    assert not is_for(ROOT.issue(*names).certificate, host)


def common(name: str, *names: str) -> Pair:
    return ROOT.issue(*names, subject=name)


def test_the_common_name_counts_only_where_there_is_no_other() -> None:
    assert is_for(common("a.example").certificate, "a.example")
    assert is_for(common("*.a.example").certificate, "b.a.example")
    assert is_for(common("192.0.2.1").certificate, "192.0.2.1")
    assert not is_for(common("a.example").certificate, "b.example")
    assert not is_for(common("a.example", "b.example").certificate, "a.example")
    assert not is_for(common("a.example", "192.0.2.1").certificate, "a.example")


def test_names_that_cannot_be_read_are_none() -> None:
    extension = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x05a")
    pair = ROOT.issue()
    broken = (
        x509.CertificateBuilder(
            issuer_name=pair.certificate.issuer,
            subject_name=x509.Name([]),
            public_key=pair.key.public_key(),
            serial_number=1,
            not_valid_before=pair.certificate.not_valid_before_utc,
            not_valid_after=pair.certificate.not_valid_after_utc,
        )
        .add_extension(extension, critical=False)
        .sign(ROOT.key, hashes.SHA256())
    )
    assert names_of(broken) == ([], [])
    assert not is_for(broken, "a")
