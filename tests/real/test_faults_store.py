"""A damaged store under the real service (jobs.md §18, OPEN-66): it is set aside, and the service goes on."""

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from tests.real.conftest import Service

pytestmark = pytest.mark.root


def test_damage_that_no_job_shows_is_found_beside_the_work(service: Service, eventually: Callable[..., Any]) -> None:
    with service.client() as client:
        client.create_job("lost with the store")
    service.stop()
    queue = service.state / "queue"
    with contextlib.closing(sqlite3.connect(queue / "queue.db")) as connection:
        connection.execute("INSERT INTO files VALUES (77, 0, 0, 0, 0, '{}')")  # no job has this number
        connection.commit()

    service.start()
    eventually(lambda: list(queue.glob("queue.db.damaged-*")))
    service.wait_until_it_answers()

    assert "there are files, but no job 77" in service.log()
    assert "store_damaged" in service.log()
    with service.client() as client:
        assert client.job_infos() == []
        client.create_job("kept")
        assert len(client.job_infos()) == 1


@pytest.mark.parametrize("why_it_is_read", ["UPDATE jobs SET wakes = 1", "UPDATE jobs SET modified_at = 0"])
def test_a_start_that_comes_across_a_damaged_job_is_followed_by_one_that_sets_it_aside(
    why_it_is_read: str, service: Service, eventually: Callable[..., Any]
) -> None:
    """A restart concerns the job, or it has expired: it is read before anybody is served."""
    with service.client() as client:
        client.create_job("lost with the store")
    service.stop()
    queue = service.state / "queue"
    with contextlib.closing(sqlite3.connect(queue / "queue.db")) as connection:
        connection.execute("UPDATE jobs SET document = '{'")
        connection.execute(why_it_is_read)
        connection.commit()

    service.start()
    eventually(lambda: list(queue.glob("queue.db.damaged-*")))
    service.wait_until_it_answers()

    assert "store_damaged" in service.log()
    with service.client() as client:
        assert client.job_infos() == []
        client.create_job("kept")
