"""The server that hostile clients meet, and what is looked at after each of them."""

from collections.abc import Iterator

import pytest
from tests.server.hostile_clients.site import Site


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("hostile"))
    yield made
    made.server.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.check()
