"""Words of a notify command line: the rules that Microsoft documents for CommandLineToArgvW and the C runtime."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits import commandline

PROGRAM = "/usr/bin/program"

DOCUMENTED = [
    # "Parsing C command-line arguments", the table of examples
    (r'"a b c" d e', ["a b c", "d", "e"]),
    (r'"ab\"c" "\\" d', ['ab"c', "\\", "d"]),
    (r'a\\\b d"e f"g h', [r"a\\\b", "de fg", "h"]),
    (r"a\\\"b c d", [r"a\"b", "c", "d"]),
    (r'a\\\\"b c" d e', [r"a\\b c", "d", "e"]),
    (r'a"b"" c d', ['ab" c d']),
    # CommandLineToArgvW, the table of examples
    (r'"abc" d e', ["abc", "d", "e"]),
    (r'a\\b d"e f"g h', [r"a\\b", "de fg", "h"]),
]
"""Text after the name of the program, and the words it is."""


@pytest.mark.parametrize(("text", "words"), DOCUMENTED)
def test_the_examples_of_the_documentation(text: str, words: list[str]) -> None:
    assert commandline.split(PROGRAM, f"program {text}") == ["program", *words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("program", ["program"]),
        ('program "" ""', ["program", "", ""]),
        ("program  \t a\t\tb ", ["program", "a", "b"]),
        ("program a\nb", ["program", "a\nb"]),  # nothing else parts words
        (r"program \ \\ a\ b", ["program", "\\", "\\\\", "a\\", "b"]),
        ('program "never ended', ["program", "never ended"]),
        ("program $HOME %PATH% `id` $(id) *; true | cat > /x", [  # no shell: nothing means anything
            "program", "$HOME", "%PATH%", "`id`", "$(id)", "*;", "true", "|", "cat", ">", "/x",
        ]),
        ("program 'a b'", ["program", "'a", "b'"]),  # these are no quotation marks there
    ],
)  # fmt: skip
def test_what_parts_words_and_what_does_not(text: str, words: list[str]) -> None:
    assert commandline.split(PROGRAM, text) == words


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (r'"C:\Program Files\a.exe" -x', r"C:\Program Files\a.exe"),
        (r'"/opt/a b"/c -x', "/opt/a b/c"),
        (r'"/ends/with/\" -x', "/ends/with/" + "\\"),  # a backslash means nothing in a path
        (" -x", ""),
    ],
)
def test_the_first_word_is_a_path_in_which_backslashes_mean_nothing(text: str, first: str) -> None:
    assert commandline.split(PROGRAM, text) == [first, "-x"]


def test_without_parameters_the_only_word_is_the_program() -> None:
    assert commandline.split("/opt/with space", "") == ["/opt/with space"]


@given(
    st.text('ab\\ \t"', max_size=8).filter(lambda word: '"' not in word),
    st.lists(st.text('ab\\ \t"', max_size=8) | st.text(max_size=5)),
)
def test_what_was_joined_is_split_into_the_same_words(first: str, others: list[str]) -> None:
    assert commandline.split(PROGRAM, commandline.join([first, *others])) == [first, *others]


def test_a_program_with_a_quotation_mark_in_its_name_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="quotation mark"):
        commandline.join(['a"b', "c"])


JOB = "0b1f6b2e-5d1c-4c89-9d0e-1f2a3b4c5d6e"


def test_a_name_has_the_job_and_is_that_of_no_other_text() -> None:
    name = commandline.name(JOB, "/bin/a", "a b")
    assert name.startswith("0b1f6b2e5d1c4c899d0e1f2a3b4c5d6e-")
    others = {
        commandline.name(JOB[:-1] + "f", "/bin/a", "a b"),
        commandline.name(JOB, "/bin/b", "a b"),
        commandline.name(JOB, "/bin/a", "a c"),
        commandline.name(JOB, "/bin/aa", " b"),  # where one ends and the other begins is part of it
        commandline.name(JOB, "", "/bin/aa b"),
    }
    assert len(others | {name}) == 6
    assert all(map(commandline.is_name, others | {name}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "json",
        "../x",
        JOB,
        "a" * 97,
        f"{'a' * 32}-{'b' * 63}",
        f"{'a' * 32}-{'b' * 64}\n",
        f"{'a' * 32}/{'b' * 64}",
    ],
)
def test_what_is_no_name_is_not_taken_for_one(text: str) -> None:
    assert not commandline.is_name(text)
