"""What a hostile peer can say in a conversation, and what ties one to a TLS connection (RFC 5929 §4.1)."""

import datetime as dt
import hashlib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.enums import AuthScheme, AuthTarget
from openbits.transfer import auth
from openbits.transfer.auth import Credential
from openbits.transfer.mechanisms import Mechanism, MechanismError, Mechanisms, end_point

PEER = auth.server(("https", "files.example", 443))
NTLM_CHALLENGE = bytes.fromhex(
    # [MS-NLMP] §4.2.4.3
    "4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef00000000000000002400240044000000"
    "060070170000000f53006500720076006500720002000c0044006f006d00610069006e0001000c00530065007200760065"
    "0072000000000000"
)


def begun(scheme: AuthScheme) -> Mechanism:
    credential = Credential(target=AuthTarget.SERVER, scheme=scheme, user="anna", password="Canary5ecret")  # a test
    mechanism = Mechanisms().begin(credential, PEER, "")
    mechanism.step(None)
    return mechanism


@pytest.fixture(autouse=True)
def _no_realm(monkeypatch: pytest.MonkeyPatch) -> None:
    """No KDC knows the user."""
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


def is_refused(scheme: AuthScheme, token: bytes) -> bool:
    try:
        begun(scheme).step(token)
    except MechanismError:
        return True
    return False


@given(st.sampled_from([AuthScheme.NTLM, AuthScheme.NEGOTIATE]), st.binary(max_size=300))
def test_whatever_a_peer_says_is_answered_or_refused(scheme: AuthScheme, token: bytes) -> None:
    is_refused(scheme, token)


@given(st.integers(0, len(NTLM_CHALLENGE) - 1), st.integers(0, 255), st.integers(0, len(NTLM_CHALLENGE)))
def test_a_challenge_with_a_wrong_byte_or_a_lost_end_is_answered_or_refused(place: int, byte: int, end: int) -> None:
    spoilt = bytearray(NTLM_CHALLENGE)
    spoilt[place] = byte
    is_refused(AuthScheme.NTLM, bytes(spoilt[:end]))


def test_a_sound_challenge_is_answered() -> None:
    assert not is_refused(AuthScheme.NTLM, NTLM_CHALLENGE)


SigningHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA3_256


def certificate(algorithm: SigningHash | None) -> x509.Certificate:
    key = ed25519.Ed25519PrivateKey.generate() if algorithm is None else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files.example")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + dt.timedelta(days=1))
    return made.sign(key, algorithm)


@pytest.mark.parametrize(
    ("signed_with", "hashed_with"),
    [
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
        (hashes.SHA3_256(), "sha3_256"),
    ],
)
def test_the_binding_is_a_hash_of_the_kind_that_signed_the_certificate(
    signed_with: SigningHash, hashed_with: str
) -> None:
    made = certificate(signed_with)
    expected = hashlib.new(hashed_with, made.public_bytes(Encoding.DER)).digest()
    assert end_point(made.public_bytes(Encoding.PEM).decode()) == b"tls-server-end-point:" + expected


def test_a_weak_hash_is_replaced(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library signs with SHA-1 no more; openssl does."""
    folder = tmp_path_factory.mktemp("sha1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha1", "-subj", "/CN=x", "-days", "1"]
    subprocess.run(
        [*command, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True
    )
    pem = (folder / "cert.pem").read_text()
    whole = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    assert end_point(pem) == b"tls-server-end-point:" + hashlib.sha256(whole).digest()


def test_a_signature_without_a_hash_has_no_binding() -> None:
    assert end_point(certificate(None).public_bytes(Encoding.PEM).decode()) is None
