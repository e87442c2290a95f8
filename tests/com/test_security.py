"""CoInitializeSecurity, tokens of the thread, and what the service gets to see (identity.md §2, §3, §8)."""

import threading

import pytest
from tests.api.fakeservice import FakeService

from openbits import com
from openbits.com.constants import RPC_C_IMP_LEVEL


def initialize_security(level: int, capabilities: int = com.EOAC_DYNAMIC_CLOAKING) -> int:
    """The nine parameters."""
    return com.CoInitializeSecurity(None, -1, None, None, 0, level, None, capabilities, None)


def hello_level(service: FakeService) -> int:
    return int(service.calls[0].parameters["level"])


def test_without_initialisation_the_service_sees_the_process_at_level_identify(service: FakeService) -> None:
    _, job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_DOWNLOAD)
    options = job.QueryInterface(com.IBitsTokenOptions)
    token = com.LogonUser("beth", ".", "secret")
    com.ImpersonateLoggedOnUser(token)
    with pytest.raises(com.COMError) as caught:
        options.SetHelperToken()
    com.CloseHandle(token)
    assert (caught.value.hresult, caught.value.name) == (0x80010123, "CO_E_FAILEDTOIMPERSONATE")
    assert hello_level(service) == 2
    assert {call.token for call in service.calls} == {None}


@pytest.mark.parametrize(
    ("asked", "level"), [(0, 2), (1, 1), (2, 2), (3, 3), (4, 4), (RPC_C_IMP_LEVEL.RPC_C_IMP_LEVEL_IMPERSONATE, 3)]
)
def test_the_level_of_the_process_is_that_of_the_connection(asked: int, level: int, service: FakeService) -> None:
    assert initialize_security(asked) == com.S_OK
    com.BackgroundCopyManager()
    assert hello_level(service) == level


@pytest.mark.usefixtures("service")
def test_an_anonymous_process_is_denied() -> None:
    initialize_security(com.RPC_C_IMP_LEVEL_ANONYMOUS)
    manager = com.BackgroundCopyManager()
    with pytest.raises(com.COMError) as caught:
        manager.EnumJobs(0)
    assert caught.value.hresult == 0x80070005


@pytest.mark.usefixtures("service")
def test_security_is_set_once_and_before_the_first_manager() -> None:
    with pytest.raises(com.COMError) as caught:
        initialize_security(5)
    assert caught.value.hresult == 0x80070057
    initialize_security(3)
    with pytest.raises(com.COMError) as caught:
        initialize_security(3)
    assert caught.value.hresult == com.RPC_E_TOO_LATE == 0x80010119
    com.CoUninitialize()
    com.BackgroundCopyManager()
    with pytest.raises(com.COMError) as caught:
        initialize_security(3)
    assert caught.value.hresult == 0x80010119


@pytest.mark.usefixtures("service")
def test_com_is_counted() -> None:
    assert com.CoInitializeEx() == com.S_OK
    assert com.CoInitializeEx(None, com.COINIT_APARTMENTTHREADED) == com.S_FALSE
    manager = com.BackgroundCopyManager()
    com.CoUninitialize()
    assert manager.EnumJobs(0).GetCount() == 0
    com.CoUninitialize()
    with pytest.raises(com.COMError) as caught:
        manager.EnumJobs(0)
    assert caught.value.hresult == 0x800706BA


def test_helper_token_as_documented(service: FakeService) -> None:
    """QueryInterface as the owner, SetHelperToken as the helper; the flags are those of the owner's call."""
    initialize_security(com.RPC_C_IMP_LEVEL_IMPERSONATE)
    _, job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_DOWNLOAD)
    options = job.QueryInterface(com.IBitsTokenOptions)
    assert options.GetHelperTokenSid() is None
    assert options.GetHelperTokenFlags() == 0
    token = com.LogonUser("beth", None, "secret", com.LOGON32_LOGON_INTERACTIVE, com.LOGON32_PROVIDER_DEFAULT)
    assert com.ImpersonateLoggedOnUser(token)
    assert com.CloseHandle(token)  # the thread goes on impersonating
    assert options.SetHelperToken() == com.S_OK
    assert options.SetHelperTokenFlags(com.BG_TOKEN_LOCAL_FILE | com.BG_TOKEN_NETWORK) == com.S_OK
    assert com.RevertToSelf()
    assert (options.GetHelperTokenSid(), options.GetHelperTokenFlags()) == ("S-of-beth", 3)
    assert options.ClearHelperToken() == com.S_OK
    assert (options.GetHelperTokenSid(), options.GetHelperTokenFlags()) == (None, 3)
    seen = [(call.method, call.token) for call in service.calls if "Helper" in call.method or call.method == "OpenJob"]
    assert seen == [
        ("OpenJob", None),
        ("SetHelperToken", "beth"),
        ("SetHelperTokenFlags", None),
        ("ClearHelperToken", None),
    ]


