"""Impersonation levels of connections and tokens, and cloaking, for both faces (identity.md §2, §8; test T-3)."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import openbits
from openbits import BitsError, Level
from openbits.core.enums import AuthScheme, AuthTarget, CertStore

pytestmark = pytest.mark.root

S_OK = 0
E_ACCESSDENIED = 0x80070005
CO_E_FAILEDTOIMPERSONATE = 0x80010123


@pytest.fixture
def alice(throwaway_user: Callable[..., Any]) -> Any:
    """The owner of the jobs."""
    return throwaway_user()


@pytest.fixture
def bob(throwaway_user: Callable[..., Any]) -> Any:
    """The helper."""
    return throwaway_user()


def code_of(call: Callable[[], object]) -> tuple[int, str]:
    """HRESULT and text of a call; S_OK and no text if it succeeds."""
    try:
        call()
    except BitsError as error:
        return error.hresult, str(error)
    return S_OK, ""


def sid(person: Any) -> str:
    return f"S-1-22-1-{person.uid}"


SET_BY_LEVEL = {
    Level.ANONYMOUS: E_ACCESSDENIED,
    Level.IDENTIFY: CO_E_FAILEDTOIMPERSONATE,
    Level.IMPERSONATE: S_OK,
    Level.DELEGATE: S_OK,
}
"""T-3; A22 for level 2."""

EVERY_CALL: dict[str, dict[str, Any]] = {
    "CreateJob": {"display_name": "x", "type": "download", "umask": 0o22},
    "OpenJob": {"job_id": "the job"},
    "ReleaseJob": {"handle": "its handle"},
    "ListJobs": {"all_users": False},
    "GetJob": {"handle": "its handle"},
    "ListFiles": {"handle": "its handle"},
    "AddFiles": {"handle": "its handle", "files": [{"remote_name": "http://h/x", "local_name": "/srv/x"}]},
    "SetProperties": {"handle": "its handle", "values": {"description": "x"}},
    "Suspend": {"handle": "its handle"},
    "Resume": {"handle": "its handle"},
    "Complete": {"handle": "its handle"},
    "Cancel": {"handle": "its handle"},
    "SetHelperToken": {"handle": "its handle"},
    "ClearHelperToken": {"handle": "its handle"},
    "SetHelperTokenFlags": {"handle": "its handle", "flags": 1},
    "OpenProcessToken": {"level": 3},
    "LogonUser": {"user": "nobody", "password": "x", "level": 3},
    "Subscribe": {"all_users": False},
    "SetNotify": {"handle": "its handle", "subscriber": None},
    "AcknowledgeNotice": {"job_id": "the job", "notice_seq": 1, "hresult": 0},
    "SetCertificateCallback": {"handle": "its handle", "subscriber": None},
    "AnswerCertificate": {"question": 1, "hresult": 0},
}
"""Every method of docs/api.md but Hello (sets the level) and GetTokenInfo (below), with good parameters."""
MORE = {"ListJobs": "jobs", "ListFiles": "files", "Subscribe": "event"}
"""Methods with many replies, and the name of what comes in them."""
WITH_TOKEN = {"CreateJob", "OpenJob", "ListJobs", "Complete", "SetHelperToken", "OpenProcessToken", "SetNotify"}


def anonymous_codes(client: openbits.Client, token: openbits.Token | None) -> dict[str, tuple[int, str]]:
    """What every method answers at level ANONYMOUS: of the connection, or of the token it is called under."""
    connection = client.connection
    created = client.call("CreateJob", EVERY_CALL["CreateJob"])
    known = {"the job": created["job_id"], "its handle": created["handle"]}
    if token is None:
        connection.call("Hello", {"level": int(Level.ANONYMOUS)})

    def call(method: str) -> None:
        parameters = {name: known.get(str(value), value) for name, value in EVERY_CALL[method].items()}
        descriptors = []
        if token is not None:
            parameters["token"] = 0
            descriptors = [token.fileno()]
        if method in MORE:
            connection.collect(method, parameters, MORE[method], descriptors)
        else:
            connection.call(method, parameters, descriptors)

    methods = EVERY_CALL if token is None else WITH_TOKEN
    codes = {method: code_of(partial(call, method)) for method in methods}
    if token is None:
        connection.call("Hello", {"level": int(Level.IMPERSONATE)})
    info = client.job(created["job_id"]).info()
    assert (info["state"], info["helper_sid"], info["properties"]["description"]) == ("suspended", None, "")
    return codes


@pytest.mark.parametrize("where", ["connection", "token"])
def test_t3_at_level_anonymous_every_call_is_denied(
    where: str, service: Any, alice: Any, as_user: Callable[..., Any]
) -> None:
    def story() -> dict[str, tuple[int, str]]:
        with service.client() as client, client.open_process_token(level=Level.ANONYMOUS) as token:
            return anonymous_codes(client, token if where == "token" else None)

    codes = as_user(alice, story)
    assert set(codes) == (WITH_TOKEN if where == "token" else set(EVERY_CALL))
    assert {code for code, _ in codes.values()} == {E_ACCESSDENIED}, codes
    for _, text in codes.values():
        assert "level ANONYMOUS" in text
        assert f"(uid {alice.uid})" in text


@pytest.mark.parametrize("level", list(Level))
def test_t3_set_helper_token_by_the_level_of_the_token(
    level: Level, service: Any, alice: Any, bob: Any, as_user: Callable[..., Any]
) -> None:
    def story() -> tuple[int, str, str | None]:
        with service.client() as client:
            job = client.create_job("x")
            with token.impersonate():
                code, text = code_of(job.set_helper_token)
            return code, text, job.info()["helper_sid"]

    with service.client() as client, client.logon_user(bob.name, None, level=level) as token:
        assert client.token_info(token)["level"] == level
        code, text, helper_sid = as_user(alice, story)
    assert code == SET_BY_LEVEL[level]
    assert helper_sid == (sid(bob) if code == S_OK else None)
    if code != S_OK:
        assert f"{bob.name} (uid {bob.uid})" in text
        assert f"level {level.name}" in text
        assert ("at level IMPERSONATE" if level is Level.IDENTIFY else "at level IDENTIFY or above") in text


@pytest.mark.parametrize("level", list(Level))
def test_t3_set_helper_token_by_the_level_of_the_connection(
    level: Level, service: Any, alice: Any, bob: Any, as_user: Callable[..., Any]
) -> None:
    """Without a token the identity of the call is the connection's own; with one, the lower level of both counts."""

    def story() -> list[int]:
        with service.client() as client:
            job = client.create_job("x")
            client.call("Hello", {"level": int(level)})
            own = code_of(job.set_helper_token)[0]
            with token.impersonate():
                impersonated = code_of(job.set_helper_token)[0]
            return [own, impersonated]

    with service.client() as client, client.logon_user(bob.name, None, level=Level.DELEGATE) as token:
        assert as_user(alice, story) == [SET_BY_LEVEL[level]] * 2


