"""A world in which everybody asks who you are: realm, web server, proxies, two users, a service that belongs to it.

One for all tests of a module: its parts take seconds to start. Jobs are created by their owner and driven by root, so
the owner has no connection while they run, as after a log-off.
"""

import contextlib
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import User
from tests.real.apache import Apache
from tests.real.canaries import canary
from tests.real.conftest import SPAWNER, Service, run_as
from tests.real.kdc import Kdc
from tests.real.nginx import Certificates
from tests.real.squid_auth import AskingSquid
from tests.real.stories import Job, create, real_user

import openbits
from openbits import AuthScheme, AuthTarget
from openbits.core.enums import CertStore

PROGRAMS = ("apache2", "krb5kdc", "kadmin.local", "kinit", "squid", "openssl", "unshare")

BODY = secrets.token_bytes(3_000_000)

UNAUTHORIZED = 0x80190191
PROXY_UNAUTHORIZED = 0x80190197

SERVER, PROXY = AuthTarget.SERVER, AuthTarget.PROXY

Step = tuple[Any, ...]
"""Name of a method of a job, and its arguments."""


def implicit(target: AuthTarget, scheme: AuthScheme = AuthScheme.NEGOTIATE) -> Step:
    """SetCredentials(NULL, NULL)."""
    return ("set_credentials", target, scheme, None, None)


class World:
    """All of it; every password is a canary."""

    def __init__(
        self,
        folder: Path,
        owner: User,
        helper: User,
        *,
        has_keytab: bool,
        files: Mapping[str, str] | None,
        cache: str,
    ) -> None:
        self.folder = folder
        self.owner, self.helper = owner, helper
        self.password = canary()
        """Of all accounts, in the realm and of the servers."""
        self.skip = 0
        """How many requests the web server had before the present test."""
        self._jobs = 0
        with contextlib.ExitStack() as endings:
            own = folder / "certificates"
            own.mkdir(mode=0o700)
            self.certificates = Certificates(own)
            self.kdc = Kdc(folder, cache)
            endings.callback(self.kdc.close)
            for user in (owner, helper):
                self.kdc.add(user.name, self.password)
            self.apache = Apache(folder, self.certificates, kdc=self.kdc)
            endings.callback(self.apache.close)
            self.apache.set_password("anna", self.password)
            (self.apache.root / "file").write_bytes(BODY)
            base = folder / "service"
            base.mkdir()
            command = self.kdc.command(SPAWNER, has_keytab=has_keytab, files=files)
            self.service = Service(base, 0, command=command)
            shutil.copy(self.certificates.ca, folder / "ca.pem")
            (folder / "ca.pem").chmod(0o644)
            self.service.configure(f'[tls]\nca_file = "{folder}/ca.pem"\n')
            endings.callback(self.service.close)
            self.service.start()
            self._endings = endings.pop_all()

    def close(self) -> None:
        """End everything, the service first, which looks for secrets in clear."""
        self._endings.close()

    def squid(self, *schemes: str) -> AskingSquid:
        """A proxy that asks; closed with the world."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        folder.chmod(0o755)
        made = AskingSquid(folder, *schemes, user="anna", password=self.password, kdc=self.kdc)
        self._endings.callback(made.close)
        return made

    def place(self, user: Any) -> Path:
        """Where a new file of this user may go."""
        self._jobs += 1
        folder = self.folder / f"{self._jobs}"
        folder.mkdir(mode=0o700)
        shutil.chown(folder, user.uid, user.gid)
        return folder / "file"

    def job(self, url: str, *steps: Step, user: Any = None, is_resumed: bool = True, **properties: Any) -> Job:
        """A job of the owner for one file, after these steps of its owner."""
        owner = user or self.owner
        job = create(self.service, owner, [(url, self.place(owner))], is_resumed=False, **properties)
        self.act(job, *steps, user=owner)
        if is_resumed:
            job.resume()
        return job

    def empty_job(self) -> Job:
        """A job of the owner without files."""

        def call() -> str:
            with self.service.client() as client:
                return str(client.create_job("story").id)

        return Job(self.service, run_as(self.owner, call))

    def act(self, job: Job, *steps: Step, user: Any = None) -> None:
        """Have the owner do these with the job."""

        def call() -> None:
            with self.service.client() as client:
                held = client.job(job.id)
                for method, *arguments in steps:
                    getattr(held, method)(*arguments)

        run_as(user or self.owner, call)

    def choose_certificate(
        self, job: Job, location: CertStore, *, sha1: str = "", subject: str = "", user: Any = None
    ) -> None:
        """Have the owner choose a client certificate of the store MY."""

        def call() -> None:
            with self.service.client() as client:
                client.job(job.id).set_client_certificate(location, "MY", sha1=sha1, subject=subject)

        run_as(user or self.owner, call)

    def set_helper(self, job: Job, flags: int, *, user: Any = None) -> None:
        """Give the job the helper's token, by a logon that root asks for."""
        with self.service.client() as client:
            token = client.logon_user(self.helper.name, None)

        def call() -> None:
            with self.service.client() as own:
                held = own.job(job.id)
                with token.impersonate():
                    held.set_helper_token()
                held.set_helper_token_flags(openbits.TokenFlags(flags))

        with token:
            run_as(user or self.owner, call)

    def forget_tickets(self) -> None:
        """Nobody has tickets."""
        for user in (self.owner, self.helper):
            self.kdc.cache_of(user).unlink(missing_ok=True)

    def content(self, job: Job) -> bytes:
        """What the job brought, after Complete."""
        (file,) = job.files()
        assert job.complete() == 0
        return Path(file["local_name"]).read_bytes()

    def is_fetched(self, job: Job) -> bool:
        """Wait for the end; True if the file is there as it is on the server and belongs to who was to have it."""
        job.reaches("transferred", "error")
        return job.state == "transferred" and self.content(job) == BODY

    def failure(self, job: Job) -> tuple[int, str]:
        """Code and text of a job that fails; it does not try again."""
        info = job.reaches("error", "transferred", "transient_error")
        assert info["state"] == "error", info["error"]
        return job.error["hresult"], job.error["message"]


@contextlib.contextmanager
def world(*, has_keytab: bool = False, files: Mapping[str, str] | None = None, cache: str = "") -> Iterator[World]:
    """The world, and its end. The service finds the keytab of the machine, if wanted, and these files in /etc.

    `cache`: as for `Kdc`.
    """
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    try:
        with real_user() as owner, real_user() as helper:
            made = World(folder, owner, helper, has_keytab=has_keytab, files=files, cache=cache)
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(folder)


def keep(user: User, name: str, content: str, mode: int = 0o600) -> Path:
    """A file that the user keeps for the service below ~/.config/openbits."""
    path = user.home / ".config" / "openbits" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", user.home / ".config"], check=True)
    return path
