"""Complete uploads, and applications that are notified of them."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.real.nginx import Certificates
from tests.server.applications import RawApplication

from openbits.server.model import Directory, Notification, Outcome, Session, User
from openbits.server.notify import Notifier

URL = "https://files.example.net/inbox/report-17.bin?tenant=42"
ID = "{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}"
CONTENT = b"what was uploaded" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Upload:
    """A complete upload in a spool, and a server that notifies of it."""

    folder: Path
    directory: Directory
    session: Session
    user: User
    phase_seconds: float = 20

    @property
    def request_file(self) -> Path:
        return self.folder / "requestfile.bin"

    @property
    def response_file(self) -> Path:
        return self.folder / "responsefile.bin"

    def notify(self, application: str = "", **settings: Any) -> Outcome:
        """The outcome; `settings` are of the directory."""
        if application:
            settings["notification_url"] = application
        self.directory = replace(self.directory, **settings)
        return asyncio.run(self.notify_here())

    async def notify_here(self) -> Outcome:
        notifier = Notifier("https://files.example.net", phase_seconds=self.phase_seconds)
        try:
            return await notifier.notify(self.directory, self.session, self.user, self.request_file, self.response_file)
        finally:
            notifier.close()


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    (tmp_path / "requestfile.bin").write_bytes(CONTENT)
    return Upload(
        folder=tmp_path,
        directory=Directory(url_path="/inbox/", notification=Notification.BY_REFERENCE),
        session=Session(
            session_id=ID,
            directory="/inbox/",
            path="inbox/report-17.bin",
            url=URL,
            user="anna",
            created_at=0,
            progressed_at=0,
        ),
        user=User(name="anna"),
    )


@pytest.fixture
def raw() -> Iterator[Callable[..., RawApplication]]:
    """Factory of applications that answer with bytes."""
    made: list[RawApplication] = []

    def make(answer: bytes, *, is_silent: bool = False) -> RawApplication:
        made.append(RawApplication(answer, is_silent=is_silent))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority of our own and server certificates of it."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
