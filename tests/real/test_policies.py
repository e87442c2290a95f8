"""Policies and limits on a whole service: real users, real files, changes while it runs."""

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import User
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.stories import Job, create, names, real_user

import openbits
from openbits.api.wire import EventInfo
from openbits.core import codes

pytestmark = pytest.mark.root

SERVICE_ACCOUNT = Person(uid=990, gid=990)
OTHER = Person(uid=61_201, gid=61_201)
DAY = 86_400


def policy(service: Service, name: str) -> tuple[int | None, str]:
    """Value and origin, as anybody may ask for them."""

    def ask() -> tuple[int | None, str]:
        with service.client() as client:
            (found,) = [one for one in client.policies()["policies"] if one["name"] == name]
            return found["value"], found["origin"]

    return run_as(OTHER, ask)


def problem(service: Service) -> str:
    with service.client() as client:
        return client.policies()["problem"]


def until(seen: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def create_jobs(service: Service, user: User | Person, count: int, name: str = "nightly") -> list[str]:
    """So many jobs of this user; their ids."""

    def make() -> list[str]:
        with service.client() as client:
            return [str(client.create_job(name).id) for _ in range(count)]

    return run_as(user, make)


def refused(service: Service, user: User | Person, name: str = "one more") -> openbits.BitsError:
    with pytest.raises(openbits.BitsError) as refusal:
        create_jobs(service, user, 1, name)
    return refusal.value


@pytest.fixture
def user() -> Iterator[User]:
    """Somebody with an account."""
    with real_user() as one:
        yield one


# -- how many ---------------------------------------------------------------------------------------------------------


def test_an_ordinary_user_has_60_jobs_and_not_61_and_one_that_ends_makes_room(service: Service, user: User) -> None:
    made = create_jobs(service, user, 59, "update")
    made += create_jobs(service, user, 1, "other")
    refusal = refused(service, user)
    assert refusal.hresult == 0x80200049  # BG_E_TOO_MANY_JOBS_PER_USER
    for part in (
        f"{user.name} (uid {user.uid})",
        "60 jobs",
        "MaxJobsPerUser",
        "59 have the name 'update'",
        "bits cancel",
    ):
        assert part in refusal.text
    Job(service, made[0]).cancel()
    create_jobs(service, user, 1)
    assert refused(service, user).hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER


def test_root_and_service_accounts_are_neither_limited_nor_counted(
    make_service: Callable[..., Service], user: User
) -> None:
    service = make_service()
    service.set_policies("MaxJobsPerUser = 2\nMaxJobsPerMachine = 3\n")
    service.start()
    with service.client() as client:
        for _ in range(5):
            client.create_job("of root")
    create_jobs(service, SERVICE_ACCOUNT, 5)
    create_jobs(service, user, 2)
    assert refused(service, user).hresult == 0x80200049
    create_jobs(service, OTHER, 1)
    refusal = refused(service, OTHER)
    assert refusal.hresult == 0x80200050  # BG_E_TOO_MANY_JOBS_PER_MACHINE
    assert "3 jobs of ordinary users" in refusal.text
    assert "MaxJobsPerMachine" in refusal.text
    assert user.name not in refusal.text  # whose jobs they are is nobody else's business
    service.stop()
    service.start()  # the same is counted from the store
    assert refused(service, user).hresult == 0x80200049
    assert refused(service, OTHER).hresult == 0x80200050
    create_jobs(service, SERVICE_ACCOUNT, 1)


def test_two_who_create_at_once_do_not_slip_through(make_service: Callable[..., Service], user: User) -> None:
    service = make_service()
    service.set_policies("MaxJobsPerUser = 5\n")
    service.start()

    def crowd() -> int:
        made: list[int] = []

        def make() -> None:
            with service.client() as client:
                for _ in range(5):
                    with contextlib.suppress(openbits.BitsError):
                        client.create_job("at once")
                        made.append(1)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(made)

    assert run_as(user, crowd) == 5


def test_a_job_has_200_files_and_not_201(
    service: Service, user: User, root: Person, private_folder: Callable[[User | Person], Path]
) -> None:
    folder = private_folder(user)

    def pairs(first: int, count: int) -> list[tuple[str, Path]]:
        return [("http://127.0.0.1:9/x", folder / str(number)) for number in range(first, first + count)]

    job = create(service, user, pairs(0, 199), is_resumed=False)
    with service.client() as client, pytest.raises(openbits.BitsError) as refusal:
        client.job(job.id).add_files(pairs(199, 2))  # root adds, but whose job it is counts
    assert refusal.value.hresult == 0x80200051  # BG_E_TOO_MANY_FILES_IN_JOB
    assert "MaxFilesPerJob" in refusal.value.text
    assert job.info()["files_total"] == 199
    with service.client() as client:
        client.job(job.id).add_files(pairs(199, 1))
        own = client.create_job("of root")
        folder = private_folder(root)
        own.add_files(pairs(0, 201))
        assert own.info()["files_total"] == 201


def test_a_display_name_may_have_a_limit_of_its_own(make_service: Callable[..., Service], user: User) -> None:
    service = make_service()
    service.set_policies("MaxJobsPerDisplayName = 2\n")
    service.start()
    create_jobs(service, user, 2, "browser update")
    refusal = refused(service, user, "browser update")
    assert refusal.hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER
    assert "MaxJobsPerDisplayName" in refusal.text
    create_jobs(service, user, 1, "backup")


# -- files of policies ------------------------------------------------------------------------------------------------


def test_a_change_applies_to_the_running_service_and_a_mistake_is_seen_and_changes_nothing(
    service: Service, user: User
) -> None:
    assert policy(service, "MaxJobsPerUser") == (60, "")
    service.set_policies("\n# of the site\nMaxJobsPerUser = 1\n")
    until(lambda: policy(service, "MaxJobsPerUser")[0] == 1)
    assert policy(service, "MaxJobsPerUser") == (1, f"{service.config}/policy.d/site.toml:3")
    create_jobs(service, user, 1)
    assert refused(service, user).hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER
    service.set_policies("MaxJobsPerUser = 5\nMaxJobsPerUsr = 5\n")
    until(lambda: problem(service) != "")
    assert f"{service.config}/policy.d/site.toml:2: unknown policy 'MaxJobsPerUsr'" in problem(service)
    assert "policies_refused" in service.log()
    assert refused(service, user).hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER
    (service.config / "policy.d" / "site.toml").unlink()
    until(lambda: problem(service) == "")
    assert policy(service, "MaxJobsPerUser") == (60, "")
    create_jobs(service, user, 1)


def test_a_service_does_not_start_with_a_mistake(make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.set_policies("MaxDownloadTime = 0\n")
    with pytest.raises(pytest.fail.Exception, match="does not answer"):
        service.start()
    assert "site.toml:1: MaxDownloadTime = 0 is out of range; it must be a whole number from 1" in service.log()


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(site: Site) -> Iterator[str]:
    """A file of which the last bytes never come."""
    url = site.put("/slow", secrets.token_bytes(200_000))
    event = site.gate("/slow", 100_000)
    yield url
    event.set()


def test_the_maximum_download_time_of_the_policy_ends_a_slow_transfer(
    make_service: Callable[..., Service], user: User, private_folder: Callable[[User], Path], slow: str
) -> None:
    service = make_service()
    service.set_policies("MaxDownloadTime = 2\n")
    service.start()
    job = create(service, user, [(slow, private_folder(user) / "a")])
    info = job.reaches("transferring")
    assert info["maximum_download_seconds"] == 2
    failed = job.reaches("error")
    assert job.code == ("error", 0x80200054, "general_queue_manager")
    assert 2 <= failed["transfer_seconds"] < 4
    job.resume()  # the time begins anew
    job.reaches("transferring")
    service.set_policies("MaxDownloadTime = 1000\n")
    until(lambda: job.info()["maximum_download_seconds"] == 1000)
    job.set(maximum_download_seconds=1)  # the job's own value goes before it
    assert job.reaches("error")["maximum_download_seconds"] == 1


def test_the_time_that_was_used_survives_kill_9(
    make_service: Callable[..., Service], user: User, private_folder: Callable[[User], Path], site: Site
) -> None:
    service = make_service()
    service.set_policies("MaxDownloadTime = 1000\n")
    service.start()
    url = site.put("/slow", secrets.token_bytes(200_000))
    site.gate("/slow", 100_000)
    job = create(service, user, [(url, private_folder(user) / "a")])
    job.reaches("transferring")
    until(lambda: job.info()["transfer_seconds"] > 1.5)
    job.suspend()
    used = job.info()["transfer_seconds"]
    service.kill("spawner")
    service.start()
    assert job.info()["transfer_seconds"] == used


def aged(service: Service, job: Job, days: float) -> None:
    """Let the stored job look as if nobody had touched it for so long."""
    with contextlib.closing(sqlite3.connect(service.state / "queue" / "queue.db")) as store, store:
        at = time.time() - days * DAY
        text = (
            "UPDATE jobs SET modified_at = :at, document = json_set(document, '$.modified_at', :at) WHERE job_id = :id"
        )
        assert store.execute(text, {"at": at, "id": job.id}).rowcount == 1


def test_a_job_that_nobody_touched_for_90_days_is_cancelled_and_its_files_are_removed(
    service: Service, user: User, private_folder: Callable[[User], Path], site: Site
) -> None:
    folder = private_folder(user)
    url = site.put("/file", secrets.token_bytes(1000))
    old, fresh, near = (create(service, user, [(url, folder / name)]) for name in ("old", "fresh", "near"))
    for job in (old, fresh, near):
        job.reaches("transferred")
    assert len(names(folder)) == 3
    service.stop()
    aged(service, old, 90.1)
    aged(service, fresh, 82.9)
    aged(service, near, 83.1)
    service.start()
    until(old.is_gone)
    until(lambda: len(names(folder)) == 2)
    assert f"job_expired job={old.id} owner={user.uid} days=90" in service.log()
    until(lambda: f"job_expiring job={near.id}" in service.log())
    waiting = near.info()["waiting"]
    assert waiting is not None
    assert "it is cancelled on" in waiting["hint"]
    assert "JobInactivityTimeout" in waiting["hint"]
    expires_at = near.info()["expires_at"]
    assert expires_at is not None
    assert abs(expires_at - time.time() - 6.9 * DAY) < 60
    assert str(fresh.id) not in service.log().partition("job_expir")[2]
    with service.client() as client:
        kinds = [(event["kind"], event["job_id"]) for event in stored_events(client)]
    assert kinds.count(("expiring", near.id)) == 1
    near.set(description="still wanted")
    waiting = near.info()["waiting"]
    assert waiting is not None
    assert "cancelled on" not in waiting["hint"]


def stored_events(client: openbits.Client) -> list[EventInfo]:
    """Everything that is kept, as an administrator sees it."""
    last = client.job_infos(all_users=True)[0]
    stream = client.events(from_seq=0, all_users=True)
    found = []
    try:
        client.job(last["job_id"]).set(description="the end of what is looked at")
        for event in stream:
            found.append(event)
            if event["kind"] == "changed":
                return found
    finally:
        stream.close()
    return found


def test_a_shorter_policy_clears_up_in_the_running_service(
    service: Service, user: User, private_folder: Callable[[User], Path]
) -> None:
    job = create(service, user, [("http://127.0.0.1:9/x", private_folder(user) / "a")], is_resumed=False)
    service.stop()
    aged(service, job, 3)
    service.start()
    assert job.state == "suspended"
    service.set_policies("JobInactivityTimeout = 2\n")
    until(job.is_gone)
