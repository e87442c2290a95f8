"""What the tests of sessions have in common: jobs with tokens made in a session, in the middle of their transfer."""

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import User, _add_user, _remove_user
from tests.real.conftest import Service, Site, run_as
from tests.real.login1 import Login1
from tests.real.stories import Job

import openbits
from openbits import BitsError, Priority, TokenFlags

E_ACCESSDENIED = 0x80070005
E_HANDLE = 0x80070006
BG_E_TOKEN_REQUIRED = 0x80200056
RPC_S_SERVER_UNAVAILABLE = 0x800706BA
LOST = ("error", BG_E_TOKEN_REQUIRED, "general_queue_manager")

FILES, NETWORK = TokenFlags.LOCAL_FILE, TokenFlags.NETWORK
BODY = secrets.token_bytes(1_000_000)
HALF = 500_000
PASSWORD = "open sesame"


@contextlib.contextmanager
def account() -> Iterator[User]:
    made = _add_user(PASSWORD, ())
    try:
        yield made
    finally:
        _remove_user(made.name, made.uid)


@contextlib.contextmanager
def service_with(logind: Login1 | None, settings: str = "", assumed: Sequence[str] = ()) -> Iterator[Service]:
    """A service whose manager has an account: dbus-daemon admits nobody else."""
    address = logind.address if logind is not None else ""
    manager = pwd.getpwnam("daemon")
    with open_folder() as folder:
        made = Service(folder, 0)
        made.configure(f'[sessions]\nassume_logged_on = {list(assumed)}\nbus_address = "{address}"\n{settings}\n')
        queue = made.state / "queue"
        queue.mkdir(mode=0o700)
        os.chown(queue, manager.pw_uid, manager.pw_gid)
        try:
            made.start()
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Stage:
    """A web server that stops in the middle of each file, and folders of the users."""

    def __init__(self, service: Service, logind: Login1, site: Site, folder_of: Callable[[Any], Path]) -> None:
        self.service, self.logind, self.site, self.folder_of = service, logind, site, folder_of
        self.number = 0

    def job(
        self,
        owner: User,
        flags: TokenFlags,
        *,
        session: str | None = None,
        helper: User | None = None,
        is_resumed: bool = True,
    ) -> Job:
        """A job with a helper token (of the owner itself, unless a helper is named) made in this session."""
        self.number += 1
        path = f"/file{self.number}"
        pair = (self.site.put(path, BODY), self.folder_of(helper if helper and flags & FILES else owner) / "file")
        self.site.gate(path, HALF)

        def as_owner() -> str:
            if session is not None:
                self.logind.claim(session)
            with self.service.client() as client:
                job = client.create_job("story", priority=Priority.FOREGROUND)
                give_token(client, job, helper)
                job.set_helper_token_flags(flags)
                job.add_files([pair])
                if is_resumed:
                    job.resume()
                return str(job.id)

        made = Job(self.service, run_as(owner, as_owner))
        if is_resumed:
            made.receives(HALF)
        return made

    def renew_token(self, job: Job, owner: User, session: str, helper: User) -> None:
        """Repair 1, first half: the owner, in a new session, sets a new helper token."""

        def as_owner() -> None:
            self.logind.claim(session)
            with self.service.client() as client:
                give_token(client, client.job(job.id), helper)

        run_as(owner, as_owner)

    def open_gates(self) -> None:
        for _, event in self.site.gates.values():
            event.set()

    def content(self, job: Job) -> Path:
        """The published file, which must be whole."""
        (file,) = job.files()
        job.complete()
        path = Path(file["local_name"])
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(BODY).digest()
        return path


def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.01)


def code_of(call: Callable[[], object]) -> int:
    """HRESULT of a call that fails, 0 of one that does not."""
    try:
        call()
    except BitsError as error:
        return error.hresult
    return 0


def give_token(client: openbits.Client, job: openbits.Job, helper: User | None) -> None:
    if helper is None:
        job.set_helper_token()
        return
    with client.logon_user(helper.name, PASSWORD) as token, token.impersonate():
        job.set_helper_token()


def has_token(job: Job) -> bool:
    return job.info()["helper_sid"] is not None


def code_of_new_token(service: Service, user: User, logind: Login1, session: str) -> int:
    """If it is 0, the service knows of that session."""

    def as_user() -> int:
        logind.claim(session)
        with service.client() as client:
            return code_of(client.open_process_token)

    code: int = run_as(user, as_user)
    return code


@contextlib.contextmanager
def process_of(user: User) -> Iterator[None]:
    with subprocess.Popen(["sleep", "100"], user=user.uid, group=user.gid, extra_groups=[]) as process:
        try:
            yield
        finally:
            process.kill()
