"""A real squid of our own that asks who you are: any of Negotiate, NTLM, Digest and Basic, offered in that order.

Its NTLM is a helper of squid for trials: it converses as it should, and believes whoever says something.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.real.kdc import Kdc
from tests.real.processes import Daemon, free_port, make_own, program

REALM = "squid"
ACCOUNT = "proxy"
_HELPERS = "/usr/lib/squid"

_CONFIGURATION = """
http_port 127.0.0.1:{port}
{schemes}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
pinger_enable off
pid_filename none
coredump_dir {folder}
cache_log {folder}/cache.log
logformat asked %>Hs|%un|%rm|%ru|%>ha{{Proxy-Authorization}}
access_log stdio:{folder}/access.log asked
visible_hostname localhost
shutdown_lifetime 0 seconds
"""

_SCHEMES = {
    "negotiate": "program {helpers}/negotiate_kerberos_auth -k {folder}/http.keytab -s GSS_C_NO_NAME",
    "ntlm": "program {helpers}/ntlm_fake_auth",
    "digest": "program {helpers}/digest_file_auth -c {folder}/digest",
    "basic": "program {helpers}/basic_ncsa_auth {folder}/basic",
}


class AskingSquid:
    """A running squid that passes on requests of known users alone. `folder` must be one that other users can pass."""

    def __init__(self, folder: Path, *schemes: str, user: str = "", password: str = "", kdc: Kdc | None = None) -> None:
        self._folder = folder / "squid"
        self._folder.mkdir()
        self.port = free_port()
        self.name = f"localhost:{self.port}"
        ha1 = hashlib.md5(f"{user}:{REALM}:{password}".encode()).hexdigest()  # noqa: S324  # Digest's form
        (self._folder / "digest").write_text(f"{user}:{REALM}:{ha1}\n")
        plain = hashlib.md5(password.encode()).hexdigest()  # noqa: S324  # one of the forms that the helper reads
        (self._folder / "basic").write_text(f"{user}:{plain}\n")
        if kdc is not None:
            shutil.copy(kdc.keytab(), self._folder / "http.keytab")
        configuration = self._folder / "squid.conf"
        configuration.write_text(
            _CONFIGURATION.format(port=self.port, folder=self._folder, schemes=self._lines(schemes))
        )
        make_own(self._folder, ACCOUNT)
        command: list[str | Path] = [program("squid"), "-N", "-n", f"test{self.port}", "-f", configuration]
        environ = kdc.environ if kdc is not None else {}
        log = folder / "squid.log"
        self._daemon = Daemon(command, [self.port], log, account=ACCOUNT, environ=environ)

    def _lines(self, schemes: Sequence[str]) -> str:
        lines = []
        for scheme in (scheme for scheme in _SCHEMES if scheme in schemes):
            lines.append(f"auth_param {scheme} " + _SCHEMES[scheme].format(helpers=_HELPERS, folder=self._folder))
            lines.append(f"auth_param {scheme} children 2")
            if scheme in {"digest", "basic"}:
                lines.append(f"auth_param {scheme} realm {REALM}")
        return "\n".join(lines)

    def asked(self) -> list[tuple[int, str, str, str]]:
        """Status, user (empty if unknown), method with target, and scheme of each request that is over."""
        path = self._folder / "access.log"
        lines = [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []
        return [
            (int(status), "" if user == "-" else user, f"{method} {target}", sent.partition("%20")[0].split(" ")[0])
            for status, user, method, target, sent in lines
            if not target.startswith("error:")
        ]

    def close(self) -> None:
        """End it so that it takes its shared memory along."""
        self._daemon.close()
