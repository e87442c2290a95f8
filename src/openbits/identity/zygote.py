"""The zygote: imports the programs once, then forks children that drop to an identity.

Single-threaded, holds no secret and decides nothing: orders come from the spawner alone, one message each with the
control channel of the child (and the admitted entry that confines it). It reaps what it forked and says so on stderr.
Late imports would fail under an identity that cannot read the interpreter's files; hence the fixed list. What is
started once in the life of a zygote is imported in the child, before it drops: the others need not carry it.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import NoReturn

from openbits import channel
from openbits.channel import Message
from openbits.failpoints import failpoint
from openbits.identity import drop

PROGRAMS: Mapping[str, str] = MappingProxyType(
    {
        "manager": "openbits.service.manager",
        "broker": "openbits.identity.broker",
        "worker": "openbits.transfer.worker",
        "notify": "openbits.identity.runner",
    }
)
"""Program and module, whose `run(channel, *arguments of the order)` is called in the child after the hello."""

ONCE = "manager"
"""The program that a zygote starts once."""

FAREWELL_SECONDS = 5.0
"""How long children may take to end by themselves when the service stops; the rest is killed."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends the service when it is sent to the spawner; its children end with their channels."""


def fork(programs: Mapping[str, str]) -> tuple[int, socket.socket]:
    """Fork the zygote; its pid and the channel for orders. Nothing comes back on it but end of file."""
    ours, theirs = channel.pair()
    spawner = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run(_serve, theirs, programs, spawner)
    theirs.close()
    return pid, ours


def _run(main: Callable[..., None], *arguments: object) -> NoReturn:
    """What a fork does instead of returning into the code of its parent."""
    try:
        main(*arguments)
        os._exit(0)
    except BaseException:  # noqa: BLE001  # nothing may escape
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _serve(orders: socket.socket, programs: Mapping[str, str], spawner: int) -> None:
    gc.freeze()  # what was the spawner's is never finalised here: its descriptors are closed
    drop.keep_only(orders.fileno())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # end of file on the channel is the way to end
    os.chdir("/")
    os.setsid()
    drop.set_name("zygote")
    drop.end_with(spawner)
    for program, name in programs.items():
        if program != ONCE:
            importlib.import_module(name)
    gc.freeze()
    children: dict[int, str] = {}  # by pidfd: what to say of it
    poller = select.poll()
    poller.register(orders, select.POLLIN)
    ends_at = None
    while ends_at is None or (children and time.monotonic() < ends_at):
        for descriptor, _ in poller.poll(None if ends_at is None else 100):
            if descriptor != orders.fileno():
                poller.unregister(descriptor)
                _reap(descriptor, children.pop(descriptor))
                continue
            try:
                process, news = _obey(orders, programs)
            except channel.ChannelClosedError:
                ends_at = time.monotonic() + FAREWELL_SECONDS
                poller.unregister(orders)
            except OSError as error:  # no process to be had: its channel closes, which tells the manager
                sys.stderr.write(f"zygote: fork_failed why={error}\n")
            else:
                children[process] = news
                poller.register(process, select.POLLIN)


def _obey(orders: socket.socket, programs: Mapping[str, str]) -> tuple[int, str]:
    """Carry out one order: pidfd of the child and what to say of it. Raises ChannelClosedError, OSError."""
    order, descriptors = channel.receive(orders)
    failpoint("zygote.ordered")
    zygote = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _run(_child, order, descriptors, programs[order["program"]], zygote)
        failpoint("zygote.forked")
        return os.pidfd_open(pid), f"{order['program']}_ended uid={order['uid']} pid={pid}"
    finally:
        channel.close_all(descriptors)


def _child(order: Message, descriptors: list[int], name: str, zygote: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    control = socket.socket(fileno=descriptors[0])
    failpoint("child.forked")
    try:
        module = importlib.import_module(name)
        gc.freeze()
        hello = drop.become(order, control, descriptors[1] if len(descriptors) > 1 else None, zygote)
    except Exception as error:  # noqa: BLE001  # whatever it was, this process must not go on
        reason = "no-account" if isinstance(error, drop.NoAccountError) else "broken"
        text = f"cannot start {order['program']} as uid {order['uid']}: {error}"
        sys.stderr.write(f"zygote: refused {text}\n")
        channel.send(control, {"hello": None, "refused": reason, "text": text})
        return
    failpoint("child.dropped")
    try:
        channel.send(control, hello)
    except channel.ChannelClosedError:  # who wanted this process has ended meanwhile
        return
    failpoint("child.greeted")
    module.run(control, *order.get("arguments", ()))


def _reap(descriptor: int, news: str) -> None:
    result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
    os.close(descriptor)
    if result is not None:
        kind = "exit" if result.si_code == os.CLD_EXITED else "signal"
        with suppress(OSError):  # the disk of the log may be full
            sys.stderr.write(f"zygote: {news} {kind}={result.si_status}\n")
