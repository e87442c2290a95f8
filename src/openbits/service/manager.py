"""The manager program: puts the parts together, and takes them apart again.

It is started by the spawner through the zygote, without privileges, and ends when its channel to the spawner ends.
Start: settings, store, queue (every active job goes back to QUEUED, T25), then clients. Stop: streams end, the writer
drains. After a failed commit it ends at once; the spawner starts the next one.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401  # asyncio.to_thread would load it after the drop, which may fail
import contextlib
import errno
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.core import events
from openbits.core.errors import BitsError
from openbits.core.model import Now
from openbits.core.policies import Policies
from openbits.core.sessions import EVERYBODY, Difference
from openbits.failpoints import failpoint
from openbits.service import config as settings
from openbits.service import sealing, vault
from openbits.service.abandoned import Abandoned
from openbits.service.accounts import system_uid_max
from openbits.service.adding import Adding
from openbits.service.certificate_checks import CertificateChecks
from openbits.service.certificates import Certificates
from openbits.service.children import Children
from openbits.service.commands import Commands
from openbits.service.connections import Caller, serve
from openbits.service.context import Context
from openbits.service.engine import Engine
from openbits.service.entrusting import Entrusting
from openbits.service.events import EventStream
from openbits.service.identities import named
from openbits.service.inactivity import Inactivity
from openbits.service.interface import ServiceInterface
from openbits.service.logons import Logons
from openbits.service.network_worker import Worker
from openbits.service.notify import Notifier
from openbits.service.ownership import Ownership
from openbits.service.policies import FOLDER, PolicyError, PolicyWatch
from openbits.service.proxy_settings import ProxyLookup
from openbits.service.publishing import Publishing
from openbits.service.quotas import Quotas
from openbits.service.record import Record
from openbits.service.sessions import Sessions
from openbits.service.spawner_link import Cookie, RefusedError, SpawnerLink
from openbits.service.spawner_link import Record as PeerRecord
from openbits.service.temporaries import Temporaries
from openbits.service.tokens import Tokens
from openbits.service.transfers import Transfers
from openbits.service.vault import Vault
from openbits.store.changes import StoreError
from openbits.store.sqlite import Store, open_store
from openbits.store.writer import Writer

log = logging.getLogger("openbits.manager")

IDLE_SECONDS = 30.0
"""How long a user's own service stays without clients and jobs."""


