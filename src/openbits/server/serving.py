"""Runs the application under uvicorn: sockets, TLS, signals, and what is said at the start."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import uvicorn

from openbits.server.app import Application
from openbits.server.log import log
from openbits.server.model import Directory
from openbits.server.protocol import bound
from openbits.server.settings import Address, Settings, Tls
from openbits.server.settings_file import SettingsError
from openbits.server.storage import StorageError
from openbits.server.store import StoreError
from openbits.server.users import UsersError

_BACKLOG = 512


class _Server(uvicorn.Server):
    """Without the handlers of uvicorn, which end the process by the signal, before the sessions are put away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`Service` has taken them."""
        yield


class Service:
    """One run of the server; `reread` gives the settings as they are now, for SIGHUP."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        self._settings = settings
        self._reread = reread
        self._reloading: asyncio.Task[None] | None = None
        self._is_started = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the status to exit with. Raises SettingsError: it cannot begin."""
        settings = self._settings
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start_reload)
        self._tls = tls_context(settings.tls) if settings.tls.certificate else None
        self._app = Application(settings)
        listener = _listener(settings.listen, "server.listen")
        if settings.metrics is not None:
            self._listen_for_metrics(settings.metrics)
        try:
            await self._app.start()
        except (StorageError, StoreError, OSError) as error:
            raise SettingsError(f"cannot start: {error}") from error
        self._is_started.set()
        try:
            await self._serve(listener)
        finally:
            await self._app.stop()
        return 0

    async def _serve(self, listener: socket.socket) -> None:
        settings = self._settings
        config = uvicorn.Config(
            self._app,
            http=bound(settings.limits),  # type: ignore[arg-type]  # its type names the other kind of asyncio's protocols
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[("server", "openbits")],
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            backlog=_BACKLOG,
            timeout_graceful_shutdown=settings.limits.shutdown_seconds,
        )
        config.load()
        config.ssl = self._tls
        server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _end, server)
        host, port = listener.getsockname()[:2]
        _tell_systemd("READY=1")
        sys.stderr.write(greeting(settings, Address(host=host, port=port)))
        await server.serve(sockets=[listener])

    def _listen_for_metrics(self, where: Address) -> None:
        try:
            self._app.metrics.listen(where)
        except OSError as error:
            raise SettingsError(f"cannot listen on {where} (server.metrics): {error.strerror}") from error

    def _start_reload(self) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        """Directories, users and certificate as they are now; a mistake changes nothing."""
        await self._is_started.wait()
        try:
            settings = self._reread()
            if self._tls is not None and settings.tls.certificate:
                _load_certificate(self._tls, settings.tls)
            await self._app.reload(settings)
        except (SettingsError, UsersError, StoreError) as error:
            log.warning("settings_refused reason=%s", error)
        else:
            log.info("settings_reloaded directories=%d", len(settings.directories))


def _tell_systemd(state: str) -> None:
    """sd_notify(3), if systemd has started us and wants to know."""
    if where := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
            notice.sendto(state.encode(), where.replace("@", "\0", 1))


def _end(server: uvicorn.Server) -> None:
    """The first signal is polite, the second is not."""
    server.force_exit = server.should_exit
    server.should_exit = True


def _listener(where: Address, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    # The protocol is named since asyncio sets TCP_NODELAY only then, without which every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((where.host, where.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {where} ({key}): {error.strerror}; choose another address") from error
    return listener


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1 only (H1). Raises SettingsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, tls)
    if tls.client_ca:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise SettingsError(f"cannot use tls.client_ca {tls.client_ca}: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED if tls.client_required else ssl.CERT_OPTIONAL
    return context


def _load_certificate(context: ssl.SSLContext, tls: Tls) -> None:
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ValueError) as error:
        words = f"cannot use tls.certificate {tls.certificate} with tls.key {tls.key}: {_reason(error)}"
        raise SettingsError(words) from error


def _reason(error: Exception) -> str:
    """Errors of OpenSSL have their words in another place."""
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def greeting(settings: Settings, where: Address) -> str:
    """What is served, to whom, and where unfinished uploads are."""
    scheme = "https" if settings.tls.certificate else "http"
    lines = [f"serving {settings.root} at {scheme}://{where}/"]
    lines += [f"  {one.url_path}  {_uploaders(one)}; {_readers(one)}" for one in settings.directories]
    if not settings.directories:
        lines.append('  nothing: the settings have no [directories."/"]')
    if words := _logons(settings):
        lines.append(f"  {words}")
    lines.append(f"  unfinished uploads: {settings.spool}")
    return "".join(f"bits-server: {line}\n" for line in lines)


def _logons(settings: Settings) -> str:
    """What is to be known of how users log on; empty: nothing."""
    if not settings.users_file and not settings.tls.common_names:
        needs_users = any(one.upload_enabled and not one.allow_anonymous for one in settings.directories)
        return "nobody can log on: name a file of users (--users, server.users_file)" if needs_users else ""
    if settings.tls.certificate:
        return ""
    if settings.plain_passwords:
        return "passwords are accepted without TLS"
    if settings.trusted_proxies:
        return ""
    return "nobody can log on without TLS: give it a certificate ([tls]), or accept plain passwords (--plain-passwords)"


def _uploaders(directory: Directory) -> str:
    if not directory.upload_enabled:
        return "no uploads"
    return f"uploads by {'everybody' if directory.allow_anonymous else _users(directory)}"


def _readers(directory: Directory) -> str:
    if not directory.is_readable:
        return "no downloads"
    is_open = directory.allow_anonymous or directory.allow_anonymous_reading
    return f"downloads by {'everybody' if is_open else _users(directory)}"


def _users(directory: Directory) -> str:
    names = "all users" if "*" in directory.allow_users else " ".join(sorted(directory.allow_users)) or "nobody"
    return names if "*" in directory.allow_groups else f"{names} in {' '.join(sorted(directory.allow_groups))}"