def test_a_token_gives_no_token_of_a_higher_level(service: Any, alice: Any, as_user: Callable[..., Any]) -> None:
    def story() -> tuple[int, int]:
        with service.client() as client, client.open_process_token(level=Level.IDENTIFY) as low, low.impersonate():
            with client.open_process_token(level=Level.IDENTIFY) as copy:
                copied = client.token_info(copy)["level"]
            return copied, code_of(lambda: client.open_process_token(level=Level.IMPERSONATE))[0]

    copied, higher = as_user(alice, story)
    assert (copied, higher) == (Level.IDENTIFY, E_ACCESSDENIED)


# -- a token that only identifies ------------------------------------------------------------------------------------

SERVER, BASIC = AuthTarget.SERVER, AuthScheme.BASIC

ACTS: dict[str, Callable[[openbits.Client, openbits.Job, str], object]] = {
    "CreateJob": lambda client, _, __: client.create_job("x"),
    "AddFiles": lambda _, job, folder: job.add_file("http://127.0.0.1:9/x", f"{folder}/x"),
    "TakeOwnership": lambda _, job, __: job.take_ownership(),
    "SetNotifyCmdLine": lambda _, job, __: job.set_notify_command_line("/bin/true"),
    "SetProperties": lambda _, job, __: job.set(notification_clsid="11111111-1111-1111-1111-111111111111"),
    "SetCredentials": lambda _, job, __: job.set_credentials(SERVER, BASIC, "u", "p"),
    "SetCustomHeaders": lambda _, job, __: job.set_custom_headers("A: b\r\n"),
    "GetCustomHeaders": lambda _, job, __: job.custom_headers(),
    "SetClientCertificate": lambda _, job, __: job.set_client_certificate(CertStore.LOCAL_MACHINE, "MY", subject="x"),
}
"""What is done in somebody's name."""


