"""The table of codes against the specification (errors.md, identity.md §9), and what people read of it."""

import errno
import time
from pathlib import Path

import pytest

from openbits.core import codes
from openbits.core.codes import CodeClass
from openbits.core.codes_http import class_of_status
from openbits.core.codes_table import ROWS, method
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import JobError

EXPECTED = {
    int(value, 16): (symbol, code_class)
    for value, symbol, code_class in (
        line.split()
        for line in Path(__file__).with_name("expected_codes.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}

ERRNO = {
    "ENOENT": 0x80070002,
    "ENOTDIR": 0x80070003,
    "EMFILE": 0x80070004,
    "ENFILE": 0x80070004,
    "EACCES": 0x80070005,
    "EPERM": 0x80070005,
    "EISDIR": 0x80070005,
    "ENOMEM": 0x8007000E,
    "EXDEV": 0x80070011,
    "EROFS": 0x80070013,
    "EAGAIN": 0x80070020,
    "EBUSY": 0x80070020,
    "ETXTBSY": 0x80070020,
    "EEXIST": 0x800700B7,
    "EINVAL": 0x80070057,
    "ENOSPC": 0x80070070,
    "EDQUOT": 0x8007050F,
    "ENAMETOOLONG": 0x800700CE,
    "EFBIG": 0x800700DF,
    "EIO": 0x8007045D,
    "ENODEV": 0x8020000D,
    "ENXIO": 0x8020000D,
    "ELOOP": 0x80070781,
    "ESTALE": 0x8020000E,
    "ETIMEDOUT": 0x80072EE2,
    "ECONNREFUSED": 0x80072EFD,
    "EHOSTUNREACH": 0x80072EFD,
    "ECONNRESET": 0x80072EFE,
    "EPIPE": 0x80072EFE,
    "ENETDOWN": 0x80200010,
    "ENETUNREACH": 0x80200010,
}

ERROR_CONTEXTS = {
    ErrorContext.NONE: 0x00200006,
    ErrorContext.UNKNOWN: 0x80200007,
    ErrorContext.GENERAL_QUEUE_MANAGER: 0x80200008,
    ErrorContext.LOCAL_FILE: 0x80200009,
    ErrorContext.REMOTE_FILE: 0x8020000A,
    ErrorContext.GENERAL_TRANSPORT: 0x8020000B,
    ErrorContext.QUEUE_MANAGER_NOTIFICATION: 0x8020000C,
    ErrorContext.REMOTE_APPLICATION: 0x8020001E,
    ErrorContext.SERVER_CERTIFICATE_CALLBACK: 0x80200076,
}

# The table


def test_the_table_has_the_codes_of_the_specification_and_no_others() -> None:
    found = {code.value: (code.symbol, code.code_class.value) for code in ROWS.values()}
    assert found == EXPECTED


def test_every_symbol_is_a_constant_with_its_number() -> None:
    assert {symbol: getattr(codes, symbol, None) for symbol, _ in EXPECTED.values()} == {
        symbol: value for value, (symbol, _) in EXPECTED.items()
    }


def test_every_code_says_what_it_means_and_every_failure_what_to_do() -> None:
    for code in ROWS.values():
        assert code.sentence, code.symbol
        assert code.sentence == code.sentence.strip(" ."), code.symbol
        if codes.is_failure(code.value) and code.code_class is not CodeClass.CONTEXT:
            assert code.next_step, code.symbol
            assert not code.next_step.endswith("."), code.symbol


def test_what_puts_a_job_into_an_error_state_has_a_place() -> None:
    for code in ROWS.values():
        is_job_error = code.code_class in {CodeClass.FATAL, CodeClass.TRANSIENT, CodeClass.EVENT}
        assert (code.context is not None) == is_job_error, code.symbol


@pytest.mark.parametrize(
    ("value", "context"),
    [
        (0x8020000D, ErrorContext.LOCAL_FILE),
        (0x8020000E, ErrorContext.LOCAL_FILE),
        (0x80200010, ErrorContext.GENERAL_TRANSPORT),
        (0x80200011, ErrorContext.REMOTE_FILE),
        (0x8020001D, ErrorContext.LOCAL_FILE),
        (0x8020002D, ErrorContext.GENERAL_TRANSPORT),
        (0x8020003E, ErrorContext.GENERAL_QUEUE_MANAGER),
        (0x80200053, ErrorContext.REMOTE_FILE),
        (0x80200054, ErrorContext.GENERAL_QUEUE_MANAGER),
        (0x80200056, ErrorContext.GENERAL_QUEUE_MANAGER),
        (0x80200074, ErrorContext.SERVER_CERTIFICATE_CALLBACK),
        (0x80190194, ErrorContext.REMOTE_FILE),
        (0x80072EE7, ErrorContext.GENERAL_TRANSPORT),
        (0x80070070, ErrorContext.LOCAL_FILE),
    ],
)
def test_the_place_is_the_documented_one(value: int, context: ErrorContext) -> None:
    assert codes.lookup(value).context is context


def test_a_number_can_be_given_once_only() -> None:
    with pytest.raises(ValueError, match="BG_E_COPY and BG_E_NOT_FOUND have the same number 0x80200001"):
        method("BG_E_COPY", 0x80200001, "", "")


# Numbers


def test_signed_and_unsigned_are_the_same_code() -> None:
    assert codes.unsigned(-2145386494) == 0x80200002
    assert codes.lookup(-2145386494) is codes.lookup(0x80200002)
    assert codes.symbol(-2145386494) == "BG_E_INVALID_STATE"
    assert codes.label(-2145386494) == "BG_E_INVALID_STATE (0x80200002)"
    assert codes.is_failure(-2145386494)


@pytest.mark.parametrize("value", [0x100000000, -0x80000001])
def test_what_has_no_32_bits_is_no_code(value: int) -> None:
    with pytest.raises(ValueError, match="is no 32-bit code"):
        codes.lookup(value)


@pytest.mark.parametrize("value", [0, 1, 0x00200017, 0x0020001A, 0x00200055, 0x00200006])
def test_successes_are_no_failures(value: int) -> None:
    assert not codes.is_failure(value)


@pytest.mark.parametrize("value", [0x8020004A, 0x8020005F, 0x80200077, 0x80001234, 0xFFFFFFFF])
def test_an_unknown_failure_is_transient_and_has_a_text(value: int) -> None:
    code = codes.lookup(value)
    assert (code.value, code.code_class) == (value, CodeClass.TRANSIENT)
    assert code.symbol
    assert code.sentence
    assert code.next_step


def test_unknown_codes_of_known_families_name_their_number() -> None:
    assert codes.symbol(0x801901A6) == "HTTP_STATUS_422"
    assert "422" in codes.lookup(0x801901A6).sentence
    assert codes.symbol(0x80070019) == "WIN32_ERROR_25"
    assert codes.classify(0x80070019) is CodeClass.TRANSIENT
    assert codes.lookup(0x80072EE4).context is ErrorContext.GENERAL_TRANSPORT
    assert codes.classify(0x00200099) is CodeClass.SUCCESS


# HTTP statuses (errors.md §4)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({300, 301, 302, 303, 304, 305, 307, 308}, "F"),  # 308: own row
        ({306, 309, 399}, "T"),
        ({408, 409, 425, 429}, "T"),  # 425, 429: own rows
        (set(range(400, 500)) - {408, 409, 425, 429}, "F"),
        ({501, 505}, "F"),
        (set(range(500, 600)) - {501, 505}, "T"),
        ({100, 101, 102, 200, 206, 299, 600, 999}, "T"),
    ],
)
def test_every_status_has_the_class_of_row_or_rule(statuses: set[int], expected: str) -> None:
    assert {codes.classify(codes.from_http_status(status)).value for status in statuses} == {expected}


def test_the_general_rule_is_that_for_server_applications() -> None:
    fatal = {300, 301, 302, 303, 304, 305, 307, 501, 505} | set(range(400, 500)) - {408, 409}
    assert {status for status in range(100, 1000) if class_of_status(status) is CodeClass.FATAL} == fatal


def test_a_status_becomes_its_code() -> None:
    assert codes.from_http_status(404) == 0x80190194
    assert codes.from_http_status(429) == 0x801901AD


@pytest.mark.parametrize("status", [-1, 0, 99, 1000, 0x4000, 0x10000])
def test_a_number_that_is_no_status_is_an_invalid_answer(status: int) -> None:
    assert codes.from_http_status(status) == 0x8020001B


def test_event_log_identifiers_are_no_http_statuses() -> None:
    assert codes.symbol(0x80194000) == "BITS_MC_JOB_CANCELLED"
    assert "HTTP" not in codes.lookup(0x8019400C).sentence


# errno (errors.md §5.2)


@pytest.mark.parametrize(("name", "expected"), ERRNO.items())
def test_every_errno_has_its_code(name: str, expected: int) -> None:
    assert codes.from_errno(getattr(errno, name)) == expected


def test_a_missing_directory_differs_from_a_missing_file() -> None:
    assert codes.from_errno(errno.ENOENT, is_directory=True) == 0x80070003
    assert codes.from_errno(errno.ENOTDIR, is_directory=True) == 0x80070003
    assert codes.from_errno(errno.EACCES, is_directory=True) == 0x80070005


def test_an_errno_without_a_row_is_a_general_failure() -> None:
    assert codes.from_errno(errno.EUCLEAN) == 0x80004005


# What people read


def test_every_context_has_the_text_of_its_identifier() -> None:
    assert set(ERROR_CONTEXTS) == set(ErrorContext)
    for context, identifier in ERROR_CONTEXTS.items():
        assert codes.context_description(context) == codes.lookup(identifier).sentence


def test_a_job_error_names_everything_that_helps() -> None:
    error = JobError(
        code=0x80190194,
        context=ErrorContext.REMOTE_FILE,
        detail="GET was answered by nginx: 404 Not Found",
        identity="backup (uid 1003)",
        subject="http://files.example/iso",
    )
    assert codes.describe(error) == (
        "BG_E_HTTP_ERROR_404 (0x80190194): the server has no such file (HTTP 404); "
        "while working on the remote file http://files.example/iso; as backup (uid 1003); "
        "GET was answered by nginx: 404 Not Found; "
        "check the url"
    )


def test_the_cause_leaves_the_next_step_out_and_names_the_object_once() -> None:
    error = JobError(
        code=0x80190194,
        context=ErrorContext.REMOTE_FILE,
        detail="files.example/iso: GET: 404 Not Found",
        subject="http://files.example/iso",
    )
    assert codes.describe_cause(error) == (
        "BG_E_HTTP_ERROR_404 (0x80190194): the server has no such file (HTTP 404); "
        "while working on the remote file http://files.example/iso; GET: 404 Not Found"
    )


def test_a_job_that_does_not_try_again_by_itself_has_to_be_resumed() -> None:
    """No message promises an attempt that nobody makes, whatever the code (user-pains, message rules)."""
    for row in ROWS.values():
        if row.code_class is CodeClass.TRANSIENT:
            assert codes.next_step(row.value, tries_again=True) == row.next_step
            step = codes.next_step(row.value, tries_again=False)
            assert "resume the job" in step
            assert "by itself" not in step
            assert "next attempt" not in step
    assert codes.next_step(0x80072EFD, tries_again=False) == "check address, port and firewall, then resume the job"
    assert codes.next_step(0x801901F7, tries_again=False) == "resume the job to try again"


def test_a_refusal_that_names_its_next_step_is_not_followed_by_another() -> None:
    error = JobError(
        code=0x80004001, context=ErrorContext.NONE, subject="/srv/a", detail="no ranges here; add the whole file"
    )
    assert codes.describe_cause(error).endswith("; /srv/a; no ranges here")
    assert codes.describe(error).endswith("; no ranges here; add the whole file")
    assert codes.next_step(0x80004001, tries_again=False) == codes.lookup(0x80004001).next_step


def test_a_job_error_with_nothing_known_still_says_something() -> None:
    text = codes.describe(JobError(code=0x80001234, context=ErrorContext.NONE))
    assert "0x80001234" in text
    assert ";" in text


def test_a_subject_without_context_stands_for_itself() -> None:
    text = codes.describe(JobError(code=0x80070005, context=ErrorContext.NONE, subject="/srv/in/file"))
    assert "; /srv/in/file; " in text


def test_a_wait_that_the_server_asks_for_is_told() -> None:
    error = JobError(code=0x801901AD, context=ErrorContext.REMOTE_FILE, retry_after_seconds=90.0)
    assert "the server asks to wait 90 s" in codes.describe(error)


def test_a_server_that_was_not_reached_has_asked_for_nothing() -> None:
    error = JobError(code=0x80072EFD, context=ErrorContext.GENERAL_TRANSPORT, retry_after_seconds=3.0)
    assert "asks" not in codes.describe(error, tries_again=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:hunter2@files.example/a/b?x=1",
        "https://files.example/a/b?sig=hunter2;x=1,y",
        "https://files.example/a/b#hunter2",
        "HTTPS://u@hunter2@files.example/a/b",
    ],
)
def test_secrets_of_urls_are_masked(url: str) -> None:
    error = JobError(
        code=0x80190193, context=ErrorContext.REMOTE_FILE, subject=url, detail=f"redirected to {url} twice"
    )
    text = codes.describe(error)
    assert "hunter2" not in text
    assert text.count("://files.example/a/b") == 2
    assert "twice" in text


