"""What the campaign knows of each job: what was acknowledged, and what may have happened because nobody answered (P1).

An answer changes the entry at once; a look at the queue takes the doubts away one by one.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.actors import NOT_FOUND, Answer

INVALID_STATE = 0x80200002
E_FAIL = 0x80004005
ENDS = {"cancel": "cancelled", "complete": "acknowledged"}


@dataclass(slots=True, kw_only=True)
class Entry:
    """One job. `ends`: final states that it may have reached without our knowing; `end`: the one it has reached."""

    name: str
    uid: int
    helper_uid: int | None
    kind: str = "download"
    """Of an upload the paths of its files are those that are read."""
    job_id: str | None = None
    is_doubtful: bool = True
    """Its creation was not answered: it may be there or not."""
    files: dict[Path, str] = field(default_factory=dict)
    doubtful_files: list[dict[Path, str]] = field(default_factory=list)
    values: dict[str, set[Any]] = field(default_factory=dict)
    """Property → what it may be."""
    flags: set[int] = field(default_factory=lambda: {0})
    makers: set[int] = field(default_factory=set)
    """Who may have made a file of it."""
    is_suspended: bool | None = True
    """None: not known."""
    is_listening: bool = False
    was_completed: bool = False
    """Complete was called, whatever came of it, or the job completes itself."""
    ends: set[str] = field(default_factory=set)
    end: str | None = None
    is_whole: bool = False
    """Complete said that every file is there."""
    story: list[str] = field(default_factory=list)

    @property
    def reply_path(self) -> Path | None:
        """Where the reply goes if nobody says otherwise."""
        if self.kind != "upload_reply" or self.job_id is None or not self.files:
            return None
        return next(iter(self.files)).with_name(f"BIT-{self.job_id}.reply")

    def may_be(self, name: str) -> bool:
        """True if a property may be switched on."""
        return True in self.values.get(name, ())

    @property
    def is_over(self) -> bool:
        return self.end is not None or (self.job_id is None and not self.is_doubtful)

    def hear(self, answer: Answer) -> list[str]:
        """Take an answer in; what is wrong with it."""
        act = answer.act
        value = f"{answer.value:#x}" if answer.kind == "error" else answer.value
        self.story.append(f"{act.verb} {act.arguments or ''} -> {answer.kind} {value} {answer.text}")
        if answer.kind == "error":
            return self._refused(answer)
        getattr(self, f"_heard_{act.verb}", self._ignore)(answer, answer.kind == "ok")
        return []

    def _refused(self, answer: Answer) -> list[str]:
        act, code = answer.act, answer.value
        if act.verb == "create":
            self.is_doubtful = False
        if act.verb == "complete":
            self.was_completed, self.is_suspended = True, None
        if code == E_FAIL:
            return [f"{self.name}: {act.verb} met an internal error: {answer.text}"]
        if code == NOT_FOUND and self.job_id is not None and not self.ends and self.end is None:
            return [f"{self.name} is not found, though it was acknowledged (P1)"]
        if code == INVALID_STATE and not (self.was_completed or self.ends or self.end):
            return [f"{self.name}: {act.verb} is refused without a reason: {answer.text}"]
        return []

    def _ignore(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # one of a table of handlers
        pass

    def _heard_create(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self.job_id, self.is_doubtful = (answer.value, False) if is_ok else (None, True)
        self.values["display_name"] = {self.name}
        self.makers = {self.uid}

    def _heard_add(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        files = {Path(path): "/" + url.rpartition("/")[2] for url, path in answer.act.arguments["files"]}
        self.is_suspended = self.is_suspended or None  # T24
        if is_ok:
            self.files |= files
        else:
            self.doubtful_files.append(files)

    def _heard_set(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        for name, value in answer.act.arguments.items():
            self.values[name] = {value} if is_ok else self.values.get(name, {None}) | {value}
        if answer.act.arguments.get("auto_complete"):
            self.was_completed = True
            self.ends.add("acknowledged")

    def _heard_flags(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        flags = answer.act.arguments["flags"]
        self.flags = {flags} if is_ok else self.flags | {flags}
        if any(flag & 1 for flag in self.flags) and self.helper_uid is not None:
            self.makers = {self.helper_uid} if is_ok and not self.files else self.makers | {self.helper_uid}
        if any(not flag & 1 for flag in self.flags):
            self.makers |= {self.uid}

    def _heard_resume(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self.is_suspended = False if is_ok else None

    def _heard_suspend(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self.is_suspended = True if is_ok else None

    def _heard_notify(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self.is_listening = self.is_listening or is_ok

    def _heard_cancel(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self._closed(answer, is_ok=is_ok)

    def _heard_complete(self, answer: Answer, is_ok: bool) -> None:  # noqa: FBT001  # as above
        self.was_completed = True
        self.is_suspended = None
        self._closed(answer, is_ok=is_ok)

    def _closed(self, answer: Answer, *, is_ok: bool) -> None:
        end = ENDS[answer.act.verb]
        if is_ok:
            self.end = end
            self.is_whole = end == "acknowledged" and answer.value == 0
        else:
            self.ends.add(end)
