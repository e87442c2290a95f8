"""Identities that are unlike most: hundreds of groups, no account, an account that is deleted meanwhile (T-17)."""

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User, _add_user, _remove_user
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.stories import Job, create, real_user, running_service

from openbits import BitsError, Outcome, TokenFlags

pytestmark = pytest.mark.root

S_OK = 0
E_ACCESSDENIED = 0x80070005
BODY = secrets.token_bytes(300_000)
GROUPS = range(200_000, 210_000)
MOST_GROUPS = 4096
"""Linux allows 65536; who has more than these is not served."""
ROOT = Person(uid=0, gid=0)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service() as made:
        yield made


def of_groups(uid: int, count: int) -> Person:
    return Person(uid=uid, gid=uid, groups=tuple(GROUPS[:count]))


@pytest.fixture
def group_folder(open_tmp_path: Path) -> Callable[[int], Path]:
    """`group_folder(gid)`: a folder that only members of this group may use."""

    def make(gid: int) -> Path:
        folder = open_tmp_path / f"of-{gid}"
        folder.mkdir()
        os.chown(folder, 0, gid)
        folder.chmod(0o770)
        return folder

    return make


# -- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [300, MOST_GROUPS])
def test_t17_the_last_of_many_groups_counts_for_files_and_for_tokens(
    count: int, service: Service, site: Site, free_uid: int, group_folder: Callable[[int], Path]
) -> None:
    """SO_PEERGROUPS through the standard library stops at 256 (S11)."""
    person = of_groups(free_uid, count)
    url = site.put("/data", BODY)
    folder = group_folder(person.groups[-1])

    def story() -> tuple[int, str]:
        with service.client() as client, client.open_process_token() as token:
            groups = client.token_info(token)["groups"]
            assert set(groups) == set(person.groups)
            job = client.create_job("many groups")
            with token.impersonate():
                job.set_helper_token()
            for flags, name in ((TokenFlags(0), "owner"), (TokenFlags.LOCAL_FILE | TokenFlags.NETWORK, "helper")):
                job.set_helper_token_flags(flags)
                job.add_file(url, folder / name)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            return job.complete(), job.state.name

    assert run_as(person, story) == (S_OK, "ACKNOWLEDGED")
    assert [path.read_bytes() == BODY for path in sorted(folder.iterdir())] == [True, True]
    assert {path.stat().st_uid for path in folder.iterdir()} == {free_uid}


def test_t17_who_has_more_groups_than_a_record_holds_is_not_served_and_nobody_else_minds(
    service: Service, free_uid: int
) -> None:
    def connect() -> int:
        with socket.socket(socket.AF_UNIX) as raw, contextlib.suppress(ConnectionError):
            raw.connect(str(service.socket))
            raw.sendall(b'{"method":"io.openbits.Service.Hello","parameters":{"level":3}}' + bytes(1))
            return len(raw.recv(65536))
        return 0

    assert run_as(of_groups(free_uid, MOST_GROUPS + 1), connect) == 0
    assert run_as(of_groups(free_uid, MOST_GROUPS), connect) > 0


# -- no account -------------------------------------------------------------------------------------------------------


def test_t17_a_uid_without_account_downloads_and_after_its_log_off_the_job_waits_and_says_why(
    service: Service, site: Site, free_uid: int, private_folder: Callable[[Any], Path]
) -> None:
    """Its groups came with the connection; without that nobody knows them, so nothing is done in its name."""
    person = Person(uid=free_uid, gid=free_uid)
    url, folder = site.put("/data", BODY), private_folder(person)

    def connected() -> str:
        with service.client() as client:
            job = client.create_job("here")
            job.add_file(url, folder / "here")
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            job.complete()
            info = job.info()
            return f"{info['owner_name']!r} {info['owner_sid']} {info['state']}"

    assert run_as(person, connected) == f"'' S-1-22-1-{free_uid} acknowledged"
    assert (folder / "here").stat().st_uid == free_uid

    end_children_of(service, free_uid)
    job = create(service, person, [(url, folder / "gone")], is_resumed=False)
    end_children_of(service, free_uid)
    job.resume()
    info = job.reaches("transient_error", "error")
    error = info["error"]
    assert error is not None
    assert f"uid {free_uid} has no account any more" in error["message"]

    def back() -> str:
        with service.client() as client:
            again = client.job(job.id)
            again.resume()
            assert again.wait(60) is Outcome.TRANSFERRED, again.error
            again.complete()
            return again.state.name

    assert run_as(person, back) == "ACKNOWLEDGED"
    assert (folder / "gone").read_bytes() == BODY


