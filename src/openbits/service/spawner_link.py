"""The manager's end of the channel to the spawner (docs/processes.md): requests, answers, connections, tokens.

The manager believes the spawner about identities; the spawner believes the manager about nothing.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from openbits import channel
from openbits.channel import Message
from openbits.core import codes
from openbits.core.enums import Level
from openbits.core.errors import BitsError
from openbits.core.model import Directory, Identity
from openbits.core.sessions import Session
from openbits.identity.registry import SO_COOKIE
from openbits.service.channels import AsyncChannel

log = logging.getLogger("openbits.manager")

LIST_BYTES = channel.MESSAGE_BYTES // 2
"""A list in a message is cut into parts about so long; its longest item, a path of 4096 bytes, has 24 KiB as JSON."""

SHOWN_NAME_CHARACTERS = 256

_UNPROVED = (codes.ERROR_LOGON_FAILURE, "the user name or the password is wrong, or the password is locked")
PAM_RESULTS: dict[int | None, tuple[int, str]] = {
    6: (codes.ERROR_LOGON_TYPE_NOT_GRANTED, "PAM service openbits does not allow it here and now"),  # PERM_DENIED
    7: _UNPROVED,  # AUTH_ERR
    8: _UNPROVED,  # CRED_INSUFFICIENT
    9: _UNPROVED,  # AUTHINFO_UNAVAIL
    10: _UNPROVED,  # USER_UNKNOWN, with the words of a wrong password: names cannot be tried out
    11: (codes.ERROR_ACCOUNT_LOCKED_OUT, "the account is locked after too many failures"),  # MAXTRIES
    12: (codes.ERROR_PASSWORD_MUST_CHANGE, "the password must be changed first"),  # NEW_AUTHTOK_REQD
    13: (codes.ERROR_ACCOUNT_EXPIRED, "the account has expired"),  # ACCT_EXPIRED
    29: (codes.E_INVALIDARG, ""),  # BAD_ITEM: the helper says which
}
"""PAM result → HRESULT, and words if those of PAM or the helper are not good enough (identity.md §9)."""

Cookie = str


class RefusedError(Exception):
    """The spawner refused a request; `reason` is its word for why (docs/processes.md), `pam` a result of PAM."""

    def __init__(self, reason: str, text: str, hresult: int = codes.E_ACCESSDENIED, pam: int | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.hresult = hresult
        self.pam = pam


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the spawner knows of a connection or token."""

    cookie: Cookie
    identity: Identity
    level: Level = Level.IMPERSONATE
    is_foreign_userns: bool = False
    session: Session | None = None
    """Of a token: the session it ends with."""


@dataclass(slots=True, eq=False)
class Held:
    """A descriptor of a token, and how many use it: thousands of handles and jobs under one token need one."""

    descriptor: int
    uses: int = 0


@dataclass(slots=True, eq=False)
class Token:
    """One use of a token that somebody presented, or of a new one; the descriptor is closed with the last use."""

    record: Record
    held: Held
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.held.uses += 1

    def close(self) -> None:
        """Use it no more; the token itself ends with the last descriptor that anybody has of it."""
        if self.is_closed:
            return
        self.is_closed = True
        self.held.uses -= 1
        if self.held.uses == 0:
            os.close(self.held.descriptor)

    def duplicate(self) -> "Token":
        """A second use, closed by itself."""
        return Token(self.record, self.held)


