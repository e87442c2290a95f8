"""A real Apache of our own that asks who you are: Basic, Digest, Negotiate, NTLM, client certificates; plain and TLS.

The same files are served below a path for each way (`SCHEMES`). Ports: plain, TLS, TLS that wants a client certificate
and TLS that would take one. Digest is MD5 with qop=auth: Apache has no other. Accounts are read anew for each request,
so `set_password` takes effect at once.
"""

import base64
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.kdc import Kdc
from tests.real.nginx import Certificates
from tests.real.processes import Daemon, free_port, make_own, program

REALM = "files"
DOMAIN = "OPENBITS"
"""Of the NTLM accounts."""
SCHEMES = ("open", "basic", "digest", "negotiate", "ntlm", "negotiate-ntlm", "several")
"""First parts of paths. `negotiate` takes Kerberos alone, `negotiate-ntlm` NTLM in it, `several` offers Negotiate, then
Basic; all but `open` want an account."""
SLOW_BYTES_A_SECOND = 400_000
"""Of `/slow/…`, the same again."""

ACCOUNT = "www-data"

_MODULES = (
    "mpm_event", "authn_core", "authz_core", "authz_user", "authz_host", "auth_basic", "auth_digest", "authn_file",
    "auth_gssapi", "ssl", "env", "ratelimit", "alias", "headers",
)  # fmt: skip

_CONFIGURATION = """
{modules}
ServerName localhost
ServerRoot {folder}
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
LogLevel info
LogFormat "%>s|%u|%m|%U|%{{Range}}i|%{{Authorization}}i|%k|%{{SSL_CLIENT_S_DN}}x" asked
CustomLog {folder}/access.log asked
KeepAliveTimeout 15
RegisterHttpMethod BITS_POST
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 5
MaxSpareThreads 25
DocumentRoot {root}
<Directory {root}>
    Require all granted
</Directory>
{locations}
SSLCertificateFile {folder}/server.pem
SSLCertificateKeyFile {folder}/server.key
SSLCACertificateFile {folder}/clients.pem
Listen 127.0.0.1:{port}
{hosts}
"""

_LOCATION = """
Alias /{path} {root}
<Location /{path}>
    {lines}
    {slow}
</Location>
"""

_KEYTAB = "GssapiCredStore keytab:{folder}/http.keytab"
_FILES = {
    "basic": f'AuthType Basic\nAuthName "{REALM}"\nAuthBasicProvider file\nAuthUserFile {{folder}}/basic',
    "digest": f'AuthType Digest\nAuthName "{REALM}"\nAuthDigestProvider file\nAuthUserFile {{folder}}/digest',
    "negotiate": f'AuthType GSSAPI\nAuthName "{REALM}"\nGssapiAllowedMech krb5\n{_KEYTAB}',
    "negotiate-ntlm": f'AuthType GSSAPI\nAuthName "{REALM}"\nGssapiAllowedMech ntlmssp\nGssapiConnectionBound On',
    "ntlm": f'AuthType GSSAPI\nAuthName "{REALM}"\nGssapiAllowedMech ntlmssp\nGssapiConnectionBound On',
    "several": f'AuthType GSSAPI\nAuthName "{REALM}"\nGssapiAllowedMech krb5\nGssapiBasicAuth On\n{_KEYTAB}',
}

_HOST = """
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
    SSLEngine on
    SSLVerifyClient {verify}
</VirtualHost>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as the log has it. `scheme`: of the Authorization field, empty without one; `user`: who it was."""

    status: int
    user: str
    method: str
    path: str
    range: str
    scheme: str
    earlier: int
    """How many requests came before on this connection."""
    certificate: str
    """Subject of the client's certificate."""


