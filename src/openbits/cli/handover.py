"""A token from a process that already is the helper: the owner listens, `bits token open` connects and hands it over.

Each end knows the other by what the kernel says (SO_PEERCRED). The owner tells the helper where its service is, so
that both speak to the same one; the client library there judges it before it sends anything. A socket and not an
inherited descriptor, because sudo closes those and may replace the standard streams. It lies in a fresh folder that
everybody may enter, because the helper must.
"""

import contextlib
import os
import pwd
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from openbits.api.client import Client
from openbits.api.connection import peer_uid
from openbits.api.tokens import Token
from openbits.core import codes
from openbits.core.errors import BitsError

PLACE = "{}"
"""Stands for the address in a command that does not take it as its last words."""

ANSWER_SECONDS = 10.0
"""How long one end waits for the other once they are connected."""

_COMMAND = "bits token open"
_MAX_PATH_BYTES = 4096


class TooLateError(Exception):
    """Nobody handed over a token in time; the text says who waited for what."""


class _WrongOneError(Exception):
    """Somebody came who does not bring what is waited for."""


class Listener:
    """Waits for the token of one user."""

    def __init__(self, sock: socket.socket, path: str, helper: str) -> None:
        self._socket = sock
        self.address = f"{_name_of(os.geteuid())}:{path}"
        """What `bits token open --to` takes: who listens, and where."""
        self._helper = helper
        self._helper_uid = uid_of(helper)
        self._met = ""

    def run(self, command: Sequence[str], client: Client, seconds: float) -> Token:
        """The token that this command, which runs as the helper, hands over; waits until it has ended."""
        words = [word.replace(PLACE, self.address) for word in command]
        if words == list(command):
            words += ["--to", self.address]
        try:
            process = subprocess.Popen(words)
        except OSError as error:
            raise BitsError(codes.E_INVALIDARG, f"cannot run {words[0]}: {error.strerror}; give its path") from error
        try:
            token = self.wait(client, seconds, process, " ".join(command))
        except BaseException:
            with contextlib.suppress(PermissionError):  # sudo is root's; it ends with what it runs
                process.terminate()
            raise
        process.wait()
        return token

    def wait(
        self, client: Client, seconds: float, process: "subprocess.Popen[bytes] | None" = None, command: str = _COMMAND
    ) -> Token:
        """The token that somebody who runs as the helper hands over. Raises TooLateError, BitsError."""
        deadline = time.monotonic() + seconds
        ends = select.poll()
        ends.register(self._socket, select.POLLIN)
        ended = os.pidfd_open(process.pid) if process is not None else -1
        try:
            if process is not None:
                ends.register(ended, select.POLLIN)
            while (left := deadline - time.monotonic()) > 0:
                ready = {descriptor for descriptor, _ in ends.poll(left * 1000)}
                if self._socket.fileno() in ready and (token := self._accept(client)) is not None:
                    return token
                if ended in ready and process is not None:
                    text = f"{command!r} ended with status {process.wait()} and without a token{self._met}"
                    step = f"it must run {_COMMAND!r} as {self._helper}; where sudo does not find bits, give its path"
                    raise BitsError(codes.E_FAIL, f"{text}; {step}")
        finally:
            if ended >= 0:
                os.close(ended)
        raise TooLateError(
            f"no token of {self._helper} came within {seconds:g} s{self._met}; {_name_of(os.geteuid())} waited for"
            f" {command!r}, run as {self._helper}"
        )

    def _accept(self, client: Client) -> Token | None:
        """The token of who connects, if it is one of the helper; else what was wrong is kept for the end."""
        connection, _ = self._socket.accept()
        with connection:
            uid = peer_uid(connection)
            try:
                return self._take(connection, uid, client)
            except (_WrongOneError, BitsError, OSError) as error:
                self._met = f", but {_name_of(uid)} came: {error}"
                return None

    def _take(self, connection: socket.socket, uid: int, client: Client) -> Token:
        if uid != self._helper_uid:
            raise _WrongOneError(f"that is not {self._helper}")
        connection.settimeout(ANSWER_SECONDS)
        connection.send(os.fsencode(client.connection.path))
        token = Token.receive(connection)
        proved = client.token_info(token)["uid"]
        if proved != uid:
            token.close()
            raise _WrongOneError(f"that was a token of {_name_of(proved)}")
        return token


@contextlib.contextmanager
def listening(helper: str) -> Iterator[Listener]:
    """Listen for a token of the user `helper`, a name or a uid."""
    with (
        tempfile.TemporaryDirectory(prefix="bits-token-", dir="/tmp") as folder,  # the one folder all users can pass
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
    ):
        path = f"{folder}/socket"
        os.chmod(folder, 0o711)  # noqa: PTH101, S103  # pathlib costs start-up time; the helper must pass
        sock.bind(path)
        os.chmod(path, 0o666)  # noqa: PTH101, S103
        sock.listen()
        yield Listener(sock, path, helper)


def hand_over(address: str, *, may_be_root: bool) -> None:
    """Open a token of this process's own identity and give it to whoever listens at `address`, and say to whom."""
    if os.geteuid() == 0 and not may_be_root:
        raise BitsError(
            codes.E_ACCESSDENIED,
            "this would hand over a token of root; run it as the helper, as in `sudo -u helper bits token open`, or say"
            " --root if root is meant",
        )
    owner, _, path = address.rpartition(":")
    if not owner:
        raise BitsError(
            codes.E_INVALIDARG, f"{address!r} does not say who waits there; give the whole address, NAME:PATH"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(path)
            uid = peer_uid(sock)
            if uid != uid_of(owner):
                text = f"{_name_of(uid)} listens at {path}, and not {owner}; nothing was handed over"
                raise BitsError(codes.E_ACCESSDENIED, text)
            sock.settimeout(ANSWER_SECONDS)
            service = os.fsdecode(sock.recv(_MAX_PATH_BYTES))
            if not service:
                text = f"{_name_of(uid)} does not want a token of {_name_of(os.geteuid())}; see the other side"
                raise BitsError(codes.E_ACCESSDENIED, text)
            with Client(socket=service) as client, client.open_process_token() as token:
                token.send(sock)
        except OSError as error:
            text = (
                f"cannot hand a token to {address}: {error.strerror or error}; is `bits token set` still waiting there?"
            )
            raise BitsError(codes.E_INVALIDARG, text) from error
    print(f"bits: gave {_name_of(uid)} a token of {_name_of(os.geteuid())}", file=sys.stderr)


def uid_of(user: str) -> int:
    """The uid of an account, or of a number."""
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise BitsError(codes.E_INVALIDARG, f"there is no user {user!r}; see: getent passwd") from None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
