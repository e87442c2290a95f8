"""What the audit log of the running service says, and what hostile callers cannot make it say."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.audited import Entry, entries
from tests.real.conftest import Service, run_as
from tests.real.stories import real_user, running_service

from openbits import BitsError, TokenFlags

pytestmark = pytest.mark.root

URL = "http://127.0.0.1:9/file"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service() as made:
        yield made


@pytest.fixture
def alice() -> Iterator[User]:
    """Somebody of whom the log knows nothing yet."""
    with real_user() as user:
        yield user


@pytest.fixture
def said(service: Service, alice: User) -> Callable[[], list[Entry]]:
    """`said()`: the entries about alice, without those fields that name her or the time."""

    def about() -> list[Entry]:
        named = {"at", "caller_uid", "caller_name"}
        return [
            {name: value for name, value in entry.items() if name not in named}
            for entry in entries(service)
            if (entry["caller_uid"], entry["caller_name"]) == (alice.uid, alice.name)
        ]

    return about


def create(service: Service, name: str = "x") -> str:
    with service.client() as client:
        return str(client.create_job(name).id)


def test_each_act_of_an_owner_is_one_entry(
    service: Service, alice: User, said: Callable[[], list[Entry]], open_tmp_path: Path
) -> None:
    """What only the job's bytes and settings are about is none."""
    open_tmp_path.chmod(0o777)

    def story() -> str:
        with service.client() as client, client.open_process_token() as token:
            job = client.create_job("nightly", description="no act")
            with token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.NETWORK)
            job.clear_helper_token()
            job.add_file(URL, open_tmp_path / "x")
            job.info()
            job.files()
            job.resume()
            job.suspend()
            job.cancel()
            return str(job.id)

    job = run_as(alice, story)
    assert said() == [
        {"act": "token-open", "level": 3},
        {"act": "create", "job": job, "display_name": "nightly", "type": "download"},
        {"act": "token-set", "job": job, "helper_uid": alice.uid, "helper_name": alice.name},
        {"act": "token-flags", "job": job, "flags": 2},
        {"act": "token-clear", "job": job},
    ]


def test_what_an_administrator_does_to_the_job_of_another_is_said_and_what_he_reads_is_not(
    service: Service, alice: User
) -> None:
    """jobs.md §6 A2."""
    job_id = run_as(alice, create, service)
    with service.client() as client:
        job = client.job(job_id)
        job.info()
        job.files()
        job.set(description="looked at")
        job.cancel()
        job.release()
        own = client.create_job("own")
        own.set(description="no foreign job")
        own.cancel()
    acts = [entry for entry in entries(service, "administer") if entry["owner"] == alice.uid]
    assert [(entry["caller_uid"], entry["job"], entry["call"]) for entry in acts] == [
        (os.geteuid(), job_id, "SetProperties"),
        (os.geteuid(), job_id, "Cancel"),
    ]
    assert not [entry for entry in entries(service, "administer") if entry["job"] == str(own.id)]


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(BitsError):
        call()


def test_each_refused_call_is_said_with_uid_call_job_and_code(
    service: Service, alice: User, said: Callable[[], list[Entry]]
) -> None:
    """user-pains row 20; also of streams and of handles that are none."""
    with service.client() as client:
        foreign = str(client.create_job("root's").id)

    def story() -> str:
        with service.client() as client:
            refused(lambda: client.job(foreign))
            refused(lambda: client.job_infos(all_users=True))
            refused(lambda: client.call("Suspend", {"handle": 99}))
            job = client.create_job("empty")
            refused(job.resume)
            job.cancel()
            return str(job.id)

    job = run_as(alice, story)
    assert [entry for entry in said() if entry["act"] == "refused"] == [
        {"act": "refused", "call": "OpenJob", "job": foreign, "code": "E_ACCESSDENIED (0x80070005)"},
        {"act": "refused", "call": "ListJobs", "code": "E_ACCESSDENIED (0x80070005)"},
        {"act": "refused", "call": "Suspend", "code": "E_HANDLE (0x80070006)"},
        {"act": "refused", "call": "Resume", "job": job, "code": "BG_E_EMPTY (0x80200003)"},
    ]


def test_what_a_caller_chooses_forges_nothing(service: Service, alice: User, said: Callable[[], list[Entry]]) -> None:
    """The name of a job that there is none of may be any text."""
    name = (
        'x\n{"at": "now", "act": "create", "caller_uid": 0, "caller_name": "root"}\x1b[2J\u2028\u202e' + "y" * 100_000
    )

    def story() -> None:
        with service.client() as client:
            refused(lambda: client.call("OpenJob", {"job_id": name}))

    before = len(service.log().splitlines())
    run_as(alice, story)
    (entry,) = said()
    assert entry["job"].startswith(r'x\n{"at": "now"')
    assert len(entry["job"]) < 300
    added = service.log().splitlines()[before:]
    assert all(line.isprintable() for line in added)
    assert not [line for line in added if line.startswith('{"at": "now"')]


@pytest.mark.attack(24)
def test_thousands_of_refused_calls_are_a_few_lines_and_do_not_hide_what_others_do(
    service: Service, alice: User, said: Callable[[], list[Entry]]
) -> None:
    """reliability.md §6 row 24."""

    def flood() -> None:
        with service.client() as client:
            for _ in range(3000):
                refused(lambda: client.call("Suspend", {"handle": 99}))

    before = len(service.log())
    run_as(alice, flood)
    assert len(service.log()) - before < 20_000
    assert 20 <= len(said()) <= 25
    with real_user() as bob:
        run_as(bob, create, service)
        assert [entry["act"] for entry in entries(service) if entry["caller_uid"] == bob.uid] == ["create"]
