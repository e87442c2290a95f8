"""Which ticket cache a job has: that of a logon, or the default of the library, as it is now (identity.md §13)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.authentication import PROGRAMS, SERVER, UNAUTHORIZED, World, implicit, world
from tests.real.kdc import REALM
from tests.real.stories import cancel_all

pytestmark = [pytest.mark.root, pytest.mark.real(*PROGRAMS)]

NETWORK = 2
PATH = "/negotiate/file"

LOGON = {
    "pam.d/openbits": "auth required pam_permit.so\n"
    "auth required pam_env.so readenv=0 conffile=/etc/ticket-cache.conf\n"
    "account required pam_permit.so\n",
    "ticket-cache.conf": "KRB5CCNAME DEFAULT=FILE:@{HOME}/tickets\n",
}
"""Each logon has a cache in the home of its user, as stacks with pam_krb5 or sssd make them."""


@pytest.fixture(scope="module")
def whole() -> Iterator[World]:
    with world(files=LOGON) as made:
        yield made


@pytest.fixture
def here(whole: World) -> Iterator[World]:
    """The world, without tickets and jobs of the test before."""
    whole.forget_tickets()
    whole.skip = len(whole.apache.asked())
    yield whole
    cancel_all(whole.service)


def users(here: World) -> list[str]:
    """Who the server took the jobs of this test for, in their order."""
    asked = here.apache.asked()[here.skip :]
    return [one.user for one in asked if one.status < 300 and one.method == "GET"]


def test_a_logon_that_makes_a_cache_has_that_one_and_no_other(here: World) -> None:
    own = here.helper.home / "tickets"
    here.kdc.kinit(here.helper, here.password)  # where the library looks by itself, and the token does not
    job = here.job(here.apache.url(PATH), implicit(SERVER), is_resumed=False)
    here.set_helper(job, NETWORK)
    job.resume()
    code, text = here.failure(job)
    assert code == UNAUTHORIZED
    assert str(own) in text
    here.kdc.kinit(here.helper, here.password, cache=own)
    here.kdc.cache_of(here.helper).unlink()
    job.resume()
    assert here.is_fetched(job)
    assert users(here) == [f"{here.helper.name}@{REALM}"]


def test_tickets_that_came_after_the_broker_are_found(here: World) -> None:
    """The confined broker of an owner who is not there may not reach a file that is younger than it."""
    job = here.job(here.apache.url(PATH), implicit(SERVER))
    assert here.failure(job)[0] == UNAUTHORIZED
    broker = here.service.pids()[f"broker:{here.owner.uid}"]
    here.kdc.kinit(here.owner, here.password)
    job.resume()
    assert here.is_fetched(job)
    assert here.service.pids()[f"broker:{here.owner.uid}"] != broker


def test_new_tickets_are_used_by_the_worker_that_had_the_old_ones(here: World) -> None:
    here.kdc.kinit(here.owner, here.password)
    assert here.is_fetched(here.job(here.apache.url(PATH), implicit(SERVER)))
    worker = here.service.pids()[f"worker:{here.owner.uid}"]
    here.kdc.kinit(here.owner, here.password, principal=here.helper.name)
    assert here.is_fetched(here.job(here.apache.url(PATH), implicit(SERVER)))
    here.kdc.cache_of(here.owner).unlink()
    assert here.failure(here.job(here.apache.url(PATH), implicit(SERVER)))[0] == UNAUTHORIZED
    assert here.service.pids()[f"worker:{here.owner.uid}"] == worker
    assert users(here) == [f"{here.owner.name}@{REALM}", f"{here.helper.name}@{REALM}"]


def test_after_a_restart_the_owner_need_not_come_back(here: World) -> None:
    here.kdc.kinit(here.owner, here.password)
    job = here.job(here.apache.url(PATH), implicit(SERVER), is_resumed=False)
    assert here.service.stop() == 0
    here.service.start()
    job.resume()
    assert here.is_fetched(job)


def test_a_cache_in_the_keyring_of_the_kernel_is_opened_by_the_worker_of_its_user() -> None:
    with world(cache="KEYRING:persistent:%{uid}") as made:
        code, text = made.failure(made.job(made.apache.url(PATH), implicit(SERVER)))
        assert code == UNAUTHORIZED
        assert f"KEYRING:persistent:{made.owner.uid}" in text
        made.kdc.kinit(made.owner, made.password, is_default=True)
        assert made.is_fetched(made.job(made.apache.url(PATH), implicit(SERVER)))
        assert users(made) == [f"{made.owner.name}@{REALM}"]


def test_the_manager_passes_tickets_on_and_sees_none(here: World) -> None:
    cache = here.kdc.kinit(here.owner, here.password)
    job = here.job(here.apache.url(f"/slow{PATH}"), implicit(SERVER))
    job.receives(100_000)
    pids = here.service.pids()
    ticket = cache.read_bytes()[-100:-50]  # of what only the KDC can read
    assert is_in_memory(pids[f"worker:{here.owner.uid}"], ticket)
    assert not is_in_memory(pids["manager"], ticket)


def is_in_memory(pid: int, wanted: bytes) -> bool:
    """True if the writable memory of a process has these bytes."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(number, 16) for number in span.split("-"))
                memory.seek(start)
                with contextlib.suppress(OSError):
                    if wanted in memory.read(end - start):
                        return True
    return False
