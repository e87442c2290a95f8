"""Certificate authorities of tests, in memory: good certificates and every bad one, with intermediates and CRLs.

Times are days from now; the certificates are real, made and signed by `cryptography`.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate, its key, and the certificates between it and its root."""

    certificate: x509.Certificate
    key: PrivateKey
    between: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> list[bytes]:
        """What a server with it sends (DER)."""
        return [one.public_bytes(DER) for one in (self.certificate, *self.between)]

    @property
    def key_pem(self) -> str:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(PEM, form, serialization.NoEncryption()).decode()

    @property
    def pem(self) -> str:
        """The certificates that a server sends."""
        return "".join(one.public_bytes(PEM).decode() for one in (self.certificate, *self.between))

    def files(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """The certificates and the key as two files."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_text(self.pem)
        key.write_text(self.key_pem)
        return certificate, key


class Authority:
    """One that signs. `above`: who signed for it; without, it is a root."""

    def __init__(
        self,
        name: str = "Test Root",
        *,
        above: "Authority | None" = None,
        days: tuple[float, float] = (-1, 2),
        usage: Sequence[x509.ObjectIdentifier] | None = None,
        crl_url: str = "",
    ) -> None:
        self._above = above
        self._revoked: list[int] = []
        made = _made(
            name, above, days=days, usage=usage, extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)],
            crl_url=crl_url,
        )  # fmt: skip
        self.certificate, self.key = made.certificate, made.key
        self.between: tuple[x509.Certificate, ...] = (self.certificate, *above.between) if above is not None else ()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def file(self, folder: Path) -> Path:
        """The certificate as a file, to trust."""
        path = folder / "ca.pem"
        path.write_text(self.pem)
        return path

    def issue(
        self,
        *names: str,
        days: tuple[float, float] = (-1, 2),
        usage: Sequence[x509.ObjectIdentifier] | None = (SERVER,),
        subject: str = "server",
        crl_url: str = "",
        key: PrivateKey | None = None,
    ) -> Pair:
        """A certificate for these hosts (names and addresses)."""
        alternatives = [_general(name) for name in names]
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if alternatives:
            extensions.append((x509.SubjectAlternativeName(alternatives), False))
        made = _made(subject, self, days=days, usage=usage, extensions=extensions, crl_url=crl_url, key=key)
        return Pair(certificate=made.certificate, key=made.key, between=self.between)

    def revoke(self, pair: "Pair | Authority") -> None:
        self._revoked.append(pair.certificate.serial_number)

    def crl(
        self, *, hours: tuple[float, float] = (-1, 24), signed_by: "Authority | None" = None
    ) -> x509.CertificateRevocationList:
        """What it has revoked. `signed_by`: a forger."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now + dt.timedelta(hours=hours[0]))
            .next_update(now + dt.timedelta(hours=hours[1]))
        )
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign((signed_by or self).key, hashes.SHA256())


def self_signed(*names: str) -> Pair:
    """A certificate that nobody vouches for."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([_general(name) for name in names]), False)
    ]
    return _made("self", None, days=(-1, 2), usage=[SERVER], extensions=extensions)


def _made(
    name: str,
    issuer: "Authority | None",
    *,
    days: tuple[float, float],
    usage: Sequence[x509.ObjectIdentifier] | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    crl_url: str = "",
    key: PrivateKey | None = None,
) -> Pair:
    now = dt.datetime.now(dt.UTC)
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
    if crl_url:
        urls = [x509.UniformResourceIdentifier(url) for url in crl_url.split()]
        points = [x509.DistributionPoint([url], None, None, None) for url in urls]
        builder = builder.add_extension(x509.CRLDistributionPoints(points), critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    signer = key if issuer is None else issuer.key
    return Pair(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
