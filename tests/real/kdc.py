"""A real Kerberos realm of our own: the KDC of MIT on a free loopback port, principals, keytabs, ticket caches.

Programs of the realm get its configuration by KRB5_CONFIG (`environ`). The children of a service have no environment,
so a service is started in a mount namespace of its own, in which /etc is a copy that has the configuration of the realm
(`command`); the machine's /etc stays as it is.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.real.processes import Daemon, free_port, program

REALM = "OPENBITS.TEST"
SERVICE = f"HTTP/localhost@{REALM}"
"""What clients ask a ticket for: the web server and the proxy at localhost."""
MACHINE = f"host/localhost@{REALM}"
"""Whose key is in the keytab of the machine, /etc/krb5.keytab."""

_KRB5_CONF = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    default_ccache_name = {cache}
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
"""

_KDC_CONF = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_life = 1d
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""

_IN_PRIVATE_ETC = 'mount --bind "$1" /etc && shift && exec "$@"'


class Kdc:
    """A running KDC of the realm OPENBITS.TEST. `folder` must be one that other users can pass."""

    def __init__(self, folder: Path, cache: str = "") -> None:
        """`cache`: the default ticket cache as the configuration names it; else a file for each uid in `caches`."""
        self._folder = folder / "kdc"
        self._folder.mkdir(mode=0o700)
        self.caches = folder / "tickets"
        """Where the default ticket caches of all users are, as /tmp is on most machines."""
        self.caches.mkdir()
        self.caches.chmod(0o1777)
        self.config = folder / "krb5.conf"
        self._etc = folder / "etc"
        self._names = 0
        port = free_port()
        cache = cache or f"FILE:{self.caches}/krb5cc_%{{uid}}"
        self.config.write_text(_KRB5_CONF.format(realm=REALM, port=port, cache=cache))
        (self._folder / "kdc.conf").write_text(_KDC_CONF.format(realm=REALM, port=port, folder=self._folder))
        self._run(program("kdb5_util"), "create", "-s", "-P", "throw-away master key")
        for principal in (SERVICE, MACHINE):
            self._admin(f"addprinc -randkey {principal}")
        self._daemon = Daemon([program("krb5kdc"), "-n"], [port], self._folder / "start.log", environ=self._environ)

    def close(self) -> None:
        """End it."""
        self._daemon.close()

    @property
    def environ(self) -> dict[str, str]:
        """Where programs find the realm."""
        return {"KRB5_CONFIG": str(self.config)}

    def add(self, user: str, password: str, *, life: str = "1 day") -> str:
        """A new principal with a password, whose tickets live so long; its full name."""
        self._admin(f'addprinc -maxlife "{life}" -pw {password} {user}')
        return f"{user}@{REALM}"

    def keytab(self, principal: str = SERVICE) -> Path:
        """A new keytab with the key of a principal."""
        self._names += 1
        path = self._folder / f"{self._names}.keytab"
        self._admin(f"ktadd -norandkey -k {path} {principal}")
        return path

    def cache_of(self, user: Any) -> Path:
        """The default ticket cache of an account."""
        return self.caches / f"krb5cc_{user.uid}"

    def kinit(
        self,
        user: Any,
        password: str,
        *,
        principal: str = "",
        cache: Path | None = None,
        life: str = "",
        is_default: bool = False,
    ) -> Path:
        """Have an account get tickets, its own or another principal's; the file that has them.

        That is the default file of the account, or `cache`; with `is_default` they are where the library puts them.
        `life` as kinit takes it: `1s`.
        """
        path = cache or self.cache_of(user)
        place = [] if is_default else ["-c", f"FILE:{path}"]
        command = ["kinit", *place, *(["-l", life] if life else []), principal or user.name]
        identity: dict[str, Any] = {"user": user.uid, "group": user.gid, "extra_groups": []}
        subprocess.run(
            command,
            input=f"{password}\n",
            env={"PATH": os.environ["PATH"], **self.environ},
            text=True,
            check=True,
            capture_output=True,
            **(identity if os.geteuid() == 0 else {}),
        )
        return path

    def logons(self, user: str) -> int:
        """How often this user has got a ticket with a password."""
        told = (self._folder / "kdc.log").read_text()
        return sum("AS_REQ" in line and "ISSUE" in line and f"{user}@{REALM}" in line for line in told.splitlines())

    def is_expired(self, cache: Path) -> bool:
        """True if no ticket of the cache can be used any more."""
        environ = {"PATH": os.environ["PATH"], **self.environ}
        return subprocess.run(["klist", "-s", "-c", f"FILE:{cache}"], env=environ, check=False).returncode != 0

    def tickets(self, cache: Path) -> list[str]:
        """The services that the cache has tickets for."""
        environ = {"PATH": os.environ["PATH"], **self.environ}
        command = ["klist", "-c", f"FILE:{cache}"]
        done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
        return [line.split()[-1] for line in done.stdout.splitlines() if line[:1].isdigit()]

    def command(
        self, command: Sequence[str], *, has_keytab: bool = False, files: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """The command in the realm: its /etc is a copy as of now, with the realm's krb5.conf and perhaps the keytab.

        Accounts that are made later are unknown in there. `files`: what else is in it, by names below /etc.
        """
        if self._etc.exists():
            shutil.rmtree(self._etc)
        copying = subprocess.run(["cp", "-a", "/etc", self._etc], check=False, capture_output=True, text=True)
        told = [line for line in copying.stderr.splitlines() if "No such file" not in line]
        assert not told, told  # what went meanwhile is the lock of somebody who makes an account
        shutil.copy(self.config, self._etc / "krb5.conf")
        keytab = self._etc / "krb5.keytab"
        keytab.unlink(missing_ok=True)
        if has_keytab:
            shutil.copy(self.keytab(MACHINE), keytab)
            keytab.chmod(0o600)
        for name, content in (files or {}).items():
            (self._etc / name).write_text(content)
            (self._etc / name).chmod(0o644)
        return ("unshare", "--mount", "sh", "-c", _IN_PRIVATE_ETC, "sh", str(self._etc), *command)

    @property
    def _environ(self) -> dict[str, str]:
        return {**self.environ, "KRB5_KDC_PROFILE": str(self._folder / "kdc.conf")}

    def _admin(self, query: str) -> None:
        self._run(program("kadmin.local"), "-r", REALM, "-q", query)

    def _run(self, *command: str) -> None:
        environ = {"PATH": os.environ["PATH"], **self._environ}
        done = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "while" not in done.stderr, done.stderr  # how kadmin.local tells an error
