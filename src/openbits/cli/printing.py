"""Lines for people: on a terminal long ones go on below, between words; elsewhere they stay as they are."""

import os
import sys
from collections.abc import Iterable
from typing import TextIO


def columns_of(stream: TextIO) -> int:
    """Width of the terminal, at least 20 and 80 if it does not say."""
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or 80, 20)
    except (OSError, ValueError):
        return 80


def put(lines: Iterable[str], indent: int) -> None:
    """Print the lines to standard output; what is folded goes on `indent` columns from the left."""
    if not sys.stdout.isatty():
        for line in lines:
            print(line)
        return
    import textwrap  # noqa: PLC0415  # only for people at a terminal

    folding = textwrap.TextWrapper(
        columns_of(sys.stdout), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        print("\n".join(folding.wrap(line)))
