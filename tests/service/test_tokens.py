"""A token is bound to a session that may end at any moment, also while the token is being made (identity.md I-11)."""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from openbits import channel
from openbits.core import codes
from openbits.core.enums import Integrity
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.core.sessions import Picture, Session
from openbits.identity.registry import SO_COOKIE
from openbits.service import config, tokens
from openbits.service.children import Children
from openbits.service.connections import Call, Caller
from openbits.service.engine import Engine
from openbits.service.sessions import Sessions
from openbits.service.spawner_link import Held, Record, SpawnerLink, Token
from openbits.service.tokens import Tokens

HERS = Session(session_id="3", uid=1000, user_name="alice", began_at=1)
NAMELESS = Identity(uid=1000, gid=1000)


class Bench:
    """The spawner's answer has come: a token made from another one, which belongs to a session."""

    def __init__(self) -> None:
        control, self.far = channel.pair()
        nothing = lambda *_: None  # noqa: E731  # a value
        self.link = SpawnerLink(control, nothing, nothing, nothing, lambda: None)
        self.sessions = Sessions(config.Sessions(), zygote_pid=1, connected=set, owners=list, on_change=lambda _: None)
        self.tokens = Tokens(self.link, cast("Engine", None), cast("Children", None), self.sessions)
        self.sessions._take_over(Picture(sessions=frozenset({HERS})))
        self.presented, self.made = (self._token(cookie) for cookie in ("1", "2"))
        self.link.describe(self.presented, NAMELESS, HERS)

    def _token(self, cookie: str) -> Token:
        record = Record(cookie=cookie, identity=NAMELESS)
        self.link._tokens[cookie] = record
        return Token(record, Held(os.open("/dev/null", os.O_RDONLY)))

    async def bind(self) -> Token:
        peer = Record(cookie="0", identity=NAMELESS)
        return await self.tokens.bind(self.made, Call(Caller(peer), self.presented))

    def close(self) -> None:
        for token in (self.presented, self.made):
            token.close()
        self.link._channel.close()
        self.far.close()


def test_a_token_of_a_token_has_its_session_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        bench = Bench()
        bound = await bench.bind()
        assert (bound.record.session, bound.record.identity.name) == (HERS, "alice")
        assert set(bench.link.tokens_of(HERS)) == {"1", "2"}
        bench.close()

    async def named(identity: Identity) -> Identity:
        return Identity(uid=identity.uid, gid=identity.gid, name="alice")

    monkeypatch.setattr(tokens, "named", named)
    asyncio.run(story())


def test_a_session_that_ends_while_the_name_is_looked_up_takes_the_new_token_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        bench = Bench()

        async def named(identity: Identity) -> Identity:
            bench.sessions._take(Picture())
            return identity

        monkeypatch.setattr(tokens, "named", named)
        with pytest.raises(BitsError, match=r"session 3 of alice \(uid 1000\) has ended") as refused:
            await bench.bind()
        assert refused.value.hresult == codes.E_HANDLE
        assert (bench.made.is_closed, bench.made.held.uses) == (True, 0), "nobody holds it any more"
        bench.close()

    asyncio.run(story())


def test_a_token_that_ended_while_the_name_was_looked_up_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        bench = Bench()

        async def named(identity: Identity) -> Identity:
            bench.link.end_token("2")
            return identity

        monkeypatch.setattr(tokens, "named", named)
        with pytest.raises(BitsError, match="the logon of uid 1000 has ended"):
            await bench.bind()
        bench.close()

    asyncio.run(story())


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def live(bench: Bench) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A token that the spawner has told of: its end of the pair, and the client's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        cookie = str(struct.unpack("=Q", theirs.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])
        bench.link._tokens[cookie] = Record(cookie=cookie, identity=NAMELESS)
        yield ours, theirs


def test_all_who_use_a_token_share_one_descriptor_that_goes_with_the_last() -> None:
    """Handles and jobs under one token may be many, descriptors of the manager may not."""

    async def story() -> None:
        bench = Bench()
        with live(bench) as (ours, theirs):
            before = open_descriptors()
            presented = [bench.link.recognise(os.dup(theirs.fileno())) for _ in range(100)]
            uses = [*presented, *(token.duplicate() for token in presented)]
            assert open_descriptors() == before + 1
            theirs.close()
            for token in uses[:-1]:
                token.close()
                token.close()  # is nobody else's
            assert not select.select([ours], [], [], 0)[0], "one of them still uses it"
            uses[-1].close()
            assert ours.recv(1) == b"", "it has ended"
        bench.close()

    asyncio.run(story())


def test_a_token_that_nobody_used_for_a_while_is_recognised_again() -> None:
    async def story() -> None:
        bench = Bench()
        with live(bench) as (_, theirs):
            for _ in range(2):
                token = bench.link.recognise(os.dup(theirs.fileno()))
                assert os.fstat(token.held.descriptor).st_ino == os.fstat(theirs.fileno()).st_ino
                token.close()
        bench.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("uid", "session", "level"),
    [
        (1000, HERS, Integrity.MEDIUM),
        (1000, None, Integrity.MEDIUM),
        (0, HERS, Integrity.HIGH),
        (0, None, Integrity.SYSTEM),
    ],
)
def test_the_superuser_in_a_session_is_elevated_and_without_one_the_system(
    uid: int, session: Session | None, level: Integrity
) -> None:
    """identity.md §8: 0x2000, 0x3000, 0x4000."""

    async def story() -> None:
        bench = Bench()
        identity = Identity(uid=uid, gid=uid)
        bench.link.describe(bench.presented, identity, session)
        found = await bench.tokens.integrity_of(Call(Caller(Record(cookie="0", identity=identity)), bench.presented))
        assert (found, found.is_elevated) == (level, uid == 0)
        bench.close()

    asyncio.run(story())


def test_a_session_that_cannot_be_told_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without logind: a job is not refused for that."""

    async def story() -> None:
        bench = Bench()

        async def session_of(_: object) -> Session:
            raise BitsError(codes.RPC_S_SERVER_UNAVAILABLE)

        monkeypatch.setattr(bench.sessions, "session_of", session_of)
        root = Caller(Record(cookie="0", identity=Identity(uid=0, gid=0)))
        assert await bench.tokens.integrity_of(Call(root, None)) is Integrity.SYSTEM
        bench.close()

    asyncio.run(story())
