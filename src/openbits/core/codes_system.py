"""Codes of the system that BITS uses: COM, Win32 and logon (errors.md §5 and §5.2, identity.md §9).

Not here: the Win32 numbers of the network (`codes_winhttp`).
"""

from typing import Final

from openbits.core.codes_table import fatal as _fatal
from openbits.core.codes_table import method as _method
from openbits.core.codes_table import success as _success
from openbits.core.codes_table import transient as _transient
from openbits.core.enums import ErrorContext as _Context

_RETRIES = "wait for the next attempt, or resume the job to try now"

# COM

S_OK: Final = _success("S_OK", 0x00000000, "success")
S_FALSE: Final = _success("S_FALSE", 0x00000001, "success, and there was nothing (more) to do")
E_NOTIMPL: Final = _method(
    "E_NOTIMPL",
    0x80004001,
    "the value is undefined, or this version or type of job does not have it",
    "use a documented value, or another type of job",
)
E_NOINTERFACE: Final = _method(
    "E_NOINTERFACE", 0x80004002, "the object does not have this interface", "use an interface that the object has"
)
E_FAIL: Final = _method("E_FAIL", 0x80004005, "failed without a further reason", "look into the log of the service")
E_PENDING: Final = _method("E_PENDING", 0x8000000A, "the file is not finished yet", "repeat the call when it is")
CO_E_FAILEDTOIMPERSONATE: Final = _method(
    "CO_E_FAILEDTOIMPERSONATE",
    0x80010123,
    "the identity of the caller cannot be used: the call was made below the level IMPERSONATE",
    "make the call at the level IMPERSONATE",
)

# Win32: calls

E_HANDLE: Final = _method(
    "E_HANDLE", 0x80070006, "this is no handle or token of this service", "get a new one from the service"
)
ERROR_RESOURCE_LANG_NOT_FOUND: Final = _method(
    "ERROR_RESOURCE_LANG_NOT_FOUND", 0x80070717, "there is no text in that language", "ask for English (0x0409)"
)
ERROR_SERVICE_DISABLED: Final = _method(
    "ERROR_SERVICE_DISABLED", 0x80070422, "the service is disabled", "have an administrator enable the service"
)
RPC_S_SERVER_UNAVAILABLE: Final = _method(
    "RPC_S_SERVER_UNAVAILABLE", 0x800706BA, "the service does not answer", "check that the service runs"
)
RPC_X_NULL_REF_POINTER: Final = _method(
    "RPC_X_NULL_REF_POINTER", 0x800706F4, "a mandatory argument is missing", "give every argument a value"
)
RPC_X_BAD_STUB_DATA: Final = _method(
    "RPC_X_BAD_STUB_DATA",
    0x800706F7,
    "the job has no client certificate, or a certificate hash has not 20 bytes",
    "set a client certificate by its 20-byte SHA-1 hash",
)
CRYPT_E_NOT_FOUND: Final = _method(
    "CRYPT_E_NOT_FOUND",
    0x80092004,
    "the store has no certificate with that hash or subject",
    "check store, hash and subject",
)
ERROR_NOT_LOGGED_ON: Final = _method(
    "ERROR_NOT_LOGGED_ON", 0x800704DD, "the user is not logged on to the network", "log the user on, then try again"
)

# Win32: logon (identity.md §9); a wrong account does not cure itself, so in a transfer these are fatal

ERROR_LOGON_FAILURE: Final = _fatal(
    "ERROR_LOGON_FAILURE",
    0x8007052E,
    _Context.REMOTE_FILE,
    "user name or password is wrong, or the password is locked",
    "check user name and password",
)
ERROR_ACCOUNT_EXPIRED: Final = _fatal(
    "ERROR_ACCOUNT_EXPIRED",
    0x80070701,
    _Context.REMOTE_FILE,
    "the account has expired",
    "have an administrator extend the account",
)
ERROR_PASSWORD_MUST_CHANGE: Final = _fatal(
    "ERROR_PASSWORD_MUST_CHANGE",
    0x80070773,
    _Context.REMOTE_FILE,
    "the password has to be changed first",
    "log in once as this user and change the password",
)
ERROR_ACCOUNT_LOCKED_OUT: Final = _fatal(
    "ERROR_ACCOUNT_LOCKED_OUT",
    0x80070775,
    _Context.REMOTE_FILE,
    "the account is locked after too many failed attempts",
    "wait, or have an administrator unlock the account",
)
ERROR_LOGON_TYPE_NOT_GRANTED: Final = _fatal(
    "ERROR_LOGON_TYPE_NOT_GRANTED",
    0x80070569,
    _Context.REMOTE_FILE,
    "the account may not log on here or at this time",
    "have an administrator allow this logon",
)
ERROR_NO_LOGON_SERVERS: Final = _method(
    "ERROR_NO_LOGON_SERVERS", 0x8007051F, "no logon server could check the account", "try again later"
)

