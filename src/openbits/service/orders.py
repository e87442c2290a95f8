"""What a network worker is told of one file: the order, and the memory file with what was entrusted to the job.

Everything in here reads a job and makes a message (docs/processes.md, "Manager ↔ network worker"). Whatever the worker
must not see in the order, because messages may be logged and their length is limited, is in the memory file.
"""

import json
import os

from openbits.channel import Message
from openbits.core import codes, names, proxies, secrets
from openbits.core.enums import ErrorContext, Priority, SecurityFlags
from openbits.core.errors import BitsError
from openbits.core.model import File, Job
from openbits.core.properties import Properties
from openbits.service import certificate_checks
from openbits.service.engine import Engine
from openbits.service.failures import CannotFetchError
from openbits.service.record import Record
from openbits.service.vault import Vault


def check(job: Job, file: File) -> None:
    """What forbids an attempt before anything is opened. Raises BitsError, CannotFetchError."""
    _check_whole(job, file)
    if names.path_of(file.present_remote_name) is None:
        _check_http(job, file)


def made(engine: Engine, record: Record, file: File, offset: int) -> Message:
    """The order to move this file from `offset` on."""
    validators = file.validators
    properties = record.job.properties
    refusal = certificate_checks.refusal(engine, record)
    return {
        "url": file.present_remote_name,
        "is_upload": file.is_upload,
        "offset": offset,
        "validators": {
            "size_bytes": validators.size_bytes,
            "etag": validators.etag,
            "last_modified": validators.last_modified,
        },
        "is_foreground": properties.priority is Priority.FOREGROUND,
        "proxy": {
            "usage": properties.proxy_usage.name.lower(),
            "list": properties.proxy_list,
            "bypass": properties.proxy_bypass_list,
        },
        "tls_refusal": None if refusal is None else {"hresult": refusal.hresult, "detail": refusal.text},
    }


def entrusted(vault: Vault, job: Job, file: File) -> list[int]:
    """What was entrusted to the job and goes into its requests: a memory file, which no message has room for."""
    if names.path_of(file.present_remote_name) is not None:
        return []
    headers = vault.headers(job)
    if headers is None:
        return []
    memory = os.memfd_create("entrusted", os.MFD_CLOEXEC)
    os.write(memory, json.dumps({"headers": secrets.fields_of(headers)}).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    return [memory]


def _check_whole(job: Job, file: File) -> None:
    """Rather nothing than another file than the one that was asked for, or bytes that nobody requested (§8.9)."""
    step = "add the whole file to another job" if file.ranges else "switch on_demand_mode off to get the file"
    if file.ranges or job.properties.on_demand_mode:
        kind = "a file with ranges" if file.ranges else "ranges on demand"
        text = f"cannot fetch {kind}: this version transfers whole files only; {step}"
        raise CannotFetchError(codes.E_NOTIMPL, text, context=ErrorContext.GENERAL_TRANSPORT)


def _check_http(job: Job, file: File) -> None:
    """Setters store the proxy lists unread; that they cannot be used is found here (jobs.md §7.2)."""
    if file.is_upload:
        text = "uploads to web servers need the upload protocol, which this version does not have; use file:///path"
        raise CannotFetchError(codes.E_NOTIMPL, text, context=ErrorContext.GENERAL_TRANSPORT)
    settings = job.properties
    ignored = _would_be_ignored(settings)
    if ignored:
        text = f"cannot honour {ignored} yet, and does not connect without; take it back to transfer the job"
        raise CannotFetchError(codes.E_NOTIMPL, text, context=ErrorContext.GENERAL_TRANSPORT)
    try:
        proxies.of_settings(settings.proxy_usage, settings.proxy_list, settings.proxy_bypass_list)
    except proxies.BadProxiesError as error:
        code = codes.BG_E_INVALID_PROXY_INFO
        raise BitsError(code, str(error), context=ErrorContext.GENERAL_TRANSPORT) from None


def _would_be_ignored(settings: Properties) -> str:
    """What makes a request safer, or another one, and is not built; empty if there is no such setting."""
    if settings.http_method:
        return f"the HTTP method {settings.http_method}"
    if SecurityFlags.ENABLE_CRL_CHECK in settings.security_flags:
        return "the check of revocation lists (security_flags ENABLE_CRL_CHECK)"
    if SecurityFlags.REDIRECT_DISALLOW in settings.security_flags:
        return "the refusal of redirects (security_flags REDIRECT_DISALLOW)"
    return ""
