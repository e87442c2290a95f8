"""The body of a fragment, read from ASGI; the first read makes the server ask the client for it (H8)."""

from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Body:
    """See `receiving.Body`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._passed: Callable[[int], Awaitable[None]] | None = None
        self._is_over = False
        self.received_bytes = 0

    def pass_through(self, passed: Callable[[int], Awaitable[None]]) -> None:
        """Tell `passed` what came, which returns when more may come (max_bandwidth)."""
        self._passed = passed

    async def read(self) -> bytes:
        """Some more bytes; none at the end. Raises ConnectionResetError: the client is gone."""
        while not self._is_over:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            self._is_over = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                self.received_bytes += len(piece)
                if self._passed is not None:
                    await self._passed(len(piece))
                return piece
        return b""
