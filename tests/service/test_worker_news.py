"""What a worker may say, and what becomes of one that says something else (docs/processes.md)."""

import asyncio
import math
from typing import Any

import pytest

from openbits import channel
from openbits.channel import Message
from openbits.service import channels, worker_news
from openbits.service.channels import AsyncChannel
from openbits.service.child import Key
from openbits.service.network_worker import Worker
from openbits.service.worker_news import MalformedNewsError

WAY: Message = {"headers": "HTTP/1.1 200 OK\r\n\r\n", "peer": "http://a:80", "remote_name": ""}
VERSION: Message = {"size_bytes": 2**63 - 1, "etag": '"a"', "last_modified": None, "media_type": "text/plain"}
CONNECTED: Message = {**VERSION, "offset": 0, "note": "", **WAY}
DONE: Message = {"event": "transferred", "size_bytes": 0, "modified_at": None}
FAILED: Message = {
    "event": "failed",
    "hresult": 0x80190194,
    "context": "remote_file",
    "detail": "a: not found",
    "retry_after_seconds": 1.5,
    "is_transient": False,
    "is_fatal": True,
    "durable_bytes": 7,
    **WAY,
}
EXPLAINED: Message = {
    "event": "explained",
    "choice": ["a:80", None],
    "why": "the proxy list",
    "notes": [],
    "asked": "a:80",
    "answer": "HTTP/1.1 407 No",
    "schemes": ["basic"],
    "problem": None,
}
SESSION: Message = {
    "session_id": "{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}",
    "host": "node3.example.net:8080",
    "fallback_seconds": 4_294_967_294,
    "host_failed_at": 1.5e9,
    "is_received": True,
    "reply_url": "https://node3.example.net/r",
}
ACKNOWLEDGED: Message = {
    "event": "acknowledged",
    "session": SESSION,
    "acknowledged_bytes": 2**63 - 1,
    "note": "",
    "headers": "HTTP/1.1 200 OK\r\n\r\n",
    "peer": "http://a:80",
}
RIGHT: list[Message] = [
    ACKNOWLEDGED,
    {**ACKNOWLEDGED, "session": None},
    {**ACKNOWLEDGED, "session": {**SESSION, "host": "", "fallback_seconds": None, "host_failed_at": None}},
    {"event": "phase", "text": "receiving"},
    {"event": "certificate", "number": 1, "server": "a:443", "certificate": "AAAA", "chain": ["AAAA", "AAA="]},
    {"event": "connected", **CONNECTED},
    {"event": "connected", **CONNECTED, "size_bytes": None, "more": "is ignored"},
    {"event": "progressed", "transferred_bytes": 5, "durable_bytes": 0},
    {"event": "filled", "ranges": [[0, 1], [5, 2**63 - 6]], "transferred_bytes": 6},
    {"event": "restarted", "reason": "it changed", "hresult": 0x80200020},
    DONE,
    {**DONE, "modified_at": -1.5, "connected": CONNECTED},
    FAILED,
    {**FAILED, "retry_after_seconds": None},
    EXPLAINED,
    {**EXPLAINED, "asked": None, "problem": {"hresult": 0x80072EE7, "text": "no such name"}},
]
WRONG: list[Message] = [
    {**ACKNOWLEDGED, "session": "{5C0E9F1A}"},
    {**ACKNOWLEDGED, "session": {}},
    {**ACKNOWLEDGED, "acknowledged_bytes": None},
    {**ACKNOWLEDGED, "acknowledged_bytes": 2**63},
    {**ACKNOWLEDGED, "session": {**SESSION, "session_id": ""}},
    {**ACKNOWLEDGED, "session": {**SESSION, "session_id": "x" * 101}},
    {**ACKNOWLEDGED, "session": {**SESSION, "session_id": "a b"}},
    {**ACKNOWLEDGED, "session": {**SESSION, "host": "bob@host"}},
    {**ACKNOWLEDGED, "session": {**SESSION, "host": None}},
    {**ACKNOWLEDGED, "session": {**SESSION, "fallback_seconds": -1}},
    {**ACKNOWLEDGED, "session": {**SESSION, "host_failed_at": math.nan}},
    {**ACKNOWLEDGED, "session": {**SESSION, "is_received": 1}},
    {**ACKNOWLEDGED, "session": {**SESSION, "reply_url": None}},
    {key: value for key, value in ACKNOWLEDGED.items() if key != "session"},
    {},
    {"event": ["phase"], "text": "x"},
    {"event": "ended"},
    {"event": "phase"},
    {"event": "phase", "text": None},
    {"event": "phase", "text": "x", "transfer": 5},
    {"event": "certificate", "number": 1, "server": "a:443", "certificate": "", "chain": []},
    {"event": "certificate", "number": 1, "server": "a:443", "certificate": "AAAA", "chain": ["A"]},
    {"event": "certificate", "number": 1, "server": "a:443", "certificate": 5, "chain": []},
    {"event": "connected", **CONNECTED, "size_bytes": True},
    {"event": "connected", **CONNECTED, "size_bytes": 2**63},
    {"event": "connected", **CONNECTED, "offset": -1},
    {"event": "connected", **CONNECTED, "etag": ["a"]},
    {"event": "connected", **CONNECTED, "peer": None},
    {"event": "progressed", "transferred_bytes": 5.0, "durable_bytes": 0},
    {"event": "filled", "ranges": [[0, 1, 2]], "transferred_bytes": 6},
    {"event": "filled", "ranges": [[0, None]], "transferred_bytes": 6},
    {"event": "filled", "ranges": [[1, 2**63 - 1]], "transferred_bytes": 6},
    {"event": "filled", "ranges": {"0": 1}, "transferred_bytes": 6},
    {"event": "restarted", "reason": "it changed", "hresult": 2**32},
    {**DONE, "modified_at": math.inf},
    {**DONE, "connected": {**CONNECTED, "note": 5}},
    {**DONE, "connected": [CONNECTED]},
    {**FAILED, "context": "_missing_"},
    {**FAILED, "retry_after_seconds": math.nan},
    {**EXPLAINED, "choice": [5]},
    {**EXPLAINED, "problem": {"hresult": "x", "text": ""}},
    {**EXPLAINED, "problem": "no"},
]


