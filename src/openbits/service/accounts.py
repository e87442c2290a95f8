"""What the machine says about accounts in general."""

import re
from pathlib import Path

LOGIN_DEFS = Path("/etc/login.defs")

FIRST_LOGIN_UID = 1000
"""Where people's accounts begin, if the machine does not say."""


def first_login_uid() -> int:
    """UID_MIN of the machine: accounts below it are service accounts (OPEN-13)."""
    try:
        found = re.search(r"^\s*UID_MIN\s+(\d+)", LOGIN_DEFS.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return int(found.group(1)) if found else FIRST_LOGIN_UID
