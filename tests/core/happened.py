"""Events of a single file, where a job may hear of several at once."""

from typing import Any

from openbits.core import events
from openbits.core.model import Temporary


def transferred(epoch: int, index: int, size_bytes: int, **more: Any) -> events.FilesTransferred:
    """This file has all its bytes."""
    file = events.TransferredFile(file_index=index, size_bytes=size_bytes, **more)
    return events.FilesTransferred(epoch=epoch, files=(file,))


def created(epoch: int, index: int, temporary: Temporary, note: str = "") -> events.TemporariesCreated:
    """This file has a temporary one."""
    file = events.CreatedTemporary(file_index=index, temporary=temporary, note=note)
    return events.TemporariesCreated(epoch=epoch, files=(file,))
