"""The limit of a job through the whole service: what a user sees of `maximum_rate_bytes_per_second`."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site
from tests.real.stories import create, real_user, running_service

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(1_000_000)
RATE = 500_000


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


def test_a_job_receives_no_more_than_its_limit_and_what_it_is_told_later_counts_from_the_next_attempt(
    service: Service, owner: Any, site: Site, private_folder: Callable[[Any], Path]
) -> None:
    url, folder = site.put("/file", BODY), private_folder(owner)
    began = time.monotonic()
    job = create(service, owner, [(url, folder / "limited")], maximum_rate_bytes_per_second=RATE)
    job.reaches("transferred")
    assert time.monotonic() - began >= 0.95 * len(BODY) / RATE
    slow = create(service, owner, [(url, folder / "slow")], maximum_rate_bytes_per_second=1024)
    slow.reaches("transferring")
    with service.client() as client:
        shown = client.job(slow.id)
        shown.suspend()
        shown.set(maximum_rate_bytes_per_second=None)
        shown.resume()
    slow.reaches("transferred")
    for one, name in ((job, "limited"), (slow, "slow")):
        assert one.complete() == 0
        assert (folder / name).read_bytes() == BODY
