"""The log of requests: one line for each, an event and `key=value` (upload-protocol.md §13: nothing secret in it).

Session ids are cut, query strings are left out; passwords and authorisations never come here.
"""

import json
import logging
import re
import time
from dataclasses import dataclass, field

log = logging.getLogger("openbits.server")

SESSION_ID_SHOWN = 9
"""Characters of a session id: enough to find the others of the session, too few to use it."""

_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\U0010ffff]+")


@dataclass(slots=True, kw_only=True)
class Entry:
    """What is known of a request, filled in as it becomes known."""

    client: str
    path: str
    kind: str
    directory: str = ""
    user: str = ""
    session_id: str = ""
    status: int = 0
    hresult: int = 0
    body_bytes: int = 0
    """Of a fragment what came, of a download what was sent."""
    reason: str = ""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started_at

    def write(self) -> None:
        """Write the line; failures of the server are warnings."""
        level = logging.WARNING if self.status >= 500 and self.hresult != 0x8020001F else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "%s", self)

    def __str__(self) -> str:
        """The line."""
        facts = {
            "type": self.kind,
            "status": str(self.status or "gone"),
            "code": f"0x{self.hresult:08X}" if self.hresult else "",
            "client": self.client,
            "user": self.user,
            "directory": self.directory,
            "path": self.path,
            "session": self.session_id[:SESSION_ID_SHOWN],
            "bytes": str(self.body_bytes),
            "seconds": f"{self.seconds:.3f}",
            "reason": self.reason,
        }
        return "request_answered " + " ".join(f"{key}={_shown(value)}" for key, value in facts.items() if value)


def _shown(value: str) -> str:
    """In one word; whatever could begin another field or line is escaped."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
