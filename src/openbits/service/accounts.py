"""What the machine says about accounts in general."""

import re
from pathlib import Path

from openbits.core.sessions import Rules

LOGIN_DEFS = Path("/etc/login.defs")


def system_uid_max() -> int:
    """SYS_UID_MAX of the machine: accounts up to it are service accounts (identity.md §8); 999 if it does not say."""
    try:
        found = re.search(r"^\s*SYS_UID_MAX\s+(\d+)", LOGIN_DEFS.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return int(found.group(1)) if found else Rules().system_uid_max
