"""Connections: what the spawner records of them, how many there may be, how their end is told (identity.md §8, S10)."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openbits import channel

if TYPE_CHECKING:
    from tests.identity.spawner.conftest import Service

pytestmark = pytest.mark.root

SO_COOKIE = 57
CONNECT_AND_STAY = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.read()
"""


def test_record_is_what_the_kernel_says(start_service: Callable[..., Service]) -> None:
    service = start_service()
    manager = service.manager()
    with service.connect_as(40_001, 40_002, [40_003, 40_004]) as client:
        cookie, record, connection = manager.connected()
        assert record == {
            "uid": 40_001,
            "gid": 40_002,
            "groups": [40_003, 40_004],
            "name": "",  # a name service may block: the manager asks it
            "is_foreign_userns": False,
        }
        assert cookie == str(int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder))
        client.sendall(b"hello")
        assert connection.recv(5) == b"hello"  # nobody else has read from it


def test_the_process_at_the_other_end_comes_with_the_connection(start_service: Callable[..., Service]) -> None:
    """As a pidfd: its number would be another's when it has ended."""
    service = start_service()
    manager = service.manager()
    line = [sys.executable, "-I", "-c", CONNECT_AND_STAY, str(service.at)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        _, (connection, process) = manager.event("connected")
        manager.own(connection)
        assert f"Pid:\t{peer.pid}\n" in Path(f"/proc/self/fdinfo/{process}").read_text()
        peer.communicate()
        assert select.select([process], [], [], 10)[0], "it tells the end of the process"
    os.close(process)


def test_record_has_all_of_300_groups(start_service: Callable[..., Service]) -> None:
    service = start_service()
    manager = service.manager()
    groups = list(range(50_000, 50_300))
    with service.connect_as(40_001, 40_001, groups):
        assert manager.connected()[1]["groups"] == groups


def test_who_has_more_groups_than_a_message_holds_is_turned_away(start_service: Callable[..., Service]) -> None:
    service = start_service()
    manager = service.manager()
    with service.connect_as(40_001, 40_001, range(100_000, 165_536)) as client:
        assert client.recv(1) == b""
    with service.connect_as(40_002):
        assert manager.connected()[1]["uid"] == 40_002


def test_end_of_the_client_is_told_even_while_the_manager_has_the_connection(
    start_service: Callable[..., Service],
) -> None:
    service = start_service()
    manager = service.manager()
    client = service.connect_as(40_001)
    cookie, _, connection = manager.connected()
    client.shutdown(socket.SHUT_WR)  # it has said all, and still reads
    assert manager.is_silent()
    connection.sendall(b"answer")
    assert client.recv(6) == b"answer"
    client.close()
    assert manager.event("disconnected")[0]["cookie"] == cookie


def test_manager_ends_a_connection_by_shutdown(start_service: Callable[..., Service]) -> None:
    service = start_service()
    manager = service.manager()
    with service.connect_as(40_001) as client:
        cookie, _, connection = manager.connected()
        connection.shutdown(socket.SHUT_RDWR)
        assert client.recv(1) == b""
        assert manager.event("disconnected")[0]["cookie"] == cookie


def test_connections_of_one_uid_are_limited_and_those_of_others_are_not(start_service: Callable[..., Service]) -> None:
    service = start_service()
    manager = service.manager()
    clients = [service.connect_as(40_001) for _ in range(64)]
    for _ in clients:
        assert manager.connected()[1]["uid"] == 40_001
    with service.connect_as(40_001) as surplus:
        assert surplus.recv(1) == b""
    with service.connect_as(40_002):
        assert manager.connected()[1]["uid"] == 40_002
    clients.pop().close()
    manager.event("disconnected")
    clients.append(service.connect_as(40_001))
    assert manager.connected()[1]["uid"] == 40_001
    for client in clients:
        client.close()


def test_listener_survives_a_lack_of_descriptors(start_service: Callable[..., Service]) -> None:
    service = start_service(command=("prlimit", "--nofile=40:40", "--"))
    manager = service.manager()
    clients = [service.connect_as(40_001 + number) for number in range(60)]
    first = manager.connected()[1]
    assert first["uid"] == 40_001
    for client in clients:
        client.close()
    with service.connect_as(41_000):
        while manager.connected()[1]["uid"] != 41_000:
            pass


def test_peer_in_another_user_namespace_is_foreign_and_vouches_for_nothing(
    start_service: Callable[..., Service],
) -> None:
    service = start_service()
    manager = service.manager()
    line = ["unshare", "--user", "--map-root-user", sys.executable, "-c", CONNECT_AND_STAY, str(service.at)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=40_001, group=40_001) as peer:
        assert peer.stdout is not None
        assert peer.stdout.readline() == b"connected\n"
        cookie, record, _ = manager.connected()
        assert (record["uid"], record["is_foreign_userns"]) == (40_001, True)
        for op, fields in (
            ("start", {"program": "broker", "uid": 40_001}),
            ("token", {"level": 3}),
            ("admit", {"uid": 40_001, "directories": []}),
        ):
            answer, _ = manager.ask(op, by=cookie, **fields)
            assert (answer["ok"], answer["refused"]) == (False, "unknown-cookie")
            assert "user namespace" in answer["text"]
        peer.communicate()


def test_clients_that_come_between_two_managers_wait_for_the_next(start_service: Callable[..., Service]) -> None:
    service = start_service()
    first = service.manager()
    channel.send(first.control, {"op": "unknown", "id": 1})
    assert first.client.recv(1) == b""  # the generation is over
    second = service.manager()  # connects at once
    assert second.configured["pids"]["zygote"] != first.configured["pids"]["zygote"]
