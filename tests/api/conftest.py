"""A fake service that every client of a test finds through OPENBITS_SOCKET."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.fakeservice import FakeService

from openbits.api.client import Client


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A fake service; the environment points to it."""
    fake = FakeService(tmp_path / "bitsd.sock")
    monkeypatch.setenv("OPENBITS_SOCKET", str(fake.path))
    monkeypatch.setenv("OPENBITS_STATE_DIR", str(tmp_path / "state"))
    yield fake
    fake.close()


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    """A client of the fake service."""
    with Client(socket=str(service.path)) as made:
        yield made
