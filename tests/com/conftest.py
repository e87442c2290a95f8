"""The COM-faithful face over the fake service; the process state of COM is undone after each test."""

from collections.abc import Iterator

import pytest
from tests.api.conftest import service
from tests.api.fakeservice import FakeService

from openbits import com

__all__ = ["service"]


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """As a process is that has not called COM yet."""
    yield
    com.RevertToSelf()
    com.CoUninitialize()


@pytest.fixture
def job(service: FakeService) -> com.IBackgroundCopyJob:
    """A download job."""
    assert not service.jobs
    return com.BackgroundCopyManager().CreateJob("nightly", com.BG_JOB_TYPE_DOWNLOAD).Job