def test_query_interface_is_made_under_the_identity_of_the_thread(service: FakeService) -> None:
    initialize_security(com.RPC_C_IMP_LEVEL_IMPERSONATE)
    _, job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_DOWNLOAD)
    token = com.LogonUser("beth", "", "secret")
    com.ImpersonateLoggedOnUser(token)
    job.QueryInterface(com.IBitsTokenOptions)
    com.RevertToSelf()
    com.CloseHandle(token)
    assert [call.token for call in service.calls if call.method == "OpenJob"] == ["beth"]


def test_other_threads_do_not_impersonate(service: FakeService) -> None:
    initialize_security(com.RPC_C_IMP_LEVEL_IMPERSONATE)
    manager = com.BackgroundCopyManager()
    token = com.LogonUser("beth", ".", "secret")
    com.ImpersonateLoggedOnUser(token)
    other = threading.Thread(target=manager.CreateJob, args=("x", com.BG_JOB_TYPE_DOWNLOAD))
    other.start()
    other.join(10)
    com.CloseHandle(token)
    assert [call.token for call in service.calls if call.method == "CreateJob"] == [None]


@pytest.mark.parametrize(
    ("domain", "asked_for"),
    [(None, "beth"), ("", "beth"), (".", "beth"), ("CORP", "CORP\\beth")],
)
def test_the_domain_goes_before_the_user_unless_it_is_this_machine(
    domain: str | None, asked_for: str, service: FakeService
) -> None:
    com.CloseHandle(com.LogonUser("beth", domain, "secret"))
    assert next(call for call in service.calls if call.method == "LogonUser").parameters["user"] == asked_for


@pytest.mark.usefixtures("service")
def test_a_failed_logon_and_a_closed_handle() -> None:
    with pytest.raises(com.COMError) as caught:
        com.LogonUser("beth", ".", "wrong")
    assert caught.value.hresult == 0x8007052E
    token = com.LogonUser("beth", ".", "secret")
    assert com.CloseHandle(token)
    for call in (com.CloseHandle, com.ImpersonateLoggedOnUser):
        with pytest.raises(com.COMError) as caught:
            call(token)
        assert caught.value.hresult == 0x80070006


@pytest.mark.usefixtures("service")
def test_a_logon_settles_no_security() -> None:
    com.CloseHandle(com.LogonUser("beth", ".", "secret"))
    assert initialize_security(com.RPC_C_IMP_LEVEL_IMPERSONATE) == com.S_OK


def test_a_lost_connection_is_made_anew_for_the_next_manager(service: FakeService) -> None:
    first = com.BackgroundCopyManager()
    service.disconnect()
    with pytest.raises(com.COMError) as caught:
        first.EnumJobs(0)
    assert caught.value.hresult == 0x800706BA
    assert com.BackgroundCopyManager().EnumJobs(0).GetCount() == 0


def test_no_service_is_a_com_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBITS_SOCKET", "relative")
    with pytest.raises(com.COMError) as caught:
        com.BackgroundCopyManager()
    assert caught.value.hresult == 0x80070057


def test_a_process_opens_its_own_token_and_a_thread_the_one_it_impersonates(service: FakeService) -> None:
    """identity.md §8; what the thread impersonates has no part in the token of the process."""
    initialize_security(3)
    with pytest.raises(com.COMError) as caught:
        com.OpenThreadToken(com.GetCurrentThread(), 0, OpenAsSelf=True)
    assert caught.value.hresult == com.ERROR_NO_TOKEN == 0x800703F0
    assert "impersonates nobody" in str(caught.value)
    beth = com.LogonUser("beth", ".", "secret")
    com.ImpersonateLoggedOnUser(beth)
    own, again = (
        com.OpenProcessToken(com.GetCurrentProcess(), 0),
        com.OpenThreadToken(com.GetCurrentThread(), 0, OpenAsSelf=True),
    )
    com.CloseHandle(beth)
    com.RevertToSelf()
    _, job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_DOWNLOAD)
    options = job.QueryInterface(com.IBitsTokenOptions)
    for token, name in ((own, "me"), (again, "beth")):
        com.ImpersonateLoggedOnUser(token)
        options.SetHelperToken()
        com.RevertToSelf()
        com.CloseHandle(token)
        assert options.GetHelperTokenSid() == f"S-of-{name}"
    assert "OpenProcessToken" in service.methods()


def test_a_process_proves_no_other_process_or_thread() -> None:
    with pytest.raises(com.COMError) as caught:
        com.OpenProcessToken(1234, 0)
    assert caught.value.name == "E_HANDLE"
    with pytest.raises(com.COMError) as caught:
        com.OpenThreadToken(1234, 0, OpenAsSelf=True)
    assert caught.value.name == "E_HANDLE"