@pytest.mark.parametrize("who", ["bob", "root"])
def test_a_token_that_only_identifies_its_user_does_nothing_in_his_name(
    who: str, service: Any, alice: Any, bob: Any, as_user: Callable[..., Any], private_folder: Any
) -> None:
    """Who was shown one could else make jobs of somebody who only wanted to be recognised, in his own folders."""
    folder = str(private_folder(bob))

    def create() -> str:
        with service.client() as client:
            return str(client.create_job("his own").id)

    def story() -> dict[str, int]:
        with service.client() as client, token.impersonate():
            job = client.job(job_id)
            return {name: code_of(partial(act, client, job, folder))[0] for name, act in ACTS.items()}

    job_id = as_user(bob, create)
    with service.client() as client:
        job = client.job(job_id)
        before = job.info()
        with client.logon_user(bob.name if who == "bob" else "root", None, level=Level.IDENTIFY) as token:
            assert as_user(alice, story) == dict.fromkeys(ACTS, CO_E_FAILEDTOIMPERSONATE)
        after = job.info()
        assert (after["owner_sid"], after["properties"]) == (sid(bob), before["properties"])
        assert (job.files(), job.notify_command_line(), len(client.jobs(all_users=True))) == ([], ("", ""), 1)


def test_a_connection_that_only_identifies_makes_jobs_of_its_own(
    service: Any, alice: Any, as_user: Callable[..., Any]
) -> None:
    """A21: what COM does without CoInitializeSecurity."""

    def story() -> str:
        with service.client(Level.IDENTIFY) as client:
            job = client.create_job("x")
            job.set_credentials(SERVER, BASIC, "u", "p")
            job.set_notify_command_line("/bin/true")
            return str(job.info()["owner_sid"])

    assert as_user(alice, story) == sid(alice)


# -- T-3 in the words of COM ----------------------------------------------------------------------------------------


def com_story(service: Any, token: openbits.Token | None, security: tuple[int, int] | None) -> str:
    """CoInitializeSecurity(level, capabilities) or not, then SetHelperToken: the helper's SID, or the error."""
    os.environ["OPENBITS_SOCKET"] = str(service.socket)
    from openbits import com  # noqa: PLC0415  # the state of COM is the process's, and this is a process of its own

    try:
        com.CoInitializeEx()
        if security is not None:
            com.CoInitializeSecurity(None, -1, None, None, 6, security[0], None, security[1], None)
        _, job = com.BackgroundCopyManager().CreateJob("com", com.BG_JOB_TYPE.BG_JOB_TYPE_DOWNLOAD)
        options = job.QueryInterface(com.IBitsTokenOptions)
        if token is not None:
            com.ImpersonateLoggedOnUser(token)
        try:
            options.SetHelperToken()
        finally:
            com.RevertToSelf()
        return str(options.GetHelperTokenSid())
    except com.COMError as error:
        return f"0x{error.hresult:08X}"


NO_CLOAKING, DYNAMIC_CLOAKING = 0x0, 0x40


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (None, "0x80010123"),  # the default is IDENTIFY (A21)
        ((0, DYNAMIC_CLOAKING), "0x80010123"),  # RPC_C_IMP_LEVEL_DEFAULT
        ((1, DYNAMIC_CLOAKING), "0x80070005"),
        ((2, DYNAMIC_CLOAKING), "0x80010123"),
        ((3, DYNAMIC_CLOAKING), "helper"),
        ((4, DYNAMIC_CLOAKING), "helper"),
        ((3, NO_CLOAKING), "process"),  # A23: without it the process identity is seen
        ((4, NO_CLOAKING), "process"),
    ],
)
def test_t3_levels_and_cloaking_of_com(
    security: tuple[int, int] | None,
    expected: str,
    service: Any,
    alice: Any,
    bob: Any,
    as_user: Callable[..., Any],
) -> None:
    sids = {"helper": sid(bob), "process": sid(alice)}
    with service.client() as client, client.logon_user(bob.name, None) as token:
        assert as_user(alice, com_story, service, token, security) == sids.get(expected, expected)
