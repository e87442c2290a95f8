"""Uploads to a real server whose directory has an application: nothing is lost, and what is told twice is known."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import User
from tests.server.applications import Application
from tests.server.process import ServerProcess
from tests.server.proxies import Answer, Client

from openbits.core.packets import PacketType

CONTENT = b"what was uploaded" * 1000
LAST = len(CONTENT) - 1
PATH = "/inbox/report.bin"
COPY = [["BITS-Copy-File-To-Destination", "yes"]]
VENDOR = "0xA0040001"

DIRECTORY = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
BITSServerNotificationType = {kind}
BITSServerNotificationURL = "{url}"
"""


class Site:
    """A server and its application; packets go over a connection of their own each."""

    def __init__(self, base: Path, kind: int, *, account: str | None = None, limits: str = "") -> None:
        self.application = Application(base / "application", account=account)
        directory = DIRECTORY.format(kind=kind, url=self.application.url("/hook"))
        self.server = ServerProcess(base / "server", directory, limits=limits)
        self.server.start()
        self.file = self.server.inbox / "report.bin"

    def packet(self, kind: PacketType, session: str) -> Answer:
        with contextlib.closing(Client(self.server.port)) as client:
            return client.packet(kind, PATH, session)

    def create(self) -> str:
        with contextlib.closing(Client(self.server.port)) as client:
            return client.create(PATH)

    def final(self, session: str) -> Answer:
        """The one fragment of the file."""
        with contextlib.closing(Client(self.server.port)) as client:
            return client.fragment(PATH, session, (0, LAST, len(CONTENT)), CONTENT)

    def get(self, url: str) -> Answer:
        with contextlib.closing(Client(self.server.port)) as client:
            return client.ask("GET", url.removeprefix(self.server.url))

    def begin_final(self, session: str) -> Client:
        """The same, but nobody waits for the answer."""
        client = Client(self.server.port)
        client.begin_fragment(PATH, session, (0, LAST, len(CONTENT)), CONTENT)
        return client

    def close(self) -> None:
        self.server.close()
        self.application.close()


