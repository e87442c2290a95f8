"""The manager's end of a network worker (docs/processes.md, "Manager ↔ network worker")."""

import asyncio
import logging
import socket
from collections.abc import Callable

from openbits import channel
from openbits.channel import Message
from openbits.service import worker_news
from openbits.service.child import Child, ChildLostError, Key
from openbits.service.worker_news import MalformedNewsError

log = logging.getLogger("openbits.manager")

NewsHandler = Callable[[Message | None], None]
"""Takes the events of one transfer; None means that the worker is gone."""


class Worker(Child):
    """A network worker: many transfers at once, told apart by their key."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[[Child], None]) -> None:
        super().__init__(key, sock, on_end)
        self._transfers: dict[str, NewsHandler] = {}

    @property
    def is_busy(self) -> bool:
        """A transfer is under way."""
        return bool(self._transfers)

    def configure(self, message: Message, descriptors: list[int]) -> None:
        """The first message: limits and the trusted certificates."""
        self._channel.send(message, descriptors)

    def transfer(self, transfer_key: str, message: Message, descriptors: list[int], on_news: NewsHandler) -> None:
        """Begin a transfer; the descriptors belong to the worker from now on. Raises ChildLostError."""
        if self.is_ended:
            channel.close_all(descriptors)
            raise self._lost_error()
        self._transfers[transfer_key] = on_news
        self.settle()
        self._channel.send({"op": "transfer", "transfer": transfer_key, **message}, descriptors)

    async def explain(self, key: str, url: str, proxy: Message) -> Message:
        """What these proxy settings mean for a URL, and what the proxy says; `key` is new. Raises ChildLostError."""
        if self.is_ended:
            raise self._lost_error()
        told: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._transfers[key] = lambda message: None if told.done() else told.set_result(message)
        self.settle()
        self._channel.send({"op": "explain", "transfer": key, "url": url, "proxy": proxy})
        answer = await told
        if answer is None:
            raise self._lost_error()
        return answer

    def _lost_error(self) -> ChildLostError:
        return ChildLostError(f"network worker of uid {self.key.uid} ended")

    def reposition(self, transfer_key: str, memory: int) -> None:
        """Have what is named in this memory file fetched first; it belongs to the worker from now on."""
        if transfer_key in self._transfers and not self.is_ended:
            self._channel.send({"op": "reposition", "transfer": transfer_key}, [memory])
        else:
            channel.close_all([memory])

    def cancel(self, transfer_key: str) -> None:
        """Stop a transfer and hear no more of it."""
        if self._transfers.pop(transfer_key, None) is not None:
            self._channel.send({"op": "cancel", "transfer": transfer_key})
            self.settle()

    def kept(self, transfer_key: str) -> None:
        """The session that an upload has told last is in the store."""
        if transfer_key in self._transfers and not self.is_ended:
            self._channel.send({"op": "kept", "transfer": transfer_key})

    def decide(self, transfer_key: str, number: int, hresult: int) -> None:
        """What the certificate callback said to a question of a transfer."""
        if transfer_key in self._transfers:
            answer = {"number": number, "hresult": hresult}
            self._channel.send({"op": "certificate-verdict", "transfer": transfer_key, **answer})

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """News of a transfer; late news of a cancelled one is dropped, and who breaks the contract is ended."""
        channel.close_all(descriptors)
        try:
            worker_news.check(message)
        except MalformedNewsError as error:
            log.warning("worker_malformed uid=%d pid=%d why=%s", self.key.uid, self.pid, error)
            self.end()
            return
        on_news = self._transfers.get(message["transfer"])
        if on_news is None:
            return
        if message["event"] in {"transferred", "restarted", "failed", "explained"}:
            del self._transfers[message["transfer"]]
            self.settle()
        on_news(message)

    def lost(self) -> None:
        """Every transfer ends."""
        transfers, self._transfers = self._transfers, {}
        for on_news in transfers.values():
            on_news(None)