def end_children_of(service: Service, uid: int) -> None:
    """Those that still have the groups of a connection."""
    for name, pid in service.pids().items():
        if name.endswith(f":{uid}"):
            os.kill(pid, 9)


# -- an account that is deleted ---------------------------------------------------------------------------------------


def test_t17_a_job_goes_on_while_its_account_is_deleted_and_then_waits_for_who_may_end_it(
    service: Service, site: Site, open_tmp_path: Path
) -> None:
    user = _add_user(None, ())
    is_removed = False
    folder = open_tmp_path / "in"
    folder.mkdir()
    os.chown(folder, user.uid, user.gid)
    url = site.put("/data", BODY)
    gate = site.gate("/data", 100_000)
    try:
        job = create(service, user, [(url, folder / "x")])
        job.receives(100_000)
        _remove_account(user)
        is_removed = True
        gate.set()
        job.reaches("transferred")
        end_children_of(service, user.uid)
        with pytest.raises(BitsError) as caught:
            job.complete()
        assert f"uid {user.uid} has no account any more" in str(caught.value)
        assert job.state == "transferred"
        assert job.info()["owner_name"] == user.name
    finally:
        if not is_removed:
            _remove_user(user.name, user.uid)
    job.cancel()


def _remove_account(user: User) -> None:
    subprocess.run(["/usr/sbin/userdel", "--force", user.name], check=True, capture_output=True)
    subprocess.run(["rm", "-r", str(user.home)], check=True)


@pytest.mark.attack(28)
def test_t17_a_new_account_with_the_uid_of_an_old_one_sees_nothing_of_its_jobs(
    service: Service, site: Site, open_tmp_path: Path
) -> None:
    """reliability.md §6 row 28: who owns a job is a uid and the name it had."""
    open_tmp_path.chmod(0o777)
    url = site.put("/data", BODY)
    with real_user() as old:
        uid = old.uid
        job = create(service, old, [(url, open_tmp_path / "x")], is_resumed=False)
    name = f"bits-{secrets.token_hex(4)}"
    subprocess.run(["/usr/sbin/useradd", "--uid", str(uid), "--user-group", "--shell", "/bin/sh", name], check=True)
    try:
        new = Person(uid=uid, gid=uid)
        said = run_as(new, everything, service, job)
        assert {code for code, _ in said.values()} == {E_ACCESSDENIED}, said
        for _, text in said.values():
            assert f"cannot serve {name} (uid {uid}): jobs in the queue belong to the account {old.name!r}" in text
            assert job.id not in text
        with service.client() as client, client.logon_user(name, None) as token, token.impersonate():
            with pytest.raises(BitsError) as caught:  # nor by a token, from a connection of somebody else
                client.job(job.id)
            assert caught.value.hresult == E_ACCESSDENIED
        assert job.cancel() == S_OK, "what the message says helps"
        assert {code for code, _ in run_as(new, everything, service, job).values()} <= {S_OK, 0x80200001}
    finally:
        subprocess.run(["/usr/sbin/userdel", "--force", name], check=True, capture_output=True)


def everything(service: Service, job: Job) -> dict[str, tuple[int, str]]:
    """Every way to something of a job, as a user."""
    with service.client() as client:
        ways: dict[str, Callable[[], object]] = {
            "list": client.jobs,
            "open": lambda: client.job(job.id),
            "events": lambda: client.events(from_seq=0).next(1),
            "create": lambda: client.create_job("mine").cancel(),
            "token": lambda: client.open_process_token().close(),
        }
        said = {}
        for name, way in ways.items():
            try:
                way()
            except BitsError as error:
                said[name] = error.hresult, str(error)
            else:
                said[name] = S_OK, ""
        return said
