"""The words of a failed file operation."""

import errno

from openbits.identity import path_errors


def test_a_path_in_a_text_cannot_forge_lines_and_is_clipped() -> None:
    error = path_errors.failure(errno.EIO, "create", b"/srv/\x1b[2J\nok\xff" + b"n" * 4000)
    text = str(error)
    assert "/srv/\\x1b[2J\\nok\\udcff" in text
    assert text.isprintable()
    assert len(text) < 600
