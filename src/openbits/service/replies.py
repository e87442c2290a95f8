"""GetReplyData: the reply of a job as a copy in memory, made by a broker of the identity whose file it is."""

import os

from openbits.core import codes, reply
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import ReplyFile
from openbits.core.wording import label, name_of
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.failures import CHILD_ENDED, code_of_broker_error
from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source, source_for, source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError


async def read(record: Record, by: Cookie, children: Children) -> int | None:
    """Descriptor of the copy; None: there is no reply. `by` vouches for the owner when nothing else does any more.

    Raises BitsError: what `reply.check_readable` says, BG_E_TOKEN_REQUIRED if the file is a helper's who is gone, or
    the code of what kept it from being read.
    """
    reply.check_readable(record.job)
    file = record.job.reply
    place = None if file is None else file.temporary or file.published
    if file is None or place is None:
        return None
    reader = _reader(record, file)
    try:
        size_bytes, descriptor = await children.with_broker(
            reader.uid, reader.by or by, lambda broker: broker.snapshot(file.directory, place, reply.MAX_DATA_BYTES)
        )
    except (BrokerError, ChildLostError, RefusedError) as error:
        raise _unreadable(record, error) from error
    try:
        reply.check_size(record.job, size_bytes)
    except BitsError:
        if descriptor is not None:
            os.close(descriptor)
        raise
    return descriptor


def _reader(record: Record, file: ReplyFile) -> Source:
    if file.temporary is None:
        try:
            return source_for(record, Use.REPLY_FILE, ErrorContext.LOCAL_FILE)
        except BitsError:  # the token went with the job; about the owner decides the kernel
            owner = record.job.owner
            return Source(uid=owner.uid, by=None, label=label(owner))
    maker = source_of_maker(record, file.temporary, ())
    if maker is None:
        text = f"the reply belongs to the helper identity uid {file.temporary.uid}; set its token again"
        raise BitsError(codes.BG_E_TOKEN_REQUIRED, text, context=ErrorContext.LOCAL_FILE)
    return maker


def _unreadable(record: Record, error: Exception) -> BitsError:
    code = CHILD_ENDED
    if isinstance(error, RefusedError):
        code = error.hresult
    if isinstance(error, BrokerError):
        code = code_of_broker_error(error)
    text = f"cannot read the reply of {name_of(record.job)}: {error}"
    return BitsError(code, text, context=ErrorContext.LOCAL_FILE)