def run(control: socket.socket) -> None:
    """Entry of the program; the zygote calls it under the manager's uid."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(levelname)s %(message)s")
    logging.getLogger("asyncvarlink").setLevel(logging.ERROR)  # clients that leave in the middle are no news
    configured, credentials = channel.receive(control)
    try:
        config = settings.load(Path(configured["config_dir"]), is_users_own=configured["mode"] == "user")
        logging.getLogger().setLevel(config.log.level.upper())
        policies = PolicyWatch(Path(configured["config_dir"]) / FOLDER)
        store = open_store(Path(configured["store_dir"]))
        keys = vault.load(Path(configured["store_dir"]), credentials)
    except (settings.ConfigError, PolicyError, StoreError) as error:
        log.critical("start_failed %s", error)
        channel.send(control, {"op": "failed", "id": 0, "text": str(error)})
        return
    try:
        asyncio.run(Manager(control, configured, config=config, policies=policies, store=store, keys=keys).serve())
    except ChannelClosedError:
        pass
    finally:
        store.close()


class Manager:
    """The running service."""

    def __init__(
        self,
        control: socket.socket,
        configured: Message,
        *,
        config: settings.Config,
        policies: PolicyWatch,
        store: Store,
        keys: Vault,
    ) -> None:
        self._control = control
        self._configured = configured
        self._config = config
        self._policies = policies
        self._store = store
        self._vault = keys
        self._callers: dict[Cookie, Caller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._ca_file = config.ca_file()
        self._failure = ""
        self._sessions = Sessions(
            config.sessions if configured["mode"] == "machine" else settings.Sessions(assume_logged_on=(EVERYBODY,)),
            zygote_pid=configured["pids"]["zygote"],
            connected=lambda: {caller.peer.identity.uid for caller in self._callers.values()},
            owners=lambda: self._context.engine.owners,
            on_change=self._sessions_changed,
        )

    async def serve(self) -> None:
        """Run until the spawner ends the channel or a commit fails."""
        self._stopped = asyncio.get_running_loop().create_future()
        gc.disable()  # nothing that a start makes is garbage
        loaded = self._store.load()
        if loaded.was_damaged is not None:
            log.error("store_damaged kept_as=%s", loaded.was_damaged)
        writer = Writer(self._store)
        self._context = self._build(writer, loaded.last_seq)
        await self._sessions.watch()
        failpoint("start.store-read")
        with contextlib.suppress(BitsError):  # a job cannot be read: this manager ends like one that finds it later
            self._context.engine.load(loaded.heads)
            self._inactivity.begin()
        failpoint("start.queue-loaded")
        log.info("started jobs=%d mode=%s", len(loaded.heads), self._configured["mode"])
        del loaded
        self._spawn(self._context.engine.wake_all())
        self._spawn(self._renew_seals())
        self._spawn(self._context.commands.sweep())
        self._spawn(self._inactivity.run())
        self._spawn(self._policies.run())
        gc.freeze()  # the records stay: collections that walk a hundred thousand of them stop the loop for nothing
        gc.enable()
        self._context.link.ready()
        self._spawn(self._check_store())
        self._consider_idle()
        try:
            await self._stopped
        finally:
            self._context.engine.stream.end()
            await asyncio.to_thread(writer.close)
            if self._failure:  # said last, since it ends this process: those who asked have been answered
                self._context.link.failed(self._failure)

    def _build(self, writer: Writer, last_seq: int) -> Context:
        stream = EventStream(last_seq)
        link = SpawnerLink(self._control, self._connected, self._disconnected, self._token_ended, self._stop)
        engine = Engine(
            writer=writer,
            read_job=self._store.job,
            stream=stream,
            now=present,
            on_failed_commit=self._commit_failed,
            on_owner_gone=self._owner_gone,
            logon_needed=self._sessions.logon_needed,
        )
        engine.set_policies(self._policies.policies)
        self._policies.on_change = self._policies_changed
        self._inactivity = Inactivity(engine)
        children = Children(link, self._configure_worker)
        publishing = Publishing(engine, children)
        access = self._config.access_settings()
        quotas = Quotas(engine, access, system_uid_max())
        commands = Commands(
            engine,
            link,
            system_uid_max=system_uid_max(),
            is_logged_on=self._sessions.is_logged_on,
            on_possible=self._notice_possible,
        )
        adding, temporaries = Adding(engine, children, link, quotas), Temporaries(engine, children, access)
        proxies = ProxyLookup(children, self._config.proxy_settings(), system_uid_max())
        certificates = Certificates(children, Path(self._configured["config_dir"]))
        entrusting = Entrusting(children, self._vault, certificates, proxies)
        checks = CertificateChecks(engine)
        abandoned = Abandoned(engine, children, entrusting, checks)
        context = Context(
            mode=self._configured["mode"],
            uid=self._configured["uid"],
            process_ids={**self._configured["pids"], "manager": os.getpid()},
            access=access,
            policies=self._policies,
            quotas=quotas,
            link=link,
            logons=Logons(link),
            tokens=Tokens(link, engine, children, self._sessions),
            engine=engine,
            children=children,
            proxies=proxies,
            adding=adding,
            ownership=Ownership(engine, adding, temporaries, abandoned, access),
            publishing=publishing,
            notifier=Notifier(engine, commands),
            commands=commands,
            certificate_checks=checks,
            vault=self._vault,
            certificates=certificates,
            store=self._store,
        )
        transfers = Transfers(engine, children, temporaries, entrusting, checks)
        engine.hands = Hands(transfers, publishing, abandoned, context.notifier, commands)
        engine.on_change = context.notifier.changed
        return context

    async def _renew_seals(self) -> None:
        if self._vault.newest:
            old = self._store.jobs_of_other_keys(self._vault.newest)
            await sealing.renew(self._context.engine, self._vault, old)

    async def _check_store(self) -> None:
        """Damage that nobody has come across yet ends the manager, too; the next one begins with an empty store."""
        try:
            await asyncio.to_thread(self._store.check)
        except StoreError as error:
            self._commit_failed(error)

    # -- connections ----------------------------------------------------------------------------------------------

    def _connected(self, peer: PeerRecord, sock: socket.socket, process: int | None) -> None:
        self._spawn(self._welcome(peer, sock, process))

    async def _welcome(self, peer: PeerRecord, sock: socket.socket, process: int | None) -> None:
        self._sessions.greet(peer.identity.uid)
        caller = Caller(replace(peer, identity=await named(peer.identity)), process)
        self._callers[peer.cookie] = caller
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        failpoint("connection.handed-over")
        serve(sock, ServiceInterface(self._context, caller), lambda: self._gone(caller))
        self._context.publishing.sweep(peer.identity.uid)

    def _sessions_changed(self, change: Difference) -> None:
        self._context.tokens.sessions_changed(change)
        self._context.commands.look_again()

    def _notice_possible(self, record: Record) -> None:
        self._context.notifier.try_again(record)

    def _policies_changed(self, policies: Policies) -> None:
        self._context.engine.set_policies(policies)
        self._context.commands.look_again()
        self._inactivity.sweep_soon()

    def _disconnected(self, cookie: Cookie) -> None:
        """The streams of the connection end, and with them it: while one waits for its next event nobody reads on."""
        self._context.children.retire_vouched(cookie)
        caller = self._callers.get(cookie)
        for subscriber in self._context.streams.get(caller, ()) if caller is not None else ():
            subscriber.queue.put_nowait(None)

    def _token_ended(self, cookie: Cookie) -> None:
        self._context.tokens.ended(cookie)

    def _gone(self, caller: Caller) -> None:
        caller.close()
        self._callers.pop(caller.peer.cookie, None)
        for subscriber in self._context.streams.pop(caller, ()):
            self._context.engine.stream.drop(subscriber)
            self._context.notifier.gone(subscriber)
            self._context.certificate_checks.gone(subscriber)
            subscriber.queue.put_nowait(None)
        self._consider_idle()

    # -- what the parts report ------------------------------------------------------------------------------------

    def _owner_gone(self, uid: int) -> None:
        self._context.adding.forget(uid)
        self._spawn(self._dismiss(uid))
        self._consider_idle()

    async def _dismiss(self, uid: int) -> None:
        if not self._context.engine.needs(uid):
            try:
                await self._context.link.dismiss(uid)
            except RefusedError as error:
                log.warning("dismiss_refused uid=%d why=%s", uid, error)

    def _configure_worker(self, worker: Worker) -> None:
        clocks = self._config.clocks
        limits = {
            "connect_seconds": clocks.connect_seconds,
            "first_byte_seconds": clocks.first_byte_seconds,
            "floor_bytes": clocks.floor_bytes,
            "floor_seconds": clocks.floor_seconds,
            "send_seconds": clocks.send_seconds,
            "answer_seconds": clocks.answer_seconds,
            "application_seconds": clocks.application_seconds,
        }
        descriptors = []
        if self._ca_file is not None:
            try:
                descriptors.append(os.open(self._ca_file, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                log.error("ca_file_unreadable path=%s why=%s", self._ca_file, os.strerror(error.errno or errno.EIO))  # noqa: TRY400  # the text says it all
        rules = {"is_strict": self._config.http.strict, "denied_networks": self._config.http.denied_networks}
        worker.configure({"op": "configure", "limits": limits, "http": rules}, descriptors)

    def _commit_failed(self, error: BaseException) -> None:
        if not self._stopped.done():  # the first one says it all; once stopped, the writer takes nothing more
            log.critical("commit_failed %s", error)
            self._failure = str(error)
            self._stop()

    def _consider_idle(self) -> None:
        if self._configured["mode"] != "user" or self._callers or self._context.engine.records:
            return
        if self._idle_timer is None:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._finish_if_idle)

    def _finish_if_idle(self) -> None:
        self._idle_timer = None
        if not self._callers and not self._context.engine.records:
            self._context.link.finish()

    def _stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Hands:
    """Sends each effect to the part that carries it out."""

    def __init__(
        self,
        transfers: Transfers,
        publishing: Publishing,
        abandoned: Abandoned,
        notifier: Notifier,
        commands: Commands,
    ) -> None:
        self._transfers = transfers
        self._publishing = publishing
        self._abandoned = abandoned
        self._notifier = notifier
        self._commands = commands

    def carry_out(self, record: Record, effect: events.Effect) -> None:
        """Begin an effect of a committed step."""
        match effect:
            case events.StartTransfer():
                self._transfers.start(record, effect)
            case events.StopTransfer():
                self._transfers.stop(record)
            case events.RepositionTransfer():
                self._transfers.reposition(record, effect)
            case events.PublishFiles():
                self._publishing.publish(record)
            case events.RemoveTemporaries():
                self._publishing.remove(record)
            case events.CancelSession():
                self._abandoned.cancel(record)
            case events.Notify():
                self._notifier.deliver(record)
            case events.ForgetCommands():
                for command in effect.commands:
                    self._commands.forget(record.job_id, command)
            case _:
                raise AssertionError(f"nobody carries out {effect}")


def present() -> Now:
    """The time: wall clock and boot clock."""
    return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
