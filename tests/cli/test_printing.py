"""What people read on a terminal is folded between words; what a program reads is not."""

import os
import pty
import sys
import termios

import pytest

from openbits.cli.printing import put

LINES = ["why          the server does not answer", f"url          {'x' * 50}"]


def test_a_terminal_gets_lines_that_fit_and_go_on_below_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 30))
    text = b""
    with os.fdopen(ours, "rb", buffering=0) as shown, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        put(LINES, indent=13)
        terminal.flush()
        while text.count(b"\n") < 4:
            text += shown.read(4096)
    lines = text.decode().splitlines()
    assert lines == ["why          the server does", "             not answer", "url", " " * 13 + "x" * 50]


def test_elsewhere_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    put(LINES, indent=13)
    assert capsys.readouterr().out.splitlines() == LINES
