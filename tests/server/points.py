"""The failpoints of bits-server, and what must hold when it dies there; `test_kill` has it die at each.

Whatever the point, the client goes on and in the end the file is published once, whole, and the spool is empty.
"""

from collections.abc import Mapping

SERVER_POINTS: Mapping[str, str] = {
    "server.committing": "the records are those before the commit",
    "server.committed": "the records are those after the commit, which nobody was told",
    "server.written": "the file has more than the record says; that is cut",
    "server.data-written": "the file has more than the record says; that is cut",
    "server.row-written": "file and record agree, the client was not told",
    "server.syncing": "what was written counts",
    "server.synced": "what was written counts",
    "server.complete": "the final fragment, sent again, takes the upload on",
    "server.notified": "the application may be called once more",
    "server.answer-recorded": "the application is not called again",
    "server.publishing": "there is nothing at the destination",
    "server.linked": "the whole file is at the destination, and is found to be ours",
    "server.published": "the whole file is at the destination, and is found to be ours",
    "server.waiting-for-close": "the final Ack is replayed",
    "server.removed": "the session is there without files, Close and Cancel end it",
}
