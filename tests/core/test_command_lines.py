"""The notify command line of a job: what is taken, and when it may be run no more (jobs.md §7.4, §12.5)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import codes, events
from openbits.core.command_lines import check
from openbits.core.enums import JobState
from openbits.core.errors import BitsError
from openbits.core.lifecycle import step
from openbits.core.model import CommandLine, Identity, Job, Now
from openbits.core.properties import Properties

ALICE, ROOT = Identity(uid=1000, gid=1000, groups=(1000, 27), name="alice"), Identity(uid=0, gid=0)
NONFINAL = [state for state in JobState if not state.is_final]
CLASS = "6f1b7c3e-0a52-4c55-9a80-1d2e3f4a5b6c"
TOLD = CommandLine(program="/bin/true", parameters="true x", setter=ALICE)
OTHER = replace(TOLD, parameters="true y")
ACTIVATED = CommandLine(program="", parameters=CLASS, setter=ALICE)


# -- what is taken


@pytest.mark.parametrize(
    ("program", "parameters", "expected"),
    [
        (None, None, None),
        ("", "", None),
        ("", None, None),
        ("/bin/true", None, ("/bin/true", "")),
        ("/bin/true", "", ("/bin/true", "")),
        ("/bin/true", "no program name first", ("/bin/true", "no program name first")),
        ("/with space/ä", "\ta\nb\r", ("/with space/ä", "\ta\nb\r")),
        ("/" + "x" * 259, "y" * 4000, ("/" + "x" * 259, "y" * 4000)),
        ("/" + "\U0001f600" * 259, "\U0001f600" * 4000, ("/" + "\U0001f600" * 259, "\U0001f600" * 4000)),
    ],
)
def test_what_is_taken(program: str | None, parameters: str | None, expected: tuple[str, str] | None) -> None:
    assert check(program, parameters) == expected


@pytest.mark.parametrize(
    ("program", "parameters", "code"),
    [
        ("/" + "x" * 260, None, codes.BG_E_STRING_TOO_LONG),
        ("x" * 261, None, codes.BG_E_STRING_TOO_LONG),
        ("/bin/true", "y" * 4001, codes.BG_E_STRING_TOO_LONG),
        (None, "x", codes.E_INVALIDARG),
        ("", "x", codes.E_INVALIDARG),
        ("true", None, codes.E_INVALIDARG),
        ("bin/true", None, codes.E_INVALIDARG),
        ("~/bin/true", None, codes.E_INVALIDARG),
        ("$HOME/true", None, codes.E_INVALIDARG),
        ("/bin/tr\nue", None, codes.E_INVALIDARG),
        ("/bin/true\0", None, codes.E_INVALIDARG),
        ("/bin/\udc80", None, codes.E_INVALIDARG),
        ("/bin/true", "a\0b", codes.E_INVALIDARG),
        ("/bin/true", "\x1b[31m", codes.E_INVALIDARG),
        ("/bin/true", "\ud800", codes.E_INVALIDARG),
    ],
)
def test_what_is_refused(program: str | None, parameters: str | None, code: int) -> None:
    with pytest.raises(BitsError) as caught:
        check(program, parameters)
    assert caught.value.hresult == code


def test_a_refusal_does_not_repeat_the_parameters() -> None:
    with pytest.raises(BitsError) as caught:
        check("/bin/true", "--password=geheim\0")
    assert "geheim" not in str(caught.value)
    assert "U+0000" in str(caught.value)


# -- in a job


@pytest.mark.parametrize("state", NONFINAL)
def test_it_is_set_and_removed_in_every_state_and_stops_nothing(
    a_job: Callable[..., Job], now: Now, state: JobState
) -> None:
    job, effects = step(a_job(state), events.SetCommandLine(TOLD), now)
    assert (job.state, job.command_line, job.modified_at, effects) == (state, TOLD, now.wall, [])
    job, effects = step(job, events.SetCommandLine(None), now)
    assert (job.state, job.command_line, effects) == (state, None, [events.ForgetCommands((TOLD,))])


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_a_final_job_takes_none(a_job: Callable[..., Job], now: Now, state: JobState) -> None:
    with pytest.raises(BitsError) as caught:
        step(a_job(state), events.SetCommandLine(TOLD), now)
    assert caught.value.hresult == codes.BG_E_INVALID_STATE


def test_another_command_replaces_it(a_job: Callable[..., Job], now: Now) -> None:
    job, effects = step(a_job(command_line=TOLD), events.SetCommandLine(OTHER), now)
    assert (job.command_line, effects) == (OTHER, [events.ForgetCommands((TOLD,))])


def test_the_same_command_of_the_same_user_is_not_forgotten(a_job: Callable[..., Job], now: Now) -> None:
    """Who logged on again may be in other groups."""
    again = replace(TOLD, setter=replace(ALICE, groups=(1000,)))
    job, effects = step(a_job(command_line=TOLD), events.SetCommandLine(again), now)
    assert (job.command_line, effects) == (again, [])


def test_the_same_text_of_another_user_is_another_command(a_job: Callable[..., Job], now: Now) -> None:
    other = replace(TOLD, setter=replace(ALICE, uid=1001))
    _, effects = step(a_job(command_line=TOLD), events.SetCommandLine(other), now)
    assert effects == [events.ForgetCommands((TOLD,))]


def test_take_ownership_takes_both_programs_away_also_from_who_owns_the_job(
    a_job: Callable[..., Job], now: Now
) -> None:
    for owner in (ROOT, ALICE):
        job = a_job(JobState.SUSPENDED, files=(), owner=ALICE, command_line=TOLD, activation=ACTIVATED)
        job, effects = step(job, events.TakeOwnership(owner=owner), now)
        assert (job.command_line, job.activation) == (None, None)
        assert effects == [events.ForgetCommands((TOLD, ACTIVATED))]


def test_a_job_that_is_over_runs_nothing_but_tells_what_it_had(a_job: Callable[..., Job], now: Now) -> None:
    job, effects = step(a_job(command_line=TOLD, activation=ACTIVATED), events.Cancel(), now)
    assert (job.command_line, job.commands) == (TOLD, ())
    assert events.ForgetCommands((TOLD, ACTIVATED)) in effects


def test_a_class_is_that_of_whoever_set_it_and_goes_with_it(a_job: Callable[..., Job], now: Now) -> None:
    names = ("notification_clsid",)
    chosen = events.SetProperties(properties=Properties(notification_clsid=CLASS), names=names, activation=ACTIVATED)
    job, effects = step(a_job(), chosen, now)
    assert (job.activation, effects) == (ACTIVATED, [])
    job, effects = step(job, events.SetProperties(properties=replace(job.properties, description="x")), now)
    assert (job.activation, effects) == (ACTIVATED, [])
    job, effects = step(job, events.SetProperties(properties=Properties(), names=names), now)
    assert (job.activation, effects) == (None, [events.ForgetCommands((ACTIVATED,))])
