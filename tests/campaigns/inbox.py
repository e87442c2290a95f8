"""The upload server of a campaign: honest, slow where the name of a file says so; it knows how often it got what."""

import time
from collections.abc import Iterable

from tests.transfer.faultserver import Step
from tests.transfer.uploadserver import Answer, Exchange, UploadServer, honest

from openbits.core.packets import PacketType

SIZE = 1_200_000
"""A file: some fragments, which begin with 256 KiB."""

REPLY = b"thank you for the file, and for all the others\n" * 1000


class Inbox(UploadServer):
    """`/slow…` thinks for a while about each fragment."""

    def __init__(self) -> None:
        self.received: dict[str, set[str]] = {}
        """The sessions in which each file was received as a whole."""
        super().__init__()
        self.reply = REPLY
        self.tell(PacketType.FRAGMENT, _paced)

    def _append(self, exchange: Exchange) -> Answer:
        answer = super()._append(exchange)
        upload = self.sessions.get(exchange.packet.session_id)
        if upload is not None and upload.is_complete:
            self.received.setdefault(upload.path, set()).add(upload.session_id)
        return answer

    def forget_file(self, target: str) -> None:
        """Nobody asks for it any more."""
        self.files.pop(target, None)
        self.received.pop(target, None)


def _paced(exchange: Exchange) -> Iterable[Step]:
    if exchange.packet.path.startswith("/slow"):
        time.sleep(0.15)  # the pace of a slow line
    return honest(exchange)
