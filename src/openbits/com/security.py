"""The security of the process as COM has it, and the Win32 calls around tokens (identity.md §2, §8).

The process has one connection to the service, made with the first manager. Its impersonation level and cloaking are
those of CoInitializeSecurity; without that call the level is IDENTIFY and the service sees the process identity
always. They cannot change while the connection exists: CoInitializeSecurity then fails with RPC_E_TOO_LATE.
"""

# ruff: noqa: ARG001, PLR0917  # documented parameters, of which not all mean something here

import os
import threading
from dataclasses import dataclass, field

from openbits.api import tokens
from openbits.api.client import Client
from openbits.api.tokens import Token
from openbits.com.constants import COINIT, EOLE_AUTHENTICATION_CAPABILITIES, LOGON32, RPC_C_IMP_LEVEL
from openbits.com.unknown import COMError, mandatory, translated
from openbits.core import codes
from openbits.core.enums import Level

RPC_E_TOO_LATE = 0x80010119
ERROR_NO_TOKEN = 0x800703F0
_CURRENT_PROCESS, _CURRENT_THREAD = -1, -2


@dataclass(slots=True)
class _Process:
    """What COM keeps for this process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    initialised: int = 0
    level: Level = Level.IDENTIFY
    is_cloaking: bool = False
    is_security_set: bool = False
    client: Client | None = None
    seen_as: tuple[int, int] = (0, 0)


_process = _Process()


def CoInitializeEx(pvReserved: None = None, dwCoInit: int = COINIT.COINIT_MULTITHREADED) -> int:
    """Count one user of COM in this process: S_OK for the first, S_FALSE for further ones."""
    with _process.lock:
        _process.initialised += 1
        return codes.S_OK if _process.initialised == 1 else codes.S_FALSE


def CoUninitialize() -> None:
    """Count one user less; the last one ends the connection, and with it callbacks and security settings."""
    with _process.lock:
        _process.initialised = max(_process.initialised - 1, 0)
        if _process.initialised:
            return
        client, _process.client = _process.client, None
        _process.level, _process.is_cloaking, _process.is_security_set = Level.IDENTIFY, False, False
    if client is not None:
        client.close()


@translated
def CoInitializeSecurity(
    pSecDesc: object,
    cAuthSvc: int,
    asAuthSvc: object,
    pReserved1: None,
    dwAuthnLevel: int,
    dwImpLevel: int,
    pAuthList: object,
    dwCapabilities: int,
    pReserved3: None,
) -> int:
    """Set level and cloaking for every call of this process, once, before the first manager is made.

    Of the nine parameters, `dwImpLevel` and `dwCapabilities` matter here; the kernel authenticates local sockets.
    """
    if dwImpLevel not in set(RPC_C_IMP_LEVEL):
        raise COMError(codes.E_INVALIDARG, f"dwImpLevel {dwImpLevel} is no impersonation level; use RPC_C_IMP_LEVEL_*")
    with _process.lock:
        if _process.is_security_set or _process.client is not None:
            raise COMError(
                RPC_E_TOO_LATE, "the security of this process is set already; call this before the first manager"
            )
        _process.is_security_set = True
        _process.level = Level(dwImpLevel) if dwImpLevel else Level.IDENTIFY
        _process.is_cloaking = bool(dwCapabilities & EOLE_AUTHENTICATION_CAPABILITIES.EOAC_DYNAMIC_CLOAKING)
    return codes.S_OK


@translated
def LogonUser(
    lpszUsername: str,
    lpszDomain: str | None,
    lpszPassword: str | None,
    dwLogonType: int = LOGON32.LOGON32_LOGON_INTERACTIVE,
    dwLogonProvider: int = 0,
) -> Token:
    """Prove an account and get a handle of its token; close it with CloseHandle.

    Domain None, "", "." or the name of this machine: a local account. Raises ERROR_LOGON_FAILURE and its fellows
    (identity.md §9).
    """
    user = mandatory(lpszUsername, "lpszUsername")
    is_local = not lpszDomain or lpszDomain == "." or lpszDomain.lower() == os.uname().nodename.lower()
    with Client() as client:  # not the process's connection: a logon is no COM call and settles no security
        return client.logon_user(user if is_local else f"{lpszDomain}\\{user}", lpszPassword)


def GetCurrentProcess() -> int:
    """The pseudo handle of this process; it need not be closed."""
    return _CURRENT_PROCESS


def GetCurrentThread() -> int:
    """The pseudo handle of this thread; it need not be closed."""
    return _CURRENT_THREAD


@translated
def OpenProcessToken(ProcessHandle: int, DesiredAccess: int) -> Token:
    """A handle of the token of this process, which may be passed to another one; close it with CloseHandle.

    Raises E_HANDLE for any handle but GetCurrentProcess(): a process proves its own identity and no other.
    """
    if ProcessHandle != _CURRENT_PROCESS:
        raise COMError(codes.E_HANDLE, f"{ProcessHandle} is not this process; use GetCurrentProcess()")
    with Client(is_cloaking=False) as client:  # a new connection, as for LogonUser: it has the identity of this moment
        return client.open_process_token()


@translated
def OpenThreadToken(ThreadHandle: int, DesiredAccess: int, OpenAsSelf: bool) -> Token:  # noqa: FBT001  # documented
    """A handle of the token that this thread impersonates. Raises ERROR_NO_TOKEN if it impersonates nobody."""
    if ThreadHandle != _CURRENT_THREAD:
        raise COMError(codes.E_HANDLE, f"{ThreadHandle} is not this thread; use GetCurrentThread()")
    token = tokens.current()
    if token is None:
        raise COMError(ERROR_NO_TOKEN, "this thread impersonates nobody; use OpenProcessToken")
    return token.duplicate()


@translated
def ImpersonateLoggedOnUser(hToken: Token) -> bool:
    """Let this thread act as the token's user in calls, as far as cloaking sends it. The handle may be closed then."""
    tokens.set_current(mandatory(hToken, "hToken").duplicate())
    return True


def RevertToSelf() -> bool:
    """Let this thread act as the process again."""
    tokens.set_current(None)
    return True


@translated
def CloseHandle(hObject: Token) -> bool:
    """Close a token handle; a job keeps the token it was given."""
    hObject.fileno()  # E_HANDLE for one that is closed already
    hObject.close()
    return True


@translated
def service() -> Client:
    """The connection of this process: made with the first manager, and anew after a fork or under a new uid.

    One that was lost is mended, so that callbacks and interfaces of this process stay good.
    """
    seen_as = (os.getpid(), os.geteuid())
    with _process.lock:
        client = _process.client
        if client is None or _process.seen_as != seen_as:
            client = Client(_process.level, is_cloaking=_process.is_cloaking)
            _process.client, _process.seen_as = client, seen_as
        elif client.is_closed:
            client.reconnect()
        return client