class Apache:
    """A running Apache that serves `root`. `folder` must be one that other users can pass."""

    def __init__(self, folder: Path, certificates: Certificates, *, kdc: Kdc | None = None) -> None:
        self._folder = folder / "apache"
        self._folder.mkdir()
        self.root = folder / "files"
        self.root.mkdir()
        self.port, self.tls_port, self.certificate_port, self.optional_certificate_port = (
            free_port() for _ in range(4)
        )
        self._accounts: dict[str, str] = {}
        certificate, key = certificates.issue("DNS:localhost", "IP:127.0.0.1")
        for source, name in ((certificate, "server.pem"), (key, "server.key"), (certificates.ca, "clients.pem")):
            shutil.copy(source, self._folder / name)
        if kdc is not None:
            shutil.copy(kdc.keytab(), self._folder / "http.keytab")
        self._write_accounts()
        configuration = self._folder / "httpd.conf"
        configuration.write_text(self._configuration())
        make_own(self._folder, ACCOUNT)
        environ = {"NTLM_USER_FILE": str(self._folder / "ntlm"), **(kdc.environ if kdc is not None else {})}
        ports = (self.port, self.tls_port, self.certificate_port, self.optional_certificate_port)
        command: list[str | Path] = [program("apache2"), "-d", self._folder, "-f", configuration, "-DFOREGROUND"]
        self._daemon = Daemon(command, ports, folder / "apache.log", account=ACCOUNT, environ=environ)
        self._skipped = len(self._lines())

    def url(self, path: str, *, tls: bool = False, host: str = "localhost") -> str:
        """URL of a file below one of `SCHEMES`, slow or not: `url("/digest/file")`, `url("/slow/basic/file")`."""
        return f"https://{host}:{self.tls_port}{path}" if tls else f"http://{host}:{self.port}{path}"

    def certificate_url(self, path: str, *, is_required: bool = True) -> str:
        """The same where a client certificate is required, or would be taken."""
        return f"https://localhost:{self.certificate_port if is_required else self.optional_certificate_port}{path}"

    def set_password(self, user: str, password: str) -> None:
        """Make an account for Basic, Digest and NTLM, or give it another password."""
        self._accounts[user] = password
        self._write_accounts()

    def asked(self) -> list[Asked]:
        """All requests that are answered, in the order of their ends."""
        return [_asked(line) for line in self._lines()[self._skipped :]]

    def close(self) -> None:
        """End it and its children."""
        self._daemon.close()

    def _lines(self) -> list[str]:
        log = self._folder / "access.log"
        return log.read_text().splitlines() if log.exists() else []

    def _configuration(self) -> str:
        modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _MODULES)
        slow = f"SetOutputFilter RATE_LIMIT\nSetEnv rate-limit {SLOW_BYTES_A_SECOND // 1024}"
        locations = []
        for scheme in SCHEMES:
            lines = _FILES.get(scheme, "").format(folder=self._folder) + ("\nRequire valid-user" * (scheme != "open"))
            for path, pace in ((scheme, ""), (f"slow/{scheme}", slow)):
                locations.append(_LOCATION.format(path=path, root=self.root, lines=lines, slow=pace))
        ports = {self.tls_port: "none", self.certificate_port: "require", self.optional_certificate_port: "optional"}
        return _CONFIGURATION.format(
            modules=modules,
            folder=self._folder,
            root=self.root,
            port=self.port,
            locations="".join(locations),
            hosts="".join(_HOST.format(port=port, verify=verify) for port, verify in ports.items()),
        )

    def _write_accounts(self) -> None:
        for name, lines in _account_files(self._accounts).items():
            path = self._folder / name
            new = path.with_suffix(".new")
            new.write_text("".join(f"{line}\n" for line in lines))
            new.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(new, ACCOUNT, ACCOUNT)
            new.replace(path)


def _account_files(accounts: Mapping[str, str]) -> dict[str, list[str]]:
    def sha1(password: str) -> str:
        return base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324  # htpasswd's form

    def ha1(user: str, password: str) -> str:
        return hashlib.md5(f"{user}:{REALM}:{password}".encode()).hexdigest()  # noqa: S324  # Digest's form

    return {
        "basic": [f"{user}:{{SHA}}{sha1(password)}" for user, password in accounts.items()],
        "digest": [f"{user}:{REALM}:{ha1(user, password)}" for user, password in accounts.items()],
        "ntlm": [f"{DOMAIN}:{user}:{password}" for user, password in accounts.items()],
    }


def _asked(line: str) -> Asked:
    status, user, method, path, span, authorization, earlier, certificate = line.split("|")
    return Asked(
        status=int(status),
        user=user.replace("-", "", 1) if user == "-" else user,
        method=method,
        path=path,
        range="" if span == "-" else span,
        scheme="" if authorization == "-" else authorization.partition(" ")[0],
        earlier=int(earlier),
        certificate="" if certificate == "-" else certificate,
    )