# Win32: files

E_ACCESSDENIED: Final = _fatal(
    "E_ACCESSDENIED",
    0x80070005,
    _Context.LOCAL_FILE,
    "access is denied",
    "use an identity with the missing right, or have the right granted to this one",
)
E_INVALIDARG: Final = _fatal(
    "E_INVALIDARG", 0x80070057, _Context.LOCAL_FILE, "an argument is not valid", "correct the argument"
)
E_OUTOFMEMORY: Final = _transient(
    "E_OUTOFMEMORY", 0x8007000E, _Context.LOCAL_FILE, "there is not enough memory", "close other programs and try again"
)
ERROR_FILE_NOT_FOUND: Final = _fatal(
    "ERROR_FILE_NOT_FOUND",
    0x80070002,
    _Context.LOCAL_FILE,
    "the file does not exist",
    "check the name of the file, then resume the job",
)
ERROR_PATH_NOT_FOUND: Final = _fatal(
    "ERROR_PATH_NOT_FOUND",
    0x80070003,
    _Context.LOCAL_FILE,
    "the directory does not exist",
    "create the directory, or use another one",
)
ERROR_TOO_MANY_OPEN_FILES: Final = _transient(
    "ERROR_TOO_MANY_OPEN_FILES", 0x80070004, _Context.LOCAL_FILE, "too many files are open", _RETRIES
)
ERROR_NOT_SAME_DEVICE: Final = _fatal(
    "ERROR_NOT_SAME_DEVICE",
    0x80070011,
    _Context.LOCAL_FILE,
    "temporary file and destination are on different volumes",
    "leave the destination directory where it was, or cancel the job and use another directory",
)
ERROR_WRITE_PROTECT: Final = _fatal(
    "ERROR_WRITE_PROTECT",
    0x80070013,
    _Context.LOCAL_FILE,
    "the volume is read-only",
    "mount the volume writable, then resume the job",
)
ERROR_SHARING_VIOLATION: Final = _transient(
    "ERROR_SHARING_VIOLATION", 0x80070020, _Context.LOCAL_FILE, "the file is in use by another program", _RETRIES
)
ERROR_ALREADY_EXISTS: Final = _fatal(
    "ERROR_ALREADY_EXISTS",
    0x800700B7,
    _Context.LOCAL_FILE,
    "a file of that name exists already",
    "move the existing file away, then try again",
)
ERROR_DISK_FULL: Final = _transient(
    "ERROR_DISK_FULL",
    0x80070070,
    _Context.LOCAL_FILE,
    "the volume is full",
    "free space on the volume; the job tries again by itself",
)
ERROR_DISK_QUOTA_EXCEEDED: Final = _transient(
    "ERROR_DISK_QUOTA_EXCEEDED",
    0x8007050F,
    _Context.LOCAL_FILE,
    "the disk quota of the user is used up",
    "remove files of this user or raise the quota; the job tries again by itself",
)
ERROR_FILENAME_EXCED_RANGE: Final = _fatal(
    "ERROR_FILENAME_EXCED_RANGE",
    0x800700CE,
    _Context.LOCAL_FILE,
    "the file name is too long",
    "create the job anew with a shorter name",
)
ERROR_FILE_TOO_LARGE: Final = _fatal(
    "ERROR_FILE_TOO_LARGE",
    0x800700DF,
    _Context.LOCAL_FILE,
    "the file is larger than the volume allows",
    "use another volume or a higher limit",
)
ERROR_IO_DEVICE: Final = _transient(
    "ERROR_IO_DEVICE",
    0x8007045D,
    _Context.LOCAL_FILE,
    "the device failed to read or write",
    "check the device in the kernel log; the job tries again by itself",
)
ERROR_CANT_RESOLVE_FILENAME: Final = _fatal(
    "ERROR_CANT_RESOLVE_FILENAME",
    0x80070781,
    _Context.LOCAL_FILE,
    "the path leads through a symbolic link that may not be followed",
    "use the path without the link",
)
