"""Who a server is, read from the messages of its handshake (RFC 5246 §7.4, RFC 8446 §4): bytes of the network."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.transfer.tls_messages import MAX_CHAIN, Handshake

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, CERTIFICATE_REQUEST = 1, 2, 11, 13


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def hello(*, version: int = 0x0303, selected: int | None = None, session: bytes = b"s" * 32) -> bytes:
    """RFC 8446 §4.1.3; `selected`: the extension supported_versions."""
    extensions = b"\x00\x17\x00\x00"  # another one first
    if selected is not None:
        extensions += b"\x00\x2b\x00\x02" + selected.to_bytes(2, "big")
    fields = version.to_bytes(2, "big") + b"r" * 32 + bytes([len(session)]) + session + b"\x13\x02" + b"\x00"
    return message(SERVER_HELLO, fields + len(extensions).to_bytes(2, "big") + extensions)


def chain_of(*certificates: bytes, is_tls13: bool) -> bytes:
    entries = b""
    for one in certificates:
        entries += len(one).to_bytes(3, "big") + one + (b"\x00\x03ext" if is_tls13 else b"")
    context = b"\x00" if is_tls13 else b""
    return message(CERTIFICATE, context + len(entries).to_bytes(3, "big") + entries)


def shaken(messages: Sequence[bytes], layers: int = 1) -> Handshake:
    """Messages that begin with a ClientHello were sent, the others received."""
    made = Handshake(layers)
    for one in messages:
        (made.sent if one[0] == CLIENT_HELLO else made.received)(one)
    return made


HELLO = message(CLIENT_HELLO, b"client")
TLS12 = [hello(), chain_of(b"leaf", b"issuer", is_tls13=False)]
TLS13 = [hello(selected=0x0304), chain_of(b"leaf", b"issuer", is_tls13=True)]


@pytest.mark.parametrize(("messages", "version"), [(TLS12, "TLS 1.2"), (TLS13, "TLS 1.3")])
def test_the_chain_and_the_version_are_read(messages: list[bytes], version: str) -> None:
    found = shaken([HELLO, *messages])
    assert (found.chain, found.version) == ((b"leaf", b"issuer"), version)
    assert not found.is_client_asked


def test_a_server_that_would_like_to_know_us_is_noticed() -> None:
    assert shaken([HELLO, hello(), message(CERTIFICATE_REQUEST, b"x")]).is_client_asked
    assert shaken([HELLO, hello(selected=0x0304), message(CERTIFICATE_REQUEST, b"x")]).is_client_asked


def test_a_second_hello_of_the_same_handshake_changes_nothing() -> None:
    """HelloRetryRequest: the client says hello again, before any certificate."""
    assert shaken([HELLO, hello(selected=0x0304), HELLO, *TLS13]).chain == (b"leaf", b"issuer")


def test_the_certificate_of_a_proxy_is_not_that_of_the_server() -> None:
    proxy = [HELLO, hello(), chain_of(b"proxy", is_tls13=False)]
    assert shaken(proxy, layers=2).chain == ()
    assert shaken([*proxy, HELLO], layers=2).chain == ()
    assert shaken([*proxy, HELLO, *TLS13], layers=2).chain == (b"leaf", b"issuer")


@pytest.mark.parametrize(
    "noise", [b"", b"\x0b", b"\x16\x03\x03\x00\x05", b"\x02\x28", b"\x16", message(CERTIFICATE, b"")]
)
def test_what_is_no_message_of_interest_is_passed_over(noise: bytes) -> None:
    """Record headers, alerts and the kind of inner content are shown in between."""
    assert shaken([HELLO, hello(), noise or b"\x00", TLS12[1]]).chain == (b"leaf", b"issuer")


def test_a_long_chain_is_cut() -> None:
    many = [b"%d" % number for number in range(100)]
    assert shaken([HELLO, hello(), chain_of(*many, is_tls13=False)]).chain == tuple(many[:MAX_CHAIN])


@given(st.lists(st.one_of(st.binary(max_size=200), st.builds(message, st.sampled_from([2, 11, 13]), st.binary()))))
def test_no_bytes_break_the_reader(messages: list[bytes]) -> None:
    made = Handshake()
    made.sent(HELLO)
    for one in messages:
        made.received(one)
        made.sent(one)
    assert len(made.chain) <= MAX_CHAIN
