"""Where an upload and its reply are asked for: the host of the session, and who may know us (upload-protocol.md §12).

What a host id means, and whom credentials may be shown to, the worker decides by the same rules.
"""

from urllib.parse import urlsplit, urlunsplit

from openbits.core import names
from openbits.core.model import File, Job, ReplyFile
from openbits.transfer import urls
from openbits.transfer.upload_answers import BadAnswerError
from openbits.transfer.upload_hosts import at_host, may_know_us
from openbits.transfer.urls import BadUrlError, Target


def peer_of(file: File, asked: str) -> str:
    """Scheme, host and port that the next request for this name goes to."""
    there = _session_host(file)
    return names.peer_of(asked if there is None else there.url)


def given_name(job: Job, file: File) -> str:
    """What a client named the file, for the rules of credentials: they are for its server alone.

    For a reply it is the reply URL itself at the server of the upload, or at a host id of it that may know us (D27); a
    stranger's counts as a redirect of the upload.
    """
    if not isinstance(file, ReplyFile):
        return file.client_remote_name
    upload, url = job.files[0], file.client_remote_name
    try:
        origin, asked = urls.parse(upload.client_remote_name), urls.parse(url)
    except BadUrlError:  # which the worker will say
        return upload.client_remote_name
    there = _session_host(upload)
    is_host_id = there is not None and asked.origin == there.origin and may_know_us(origin, asked)
    return url if asked.origin == origin.origin or is_host_id else upload.client_remote_name


def elsewhere(job: Job) -> str:
    """D20: the reply URL at the host of the upload, if it is at that of its session; else empty: that was all."""
    upload, answer = job.files[0], job.reply
    there = _session_host(upload)
    if answer is None or there is None:
        return ""
    origin, url = names.peer_of(upload.client_remote_name), answer.client_remote_name
    peer = names.peer_of(url)
    if peer == origin or peer != names.peer_of(there.url):
        return ""
    return urlunsplit(urlsplit(url)._replace(netloc=urlsplit(upload.client_remote_name).netloc.rpartition("@")[2]))


def _session_host(upload: File) -> Target | None:
    """The upload's name at the host id of its session."""
    session = upload.session
    if session is None or not session.host:
        return None
    try:
        return at_host(urls.parse(upload.client_remote_name), session.host)
    except (BadAnswerError, BadUrlError):  # a worker has told it: nothing is asked there
        return None