class SpawnerLink:
    """Requests to the spawner and the tables of what it told."""

    def __init__(
        self,
        sock: socket.socket,
        on_connection: Callable[[Record, socket.socket, int | None], None],
        on_disconnected: Callable[[Cookie], None],
        on_token_ended: Callable[[Cookie], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._on_connection = on_connection
        self._on_disconnected = on_disconnected
        self._on_token_ended = on_token_ended
        self._waiting: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._next_id = 1
        self._tokens: dict[Cookie, Record] = {}
        self._held: dict[Cookie, Held] = {}
        """Of live tokens that were presented; one that nobody uses any more is closed."""
        self._on_closed = on_closed
        self._channel = AsyncChannel(sock, self._received, self._closed)

    # -- requests -------------------------------------------------------------------------------------------------

    async def start(self, program: str, uid: int, by: Cookie | None, **what: str) -> socket.socket:
        """Start a child under `uid`; the answer is its control channel. Raises RefusedError.

        A notify runner is started for the `command` that `allow_command` recorded, and nobody need vouch for it.
        """
        _, descriptors = await self._request({"op": "start", "program": program, "uid": uid, "by": by, **what})
        return _one_socket(descriptors)

    async def open_token(self, by: Cookie, level: Level) -> Token:
        """A token of the identity behind a connection or token (OpenProcessToken)."""
        return self._token(*await self._request({"op": "token", "by": by, "level": int(level)}))

    async def logon(self, by: Cookie, level: Level, user: str, password: str | None) -> Token:
        """LogonUser: the secret goes to the logon helper on a channel of its own, past the spawner."""
        try:
            secret = channel.encode({"user": user, "password": password})
        except ValueError:
            text = cannot_log_on(user, "user name and password are longer than any; give those of an account")
            raise RefusedError("broken", text, codes.E_INVALIDARG) from None
        near, far = channel.pair()
        try:
            channel.send_encoded(near, secret)
            answer = await self._request({"op": "logon", "by": by, "level": int(level)}, [os.dup(far.fileno())])
        except RefusedError as refused:
            raise logon_refusal(user, refused) from None
        finally:
            near.close()
            far.close()
        return self._token(*answer)

    async def admit(
        self, uid: int, by: Cookie, directories: Sequence[Directory], read_only: Sequence[Directory] = ()
    ) -> None:
        """Record that jobs of `uid` may go on without a connection, in these directories. Raises RefusedError."""
        made = [{"path": d.path, "dev": d.dev, "ino": d.ino} for d in directories]
        read = [{"path": d.path, "dev": d.dev, "ino": d.ino, "is_read_only": True} for d in read_only]
        for part in _parts(made + read):
            try:
                await self._request({"op": "admit", "uid": uid, "by": by, "directories": part})
            except RefusedError as error:
                text = f"cannot record in the state directory of the service that uid {uid} has jobs: {error}"
                raise RefusedError(error.reason, text, error.hresult) from None

    async def dismiss(self, uid: int) -> None:
        """The last job of `uid` has ended."""
        await self._request({"op": "dismiss", "uid": uid})

    async def allow_command(self, uid: int, name: str, by: Cookie) -> None:
        """Record that this command (`commandline.name`) may be run as `uid`, whom `by` proves. Raises RefusedError."""
        await self._request({"op": "allow-command", "uid": uid, "command": name, "by": by})

    async def forget_command(self, uid: int, name: str) -> None:
        """It may not any more."""
        await self._request({"op": "forget-command", "uid": uid, "command": name})

    async def commands(self, after: str) -> list[str]:
        """Some recorded commands as `<uid>.<name>`: in order, the first ones behind `after`."""
        answer, _ = await self._request({"op": "commands", "after": after})
        return list(answer["names"])

    def describe(self, token: Token, identity: Identity, session: Session | None) -> None:
        """Remember of a new token what the spawner does not know: the account name and the session it ends with."""
        token.record = replace(token.record, identity=identity, session=session)
        if self.is_live(token):
            self._tokens[token.record.cookie] = token.record

    def is_live(self, token: Token) -> bool:
        """False when the token has ended."""
        return token.record.cookie in self._tokens

    def tokens_of(self, session: Session) -> list[Cookie]:
        """The live tokens that end with a session."""
        return [record.cookie for record in self._tokens.values() if record.session == session]

    def end_token(self, cookie: Cookie) -> None:
        """Make a token end for everybody; `token-ended` follows, and nobody can present it from now on."""
        self._forget(cookie)
        self._channel.send({"op": "end-token", "id": 0, "cookie": cookie})

    def ready(self) -> None:
        """The queue is loaded: clients may come."""
        self._channel.send({"op": "ready", "id": 0})

    def failed(self, text: str) -> None:
        """The end, because nothing can be stored: the spawner waits before it starts the next manager."""
        self._channel.send({"op": "failed", "id": 0, "text": text})

    def finish(self) -> None:
        """Nothing left to do: a user's own service may end."""
        self._channel.send({"op": "finish", "id": 0})

    def recognise(self, descriptor: int) -> Token:
        """The token behind a descriptor a client presented (which then belongs to the token).

        Raises BitsError E_HANDLE for anything that is not a live token of this service (identity.md §8, T-4).
        """
        try:
            cookie = _cookie(descriptor)
            record = self._tokens[cookie]
        except (OSError, KeyError):
            os.close(descriptor)
            raise BitsError(
                codes.E_HANDLE,
                "the descriptor is not a token of this service, or it has ended, as tokens do with the session they "
                "were made in; get one with LogonUser or OpenProcessToken",
            ) from None
        held = self._held.get(cookie)
        if held is not None and held.uses > 0:
            os.close(descriptor)
        else:
            held = self._held[cookie] = Held(descriptor)
        return Token(record, held)

    # -- messages -------------------------------------------------------------------------------------------------

    async def _request(self, message: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._channel.send({**message, "id": number}, descriptors)
        if self._channel.is_closed:
            raise _spawner_gone()
        answer, received = await answer_of(future)
        if not answer["ok"]:
            channel.close_all(received)
            text, hresult = str(answer.get("text", "")), _code_of_refusal(answer)
            raise RefusedError(str(answer["refused"]), text, hresult, answer.get("pam"))
        return answer, received

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "reply" in message:
            future = self._waiting.pop(message["reply"], None)
            if future is None or future.done():
                channel.close_all(descriptors)
            else:
                future.set_result((message, descriptors))
        elif message["event"] == "connected":
            record = _record(message["cookie"], message["record"])
            connection, *process = descriptors
            self._on_connection(record, socket.socket(fileno=connection), process[0] if process else None)
        elif message["event"] == "disconnected":
            self._on_disconnected(message["cookie"])
        elif message["event"] == "token-ended":
            self._forget(message["cookie"])
            self._on_token_ended(message["cookie"])
        else:
            log.error("spawner_message_unknown event=%s", message["event"])
            channel.close_all(descriptors)
            self._channel.close()

    def _token(self, answer: Message, descriptors: list[int]) -> Token:
        record = _record(answer["cookie"], answer["record"])
        self._tokens[record.cookie] = record
        (descriptor,) = descriptors
        return Token(record, Held(descriptor))

    def _forget(self, cookie: Cookie) -> None:
        """The token has ended; who still uses it keeps its descriptor."""
        self._tokens.pop(cookie, None)
        self._held.pop(cookie, None)

    def _closed(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_spawner_gone())
                future.exception()  # who waits may not run any more
        self._waiting.clear()
        self._on_closed()


async def answer_of(future: "asyncio.Future[tuple[Message, list[int]]]") -> tuple[Message, list[int]]:
    """Wait for an answer with descriptors; one that comes in the moment in which the waiter gives up is closed."""
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            channel.close_all(future.result()[1])
        raise


def _parts(items: list[Message]) -> Iterator[list[Message]]:
    """The list in parts that fit into a message; an empty list is one part."""
    part: list[Message] = []
    size_bytes = 0
    for item in items:
        length = len(channel.encode(item))
        if part and size_bytes + length > LIST_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(item)
        size_bytes += length
    yield part


def logon_refusal(user: str, refused: RefusedError) -> RefusedError:
    """What a PAM result means to who tried to log on as `user` (identity.md §9)."""
    if refused.reason != "logon-failed":
        return refused
    text = str(refused) if refused.pam is None else f"PAM service openbits answered {refused.pam} ({refused})"
    hresult, text = PAM_RESULTS.get(refused.pam, (codes.ERROR_NO_LOGON_SERVERS, text))
    return RefusedError(refused.reason, cannot_log_on(user, text or str(refused)), hresult, refused.pam)


def cannot_log_on(user: str, why: str) -> str:
    """The refusal of a logon in words."""
    return f"cannot log on as {user[:SHOWN_NAME_CHARACTERS]!r}: {why}"


def _spawner_gone() -> RefusedError:
    text = "the service is ending or beginning anew; jobs are kept, connect again"
    return RefusedError("broken", text, codes.RPC_S_SERVER_UNAVAILABLE)


def _code_of_refusal(answer: Message) -> int:
    """What the kernel said to the spawner, or that it is not allowed."""
    if answer["refused"] == "level-too-low":
        return codes.CO_E_FAILEDTOIMPERSONATE
    return codes.from_errno(int(answer["errno"])) if answer.get("errno") else codes.E_ACCESSDENIED


def _record(cookie: Cookie, record: Message) -> Record:
    return Record(
        cookie=cookie,
        identity=Identity(
            uid=record["uid"],
            gid=record["gid"],
            groups=tuple(record["groups"]),
            name=record.get("name") or "",
        ),
        level=Level(record.get("level", Level.IMPERSONATE)),
        is_foreign_userns=bool(record.get("is_foreign_userns", False)),
    )


def _one_socket(descriptors: list[int]) -> socket.socket:
    (descriptor,) = descriptors
    return socket.socket(fileno=descriptor)


def _cookie(descriptor: int) -> Cookie:
    presented = socket.socket(fileno=descriptor)
    try:
        return str(struct.unpack("=Q", presented.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])
    finally:
        presented.detach()
