"""Secrets in the store: rows of their own, and nothing of them in any file once they are deleted (identity.md S9)."""

import base64
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.conftest import MakeEvent, MakeJob
from tests.store.reading import jobs_in

from openbits.core.model import Job, Secret
from openbits.store import AppendEvent, ForgetJob, SaveJob, Store, open_store


def a_secret(slot: str = "server/basic", *, size: int = 100) -> Secret:
    """What a vault might have sealed: random, so that a search for it finds nothing else."""
    return Secret(slot=slot, key_id="0123", sealed=base64.b64encode(os.urandom(size)).decode())


def with_secrets(job: Job, *secrets: Secret) -> Job:
    return replace(job, secrets=secrets)


def holding(directory: Path, secret: Secret) -> set[str]:
    """The files of the store that have a piece of the secret, of whichever page."""
    step = max(24, len(secret.sealed) // 100)
    pieces = [secret.sealed[at : at + 24].encode() for at in range(0, len(secret.sealed) - 24, step)]
    return {path.name for path in directory.iterdir() if any(piece in path.read_bytes() for piece in pieces)}


def test_secrets_come_back_with_their_job_and_change_with_it(store: Store, make_job: MakeJob) -> None:
    headers, basic, other = a_secret("headers"), a_secret(), a_secret()
    job, neighbour = with_secrets(make_job(), headers, basic), with_secrets(make_job(), a_secret())
    store.commit([SaveJob(before=None, after=job), SaveJob(before=None, after=neighbour)])
    assert jobs_in(store) == [job, neighbour]

    for secrets in ((headers, other), (other,), (), (a_secret("headers", size=30_000), a_secret("proxy/ntlm"))):
        after = with_secrets(job, *secrets)
        store.commit([SaveJob(before=job, after=after)])
        assert jobs_in(store) == [after, neighbour]
        job = after


def test_a_change_of_a_secret_writes_no_other_row(store: Store, make_job: MakeJob, directory: Path) -> None:
    job = with_secrets(make_job(), a_secret("headers"))
    store.commit([SaveJob(before=None, after=job)])
    with closing(sqlite3.connect(directory / "queue.db")) as other:
        other.execute("UPDATE jobs SET document = '{}'")
        other.execute("UPDATE secrets SET key_id = 'touched'")
        other.commit()
        store.commit([SaveJob(before=job, after=with_secrets(job, *job.secrets, a_secret()))])
        assert other.execute("SELECT document FROM jobs").fetchone() == ("{}",)
        assert other.execute("SELECT slot, key_id FROM secrets ORDER BY slot").fetchall() == [
            ("headers", "touched"),
            ("server/basic", "0123"),
        ]


@pytest.mark.parametrize("size", [100, 70_000], ids=["in a page", "in overflow pages"])
@pytest.mark.parametrize("how", ["removed", "replaced", "forgotten"])
def test_what_is_deleted_is_in_no_file_any_more(
    store: Store, make_job: MakeJob, make_event: MakeEvent, directory: Path, how: str, size: int
) -> None:
    secret, stays = a_secret(size=size), a_secret("headers", size=size)
    job = with_secrets(make_job(), stays, secret)
    neighbours = [with_secrets(make_job(), a_secret(size=size)) for _ in range(20)]
    for seq, one in enumerate([*neighbours[:10], job, *neighbours[10:]], 1):
        store.commit([SaveJob(before=None, after=one), AppendEvent(make_event(seq, one))])
    assert "queue.db-wal" in holding(directory, secret)

    if how == "forgotten":
        store.commit([ForgetJob(job.job_id)])
        assert holding(directory, stays) == set()
    else:
        new = () if how == "removed" else (a_secret(),)
        store.commit([SaveJob(before=job, after=with_secrets(job, stays, *new))])
        assert holding(directory, stays) == {"queue.db"}
    assert holding(directory, secret) == set()
    assert all(holding(directory, one.secrets[0]) for one in neighbours)


def test_a_reader_in_the_way_only_puts_it_off(store: Store, make_job: MakeJob, directory: Path) -> None:
    store._writing.execute("PRAGMA busy_timeout = 0")
    secret, job = a_secret(), make_job()
    store.commit([SaveJob(before=None, after=with_secrets(job, secret))])
    with closing(sqlite3.connect(directory / "queue.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchall()
        store.commit([SaveJob(before=with_secrets(job, secret), after=job)])
        assert holding(directory, secret)
    store.commit([SaveJob(before=job, after=replace(job, error_count=1))])
    assert holding(directory, secret) == set()


def test_what_a_crash_left_in_the_log_goes_with_the_first_commit_of_the_next_start(
    store: Store, make_job: MakeJob, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, job = a_secret(), make_job()
    store.commit([SaveJob(before=None, after=with_secrets(job, secret))])
    monkeypatch.setattr(store, "_empty_log", lambda: None)  # the crash comes first
    store.commit([SaveJob(before=with_secrets(job, secret), after=job)])
    assert holding(directory, secret) == {"queue.db-wal"}

    again = open_store(directory)
    other = make_job()
    again.commit([SaveJob(before=None, after=other)])
    assert holding(directory, secret) == set()
    assert jobs_in(again) == [job, other]
    again.close()


def test_jobs_whose_secrets_are_under_an_older_key_are_known(store: Store, make_job: MakeJob) -> None:
    old = [with_secrets(make_job(), a_secret("headers"), a_secret()) for _ in range(2)]
    new = with_secrets(make_job(), replace(a_secret(), key_id="new"))
    mixed = with_secrets(make_job(), a_secret("headers"), replace(a_secret(), key_id="new"))
    store.commit([SaveJob(before=None, after=job) for job in (old[0], new, make_job(), old[1], mixed)])
    assert store.jobs_of_other_keys("new") == [old[0].job_id, old[1].job_id, mixed.job_id]
