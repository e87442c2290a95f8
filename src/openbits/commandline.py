"""Notify command lines: what the words of one are (jobs.md §12.5), and the name under which it is allowed to run.

Shared by the faces, the manager and the runner. Pure; standard library only.
"""

import hashlib
import json
import re
from collections.abc import Iterable

_PARTS = re.compile(r'(\\*)(")|([ \t]+)|(\\+|[^\\" \t]+)')
_ALLOWED_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}")


def split(program: str, parameters: str) -> list[str]:
    """The words that the program gets, its own name (argv[0]) first: `parameters` by the rules of Windows.

    Those are the documented ones of CommandLineToArgvW and of the C runtime there:

    * spaces and tabs part words, unless they are between quotation marks, which do not belong to the word;
    * 2n backslashes before a quotation mark are n of them, and the mark begins or ends a quotation;
    * 2n+1 backslashes before one are n of them and a quotation mark as such; other backslashes are what they are;
    * between quotation marks two of them are one as such;
    * the first word is a path, in which backslashes mean nothing; none, if the text begins with a space.

    Without parameters the one word is the program.
    """
    if not parameters:
        return [program]
    first, rest = _first(parameters)
    return [first, *_others(rest)]


def join(words: Iterable[str]) -> str:
    """Parameters that `split` makes these words of. Raises ValueError if the first one has a quotation mark."""
    first, *others = words
    if '"' in first:
        raise ValueError(f"the name of a program cannot have a quotation mark here: {first!r}")
    return " ".join([f'"{first}"' if _is_parted(first) else first, *map(_quoted, others)])


def name(job_id: str, program: str, parameters: str) -> str:
    """What the spawner records: the job (32 digits) and a digest of all of it, which no other text has.

    `program` empty: the parameters are the class id of a program that a manifest names (OPEN-51).
    """
    digest = hashlib.sha256(json.dumps([job_id, program, parameters]).encode()).hexdigest()
    return f"{job_id.replace('-', '')}-{digest}"


def is_name(text: str) -> bool:
    """True for what `name` may return."""
    return _ALLOWED_NAME.fullmatch(text) is not None


def _first(text: str) -> tuple[str, str]:
    """The first word and what follows it."""
    word: list[str] = []
    is_quoted = False
    for at, character in enumerate(text):
        if character == '"':
            is_quoted = not is_quoted
        elif character in " \t" and not is_quoted:
            return "".join(word), text[at:]
        else:
            word.append(character)
    return "".join(word), ""


def _others(text: str) -> list[str]:
    """All words after the first."""
    words: list[str] = []
    word: list[str] | None = None
    is_quoted = is_doubled = False
    for backslashes, mark, blanks, plain in _PARTS.findall(text):
        if blanks and not is_quoted:
            words += [] if word is None else ["".join(word)]
            word, is_doubled = None, False
            continue
        word = [] if word is None else word
        if not mark:
            word.append(blanks + plain)
            is_doubled = False
            continue
        word.append("\\" * (len(backslashes) // 2))
        if len(backslashes) % 2 or (is_doubled and not backslashes):
            word.append('"')
            is_quoted, is_doubled = is_quoted or is_doubled, False
        else:
            is_quoted, is_doubled = not is_quoted, is_quoted
    return words if word is None else [*words, "".join(word)]


def _quoted(word: str) -> str:
    if not _is_parted(word) and '"' not in word:
        return word
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    tail = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{escaped[-tail:] if tail else ""}"'


def _is_parted(word: str) -> bool:
    return not word or " " in word or "\t" in word
