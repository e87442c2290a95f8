"""Looks at the certificates that a server showed and finds everything that is wrong with them.

OpenSSL builds and judges the chain, by the rules that libcurl uses. Where it stops at a fault that a flag of the job
might ignore, the fault is noted and it is asked again without that check: dates are left out, or the chain may end
where no trusted issuer is known. So each class of faults is found by itself, anywhere in the chain, together with any
others. Name, purpose and strength, which OpenSSL looks at in connections only, are looked at here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from openbits.core import codes
from openbits.transfer.headers import printable
from openbits.transfer.tls import NO_CA, OTHER_VERDICT, VERDICTS, Fault, Findings, described
from openbits.transfer.tls_names import BROKEN, is_for

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL does not name."""

_SERVER_PURPOSES: Final = frozenset(
    {
        ExtendedKeyUsageOID.SERVER_AUTH,
        x509.ObjectIdentifier("2.16.840.1.113730.4.1"),  # the step-up purposes of the nineties, as in OpenSSL
        x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    }
)

_KEY_BITS: Final = 2048
_CURVE_BITS: Final = 224
_BROKEN_HASHES: Final = (hashes.MD5, hashes.SHA1)
"""What security level 2 of OpenSSL refuses, which is its own default and that of distributions."""


_BROKEN: Final = (*BROKEN, crypto.Error)

_SHOWN: Final = 200


class Verifier:
    """Judges certificates by the authorities in a PEM file; None: nobody is trusted."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file
        self._stores: dict[int, crypto.X509Store] = {}

    def examine(self, presented: Sequence[bytes], host: str, version: str = "") -> Findings:
        """What is wrong with the certificates (DER, the server's own first) as those of this host."""
        chain, faults = list[x509.Certificate](), list[Fault]()
        try:
            chain, faults = self._built(presented)
            faults += _other_faults(chain, host)
        except _BROKEN as error:  # each part of a certificate is read when it is asked for
            words = f"a certificate cannot be read: {printable(str(error), _SHOWN)}"
            faults.append(Fault(hresult=OTHER_VERDICT, words=words))
        return Findings(presented=tuple(presented), chain=tuple(chain), faults=tuple(faults), version=version)

    def _built(self, presented: Sequence[bytes]) -> tuple[list[x509.Certificate], list[Fault]]:
        """The chain, and what is wrong with it; the server's certificate alone if there is none. Raises _BROKEN."""
        faults: dict[int, Fault] = {}
        anchor: crypto.X509 | None = None
        leaf, *others = [crypto.load_certificate(crypto.FILETYPE_ASN1, one) for one in presented]
        while True:
            flags = crypto.X509StoreFlags.PARTIAL_CHAIN
            if codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID in faults:
                flags |= _NO_CHECK_TIME
            store = self._trusted(flags) if anchor is None else _store(flags, anchor)
            try:
                found = crypto.X509StoreContext(store, leaf, others).get_verified_chain()
                return [one.to_cryptography() for one in found], list(faults.values())
            except crypto.X509StoreContextError as error:
                fault = self._fault_of(error)
                if fault.hresult in faults or fault.hresult not in _LEFT_OUT:
                    return [leaf.to_cryptography()], [*faults.values(), fault]
                faults[fault.hresult] = fault
                if fault.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA:
                    anchor = error.certificate

    def _fault_of(self, error: crypto.X509StoreContextError) -> Fault:
        number, depth, text = error.errors
        whose = "the server" if depth == 0 else "an issuer"
        words = f"{text} ({whose}: {_described(error.certificate)})"
        hresult = VERDICTS.get(number, OTHER_VERDICT)
        if hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA and self._ca_file is None:
            words = NO_CA
        return Fault(hresult=hresult, words=words)

    def _trusted(self, flags: int) -> crypto.X509Store:
        """The authorities. Read once: a bundle takes some 20 ms."""
        if flags not in self._stores:
            store = self._stores[flags] = _store(flags)
            if self._ca_file is not None:
                try:
                    store.load_locations(self._ca_file)
                except crypto.Error:  # nothing in it that can be read: nobody is trusted, as in libcurl
                    self._ca_file = None
        return self._stores[flags]


_LEFT_OUT: Final = frozenset({codes.ERROR_WINHTTP_SECURE_INVALID_CA, codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID})
"""What OpenSSL can be asked not to look at."""


def _described(certificate: crypto.X509) -> str:
    try:
        return described(certificate.to_cryptography())
    except _BROKEN:
        return "it cannot be read"


def _store(flags: int, *certificates: crypto.X509) -> crypto.X509Store:
    store = crypto.X509Store()
    store.set_flags(flags)
    for certificate in certificates:
        store.add_cert(certificate)
    return store


def _other_faults(chain: Sequence[x509.Certificate], host: str) -> Iterable[Fault]:
    """What OpenSSL has not looked at."""
    leaf = chain[0]
    if not is_for(leaf, host):
        words = f"the certificate is not for {host} ({described(leaf)})"
        yield Fault(hresult=codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID, words=words)
    misused = next((one for depth, one in enumerate(chain) if not _is_for_servers(one, is_leaf=depth == 0)), None)
    if misused is not None:
        words = f"a certificate is not for the authentication of servers ({described(misused)})"
        yield Fault(hresult=codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE, words=words)
    weak = next((one for one in chain if _is_key_weak(one)), None)
    if weak is None:
        weak = next((one for one in chain[:-1] if isinstance(one.signature_hash_algorithm, _BROKEN_HASHES)), None)
    if weak is not None:
        words = f"the key or the signature of a certificate is too weak to prove anything ({described(weak)})"
        yield Fault(hresult=OTHER_VERDICT, words=words)


def _is_for_servers(certificate: x509.Certificate, *, is_leaf: bool) -> bool:
    """The purpose `ssl_server` of OpenSSL; a certificate that names no purpose is for every one."""
    extensions = certificate.extensions
    try:
        if not _SERVER_PURPOSES & set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value):
            return False
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return not is_leaf or usage.digital_signature or usage.key_encipherment or usage.key_agreement


def _is_key_weak(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return key.key_size < _KEY_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _CURVE_BITS
