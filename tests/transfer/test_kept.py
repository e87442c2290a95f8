"""A descriptor is believed to be that of a kept connection only as long as it is that very socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbits.transfer.kept import Kept

PORT = 40000


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def test_a_connection_that_is_open_is_found_by_its_port(connection: socket.socket) -> None:
    kept = Kept()
    kept.keep(connection.fileno(), PORT)
    assert (kept.find(PORT), kept.find(PORT + 1)) == (connection.fileno(), None)


def test_one_that_was_closed_is_not(connection: socket.socket) -> None:
    kept = Kept()
    kept.keep(connection.fileno(), PORT)
    connection.close()
    assert kept.find(PORT) is None


@pytest.mark.parametrize("kind", ["socket", "file"])
def test_nor_what_has_its_number_now(connection: socket.socket, kind: str) -> None:
    kept, number = Kept(), os.dup(connection.fileno())
    kept.keep(number, PORT)
    with socket.socket() as other, Path(__file__).open("rb") as file:
        os.dup2(other.fileno() if kind == "socket" else file.fileno(), number)
        found = kept.find(PORT)
    os.close(number)
    assert found is None


def test_another_connection_under_the_same_number_is_known_by_its_own_port(connection: socket.socket) -> None:
    kept = Kept()
    kept.keep(connection.fileno(), PORT)
    kept.keep(connection.fileno(), PORT + 1)
    assert (kept.find(PORT), kept.find(PORT + 1)) == (None, connection.fileno())


def test_what_is_forgotten_is_not_found(connection: socket.socket) -> None:
    kept = Kept()
    kept.keep(connection.fileno(), PORT)
    kept.forget(PORT)
    assert kept.find(PORT) is None