@pytest.fixture(params=[1, 2], ids=["by-reference", "by-value"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, request.param)
    yield made
    made.close()


def test_s8_1_the_application_has_the_file_its_reply_comes_back_and_goes_with_the_session(site: Site) -> None:
    site.application.answer(fields=COPY, body=b"the reply", reply="the reply")
    session = site.create()
    answer = site.final(session)
    assert (answer.status, answer.fields["bits-received-content-range"]) == (200, str(len(CONTENT)))
    assert site.get(answer.fields["bits-reply-url"]).body == b"the reply"
    assert site.file.read_bytes() == CONTENT
    assert site.packet(PacketType.CLOSE_SESSION, session).status == 200
    assert site.get(answer.fields["bits-reply-url"]).status == 404
    assert site.file.read_bytes() == CONTENT
    assert not [path for path in site.server.spool.rglob("*.bin") if path.is_file()]


def test_d19_an_application_that_says_nothing_gives_no_reply(site: Site) -> None:
    session = site.create()
    answer = site.final(session)
    assert (answer.status, answer.fields.get("bits-reply-url")) == (200, None)
    assert site.packet(PacketType.CLOSE_SESSION, session).status == 200
    assert not site.file.exists()


def test_d19_the_reply_of_a_refused_try_is_not_the_reply(site: Site) -> None:
    site.application.answer(500, body=b"half a reply", reply="half a reply")
    session = site.create()
    assert site.final(session).status == 500
    site.application.answer(200)
    answer = site.final(session)
    assert (answer.status, answer.fields.get("bits-reply-url")) == (200, None)


def test_s9_3_403_is_final(site: Site) -> None:
    site.application.answer(403, fields=[["BITS-Error-Code", VENDOR]])
    session = site.create()
    refusals = [site.final(session) for _ in range(3)]
    assert {answer.status for answer in refusals} == {403}
    assert {answer.fields["bits-error-code"] for answer in refusals} == {VENDOR}
    assert {answer.fields["bits-error-context"] for answer in refusals} == {"0x7"}
    assert len(site.application.asked()) == 1
    assert not site.file.exists()


def test_s9_3_f7_another_refusal_is_tried_again_when_the_client_does(site: Site) -> None:
    session = site.create()
    for status in (500, 404):
        site.application.answer(status, fields=COPY)
        answer = site.final(session)
        assert (answer.status, answer.fields["bits-error-code"]) == (status, f"0x{0x80190000 | status:08X}")
    assert not site.file.exists()
    site.application.answer(200, fields=COPY)
    assert [site.final(session).status for _ in range(3)] == [200] * 3
    assert len(site.application.asked()) == 3
    assert site.file.read_bytes() == CONTENT


def test_s9_3_401_of_an_application_asks_the_client_for_nothing(site: Site) -> None:
    site.application.answer(401, fields=[["WWW-Authenticate", "Basic"]])
    answer = site.final(site.create())
    assert (answer.status, answer.fields.get("www-authenticate")) == (401, None)


def test_d29_a_client_that_gave_up_and_asks_again_causes_no_second_notification(
    site: Site, eventually: Callable[..., object]
) -> None:
    site.application.answer(fields=COPY, body=b"the reply", reply="the reply", waits=True)
    session = site.create()
    site.begin_final(session).close()
    eventually(site.application.asked)
    with contextlib.closing(site.begin_final(session)) as again:
        site.application.release()
        answer = again.answer()
    assert answer.status == 200
    assert site.get(answer.fields["bits-reply-url"]).body == b"the reply"
    assert len(site.application.asked()) == 1
    assert site.file.read_bytes() == CONTENT


def test_s9_5_a_server_that_is_killed_meanwhile_notifies_again_and_publishes_once(
    site: Site, eventually: Callable[..., object]
) -> None:
    site.application.answer(reply="half a reply", hangs="head")
    session = site.create()
    client = site.begin_final(session)
    eventually(site.application.asked)
    site.server.kill()
    client.close()
    assert not site.file.exists()
    site.application.answer(fields=COPY, body=b"reply", reply="reply")
    site.server.start()
    answer = site.final(session)
    assert (answer.status, answer.fields["bits-received-content-range"]) == (200, str(len(CONTENT)))
    assert site.get(answer.fields["bits-reply-url"]).body == b"reply"
    assert site.file.read_bytes() == CONTENT
    assert len(site.application.asked()) == 2
    site.server.kill()
    site.server.start()
    again = site.final(session)
    assert (again.status, again.fields["bits-reply-url"]) == (200, answer.fields["bits-reply-url"])
    assert len(site.application.asked()) == 2


def test_s9_5_a_server_that_is_ended_meanwhile_does_not_wait_for_the_application(
    tmp_path: Path, eventually: Callable[..., object]
) -> None:
    site = Site(tmp_path, 2, limits="shutdown_seconds = 1")
    try:
        site.application.answer(hangs="head")
        session = site.create()
        with contextlib.closing(site.begin_final(session)):
            eventually(site.application.asked)
            assert site.server.stop() == 0
        site.application.answer(body=b"the reply")
        site.server.start()
        assert site.get(site.final(session).fields["bits-reply-url"]).body == b"the reply"
    finally:
        site.close()


def test_s5_3_cancel_meanwhile_drops_the_answer(site: Site, eventually: Callable[..., object]) -> None:
    site.application.answer(fields=COPY, body=b"the reply", reply="the reply", waits=True)
    session = site.create()
    with contextlib.closing(site.begin_final(session)) as client:
        eventually(site.application.asked)
        assert site.packet(PacketType.CANCEL_SESSION, session).status == 200
        site.application.release()
        assert client.answer().fields["bits-error-code"] == "0x8020001F"
    assert not site.file.exists()
    eventually(lambda: not [path for path in site.server.spool.rglob("*.bin") if path.is_file()])


@pytest.mark.root
def test_s9_6_by_reference_an_application_of_the_group_reads_the_file_and_writes_the_reply(
    open_tmp_path: Path, throwaway_user: Callable[..., User]
) -> None:
    account = throwaway_user()
    site = Site(open_tmp_path, 1, account=account.name)
    try:
        os.chown(site.server.inbox, -1, account.gid)
        copy = open_tmp_path / "application" / "copy"
        site.application.answer(reply="the reply", copies=str(copy))
        answer = site.final(site.create())
        assert site.get(answer.fields["bits-reply-url"]).body == b"the reply"
        assert (copy.read_bytes(), copy.stat().st_uid) == (CONTENT, account.uid)
        assert not os.access(site.server.inbox / "report.bin", os.F_OK)
    finally:
        site.close()


@pytest.mark.root
def test_s9_6_by_reference_an_application_outside_the_group_gets_nothing(
    open_tmp_path: Path, throwaway_user: Callable[..., User]
) -> None:
    site = Site(open_tmp_path, 1, account=throwaway_user().name)
    try:
        site.application.answer(reply="the reply", copies=str(open_tmp_path / "application" / "copy"))
        answer = site.final(site.create())
        assert (answer.status, answer.fields["bits-error-context"]) == (503, "0x7")
        assert not (open_tmp_path / "application" / "copy").exists()
    finally:
        site.close()
