"""The failpoints of the service: which program passes each, what makes it do so, and what must hold when it dies there.

`test_points` holds the table against the sources and against a tour of the running service.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Point(NamedTuple):
    """One failpoint: its program, the act of the workload that passes it for sure, the promise that is tried there."""

    program: str
    act: str
    holds: str


UNSEEN = "nobody was told anything: as if it had not begun"
KEPT = "it is in the store: the next start carries it out"
AGAIN = "the request is made again by the manager, or fails as a transient error"

POINTS: Mapping[str, Point] = {
    # spawner and zygote: the end of the generation; the store alone tells what to do
    "spawner.accepted": Point("spawner", "new", UNSEEN),
    "spawner.child-ordered": Point("spawner", "new", AGAIN),
    "spawner.token-made": Point("spawner", "help", "no token outlives the service; the job says BG_E_TOKEN_REQUIRED"),
    "admitted.synced": Point("spawner", "new", "the entry is the old one, whole"),
    "admitted.renamed": Point("spawner", "new", "the entry is the old or the new one, whole"),
    "admitted.written": Point("spawner", "new", "an owner who is admitted and has no job is dismissed with the next"),
    "command.allowed": Point("spawner", "tell", "a command that no job has is forgotten by the next start"),
    "admitted.erased": Point("spawner", "leave", "an owner without a job is not admitted"),
    "zygote.ordered": Point("zygote", "new", AGAIN),
    "zygote.forked": Point("zygote", "new", "the child ends with its parent"),
    "child.forked": Point("child", "new", AGAIN),
    "child.dropped": Point("child", "new", AGAIN),
    "child.greeted": Point("child", "new", AGAIN),
    # manager: start, connections, requests
    "start.store-read": Point("manager", "die", "loading changes nothing"),
    "start.queue-loaded": Point("manager", "die", "the steps of a start may be taken again"),
    "connection.handed-over": Point("manager", "new", UNSEEN),
    "create.admitted": Point("manager", "new", "the job is absent"),
    "add.resolved": Point("manager", "new", "none of the files is added"),
    "add.admitted": Point("manager", "new", "none of the files is added"),
    "token.held": Point("manager", "help", "the job has its old identities"),
    "token.set": Point("manager", "help", "the job has its old or its new flags, and no token"),
    "token.committed": Point("manager", "help", "flags persisted, token gone"),
    "child.ready": Point("manager", "new", AGAIN),
    "child.retired": Point("manager", "new", "the next broker knows all directories"),
    # manager: one step
    "step.taken": Point("manager", "new", UNSEEN),
    "step.committed": Point("manager", "new", KEPT),
    "step.told": Point("manager", "new", KEPT),
    "step.effect-begun": Point("manager", "new", "effects may be begun again"),
    # manager, the thread of the store
    "store.batch-taken": Point("manager", "new", UNSEEN),
    "store.begun": Point("manager", "new", "the whole batch is absent"),
    "store.job-saved": Point("manager", "new", "the whole batch is absent"),
    "store.committing": Point("manager", "new", "the whole batch is absent"),
    "store.committed": Point("manager", "new", "the whole batch is there"),
    "store.submission-answered": Point("manager", "new", KEPT),
    # manager: an attempt
    "transfer.name-committed": Point("manager", "new", "no file, and a row that says so"),
    "transfer.file-created": Point("manager", "new", "an empty file that the row names; it is removed"),
    "transfer.file-confirmed": Point("manager", "new", "file and row agree"),
    "transfer.placed": Point("manager", "straight", "an empty file has the final name; a new one takes its place"),
    "transfer.reopened": Point("manager", "pause", "nothing was changed"),
    "transfer.old-removed": Point("manager", "swap", "the row names a file that is gone: that is no error"),
    "copy.filled": Point("manager", "turn", "the copy is a leftover, and the old file still the job's"),
    "copy.adopted": Point("manager", "turn", "the copy is the job's, and the old file a leftover"),
    "transfer.ordered": Point("manager", "new", "bytes beyond the checkpoint are fetched again"),
    "transfer.progress-heard": Point("manager", "new", "bytes beyond the checkpoint are fetched again"),
    "transfer.part-heard": Point("manager", "seek", "parts that the row does not count are fetched again"),
    "transfer.restart-heard": Point("manager", "change", "the bytes are those of the version that the row names"),
    "transfer.end-heard": Point("manager", "new", "the file is moved again from its checkpoint"),
    "upload.acknowledged-heard": Point("manager", "send", "the server says how much it has, under the same session"),
    "upload.received": Point("manager", "send", "the row says so: nothing is sent again, the session is closed"),
    "reply.whole": Point("manager", "ask", "the row says so: the reply is not asked for again"),
    # manager: publishing, removing, answering, notices
    "complete.renamed": Point("manager", "finish", "the row lags behind the name: publishing finds its own file"),
    "complete.row-written": Point("manager", "finish", "the other files are published by the next start"),
    "complete.all-renamed": Point("manager", "finish", "the next start ends the job"),
    "complete.ended": Point("manager", "finish", "the job is ACKNOWLEDGED, the caller was not told"),
    "remove.unlinked": Point("manager", "cancel", "the tombstone is swept; a missing name is success"),
    "remove.row-written": Point("manager", "cancel", "the job is gone, the caller was not told"),
    "abandoned.told": Point("manager", "forsake", "the server of the upload is told again, and knows nothing of it"),
    "close.answering": Point("manager", "cancel", "the job is over, the caller was not told"),
    "notice.due": Point("manager", "finish", "the notice is delivered to the next subscriber"),
    "notice.queued": Point("manager", "finish", "the notice is delivered again"),
    "notice.acknowledged": Point("manager", "finish", "the notice is delivered again"),
    "notice.delivered": Point("manager", "finish", "the notice may be delivered no more"),
    "command.recorded": Point("manager", "tell", "a command that no job has is forgotten by the next start"),
    "command.started": Point("manager", "tell", "the program ends with the service, and is run again"),
    # broker
    "broker.asked": Point("broker", "new", AGAIN),
    "broker.done": Point("broker", "new", "what was done is found done when it is asked for again"),
    "broker.answered": Point("broker", "new", "the next request has the next broker"),
    "temporary.created": Point("broker", "new", "an empty file of the announced name; it is removed"),
    "temporary.checked": Point("broker", "new", "an empty file of the announced name; it is removed"),
    "temporary.placed": Point("broker", "straight", "an empty file has the final name; a new one takes its place"),
    "copy.synced": Point("broker", "turn", "the piece is copied again"),
    "temporary.unlinked": Point("broker", "cancel", "a missing name is success"),
    "publish.mode-set": Point("broker", "finish", "publishing is done again"),
    "publish.synced": Point("broker", "finish", "publishing is done again"),
    "publish.renamed": Point("broker", "finish", "the final name is our file: what is left is the sync"),
    "publish.directory-synced": Point("broker", "finish", "the final name is our file"),
    # worker
    "worker.begun": Point("worker", "new", "the attempt is made again from the checkpoint"),
    "worker.connected-told": Point("worker", "new", "the row names the version of the bytes that follow"),
    "worker.restarted": Point("worker", "change", "the bytes are those of the version that the row names"),
    "worker.durable": Point("worker", "new", "more is on the disk than the row says"),
    "worker.progress-told": Point("worker", "new", "the row says what is on the disk, or less"),
    "worker.acknowledged": Point("worker", "send", "the server has more than the row says, and tells the next worker"),
    "worker.acknowledged-told": Point("worker", "send", "the row says what the server has, or less"),
    "worker.part-durable": Point("worker", "seek", "more is on the disk than the row says"),
    "worker.part-told": Point("worker", "seek", "the row says what is on the disk, or less"),
    "worker.transferred": Point("worker", "new", "the file is moved again from its checkpoint"),
    "worker.transferred-told": Point("worker", "new", "the file is transferred, or moved again from its checkpoint"),
    "copy.piece": Point("worker", "copy", "bytes beyond the checkpoint are copied again"),
    "sink.cut": Point("worker", "new", "the file is shorter than the row says, or the row says 0"),
    "sink.written": Point("worker", "new", "bytes beyond the checkpoint are fetched again"),
    "sink.syncing": Point("worker", "new", "the row does not count these bytes"),
    "sink.synced": Point("worker", "new", "the row does not count these bytes yet"),
}
