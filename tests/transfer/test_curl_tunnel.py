"""Whose sockets the tunnels of an engine are, and that each is closed when nobody needs it any more."""

import socket
from collections.abc import Iterator

import pytest

from openbits.core.proxies import Proxy
from openbits.transfer import urls
from openbits.transfer.curl_tunnel import Tunnels
from openbits.transfer.request import Request

PROXY = Proxy(host="proxy.example", port=3128)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def tunnels() -> Iterator[Tunnels]:
    made = Tunnels()
    yield made
    made.close()


def request(url: str = "https://files.example/a", proxy: Proxy = PROXY) -> Request:
    return Request(method="GET", target=urls.parse(url), proxy=proxy)


def dialled(tunnels: Tunnels, listener: socket.socket) -> socket.socket:
    """A connection that libcurl has made for a request for a tunnel."""
    made = socket.create_connection(listener.getsockname())
    tunnels.dialled(made)
    return made


def port_of(connection: socket.socket) -> int:
    return int(connection.getsockname()[1])


def is_open(connection: socket.socket) -> bool:
    return connection.fileno() >= 0


def test_the_connection_on_which_the_proxy_agreed_is_the_tunnel_and_others_are_closed(
    tunnels: Tunnels, listener: socket.socket
) -> None:
    """Happy eyeballs try several addresses of a proxy."""
    lost, won = dialled(tunnels, listener), dialled(tunnels, listener)
    tunnels.answered(request(), port_of(won), is_made=True, is_kept=False)
    assert (is_open(lost), is_open(won)) == (False, True)
    assert tunnels.take(request()) is won
    assert tunnels.take(request()) is None, "it is used once"
    won.close()


def test_the_connection_of_a_conversation_is_the_tunnel_in_the_end(tunnels: Tunnels, listener: socket.socket) -> None:
    connection = dialled(tunnels, listener)
    for _ in range(2):
        tunnels.answered(request(), port_of(connection), is_made=False, is_kept=True)
        assert tunnels.take(request()) is None
    tunnels.answered(request(), port_of(connection), is_made=True, is_kept=False)
    assert tunnels.take(request()) is connection
    connection.close()


@pytest.mark.parametrize(
    "other",
    [
        request("https://other.example/a"),
        request("https://files.example:8443/a"),
        request(proxy=Proxy(host="proxy.example", port=3129)),
    ],
    ids=["host", "port", "proxy"],
)
def test_a_tunnel_leads_to_one_server_through_one_proxy(
    tunnels: Tunnels, listener: socket.socket, other: Request
) -> None:
    connection = dialled(tunnels, listener)
    tunnels.answered(request(), port_of(connection), is_made=True, is_kept=False)
    assert tunnels.take(other) is None
    assert tunnels.take(request("https://FILES.example/b")) is connection
    connection.close()


def test_a_connection_that_libcurl_has_closed_is_closed_here_too(tunnels: Tunnels, listener: socket.socket) -> None:
    first, second = dialled(tunnels, listener), None
    tunnels.answered(request(), port_of(first), is_made=False, is_kept=False)
    assert not is_open(first)
    first = dialled(tunnels, listener)
    tunnels.answered(request(), port_of(first), is_made=False, is_kept=True)
    second = dialled(tunnels, listener)
    tunnels.answered(request(), port_of(second), is_made=False, is_kept=True)
    assert (is_open(first), is_open(second)) == (False, True)


def test_nothing_is_open_when_the_engine_is_closed(tunnels: Tunnels, listener: socket.socket) -> None:
    made = dialled(tunnels, listener)
    tunnels.answered(request(), port_of(made), is_made=True, is_kept=False)
    conversing = dialled(tunnels, listener)
    tunnels.answered(request(), port_of(conversing), is_made=False, is_kept=True)
    trying = dialled(tunnels, listener)
    tunnels.close()
    assert not any(is_open(one) for one in (made, conversing, trying))
