"""A real `bits-server` for hostile clients: what is expected below its root, and what is beside it."""

import hashlib
import itertools
import random
from pathlib import Path
from typing import Final

from tests.server.hostile_clients.client import Client, tree
from tests.server.process import ServerProcess

from openbits.core import codes
from openbits.core.packets import PacketType
from openbits.server import users

C, P, F, CL, CA = (
    PacketType.CREATE_SESSION,
    PacketType.PING,
    PacketType.FRAGMENT,
    PacketType.CLOSE_SESSION,
    PacketType.CANCEL_SESSION,
)
MALFORMED: Final = (400, codes.E_INVALIDARG)
REFUSED: Final = (403, codes.E_ACCESSDENIED)
UNKNOWN: Final = (500, codes.BG_E_SESSION_NOT_FOUND)
FULL: Final = (500, 0x80070070)

SIZE: Final = 100_000
BODY: Final = random.Random(11).randbytes(SIZE)  # noqa: S311  # any bytes
OTHER: Final = bytes(byte ^ 0xFF for byte in BODY)
MOST_FRAGMENT: Final = 1_000_000
MOST_GROWTH_BYTES: Final = 32 * 1024 * 1024

SETTINGS: Final = f"""
[directories."/inbox/"]
BITSUploadEnabled = true
BITSSessionLimitEnable = false
allow_anonymous = true
quota_bytes = 1_000_000_000
max_fragment = {MOST_FRAGMENT}
[directories."/over/"]
BITSUploadEnabled = true
BITSAllowOverwrites = true
allow_anonymous = true
quota_bytes = 1_000_000_000
[directories."/small/"]
BITSUploadEnabled = true
BITSMaximumUploadSize = "1000"
allow_anonymous = true
quota_bytes = 1_000_000_000
[directories."/users/"]
BITSUploadEnabled = true
[directories."/closed/"]
"""
LIMITS: Final = """
head_seconds = 1
idle_seconds = 5
body_bytes_per_second = 1024
body_window_seconds = 1
body_grace_seconds = 1
"""


class Site:
    """The server, what is expected below its root, and what is beside it."""

    def __init__(self, base: Path) -> None:
        (base / "outside" / "folder").mkdir(parents=True)
        (base / "outside" / "secret").write_text("a secret")
        (base / "root").mkdir()
        for name in ("over", "small", "users", "closed"):
            (base / "root" / name).mkdir()
        accounts = base / "users"
        for name in ("anna", "boris"):
            users.add(accounts, users.Entry(name=name, password=users.hashed(f"{name}-secret")))
        lines = f'users_file = "{accounts}"\nplain_passwords = true\nmax_sessions_total = 200000'
        self.server = ServerProcess(base, SETTINGS, server=lines, limits=LIMITS)
        self.server.start()
        self.client = Client(self.server.port)
        self._numbers = itertools.count()
        self._outside = base / "outside"
        self.published: dict[str, bytes] = {}
        """What was uploaded in full, by its path below the root."""
        self.links: set[str] = set()
        """What tests have put there themselves."""
        for number in range(20):
            self.client.upload(self.new(f"warm{number}"), BODY)
        self.rss_at_first_bytes = self.server.rss_bytes

    def new(self, stem: str = "file", folder: str = "inbox") -> str:
        """A path that nobody has used; it is expected to become a file with BODY."""
        path = f"/{folder}/{stem}-{next(self._numbers)}"
        self.published[path[1:]] = BODY
        return path

    def unpublished(self, stem: str = "file", folder: str = "inbox") -> str:
        """A path that nobody has used, where nothing is expected."""
        path = self.new(stem, folder)
        del self.published[path[1:]]
        return path

    def check(self) -> None:
        """No byte is lost, doubled or outside, and the next honest client is served."""
        self.client.upload(self.new("honest"), BODY)
        found = {name: what for name, what in tree(self.server.root).items() if name not in self.links}
        files = {name: what for name, what in found.items() if what != "folder"}
        assert files == {name: hashlib.sha256(body).hexdigest() for name, body in self.published.items()}
        assert {name for name, what in found.items() if what == "folder"} == {
            *("inbox", "over", "small", "users", "closed")
        }
        assert tree(self._outside) == {"folder": "folder", "secret": hashlib.sha256(b"a secret").hexdigest()}
        log = self.server.log()
        assert "Traceback" not in log, log[log.index("Traceback") :]
