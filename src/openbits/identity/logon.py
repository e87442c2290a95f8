"""The logon helper: proves one account to PAM and lives, as root, as long as the token made of it.

Started once per LogonUser as `python -I -m openbits.identity.logon --caller-uid N`. In descriptor 0, a channel, one
`{"user", "password" or null}` waits; descriptor 3 is the channel to the spawner: it gets one answer, and when it closes
the token has ended. Standard library only. No secret reaches argv, the environment, a log or an exception. What cannot
be wiped: the datagram and the string JSON made of it, freed here at once but not overwritten by Python; hence no core
dumps and not dumpable, so that nobody but root could read them.
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

_PR_SET_DUMPABLE = 4
_INVALID_ARGUMENT = 0x80070057
_LOGON_FAILURE = 0x8007052E
_NO_LOGON_SERVERS = 0x8007051F
_UNPROVED = (_LOGON_FAILURE, "the user name or the password is wrong, or the password is locked; check both")
_REFUSALS = {  # PAM result: (HRESULT, text), identity.md §9
    6: (0x80070569, "PAM service openbits does not allow it here and now; an administrator can (PERM_DENIED)"),
    7: _UNPROVED,  # AUTH_ERR
    8: _UNPROVED,  # CRED_INSUFFICIENT
    9: _UNPROVED,  # AUTHINFO_UNAVAIL
    10: _UNPROVED,  # USER_UNKNOWN, with the words of a wrong password: names cannot be tried out
    11: (0x80070775, "locked after too many failures; wait, or have an administrator unlock it"),
    12: (0x80070773, "the password must be changed first; do so with passwd"),
    13: (0x80070701, "the account has expired; have an administrator extend it"),
}


def main() -> None:
    """Answer the one request, then keep the credentials until the spawner closes its end."""
    parser = argparse.ArgumentParser(prog="openbits-logon")
    parser.add_argument("--caller-uid", type=int, required=True)
    caller_uid: int = parser.parse_args().caller_uid
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o077)
    with socket.socket(fileno=0) as requests, socket.socket(fileno=3) as spawner:
        spawner.set_inheritable(False)  # a program that a PAM module starts must not keep the token alive
        try:
            user, password = _request(requests)
        except ValueError as error:
            _answer(spawner, _refusal(_INVALID_ARGUMENT, f"cannot log on: {error}"))
            return
        if password is None and caller_uid != 0:
            _answer(spawner, _refusal(_LOGON_FAILURE, f"cannot log on as {user!r} without a password: only root may"))
            return
        _log_on(spawner, user, password)


def _request(requests: socket.socket) -> tuple[str, bytearray | None]:
    requests.setblocking(False)  # the message waits already; who sends none must not keep us
    try:
        message, descriptors = channel.receive(requests)
    except (channel.ChannelClosedError, BlockingIOError):
        raise ValueError("the request is not one message with user and password") from None
    channel.close_all(descriptors)
    user, password = _encoded("user name", message.get("user"), 256), message.pop("password", None)
    return user.decode(), None if password is None else _encoded("password", password, 65536)


def _encoded(what: str, value: object, limit_bytes: int) -> bytearray:
    if isinstance(value, str) and "\0" not in value:
        with contextlib.suppress(UnicodeEncodeError):  # its text would quote the value
            data = bytearray(value, "utf-8")
            if len(data) <= limit_bytes:
                return data
    raise ValueError(f"the {what} must be UTF-8 text without NUL of at most {limit_bytes} bytes")


def _log_on(spawner: socket.socket, user: str, password: bytearray | None) -> None:
    try:
        with pam.Transaction(user, password) as transaction:
            try:
                name, ccache = transaction.log_on()
            finally:
                if password is not None:
                    password[:] = bytes(len(password))
            account = pwd.getpwnam(name)
            token = {"uid": account.pw_uid, "gid": account.pw_gid, "name": account.pw_name, "ccache": ccache}
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # the ticket cache goes first, then we do
            _answer(spawner, {"ok": True, **token, "groups": os.getgrouplist(account.pw_name, account.pw_gid)})
            with contextlib.suppress(ConnectionResetError):
                spawner.recv(1)
    except pam.PamError as error:
        other = (_NO_LOGON_SERVERS, f"PAM service openbits answered {error.code} ({error}); see the system's log")
        hresult, text = _REFUSALS.get(error.code, other)
        _answer(spawner, _refusal(hresult, f"cannot log on as {user!r}: {text}"))
    except KeyError:
        _answer(spawner, _refusal(_NO_LOGON_SERVERS, f"cannot log on as {user!r}: no uid found; try getent passwd"))


def _refusal(hresult: int, text: str) -> channel.Message:
    return {"ok": False, "hresult": hresult, "text": text}


def _answer(spawner: socket.socket, answer: channel.Message) -> None:
    with contextlib.suppress(channel.ChannelClosedError):  # nobody waits any more; end of file will tell the rest
        channel.send(spawner, answer)


if __name__ == "__main__":
    main()
