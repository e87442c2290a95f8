"""`bits explain`: why a job does what it does, or what a code means.

What is written as a code that the product knows is one: 0x80200013, the number in decimal with or without sign, a
symbol, an HTTP status, an errno name, a Win32 number such as 12030. Everything else is a job.
"""

import argparse
import errno
import json
import time
from collections.abc import Iterable, Iterator

from openbits.api.client import Client, outcome_of
from openbits.api.wire import ErrorInfo, FileInfo, JobInfo
from openbits.cli import exits, render
from openbits.cli.printing import put
from openbits.cli.selection import REFERENCE, find_job
from openbits.core import access, codes
from openbits.core.access import Use, Who
from openbits.core.codes_table import ROWS, CodeClass
from openbits.core.enums import ErrorContext, JobType, TokenFlags

IDENTITIES = (
    ("local files", "create, reopen, publish, delete", Use.DOWNLOAD_TEMPORARY),
    ("directory check", "when a file is added", Use.DIRECTORY_CHECK),
    ("network", "sockets, names, TLS", Use.SOCKET),
    ("proxy", "detection and settings", Use.PROXY_DETECTION),
    ("implicit logon", "at servers and proxies", Use.SERVER_CHALLENGE_IMPLICIT),
    ("notifications", "callbacks and command lines", Use.CALLBACK),
    ("queue", "state and store", Use.QUEUE),
)
"""What people ask about, of the table in `core.access`."""

_READ = ("local file", "read it", Use.UPLOAD_SOURCE)
_LOCAL_FILES = {
    JobType.DOWNLOAD: IDENTITIES[:1],
    JobType.UPLOAD: (_READ,),
    JobType.UPLOAD_REPLY: (_READ, ("reply file", "create, reopen, publish, delete", Use.REPLY_FILE)),
}
"""In place of the first of them."""

_CLASSES = {
    CodeClass.METHOD: "a refusal: what was asked for cannot be done",
    CodeClass.FATAL: "fatal: a job stays in ERROR until somebody resumes it",
    CodeClass.TRANSIENT: "transient: a job tries again by itself, later and later",
    CodeClass.EVENT: "transient: a job goes on by itself when the condition ends",
    CodeClass.CONTEXT: "names the place of an error",
    CodeClass.INTERNAL: "historic or an identifier of an event log; never raised here",
    CodeClass.SUCCESS: "a success",
}

SHOWN_NOTES = 5
"""Of the files of a job."""

