"""What SetNotifyCmdLine takes (jobs.md §7.4, §12.5 C3). Nothing is expanded or searched for (C4).

Parameters are taken as they are given, as BITS does: that their first word is the program is for their writer to see
to, since a program may well want another name. What the words are is decided when it is run (`openbits.commandline`).
"""

import unicodedata
from typing import Final

from openbits.core import codes
from openbits.core.errors import BitsError

MAX_PROGRAM: Final = 260
MAX_PARAMETERS: Final = 4000
"""In Unicode code points (OPEN-01)."""

_UNSAFE: Final = frozenset({"Cc", "Cs"})
"""Categories of Unicode: controls, and surrogates, which no argument of a program can hold."""


def check(program: str | None, parameters: str | None) -> tuple[str, str] | None:
    """Program and parameters, empty if there are none; None: the command line is removed. An empty text is NULL.

    Raises BitsError BG_E_STRING_TOO_LONG or E_INVALIDARG, whose text does not repeat the parameters: they may hold what
    is nobody else's business.
    """
    program, parameters = program or "", parameters or ""
    for what, text, limit in (("program", program, MAX_PROGRAM), ("parameters", parameters, MAX_PARAMETERS)):
        if len(text) > limit:
            rule = f"the {what} may have {limit} characters, and has {len(text)}; call a script that does the rest"
            raise _refused(rule, codes.BG_E_STRING_TOO_LONG)
    if not program and parameters:
        raise _refused("there are parameters and no program; name the program, or leave out both to remove it")
    if not program:
        return None
    if not program.startswith("/"):
        rule = f"{program!a} is no absolute path; nothing is searched for or expanded, give the path from / on"
        raise _refused(rule)
    for what, text, allowed in (("program", program, ""), ("parameters", parameters, "\t\n\r")):
        bad = next((one for one in text if unicodedata.category(one) in _UNSAFE and one not in allowed), None)
        if bad is not None:
            raise _refused(f"the {what} must not have the control character U+{ord(bad):04X}; leave it out")
    return program, parameters


def _refused(rule: str, code: int = codes.E_INVALIDARG) -> BitsError:
    return BitsError(code, f"cannot set the notify command: {rule}")