def test_a_hostile_server_cannot_break_the_line_or_steer_the_terminal() -> None:
    detail = "404 \x1b[2J\r\nGone\u202e\ud800" + "x" * 5000
    text = codes.describe(JobError(code=0x80190194, context=ErrorContext.REMOTE_FILE, detail=detail))
    assert text.isprintable()
    assert text.encode()
    assert len(text) < 2000


@pytest.mark.parametrize("bait", ["a" * 60_000, "a://" * 15_000, "http://" + "@" * 60_000, "http://x?" + "?" * 60_000])
def test_a_long_detail_costs_next_to_nothing(bait: str) -> None:
    before = time.process_time()
    codes.describe(JobError(code=0x80190194, context=ErrorContext.REMOTE_FILE, detail=bait))
    assert time.process_time() - before < 0.5  # a quadratic search takes many seconds


# The exception


def test_a_failure_without_text_says_what_the_code_means_and_what_to_do() -> None:
    error = BitsError(-2145386493)
    assert (error.hresult, error.symbol, error.context) == (0x80200003, "BG_E_EMPTY", ErrorContext.NONE)
    assert str(error) == "the job has no file to transfer; add at least one file, then resume the job"


def test_a_text_without_next_step_gets_that_of_the_code() -> None:
    error = BitsError(codes.BG_E_EMPTY, "cannot resume job x: it has no file")
    assert str(error) == "cannot resume job x: it has no file; add at least one file, then resume the job"


def test_a_text_with_a_next_step_stays_as_it_is_also_after_crossing_the_wire() -> None:
    error = BitsError(codes.E_ACCESSDENIED, "cannot open job x: it is not yours; ask its owner")
    assert str(error) == "cannot open job x: it is not yours; ask its owner"
    completed = BitsError(codes.BG_E_EMPTY, "cannot resume job x: it has no file")
    assert str(BitsError(completed.hresult, str(completed))) == str(completed)


def test_a_traceback_shows_the_number() -> None:
    assert BitsError(codes.BG_E_NOT_FOUND, "cannot open it").__notes__ == ["BG_E_NOT_FOUND (0x80200001)"]