_WIN32 = 0x80070000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits explain`."""
    parser.add_argument(
        "subject", metavar="JOB|CODE", help="a job; or a code: number (hex, decimal, negative), symbol, HTTP, errno"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.epilog = f"What is a known code is taken for one: name such a job by its id. {REFERENCE}"


def run(options: argparse.Namespace) -> int:
    """Explain the code or the job."""
    code = code_of(options.subject)
    if code is not None:
        if options.json:
            print(json.dumps(code_facts(code), indent=2))
        else:
            put(code_lines(code), indent=13)
        return exits.OK
    with Client() as client:
        job = find_job(client, options.subject)
        info, files = job.info(), job.files()
    if options.json:
        print(json.dumps({**info, "identities": identities(info)}, indent=2))
    else:
        put(job_lines(info, files, time.time()), indent=13)
    return exits.OK


# Codes


def code_of(text: str) -> int | None:
    """The code that is meant; None for what is none."""
    digits = text.removeprefix("-")
    if text.lower().startswith("0x"):
        return _code_of_number(text, 16)
    if digits.isdecimal() and text.isascii():
        number = int(text)
        if 100 <= number <= 599:
            return codes.from_http_status(number)
        if 600 <= number <= 0xFFFF:
            return _WIN32 + number if _WIN32 + number in ROWS else None
        return _code_of_number(text, 10) if number < 0 or number & 0x80000000 else None
    if text in errno.errorcode.values():
        return codes.from_errno(getattr(errno, text))
    return next((row.value for row in ROWS.values() if row.symbol == text.upper()), None)


def _code_of_number(text: str, base: int) -> int | None:
    try:
        return codes.unsigned(int(text, base))
    except ValueError:
        return None


def code_facts(value: int) -> dict[str, object]:
    """A code as JSON."""
    code = codes.lookup(value)
    return {
        "hresult": code.value,
        "hex": f"0x{code.value:08X}",
        "signed": code.value - (1 << 32) if code.value & 0x80000000 else code.value,
        "symbol": code.symbol,
        "class": code.code_class.name.lower(),
        "context": code.context.name.lower() if code.context is not None else None,
        "meaning": code.sentence,
        "next_step": code.next_step,
    }


def code_lines(value: int) -> Iterator[str]:
    """A code in words."""
    code = codes.lookup(value)
    yield f"symbol       {code.symbol}"
    yield f"number       0x{code.value:08X} = {code.value}" + (
        f" = {code.value - (1 << 32)}" if code.value & 0x80000000 else ""
    )
    yield f"class        {_CLASSES[code.code_class]}"
    if code.context is not None:
        yield f"context      {codes.context_description(code.context)}"
    yield f"meaning      {code.sentence}"
    yield f"next step    {code.next_step or 'nothing is to be done'}"


# Jobs


def job_lines(info: JobInfo, files: Iterable[FileInfo], now: float) -> Iterator[str]:
    """Everything about why, also when the job is fine."""
    name = render.printable(info["properties"]["display_name"])
    yield f'job          {info["job_id"]} "{name}"'
    since = info["state_since"]
    yield f"state        {info['state']}, since {render.span(now - since)} ({render.instant(since)})"
    yield f"progress     {render.progress(info)}, {info['files_transferred']} of {info['files_total']} files"
    yield from _why(info, now)
    yield from _notes(files)
    yield from _notice(info, now)
    yield f"owner        {_owner(info)}"
    yield f"helper       {render.helper_text(info)}"
    for row in identities(info):
        yield f"identity     {row['use']}: {row['identity']}"
    if info["notify_command"] is not None:
        yield f"command      {render.command_text(info['notify_command'])}"
    yield f"retry        {render.retry_text(info)}"
    yield f"errors       {info['error_count']} so far"
    for title, error in (("last error", info["error"]), ("Complete", info["complete_error"])):
        if error is not None:
            yield from error_lines(title, error, tries_again=info["state"] not in {"error", "suspended"})
    if info["error"] is None and info["complete_error"] is None:
        yield "last error   none"


def error_lines(title: str, error: ErrorInfo, *, tries_again: bool) -> Iterator[str]:
    """An error object in full: every part of its message on a line of its own."""
    code = codes.lookup(error["hresult"])
    context = codes.context_description(ErrorContext[error["context"].upper()])
    step = codes.next_step(error["hresult"], error["detail"], tries_again=tries_again)
    parts = (
        (title, codes.label(error["hresult"])),
        ("  when", render.instant(error["at"])),
        ("  class", _CLASSES[code.code_class]),
        ("  meaning", code.sentence),
        ("  context", context),
        ("  object", codes.presentable(error["subject"])),
        ("  identity", error["identity"]),
        ("  told", error["detail"].removesuffix(f"; {step}")),
        ("  next step", step or "remove the cause, then resume the job"),
    )
    return (f"{label:<12} {render.printable(text) or 'not known'}" for label, text in parts)


def identities(info: JobInfo) -> list[dict[str, str]]:
    """Who does what for the job, by the table of `core.access`."""
    flags = TokenFlags(info["helper_token_flags"])
    helper = render.printable(info["helper_name"] or info["helper_sid"] or "token, which is missing")
    names = {
        Who.OWNER: f"owner {_owner(info)}",
        Who.HELPER: f"helper {helper}",
        Who.SETTER: "whoever asked for them",
        Who.SERVICE: "the service",
        Who.AS_GIVEN: "the account that the credentials name",
    }
    found = []
    for use, detail, row in (*_LOCAL_FILES[JobType[info["type"].upper()]], *IDENTITIES[1:]):
        who = access.identity_for(flags, row)
        found.append({"use": f"{use} ({detail})", "who": who.name.lower(), "identity": names[who]})
    return found


def _why(info: JobInfo, now: float) -> Iterator[str]:
    waiting = info["waiting"]
    if waiting is not None:
        yield f"why          {render.printable(waiting['reason'])}, since {render.span(now - waiting['since'])}"
        yield f"next         {render.printable(render.next_text(waiting, now))}"
        yield f"hint         {render.printable(waiting['hint'])}"
        return
    if outcome_of(info) is None:
        yield f"why          it is fine and moves: {render.printable(info['phase']) or info['state']}"
        yield "next         its files, one after the other"
        yield f"hint         watch it with: bits watch {info['job_id']}"
    else:
        yield f"why          it is over: {info['state']}"
        yield "next         nothing; it leaves the queue"
        yield "hint         nothing is to be done"


def _notes(files: Iterable[FileInfo]) -> Iterator[str]:
    """What was not as usual on the way of files, and no error: the first of many."""
    noted = [f"file {number}: {render.printable(file['note'])}" for number, file in enumerate(files) if file["note"]]
    for line in noted[:SHOWN_NOTES]:
        yield f"note         {line}"
    if len(noted) > SHOWN_NOTES:
        yield f"note         and {len(noted) - SHOWN_NOTES} more; see them with: bits show"


def _notice(info: JobInfo, now: float) -> Iterator[str]:
    """Who has yet to be told of what, and what that waits for."""
    notice = info["notice"]
    if notice is None:
        return
    what = notice["notice"] if notice["file_index"] is None else f"{notice['notice']} of file {notice['file_index']}"
    yield f"notice       {what} is to be told, to {notice['to']}, since {render.span(now - notice['since'])}"
    in_time = "" if notice["next_at"] is None else f" (in {render.span(max(0.0, notice['next_at'] - now))})"
    yield f"  next       {render.printable(notice['next'])}{in_time}"
    yield f"  hint       {render.printable(notice['hint'])}"


def _owner(info: JobInfo) -> str:
    return f"{render.printable(info['owner_name'] or '-')} ({info['owner_sid']}, uid {info['owner_uid']})"
