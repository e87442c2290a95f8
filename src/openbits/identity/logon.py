"""The logon helper: proves one account to PAM and lives, as root, as long as the token made of it.

Started once per LogonUser as `python -I -m openbits.identity.logon --caller-uid N`. In descriptor 0, a channel, one
`{"user", "password" or null}` waits; descriptor 3 is the channel to the spawner: it gets one answer, the identity or
a PAM result (the manager has the words for it), and when it closes the token has ended. Standard library only.

No secret reaches argv, the environment, a log or an exception. What cannot be wiped: the datagram and the string JSON
made of it, freed here at once but not overwritten by Python; hence no core dumps and not dumpable, so that nobody but
root could read them.
"""

import argparse
import contextlib
import ctypes
import os
import pwd
import resource
import signal
import socket

from openbits import channel
from openbits.identity import pam
from openbits.identity.pam import PamError

LIMIT_SECONDS = 60
"""For all that PAM does; then the kernel ends the helper, wherever it waits, and the spawner refuses the logon."""
_PR_SET_DUMPABLE = 4
_SYSTEM_ERR, _CRED_INSUFFICIENT, _BAD_ITEM = 4, 8, 29  # PAM results for what goes wrong here


def main() -> None:
    """Answer the one request, then keep the credentials until the spawner closes its end."""
    parser = argparse.ArgumentParser(prog="openbits-logon")
    parser.add_argument("--caller-uid", type=int, required=True)
    caller_uid: int = parser.parse_args().caller_uid
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o077)
    signal.alarm(LIMIT_SECONDS)
    with socket.socket(fileno=0) as requests, socket.socket(fileno=3) as spawner:
        spawner.set_inheritable(False)  # a program that a PAM module starts must not keep the token alive
        with contextlib.suppress(channel.ChannelClosedError):  # nobody waits for the answer any more
            _serve(requests, spawner, caller_uid)


def _serve(requests: socket.socket, spawner: socket.socket, caller_uid: int) -> None:
    try:
        _log_on(spawner, *_request(requests, caller_uid))
    except PamError as error:
        channel.send(spawner, {"ok": False, "pam": error.code, "text": str(error)})


def _request(requests: socket.socket, caller_uid: int) -> tuple[str, bytearray | None]:
    requests.setblocking(False)  # the message waits already; who sends none must not keep us
    try:
        message, descriptors = channel.receive(requests)
    except OSError:
        raise PamError(_BAD_ITEM, "the request is not one message with user and password") from None
    channel.close_all(descriptors)
    user, password = _encoded("user name", message.get("user"), 256), message.pop("password", None)
    if password is None and caller_uid != 0:
        raise PamError(_CRED_INSUFFICIENT, "only root may leave out the password")
    return user.decode(), None if password is None else _encoded("password", password, 65536)


def _encoded(what: str, value: object, limit_bytes: int) -> bytearray:
    with contextlib.suppress(AttributeError, UnicodeEncodeError):  # whose text would quote the value
        data = bytearray(value.encode())  # type: ignore[attr-defined]  # JSON: only a string has it
        if len(data) <= limit_bytes and 0 not in data:
            return data
    raise PamError(_BAD_ITEM, f"the {what} must be UTF-8 text without NUL of at most {limit_bytes} bytes")


def _log_on(spawner: socket.socket, user: str, password: bytearray | None) -> None:
    with pam.Transaction(user, password) as transaction:
        try:
            name, ccache = transaction.log_on()
        finally:
            if password is not None:
                password[:] = bytes(len(password))
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            raise PamError(_SYSTEM_ERR, "no uid found; try getent passwd") from None
        token = {"uid": account.pw_uid, "gid": account.pw_gid, "name": account.pw_name, "ccache": ccache}
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        signal.alarm(0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the ticket cache goes first, then we do
        channel.send(spawner, {"ok": True, **token, "groups": groups})
        with contextlib.suppress(ConnectionResetError):
            spawner.recv(1)


if __name__ == "__main__":
    main()
