"""max_connections and max_bandwidth of a directory (§11); instants are arguments."""

import pytest

from openbits.server.limits import Bucket, Limits
from openbits.server.model import Directory, RefusedError


def test_a_second_s_worth_passes_at_once_and_then_the_rate() -> None:
    bucket = Bucket(1000, now=0.0)
    bucket.take(0, now=100.0)
    assert bucket.take(1000, now=100.0) == 0
    assert bucket.take(500, now=100.0) == pytest.approx(0.5)
    assert bucket.wait(now=100.4) == pytest.approx(0.1)
    assert bucket.wait(now=200.0) == 0


def test_idle_time_is_saved_for_one_second_only() -> None:
    bucket = Bucket(1000, now=0.0)
    assert bucket.take(1000, now=1000.0) == 0
    assert bucket.take(1000, now=1000.0) == pytest.approx(1.0)


def test_the_mean_of_many_bodies_is_the_rate() -> None:
    bucket, now = Bucket(1_000_000, now=0.0), 0.0
    for _ in range(400):
        now += bucket.take(250_000, now)
    assert 98 <= now <= 100  # 100 MB at 1 MB/s, the first second's worth at once


def test_max_connections_counts_each_directory_and_forgets_what_has_ended() -> None:
    limits = Limits()
    one, other = (Directory(url_path=path, max_connections=1) for path in ("/a/", "/b/"))
    with limits.one_more(one):
        with limits.one_more(other):
            pass
        with pytest.raises(RefusedError) as refusal, limits.one_more(one):
            pass
        assert (refusal.value.status, refusal.value.hresult) == (503, None)
        assert refusal.value.retry_after_seconds
    with pytest.raises(RuntimeError), limits.one_more(one):
        raise RuntimeError
    with limits.one_more(one):
        pass


def far_beyond(taken: int) -> tuple[Limits, Directory]:
    """A directory through which so many bytes have just come, at 1000 a second."""
    limits, directory = Limits(), Directory(url_path="/a/", max_bandwidth_bytes_per_second=1000)
    bucket = limits._bucket(directory)
    assert bucket is not None
    bucket.take(taken, bucket._free_at)
    return limits, directory


def test_a_directory_far_beyond_its_bandwidth_refuses_with_the_time_to_wait() -> None:
    limits, directory = far_beyond(50_000)
    with pytest.raises(RefusedError) as refusal, limits.one_more(directory):
        pass
    assert refusal.value.status == 503
    assert refusal.value.retry_after_seconds is not None
    assert 45 <= refusal.value.retry_after_seconds <= 50


def test_a_directory_a_little_beyond_its_bandwidth_lets_requests_wait() -> None:
    limits, directory = far_beyond(5_000)
    with limits.one_more(directory):
        pass
