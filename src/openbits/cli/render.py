"""Jobs as text: pure functions from what the service told (and the time) to lines.

Text of others (names, URLs, messages) loses its control characters here: it ends on somebody's terminal.
"""

import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from openbits.api.wire import ErrorInfo, FileInfo, JobInfo, NotifyCommandInfo, RangeInfo, ReplyInfo, WaitingInfo
from openbits.cli.property_options import changes
from openbits.core.enums import TokenFlags

SHORT_ID = 8
SHOWN_RANGES = 10
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: str) -> str:
    """The text without anything that could steer a terminal or break a line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def fitting(text: str, columns: int) -> Iterator[str]:
    """The text in parts that each fill at most so many columns of a terminal; at least one part."""
    part, used = "", 0
    for character in text:
        width = 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        if used + width > columns:
            yield part
            part, used = "", 0
        part, used = part + character, used + width
    yield part


def size(count: float) -> str:
    """`1.5 MiB`."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def span(seconds: float) -> str:
    """`0.4 s`, `12 s`, `5 min`, `3 h 20 min`, `2 d 4 h`; rounded down."""
    if 0 < seconds < 10:
        return f"{int(seconds * 10) / 10} s"
    total = max(0, int(seconds))
    if total < 120:
        return f"{total} s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if hours < 2:
        return f"{minutes} min"
    if days < 2:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def instant(at: float | None) -> str:
    """Local date and time, `-` for none."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def progress(info: JobInfo) -> str:
    """`45% 1.2 GiB/2.6 GiB`, or the bytes so far when the size is not known."""
    done, total = info["bytes_transferred"], info["bytes_total"]
    if total == 0 and not info["files_total"]:
        return "no file yet"
    if total is None:
        return f"{size(done)} of unknown size"
    return f"{percent(done, total)}% {size(done)}/{size(total)}"


def percent(done: int, total: int) -> int:
    """Whole percents, 100 only when nothing is missing."""
    return 100 if done >= total else done * 100 // total


def waiting_text(waiting: WaitingInfo, now: float) -> str:
    """Why, since when, what next and when, and what to do, in one line."""
    parts = [f"{waiting['reason']}, since {span(now - waiting['since'])}", f"next: {next_text(waiting, now)}"]
    if waiting["hint"]:
        parts.append(f"hint: {waiting['hint']}")
    return printable("; ".join(parts))


def next_text(waiting: WaitingInfo, now: float) -> str:
    """What happens next, and when if that is known."""
    in_time = "" if waiting["next_at"] is None else f"in {span(max(0.0, waiting['next_at'] - now))}: "
    return in_time + waiting["next"]


def error_text(error: ErrorInfo) -> str:
    """The message of an error object; symbol and number are in it, or put before it."""
    number = f"0x{error['hresult']:08X}"
    message = error["message"]
    return printable(message if number in message else f"{error['symbol']} ({number}): {message}")


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """The beginnings of ids that tell these jobs apart."""
    length = SHORT_ID
    while len({job_id[:length] for job_id in ids}) < len(set(ids)):
        length += 1
    return {job_id: job_id[:length] for job_id in ids}


def table(infos: Sequence[JobInfo], now: float, *, has_owner: bool) -> Iterator[str]:
    """The lines of `bits list`; what does not move says why below its row."""
    ids = short_ids([info["job_id"] for info in infos])
    head = ("ID", "STATE", "PRIORITY", *(("OWNER",) if has_owner else ()), "PROGRESS", "NAME")
    rows = [head]
    for info in infos:
        owner = (info["owner_name"] or str(info["owner_uid"]),) if has_owner else ()
        properties = info["properties"]
        row = (ids[info["job_id"]], info["state"], properties["priority"], *owner, progress(info))
        rows.append((*row, printable(properties["display_name"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for row, about in zip(rows, [None, *infos], strict=True):
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        if about is not None:
            yield from (f"    {line}" for line in reasons(about, now))


def reasons(info: JobInfo, now: float) -> Iterator[str]:
    """Why the job does not move, if it does not: its error or what it waits for, what comes next, what to do."""
    error, waiting = info["error"], info["waiting"]
    told = ""
    if error is not None and info["state"] in {"error", "transient_error"}:
        told = error_text(error)
        yield f"error: {told}"
    elif waiting is not None:
        yield printable(f"waiting: {waiting['reason']}, since {span(now - waiting['since'])}")
    if waiting is not None:
        yield printable(f"next: {next_text(waiting, now)}")
        untold = "; ".join(step for step in waiting["hint"].split("; ") if step not in told)
        if untold:
            yield printable(f"hint: {untold}")


def details(info: JobInfo, files: Iterable[FileInfo], now: float) -> Iterator[str]:
    """The lines of `bits show`."""
    properties = info["properties"]
    yield f"job          {info['job_id']}"
    yield f"name         {printable(properties['display_name'])}"
    if properties.get("description"):
        yield f"description  {printable(properties['description'])}"
    yield f"type         {info['type']}"
    yield f"state        {info['state']}, since {span(now - info['state_since'])}"
    if info["phase"]:
        yield f"phase        {printable(info['phase'])}"
    yield from (_labelled(line) for line in reasons(info, now))
    yield f"priority     {properties['priority']}"
    yield f"progress     {progress(info)}, {info['files_transferred']} of {info['files_total']} files"
    yield f"owner        {printable(info['owner_name']) or '-'} ({info['owner_sid']})"
    yield f"helper       {helper_text(info)}"
    if info["notify_command"] is not None:
        yield f"command      {command_text(info['notify_command'])}"
    if info["entrusted"]:
        yield f"entrusted    {printable(', '.join(info['entrusted']))}"
    yield f"created      {instant(info['created_at'])}"
    yield f"modified     {instant(info['modified_at'])}"
    yield f"transferred  {instant(info['transferred_at'])}"
    yield f"expires      {instant(info['expires_at'])}, if nothing changes before"
    used, most = span(info["transfer_seconds"]), span(info["maximum_download_seconds"])
    yield f"time         {used} of at most {most} connecting and transferring"
    yield f"errors       {info['error_count']}"
    yield f"retry        {retry_text(info)}"
    yield f"complete     {'by itself' if properties['auto_complete'] else 'by: bits complete'}"
    yield from (f"set          {printable(change)}" for change in changes(properties, without=_SHOWN_ALWAYS))
    if info["reply"] is not None:
        yield f"reply        {printable(info['reply']['local_name'] or '-')}, {reply_state(info['reply'])}"
    is_upload = info["type"] != "download"
    for number, file in enumerate(files):
        source, target = file["remote_name"], file["local_name"]
        if is_upload:
            source, target = target, source
        yield f"file {number:<7} {printable(source)}"
        yield f"             -> {printable(target)}, {_file_state(file, is_upload=is_upload)}"


_SHOWN_ALWAYS = frozenset(
    {
        "display_name",
        "description",
        "priority",
        "minimum_retry_delay_seconds",
        "no_progress_timeout_seconds",
        "auto_complete",
    }
)
"""Properties that `details` has lines for; of the others it shows what is not as in a new job."""


def retry_text(info: JobInfo) -> str:
    """How often it tries again after transient errors, and for how long."""
    properties = info["properties"]
    limit = properties["no_progress_timeout_seconds"]
    end = f"gives up after {span(limit)} without progress" if limit else "never tries again"
    return f"soon at first, then every {properties['minimum_retry_delay_seconds']} s; {end}"


def command_text(command: NotifyCommandInfo) -> str:
    """`/usr/bin/a b, as alice (uid 1000); ended with exit code 1`: the words as they were set, and how it went."""
    program, words = command["program"], command["parameters"] or command["program"]
    shown = words if words.partition(" ")[0].strip('"') == program else f"{program}: {words}"
    who = f"{command['setter_name'] or '-'} (uid {command['setter_uid']})"
    note = f"; {command['note']}" if command["note"] else ""
    return printable(f"{shown}, as {who}{note}")


def helper_text(info: JobInfo) -> str:
    """`beth (S-1-22-1-1002), for local-file`, and what is missing."""
    flags = flag_words(info["helper_token_flags"])
    if info["helper_sid"] is None:
        cures = f"set one with: bits token set; or do without: bits token flags {info['job_id']} none"
        return f"no token, for {flags}: {cures}" if info["helper_token_flags"] else "none"
    return f"{printable(info['helper_name'] or '-')} ({info['helper_sid']}), for {flags}"


def flag_words(flags: int) -> str:
    """`local-file,network`, the words of the option --flags."""
    words = [word for word, flag in FLAG_WORDS.items() if flags & flag]
    return ",".join(words) or "nothing"


FLAG_WORDS = {"local-file": TokenFlags.LOCAL_FILE, "network": TokenFlags.NETWORK}


def _labelled(line: str) -> str:
    label, _, text = line.partition(": ")
    return f"{label:<12} {text}"


def reply_state(reply: ReplyInfo) -> str:
    """`1.0 MiB/2.0 MiB`."""
    total = reply["bytes_total"]
    return "not here yet" if total is None else f"{size(reply['bytes_transferred'])}/{size(total)}"


def _file_state(file: FileInfo, *, is_upload: bool) -> str:
    total, done = file["bytes_total"], "uploaded" if is_upload else "transferred"
    text = "published" if file["is_published"] and not is_upload else done if file["is_transferred"] else f"not {done}"
    text += f", {size(file['bytes_transferred'])}/{'unknown size' if total is None else size(total)}"
    if file["ranges"]:
        text += f", made of {_ranges_text(file['ranges'])}"
    return text + (f", {printable(file['note'])}" if file["note"] else "")


def _ranges_text(ranges: Sequence[RangeInfo]) -> str:
    """`bytes 100-199, 900-`: the first of many."""
    spans = [
        f"{item['offset']}-{'' if item['length'] is None else item['offset'] + item['length'] - 1}"
        for item in ranges[:SHOWN_RANGES]
    ]
    left = len(ranges) - len(spans)
    return f"bytes {', '.join(spans)}" + (f" and {left} more ranges" if left else "")
