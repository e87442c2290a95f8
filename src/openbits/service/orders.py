"""What a network worker is told of one file: the order (docs/processes.md, "Manager ↔ network worker").

Everything in here reads a job and makes a message. What must not be in a message, because messages may be logged and
their length is limited, is in the memory files of `entrusting`.
"""

from dataclasses import asdict

from openbits.channel import Message
from openbits.core import codes, names, packets, uploading
from openbits.core.enums import ErrorContext, JobType, Priority, SecurityFlags
from openbits.core.model import File, Job, ReplyFile
from openbits.core.proxies import Settings
from openbits.core.uploading import Step
from openbits.service import certificate_checks, entrusting, proxy_settings, reply_urls
from openbits.service.engine import Engine
from openbits.service.failures import CannotFetchError
from openbits.service.record import Record


def check(job: Job, file: File) -> None:
    """What forbids an attempt before anything is opened. Raises BitsError, CannotFetchError."""
    if names.path_of(file.present_remote_name) is None:
        _check_http(job, file)
        entrusting.check(job, file)


def made(engine: Engine, record: Record, file: File, offset: int, proxy: Settings) -> Message:
    """The order to move this file from `offset` on. `proxy`: the settings in effect."""
    validators = file.validators
    properties = record.job.properties
    refusal = certificate_checks.refusal(engine, record)
    return {
        "url": _asked_name(record.job, file),
        "given_url": reply_urls.given_name(record.job, file),
        "is_upload": file.is_upload,
        "offset": offset,
        "validators": {
            "size_bytes": validators.size_bytes,
            "etag": validators.etag,
            "last_modified": validators.last_modified,
            "media_type": validators.media_type,
        },
        "security_flags": int(properties.security_flags),
        "authentication": entrusting.rules(engine.policies),
        "is_foreground": properties.priority is Priority.FOREGROUND,
        "method": _method(record.job, file),
        "upload": None,
        "is_dynamic": properties.dynamic_content,
        "size_limit_bytes": _size_limit(record.job, file),
        "rate_bytes_per_second": properties.maximum_rate_bytes_per_second,
        "is_on_demand": properties.on_demand_mode,
        "segments": properties.segments,
        "proxy": proxy_settings.message_of(proxy),
        "has_certificate_callback": record.job.needs_certificate_callback,
        "tls_refusal": None if refusal is None else {"hresult": refusal.hresult, "detail": refusal.text},
    }


def of_step(engine: Engine, record: Record, file: File, step: Step, proxy: Settings) -> Message:
    """The order for a step of this upload to a web server."""
    return _of_upload(engine, record, file, step.value, proxy)


def cancelling(engine: Engine, record: Record, file: File, proxy: Settings) -> Message:
    """The order to have a server forget an upload that was given up."""
    return _of_upload(engine, record, file, "cancel", proxy)


def _of_upload(engine: Engine, record: Record, file: File, step: str, proxy: Settings) -> Message:
    upload = {
        "step": step,
        "session": None if file.session is None else asdict(file.session),
        "name": file.name,
        "is_reply_wanted": record.job.type is JobType.UPLOAD_REPLY,
    }
    return {**made(engine, record, file, file.transferred_bytes, proxy), "upload": upload}


def _method(job: Job, file: File) -> str:
    """Of the requests; a reply is fetched as any file is."""
    if isinstance(file, ReplyFile):
        return "GET"
    return packets.METHOD if uploading.is_by_protocol(file) else job.properties.http_method or "GET"


def _asked_name(job: Job, file: File) -> str:
    """A redirect that is reported is followed anew each time; the target of one that is not allowed is the name now."""
    is_followed = SecurityFlags.REDIRECT_DISALLOW not in job.properties.security_flags
    return file.client_remote_name if is_followed else file.present_remote_name


def peer(job: Job, file: File) -> str:
    """Scheme, host and port that the next request goes to, as `service.hosts` knows them; empty: no web server."""
    if names.path_of(file.present_remote_name) is not None:
        return ""
    return reply_urls.peer_of(file, _asked_name(job, file))


def _size_limit(job: Job, file: File) -> int | None:
    """How large this file may be: what the others have, or are known to have, counts too (jobs.md §13)."""
    most = job.properties.max_download_size_bytes
    if most is None:
        return None
    others = sum(max(other.size_bytes or 0, other.arrived_bytes) for other in job.files if other is not file)
    return max(0, most - others)


def _check_http(job: Job, file: File) -> None:
    """Setters store the proxy lists unread; that they cannot be used is found here (jobs.md §7.2)."""
    _check_dynamic(job)
    if uploading.is_by_protocol(file) and job.properties.http_method:
        text = f"uploads to web servers are made with {packets.METHOD} alone; make another job without an HTTP method"
        code = codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION
        raise CannotFetchError(code, text, context=ErrorContext.GENERAL_QUEUE_MANAGER)
    proxy_settings.check(job.properties)


def _check_dynamic(job: Job) -> None:
    """It cannot be throttled, and only the foreground is not (jobs.md §13)."""
    if job.properties.dynamic_content and job.properties.priority is not Priority.FOREGROUND:
        text = "cannot fetch dynamic content in the background, since it cannot be throttled; set priority foreground"
        raise CannotFetchError(
            codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION, text, context=ErrorContext.GENERAL_QUEUE_MANAGER
        )
