"""The vault: what it binds a secret to, where its keys come from, what happens without them (identity.md S1, S2)."""

import base64
import logging
import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from openbits.core.errors import BitsError
from openbits.core.model import Identity, Job, Secret
from openbits.service import vault
from openbits.service.vault import UNREADABLE, Vault

OLD, NEW = b"o" * 32, b"n" * 32
CLEAR = "Canary5ecret \N{LOCK}"
SLOT = "server/basic"


def line(key: bytes) -> bytes:
    return base64.b64encode(key) + b"\n"


def a_job(*secrets: Secret, uid: int = 1000, number: int = 7) -> Job:
    owner = Identity(uid=uid, gid=100)
    return Job(
        job_id=uuid.UUID(int=number), owner=owner, created_at=1.0, modified_at=1.0, state_since=1.0, secrets=secrets
    )


def sealed(keys: Vault, job: Job, slot: str = SLOT) -> Secret:
    return keys.seal(job.job_id, job.owner.uid, slot, CLEAR)


def refusal(keys: Vault, job: Job, secret: Secret) -> str:
    """What is said of a secret that does not open."""
    with pytest.raises(BitsError) as caught:
        keys.open(job, secret)
    assert caught.value.hresult == UNREADABLE
    assert CLEAR not in str(caught.value)
    return str(caught.value)


def test_what_was_sealed_opens_again_and_shows_nothing_before() -> None:
    keys = Vault([NEW])
    secret = sealed(keys, a_job())
    data = base64.b64decode(secret.sealed)
    assert len(data) == 12 + len(CLEAR.encode()) + 16  # nonce, text, tag of AES-GCM
    assert CLEAR.encode() not in data
    assert (secret.slot, secret.key_id) == (SLOT, keys.newest)
    assert keys.open(a_job(), secret) == CLEAR


def test_the_same_text_is_never_sealed_the_same_way() -> None:
    keys = Vault([NEW])
    nonces = {base64.b64decode(sealed(keys, a_job()).sealed)[:12] for _ in range(1000)}
    assert len(nonces) == 1000


def test_a_secret_is_good_for_one_job_one_slot_and_one_owner() -> None:
    keys = Vault([NEW])
    secret = sealed(keys, a_job())
    assert "was not sealed for this job" in refusal(keys, a_job(number=8), secret)
    assert "was not sealed for this job" in refusal(keys, a_job(uid=1001), secret)
    assert "was not sealed for this job" in refusal(keys, a_job(), replace(secret, slot="proxy/basic"))
    assert "was not sealed for this job" in refusal(keys, a_job(), replace(secret, slot="server/digest"))


def test_a_changed_bit_is_seen() -> None:
    keys = Vault([NEW])
    secret = sealed(keys, a_job())
    for place in (0, 12, -1):
        data = bytearray(base64.b64decode(secret.sealed))
        data[place] ^= 1
        changed = replace(secret, sealed=base64.b64encode(data).decode())
        assert "was not sealed for this job" in refusal(keys, a_job(), changed)
    assert "was not sealed for this job" in refusal(keys, a_job(), replace(secret, sealed=""))


def test_the_newest_key_seals_and_the_older_ones_open() -> None:
    before, after = Vault([OLD]), Vault([OLD, NEW])
    old = sealed(before, a_job())
    assert sealed(after, a_job()).key_id == Vault([NEW]).newest != old.key_id
    assert after.open(a_job(), old) == CLEAR
    (renewed,) = after.resealed(a_job(old))
    assert Vault([NEW]).open(a_job(), renewed) == CLEAR
    assert after.resealed(a_job(renewed)) == (renewed,)


def test_without_its_key_a_secret_stays_and_says_which_key_is_missing() -> None:
    old = sealed(Vault([OLD]), a_job())
    assert f"master key {old.key_id} is missing" in refusal(Vault([NEW]), a_job(old), old)
    assert Vault([NEW]).resealed(a_job(old)) == (old,)


def test_without_any_key_nothing_is_taken() -> None:
    with pytest.raises(BitsError, match="no master key") as caught:
        sealed(Vault([]), a_job())
    assert caught.value.hresult == UNREADABLE


# -- where the keys come from


def test_the_first_start_makes_a_key_and_the_next_one_finds_it(tmp_path: Path) -> None:
    secret = sealed(vault.load(tmp_path, []), a_job())
    path = tmp_path / "bits-master"
    assert path.stat().st_mode & 0o777 == 0o400
    assert len(base64.b64decode(path.read_bytes())) == 32
    assert vault.load(tmp_path, []).open(a_job(), secret) == CLEAR
    assert [one.name for one in tmp_path.iterdir()] == ["bits-master"]


def test_a_start_that_was_cut_off_leaves_no_half_key(tmp_path: Path) -> None:
    (tmp_path / "bits-master.new").write_bytes(b"half")
    keys = vault.load(tmp_path, [])
    assert keys.newest
    assert [one.name for one in tmp_path.iterdir()] == ["bits-master"]


def test_the_last_line_seals_and_a_line_appended_is_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "bits-master"
    path.write_bytes(line(OLD) + b"\n" + line(NEW))
    path.chmod(0o400)
    keys = vault.load(tmp_path, [])
    assert keys.newest == Vault([NEW]).newest
    assert keys.open(a_job(), sealed(Vault([OLD]), a_job())) == CLEAR


def credential(tmp_path: Path, content: bytes) -> int:
    """As the spawner passes it."""
    path = tmp_path / "credential"
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


def test_a_credential_goes_before_the_file_which_still_opens(tmp_path: Path) -> None:
    store = tmp_path / "queue"
    store.mkdir()
    old = sealed(vault.load(store, []), a_job())
    keys = vault.load(store, [credential(tmp_path, line(NEW))])
    assert keys.newest == Vault([NEW]).newest
    assert keys.open(a_job(), old) == CLEAR


def test_with_a_credential_no_file_is_made_and_its_descriptor_is_closed(tmp_path: Path) -> None:
    store = tmp_path / "queue"
    store.mkdir()
    descriptor = credential(tmp_path, line(NEW))
    vault.load(store, [descriptor])
    assert list(store.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("content", [b"", b"short\n", base64.b64encode(b"k" * 31), b"\xff" * 32])
def test_an_unusable_key_is_told_without_showing_it_and_stops_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bits-master"
    path.write_bytes(content)
    path.chmod(0o400)
    with caplog.at_level(logging.ERROR):
        assert vault.load(tmp_path, []).newest == ""
    assert path.read_bytes() == content  # nothing is put in its place: secrets may be under it
    if content:
        assert "master_key_malformed" in caplog.text
        assert content.decode("latin-1").strip() not in caplog.text


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644])
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bits-master"
    path.write_bytes(line(NEW))
    path.chmod(mode)
    with caplog.at_level(logging.ERROR):
        assert vault.load(tmp_path, []).newest == ""
    assert "chmod 0400" in caplog.text


def test_a_link_in_place_of_the_key_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(line(NEW))
    elsewhere.chmod(0o400)
    store = tmp_path / "queue"
    store.mkdir()
    (store / "bits-master").symlink_to(elsewhere)
    assert vault.load(store, []).newest == ""


def test_a_disk_that_takes_no_key_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert vault.load(tmp_path / "missing", []).newest == ""
