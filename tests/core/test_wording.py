"""How messages name things, and what they keep to themselves (user-pains: no secrets)."""

from collections.abc import Callable

import pytest

from openbits.core.model import Identity, Job
from openbits.core.properties import Properties
from openbits.core.wording import host_of, instant, label, name_of, public_url


@pytest.mark.parametrize(
    ("url", "shown", "host"),
    [
        ("https://files.example/a/b.bin", "https://files.example/a/b.bin", "files.example"),
        ("https://u:p@files.example:8443/a?sig=s#f", "https://files.example:8443/a", "files.example:8443"),
        ("http://files.example?sig=s", "http://files.example", "files.example"),
        ("http://files.example#f", "http://files.example", "files.example"),
        ("http://[::1]:8080/x@y", "http://[::1]:8080/x@y", "[::1]:8080"),
        ("http://a@b@files.example/", "http://files.example/", "files.example"),
        ("", "", ""),
    ],
)
def test_addresses_are_shown_without_what_may_be_secret(url: str, shown: str, host: str) -> None:
    assert public_url(url) == shown
    assert host_of(url) == host


def test_a_job_is_named_by_id_and_display_name(a_job: Callable[..., Job]) -> None:
    job = a_job(properties=Properties(display_name="nightly"))
    assert name_of(job) == f'job {job.job_id} "nightly"'


def test_an_identity_without_an_account_is_its_uid() -> None:
    assert label(Identity(uid=1003, gid=1003, name="backup")) == "backup (uid 1003)"
    assert label(Identity(uid=1003, gid=1003)) == "uid 1003"


def test_instants_say_their_zone() -> None:
    assert instant(1_800_000_000.0) == "2027-01-15 08:00 UTC"
