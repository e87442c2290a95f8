"""Tokens between programs: one descriptor over any Unix socket, and nothing else is taken."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openbits import BitsError, Token

E_HANDLE = 0x80070006

KINDS = [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def token() -> Iterator[Token]:
    """What a token is to the client: a socket."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, Token(near.detach()) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_crosses_any_unix_socket_and_both_have_it_then(kind: socket.SocketKind, token: Token) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, kind)
    with here, there:
        token.send(here)
        with Token.receive(there) as received:
            assert os.fstat(received.fileno()).st_ino == os.fstat(token.fileno()).st_ino
            assert received.fileno() != token.fileno()
            assert not os.get_inheritable(received.fileno())


def several(count: int) -> Callable[[socket.socket], None]:
    def send(sock: socket.socket) -> None:
        ends = [end for _ in range((count + 1) // 2) for end in socket.socketpair()]
        socket.send_fds(sock, [b"T"], [end.fileno() for end in ends[:count]])
        for end in ends:
            end.close()

    return send


def a_file(sock: socket.socket) -> None:
    with Path("/etc/passwd").open() as file:
        socket.send_fds(sock, [b"T"], [file.fileno()])


WRONG: dict[str, Callable[[socket.socket], object]] = {
    "0 descriptors came": lambda sock: sock.send(b"T"),
    "1 descriptor that is no socket came": a_file,
    "2 descriptors came": several(2),
    "4 descriptors came": several(4),
    "more than 4 descriptors came": several(250),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_one_token_is_refused_by_name_and_closed(what: str, kind: socket.SocketKind) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, kind)
    with here, there:
        before = open_descriptors()
        WRONG[what](here)
        with pytest.raises(BitsError) as caught:
            Token.receive(there)
        assert caught.value.hresult == E_HANDLE
        assert f"cannot receive a token: {what}; the sender must send one token" in str(caught.value)
        assert open_descriptors() == before


def test_a_sender_that_is_gone_sent_nothing() -> None:
    here, there = socket.socketpair()
    here.close()
    with there, pytest.raises(BitsError) as caught:
        Token.receive(there)
    assert "0 descriptors came" in str(caught.value)
