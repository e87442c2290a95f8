"""Tokens: made of a connection, a token or a logon; recognised by cookie; ended by the last copy (identity.md §8)."""

from __future__ import annotations

import json
import os
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel, commandline

if TYPE_CHECKING:
    from tests.identity.spawner.conftest import Manager, Service

pytestmark = pytest.mark.root

SO_COOKIE = 57
AUTH_ERR = 7  # PAM
IDENTIFY, IMPERSONATE = 2, 3


def log_on(manager: Manager, user: str, password: str) -> tuple[dict[str, Any], list[int]]:
    near, far = channel.pair()
    with near, far:
        channel.send(near, {"user": user, "password": password})
        return manager.ask("logon", far.fileno(), by=manager.cookie, level=IMPERSONATE)


class TestProcessTokens:
    def test_names_the_identity_of_the_connection(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001, 40_002, [40_003]):
            cookie, _, _ = manager.connected()
            answer, descriptors = manager.ask("token", by=cookie, level=IMPERSONATE)
        token = manager.own(*descriptors)
        assert answer["record"] == {"uid": 40_001, "gid": 40_002, "groups": [40_003], "name": "", "level": IMPERSONATE}
        assert answer["cookie"] == str(int.from_bytes(token.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder))

    def test_vouches_after_its_connection_has_gone(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001, 40_002, [40_003]):
            cookie, _, _ = manager.connected()
            answer, descriptors = manager.ask("token", by=cookie, level=IMPERSONATE)
            manager.own(*descriptors)
        manager.event("disconnected")
        assert manager.ask("start", program="broker", uid=40_001, by=cookie)[0]["refused"] == "unknown-cookie"
        child = manager.start("broker", 40_001, by=answer["cookie"])
        assert (child.hello["uid"], child.hello["gid"], child.hello["groups"]) == (40_001, 40_002, [40_003])

    def test_level_never_grows(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        low, descriptors = manager.ask("token", by=manager.cookie, level=IDENTIFY)
        manager.own(*descriptors)
        again, descriptors = manager.ask("token", by=low["cookie"], level=IDENTIFY)
        manager.own(*descriptors)
        assert again["record"]["level"] == IDENTIFY
        for level, by in ((IMPERSONATE, low["cookie"]), (5, manager.cookie), (0, manager.cookie)):
            refusal, descriptors = manager.ask("token", by=by, level=level)
            assert (refusal["ok"], refusal["refused"], descriptors) == (False, "broken", [])

    def test_that_only_identifies_lets_nobody_act(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001, 40_001, []):
            cookie, _, _ = manager.connected()
            low, descriptors = manager.ask("token", by=cookie, level=IDENTIFY)
            manager.own(*descriptors)
            acts: dict[str, dict[str, Any]] = {
                "start": {"program": "broker"},
                "admit": {"directories": []},
                "allow-command": {"command": commandline.name(str(uuid.UUID(int=7)), "/bin/true", "")},
            }
            for by, expected in ((low["cookie"], "level-too-low"), (cookie, None)):
                for op, fields in acts.items():
                    answer, descriptors = manager.ask(op, uid=40_001, by=by, **fields)
                    for each in descriptors:
                        manager.own(each)
                    assert (op, answer.get("refused")) == (op, expected)

    def test_ends_with_its_last_copy(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        answer, (descriptor,) = manager.ask("token", by=manager.cookie, level=IMPERSONATE)
        copy = os.dup(descriptor)
        os.close(descriptor)
        assert manager.is_silent()
        os.close(copy)
        assert manager.event("token-ended")[0] == {"event": "token-ended", "cookie": answer["cookie"]}
        assert manager.ask("token", by=answer["cookie"], level=IMPERSONATE)[0]["refused"] == "unknown-cookie"

    def test_number_of_one_uid_is_limited(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        for _ in range(512):
            manager.own(*manager.ask("token", by=manager.cookie, level=IMPERSONATE)[1])
        refusal, _ = manager.ask("token", by=manager.cookie, level=IMPERSONATE)
        assert (refusal["refused"], refusal["text"]) == ("broken", "uid 0 has 512 tokens already")

    @pytest.mark.parametrize("cookie", ["0", "", "-1", None, 7, ["1"], {"uid": 0}])
    def test_cookies_cannot_be_forged(self, start_service: Callable[..., Service], cookie: object) -> None:
        manager = start_service().manager()
        assert manager.ask("token", by=cookie, level=IMPERSONATE)[0]["refused"] == "unknown-cookie"

    def test_cookie_of_a_socket_of_ones_own_is_unknown(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        ours, theirs = channel.pair()
        with ours, theirs:
            cookie = str(int.from_bytes(ours.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder))
            assert manager.ask("token", by=cookie, level=IMPERSONATE)[0]["refused"] == "unknown-cookie"


class TestLogon:
    def test_token_has_the_identity_that_the_helper_proved(self, start_service: Callable[..., Service]) -> None:
        manager = start_service(environ={"LD_PRELOAD": "", "KRB5CCNAME": "FILE:/tmp/x", "http_proxy": "x"}).manager()
        answer, descriptors = log_on(manager, "40005", "good")
        manager.own(*descriptors)
        name = answer["record"].pop("name")
        assert answer["record"] == {"uid": 40_005, "gid": 40_005, "groups": [40_005], "level": IMPERSONATE}
        assert json.loads(name) == {
            "arguments": ["--caller-uid", "0"],
            "environ": ["LANG", "PATH"],
            "descriptors": [0, 1, 2, 3],
        }
        assert manager.start("worker", 40_005, by=answer["cookie"]).hello["uid"] == 40_005

    def test_helper_lives_as_long_as_its_token(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        service = start_service()
        manager = service.manager()
        answer, (descriptor,) = log_on(manager, "40005", "good")
        assert len(helpers_of(service)) == 1
        os.close(descriptor)
        assert manager.event("token-ended")[0]["cookie"] == answer["cookie"]
        eventually(lambda: not helpers_of(service))

    def test_token_ends_with_its_helper(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        answer, descriptors = log_on(manager, "40005", "good")
        manager.own(*descriptors)
        (helper,) = helpers_of(service)
        os.kill(helper, 9)
        assert manager.event("token-ended")[0]["cookie"] == answer["cookie"]

    def test_the_manager_ends_a_token_for_everybody(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        service = start_service()
        manager = service.manager()
        answer, descriptors = log_on(manager, "40005", "good")
        held = manager.own(*descriptors)
        for cookie in (answer["cookie"], answer["cookie"], manager.cookie, "4711"):  # gone, a connection, unknown
            channel.send(manager.control, {"op": "end-token", "id": 0, "cookie": cookie})
        assert manager.event("token-ended")[0]["cookie"] == answer["cookie"]
        assert held.recv(1) == b"", "whoever holds a copy sees the end"
        refused, _ = manager.ask("start", program="broker", uid=40_005, by=answer["cookie"])
        assert refused["refused"] == "unknown-cookie"
        assert manager.ask("token", by=manager.cookie, level=IMPERSONATE)[0]["ok"], "the connection has not ended"
        eventually(lambda: not helpers_of(service))

    @pytest.mark.parametrize(("password", "result"), [("wrong", AUTH_ERR), ("die", None), ("hang", None)])
    def test_refusal_carries_the_result_of_pam_if_there_is_one(
        self,
        start_service: Callable[..., Service],
        eventually: Callable[..., object],
        password: str,
        result: int | None,
    ) -> None:
        service = start_service()
        manager = service.manager()
        answer, descriptors = log_on(manager, "40005", password)
        assert (answer["ok"], answer["refused"], answer.get("pam")) == (False, "logon-failed", result)
        assert (bool(answer["text"]), descriptors) == (True, [])
        eventually(lambda: not helpers_of(service))

    def test_the_loop_goes_on_and_eight_at_most_are_under_way(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        for number in range(1000, 1008):
            near, far = channel.pair()
            with near, far:
                channel.send(near, {"user": "40005", "password": "hang"})
                request = {"op": "logon", "id": number, "by": manager.cookie, "level": IMPERSONATE}
                channel.send(manager.control, request, [far.fileno()])
        answer, _ = log_on(manager, "40005", "good")
        assert answer["refused"] == "logon-failed"
        assert "try again" in answer["text"]
        refused = {channel.receive(manager.control)[0]["reply"] for _ in range(8)}
        assert refused == set(range(1000, 1008))

    def test_a_users_own_service_logs_nobody_on(self, start_service: Callable[..., Service], free_uid: int) -> None:
        service = start_service(uid=free_uid)
        answer, _ = log_on(service.manager(), "40005", "good")
        assert (answer["ok"], answer["refused"]) == (False, "own-service")

    def test_helpers_end_with_the_manager(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        service = start_service()
        manager = service.manager()
        manager.own(*log_on(manager, "40005", "good")[1])
        manager.control.close()
        os.kill(manager.pid, 9)
        eventually(lambda: not helpers_of(service))


def helpers_of(service: Service) -> list[int]:
    """Logon helpers that run (or were not reaped)."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() != "bits-zygote\n"]
