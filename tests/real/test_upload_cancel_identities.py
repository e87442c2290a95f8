"""In whose name a server is told that an upload was given up (identity.md §4, I-12; upload-protocol.md §7.5)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Person, Service, run_as
from tests.real.half_way import (
    CANCEL,
    CLOSE,
    CREATE,
    FIRST,
    FRAGMENT,
    SIZE,
    Server,
    acknowledged,
    again,
    cancel,
    half_way,
    is_gone,
    owner,
    server,
    source,
)

from openbits import BitsError, JobType, TokenFlags

__all__ = ["again", "half_way", "owner", "server", "source"]

pytestmark = pytest.mark.root


class Helper:
    """A second identity, whose token a thread of the test holds until it is told to end it."""

    def __init__(self, service: Service, user: User) -> None:
        self.user, self._service = user, service

    def equip(self, job_id: str, flags: TokenFlags, *, owner: User) -> None:
        """The owner gives the job a token of the helper, who logs on with a password."""

        def act() -> None:
            with self._service.client() as client:
                job = client.job(job_id)
                with client.logon_user(self.user.name, self.user.password) as token, token.impersonate():
                    job.set_helper_token()
                job.set_helper_token_flags(flags)

        run_as(owner, act)


@pytest.fixture
def helper(service: Service, throwaway_user: Callable[..., User]) -> Helper:
    return Helper(service, throwaway_user(password="only-for-this-test"))


def suspended(service: Service, user: Any, url: str, source: Path) -> str:
    def make() -> str:
        with service.client() as client:
            job = client.create_job("report", type=JobType.UPLOAD)
            job.add_file(url, source)
            return str(job.id)

    return run_as(user, make)


def resume(service: Service, user: Any, job_id: str) -> None:
    def act() -> None:
        with service.client() as client:
            client.job(job_id).resume()

    run_as(user, act)


@pytest.fixture
def by_helper(
    service: Service, server: Server, owner: User, source: Path, helper: Helper, eventually: Callable[..., Any]
) -> str:
    """A job half way whose network identity is the helper."""
    server.stalls()
    job_id = suspended(service, owner, server.url("/in/report.bin"), source)
    helper.equip(job_id, TokenFlags.NETWORK, owner=owner)
    resume(service, owner, job_id)
    eventually(lambda: acknowledged(service, job_id) == FIRST and len(server.sent(FRAGMENT)) == 2)
    return job_id


def test_section_4_identity_it_is_the_network_identity_that_tells(
    service: Service, server: Server, owner: User, helper: Helper, by_helper: str, eventually: Callable[..., Any]
) -> None:
    cancel(service, owner, by_helper)
    eventually(lambda: server.sessions == {})
    assert set(server.uids_of(CANCEL)) == {helper.user.uid} == set(server.uids_of(CREATE))
    eventually(lambda: is_gone(service))


def test_i12_after_its_token_nobody_speaks_for_the_helper_though_another_job_has_one(
    service: Service,
    server: Server,
    owner: User,
    source: Path,
    helper: Helper,
    by_helper: str,
    again: Callable[[], Server],
    eventually: Callable[..., Any],
) -> None:
    """Not even a token of the same user that another job has: it was not given for this one's server."""
    server.close()
    cancel(service, owner, by_helper)
    service.stop()  # with which its token ends
    service.start()
    eventually(lambda: is_gone(service))
    back = again()
    other = suspended(service, owner, server.url("/in/other"), source)
    helper.equip(other, TokenFlags.NETWORK, owner=owner)
    resume(service, owner, other)
    eventually(lambda: back.sent(CLOSE))
    assert back.sent(CANCEL) == []


def test_section_7_5_the_old_owner_s_session_is_cancelled_and_the_new_owner_begins_at_0(
    service: Service,
    server: Server,
    owner: User,
    root: Person,
    source: Path,
    half_way: Callable[..., str],
    eventually: Callable[..., Any],
) -> None:
    job_id = half_way()
    (old,) = server.sessions
    server.mend()

    def take() -> None:
        with service.client() as client:
            client.job(job_id).take_ownership()

    source.parent.chmod(0o755)  # root, too, has no capability to pass a folder that is closed to it
    run_as(root, take)
    eventually(lambda: server.sent(CLOSE))
    eventually(lambda: server.sent(CANCEL))
    assert [packet.session_id for packet in server.sent(CANCEL)] == [old]
    assert set(server.uids_of(CANCEL)) == {owner.uid}
    assert server.uids_of(CREATE) == [owner.uid, 0]
    ours = [packet for packet in server.sent(FRAGMENT) if server.uids[packet.connection] == 0]
    assert ours[0].range.first == 0
    assert server.files == {"/in/report.bin": bytes(SIZE)}


def test_a_takeover_that_fails_leaves_the_session_alone(
    service: Service, server: Server, throwaway_user: Callable[..., User], half_way: Callable[..., str]
) -> None:
    job_id = half_way()

    def take() -> int:
        with service.client() as client, pytest.raises(BitsError) as caught:
            client.job(job_id).take_ownership()
        return caught.value.hresult

    assert run_as(throwaway_user(), take) == 0x80070005
    assert server.sent(CANCEL) == []
    assert acknowledged(service, job_id) == FIRST
