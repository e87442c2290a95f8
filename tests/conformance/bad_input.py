"""Kinds of bad input and the tests that feed them: each gets its code, and a text with argument, value and rule."""

from typing import Final

_ARGUMENTS = "tests/real/test_com_arguments.py"
_OPTIONS = "tests/real/test_com_http_options.py"
_COMMANDS = "tests/real/test_commands.py"
_SPAWNED = "tests/identity/spawner/test_commands.py"
_CALLBACKS = "tests/real/test_callback_programs.py"

BAD_INPUT: Final = {
    "undefined values of an enumeration": f"{_ARGUMENTS}::test_an_argument_of_a_job[SetPriority-E_NOTIMPL]",
    "undefined flags": f"{_ARGUMENTS}::test_an_argument_of_a_job[SetNotifyFlags-E_NOTIMPL]",
    "undefined flags where E_INVALIDARG is documented": (
        f"{_ARGUMENTS}::test_an_argument_of_a_job[SetFileACLFlags-E_INVALIDARG]"
    ),
    "NULL": f"{_ARGUMENTS}::test_an_argument_of_a_job[SetDisplayName-E_INVALIDARG]",
    "NULL in the HTTP options": f"{_OPTIONS}::test_null_is_a_null_reference_here",
    "256 and 257 characters: display name": (
        f"{_ARGUMENTS}::test_an_argument_of_a_job[SetDisplayName-BG_E_STRING_TOO_LONG]"
    ),
    "256 and 257 characters: certificate store and subject": f"{_OPTIONS}::test_a_certificate_by_name",
    "260 and 261, 4000 and 4001 characters: command line": (
        f"{_ARGUMENTS}::test_an_argument_of_a_job[SetNotifyCmdLine-BG_E_STRING_TOO_LONG]"
    ),
    "300 and 301 characters: user name; 65,536 and 65,537: password": (
        f"{_OPTIONS}::test_credentials_of_every_target_and_scheme"
    ),
    "1024 and 1025 characters: description": (
        f"{_ARGUMENTS}::test_an_argument_of_a_job[SetDescription-BG_E_STRING_TOO_LONG]"
    ),
    "2200 and 2201 characters: URL": f"{_ARGUMENTS}::test_the_longest_names_are_kept_whole",
    "16,383 and 16,384 characters: headers": f"{_OPTIONS}::test_custom_headers",
    "32,000 and 32,001 characters: proxies": (
        f"{_ARGUMENTS}::test_an_argument_of_a_job[SetProxySettings-BG_E_PROXY_LIST_TOO_LARGE]"
    ),
    "GUIDs that are none": f"{_ARGUMENTS}::test_a_guid_that_is_none",
    "overlapping and empty ranges, 64-bit edges": (
        "tests/real/test_file_parts.py::test_ranges_that_are_refused_leave_no_file"
    ),
    "setters on final jobs": "tests/real/test_com_states.py::test_a_method_in_a_state[SetDescription-CANCELLED]",
    "two clients that race on one job": f"{_ARGUMENTS}::test_two_clients_race_on_one_job",
    "a new name against the end of the job": (
        "tests/real/test_remote_names.py::test_two_clients_race_a_new_name_against_the_end_of_the_job"
    ),
    "a callback that raises": "tests/com/test_callbacks.py::test_an_exception_or_a_failure_code_has_bits_call_again",
    "callbacks that hang": f"{_CALLBACKS}::test_four_callbacks_that_hang_stall_their_user_and_nobody_else",
    "a callback that dies": f"{_CALLBACKS}::test_a_program_that_dies_in_its_callback_was_not_told",
    "a command line that is missing, or not executable": f"{_COMMANDS}::test_what_went_wrong_is_told_to_its_user",
    "a command line that fails": f"{_COMMANDS}::test_it_is_run_again_after_the_delay_until_it_ends_with_zero",
    "a command line that is setuid": f"{_SPAWNED}::TestWhatIsRun::test_a_setuid_program_gains_nothing",
    "a command line that loops": f"{_SPAWNED}::TestHowItEnds::test_a_program_that_loops_ends_with_the_channel",
    "paths and URLs that cannot be meant": (
        "tests/real/test_bad_input.py::test_a_remote_name_that_cannot_be_meant_is_refused_with_the_rule"
    ),
    "messages that are no calls": (
        "tests/real/test_bad_input.py::test_a_wrong_call_is_answered_and_the_connection_goes_on"
    ),
}
"""What is fed → the test."""