@pytest.mark.parametrize("message", RIGHT, ids=lambda message: str(message["event"]))
def test_what_the_contract_has_is_heard(message: Message) -> None:
    worker_news.check({"transfer": "job:1:0", **message})


@pytest.mark.parametrize("message", WRONG, ids=range(len(WRONG)))
def test_what_it_does_not_have_is_not(message: Message) -> None:
    with pytest.raises(MalformedNewsError):
        worker_news.check({"transfer": "job:1:0", **message})


def test_a_worker_that_breaks_it_is_ended_and_each_of_its_transfers_hears_so() -> None:
    async def story() -> list[Any]:
        ours, theirs = channel.pair()
        heard: list[Any] = []
        with theirs:
            worker = Worker(Key("worker", 4, None), ours, lambda _: None)
            channel.send(theirs, {"hello": True, "pid": 1})
            await worker.ready()
            for key in ("job:1:0", "job:1:1"):
                worker.transfer(key, {}, [], lambda news, key=key: heard.append((key, news)))  # type: ignore[misc]
            channel.send(theirs, {"transfer": "job:1:0", "event": "progressed", "durable_bytes": 2**70})
            channel.send(theirs, {"transfer": "job:1:1", **DONE})
            await worker.ended
        return heard

    assert asyncio.run(story()) == [("job:1:0", None), ("job:1:1", None)]


def test_a_peer_that_never_stops_writing_does_not_keep_others_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """It writes the next message as soon as one is taken."""

    async def story() -> int:
        ours, theirs = channel.pair()
        taken: list[Message] = []

        def take(message: Message, _: list[int]) -> None:
            taken.append(message)
            assert len(taken) < 100 * channels.MESSAGES_AT_ONCE, "nobody else had a turn"
            channel.send(theirs, {})

        with theirs:
            listening = AsyncChannel(ours, take, lambda: None)
            channel.send(theirs, {})
            for _ in range(10):
                await asyncio.sleep(0)
            listening.close()
        return len(taken)

    assert asyncio.run(story()) > channels.MESSAGES_AT_ONCE
    assert not caplog.records
