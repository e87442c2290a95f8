"""The main job end to end: who opened what, according to the kernel (identity.md T-1, T-5, T-8)."""

import hashlib
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbits import Outcome, TokenFlags

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(700_000)

FILE_BY_HELPER = {0: False, 1: True, 2: False, 3: True}
SOCKET_BY_HELPER = {0: False, 1: False, 2: True, 3: True}
"""identity.md §4, rows "DOWNLOAD: temporary file" and "the socket itself"."""


def _token_job(service: Any, url: str, path: str, flags: int, user: str, password: str) -> str:
    """The helper-token procedure, as the owner; the token is closed before Resume (T-5)."""
    with service.client() as client:
        job = client.create_job("two identities")
        token = client.logon_user(user, password)
        with token.impersonate():
            job.set_helper_token()
        token.close()
        job.set_helper_token_flags(TokenFlags(flags))
        job.add_file(url, path)
        job.resume()
        outcome = job.wait(60)
        if outcome is not Outcome.TRANSFERRED:
            return f"{outcome}: {job.error}"
        job.complete()
        return str(job.state.name)


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_t1_each_resource_is_opened_by_the_identity_of_the_table(
    flags: int,
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
) -> None:
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    url = site.put("/data", BODY)
    file_by, socket_by = ((helper if by[flags] else owner) for by in (FILE_BY_HELPER, SOCKET_BY_HELPER))
    target = private_folder(file_by) / "data.bin"
    assert as_user(owner, _token_job, service, url, str(target), flags, helper.name, "open sesame") == "ACKNOWLEDGED"
    status = target.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (file_by.uid, 0o644)
    assert site.uids("/data") == {socket_by.uid}
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(BODY).digest()
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


def test_the_sample_does_the_sixteen_steps(
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    url = site.put("/data", BODY)
    target = private_folder(helper) / "data.bin"
    done = subprocess.run(
        [sys.executable, "-m", "openbits.samples.helper_token", url, str(target), "", helper.name, "-"],
        input="open sesame\n",
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        cwd="/",
        env={"OPENBITS_SOCKET": str(service.socket)},
        user=owner.uid,
        group=owner.gid,
        extra_groups=[],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.stat().st_uid == helper.uid
    assert site.uids("/data") == {owner.uid}


def _start(service: Any, url: str, path: str, flags: int, helper: Any) -> str:
    with service.client() as client:
        job = client.create_job("interrupted")
        if helper is not None:
            with client.logon_user(helper.name, helper.password) as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags(flags))
        job.add_file(url, path)
        job.resume()
        return str(job.id)


def _info(service: Any, job_id: str) -> Any:
    with service.client() as client:
        return client.job(job_id).info()


@pytest.mark.parametrize("how", ["restart", "kill -9"])
def test_t8_the_end_of_the_service_ends_the_token_and_keeps_the_flags(
    how: str,
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    url = site.put("/data", BODY)
    gate = site.gate("/data", 300_000)
    target = private_folder(helper) / "data.bin"
    job_id = as_user(owner, _start, service, url, str(target), 1, helper)
    eventually(lambda: _info(service, job_id)["state"] == "transferring")
    if how == "restart":
        assert service.stop() == 0
    else:
        service.kill("spawner")
    service.start()
    info = _info(service, job_id)
    assert (info["state"], info["error"]["hresult"], info["error"]["context"]) == (
        "error",
        0x80200056,
        "general_queue_manager",
    )
    assert (info["helper_token_flags"], info["helper_sid"]) == (1, None)
    gate.set()

    def repair() -> None:
        with service.client() as client:
            job = client.job(job_id)
            with client.logon_user(helper.name, helper.password) as token, token.impersonate():
                job.set_helper_token()
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED
            assert job.complete() == 0

    as_user(owner, repair)
    assert target.read_bytes() == BODY
    assert target.stat().st_uid == helper.uid
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


def test_without_a_token_the_flags_fail_when_the_resource_is_needed(
    service: Any, site: Any, throwaway_user: Callable[..., Any], as_user: Callable[..., Any], open_tmp_path: Path
) -> None:
    """I-15: Resume succeeds, the job fails with BG_E_TOKEN_REQUIRED at first need; repair 2 is flags 0."""
    owner = throwaway_user()
    url = site.put("/data", BODY)
    shared = open_tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    def story() -> None:
        with service.client() as client:
            job = client.create_job("no token")
            job.add_file(url, shared / "data.bin")
            job.set_helper_token_flags(TokenFlags.NETWORK)
            job.resume()
            assert job.wait(30) is Outcome.ERROR
            assert job.info()["error"]["hresult"] == 0x80200056
            job.set_helper_token_flags(TokenFlags(0))
            job.resume()
            assert job.wait(30) is Outcome.TRANSFERRED
            job.complete()

    as_user(owner, story)
    assert site.uids("/data") == {owner.uid}
    assert (shared / "data.bin").stat().st_uid == owner.uid
