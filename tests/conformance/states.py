"""Every method of a job in every state, typed from jobs.md §3.3, §7, §13 and §14: what the call gives, and where it leads.

A cell is `ok`, `false` (S_FALSE), `part` (BG_S_PARTIAL_COMPLETE) or the code of a refusal (`CODES`); then `>STATE` if the
state changes, `*` if the call may have the scheduler move the job. The jobs are downloads with one file that was added
before the first Resume; a method of several rows says in brackets what it is called with.
"""

# ruff: noqa: E501  # the table

from typing import Final

_TABLE = """
                           SUSPENDED     QUEUED        CONNECTING    TRANSFERRING  TRANSIENT_ERROR ERROR        TRANSFERRED   ACKNOWLEDGED CANCELLED
Suspend                    ok            ok>SUSPENDED  ok>SUSPENDED  ok>SUSPENDED  ok>SUSPENDED  ok             ok            inv          inv
Resume                     ok>QUEUED     ok            ok            ok            ok>QUEUED     ok>QUEUED      ok            inv          inv
Cancel                     ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED   ok>CANCELLED  inv          inv
Complete                   part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED ok>ACKNOWLEDGED inv inv
AddFile                    ok            ok            ok            ok            ok            ok>SUSPENDED   ok>SUSPENDED  inv          inv
AddFileSet                 ok            ok            ok            ok            ok            ok>SUSPENDED   ok>SUSPENDED  inv          inv
SetPriority                ok            ok            ok>QUEUED     ok>QUEUED     ok            ok             ok            inv          inv
SetProxySettings           ok            ok            ok*           ok*           ok            ok             ok            inv          inv
TakeOwnership              ok            ok            ok*           ok*           ok            ok             ok            inv          inv
SetDisplayName             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetDescription             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyFlags             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyInterface         ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyInterface(NULL)   ok            ok            ok            ok            ok            ok             ok            inv          inv
SetMinimumRetryDelay       ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNoProgressTimeout       ok            ok            ok            ok            ok            ok             ok            inv          inv
EnumFiles                  ok            ok            ok            ok            ok            ok             ok            ok           ok
GetId                      ok            ok            ok            ok            ok            ok             ok            ok           ok
GetType                    ok            ok            ok            ok            ok            ok             ok            ok           ok
GetProgress                ok            ok            ok            ok            ok            ok             ok            ok           ok
GetTimes                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetState                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetError                   none          none          none          none          ok            ok             none          none         none
GetOwner                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetDisplayName             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetDescription             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetPriority                ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNotifyFlags             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNotifyInterface         ok            ok            ok            ok            ok            ok             ok            ok           ok
GetMinimumRetryDelay       ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNoProgressTimeout       ok            ok            ok            ok            ok            ok             ok            ok           ok
GetErrorCount              ok            ok            ok            ok            ok            ok             ok            ok           ok
GetProxySettings           ok            ok            ok            ok            ok            ok             ok            ok           ok
QueryInterface             ok            ok            ok            ok            ok            ok             ok            ok           ok
QueryInterface(peers)      noif          noif          noif          noif          noif          noif           noif          noif         noif
SetNotifyCmdLine           ok            ok            ok            ok            ok            ok             ok            inv          inv
GetNotifyCmdLine           ok            ok            ok            ok            ok            ok             ok            ok           ok
GetReplyProgress           type          type          type          type          type          type           type          type         type
GetReplyData               type          type          type          type          type          type           type          type         type
SetReplyFileName           type          type          type          type          type          type           type          inv          inv
GetReplyFileName           type          type          type          type          type          type           type          type         type
SetCredentials             ok            ok            ok            ok            ok            ok             ok            inv          inv
RemoveCredentials          false         false         false         false         false         false          false         inv          inv
ReplaceRemotePrefix        ok            ok            ok*           ok*           ok            ok             ok            inv          inv
ReplaceRemotePrefix(no)    false         false         false         false         false         false          false         inv          inv
AddFileWithRanges          ok            ok            ok            ok            ok            ok>SUSPENDED   ok>SUSPENDED  inv          inv
SetFileACLFlags            ok            ok            ok            ok            ok            ok             inv           inv          inv
GetFileACLFlags            ok            ok            ok            ok            ok            ok             ok            ok           ok
SetPeerCachingFlags        ok            ok            ok*           ok*           ok            ok             ok            inv          inv
GetPeerCachingFlags        ok            ok            ok            ok            ok            ok             ok            ok           ok
GetOwnerIntegrityLevel     ok            ok            ok            ok            ok            ok             ok            ok           ok
GetOwnerElevationState     ok            ok            ok            ok            ok            ok             ok            ok           ok
SetMaximumDownloadTime     ok            ok            ok            ok            ok            ok             ok            inv          inv
GetMaximumDownloadTime     ok            ok            ok            ok            ok            ok             ok            ok           ok
SetProperty(ID_COST_FLAGS) ok            ok            ok            ok            ok            ok             ok            inv          inv
SetProperty(NOTIFICATION_CLSID) ok       ok            ok            ok            ok            ok             ok            inv          inv
SetProperty(DYNAMIC_CONTENT) ok          late          late          late          late          late           late          inv          inv
SetProperty(HIGH_PERFORMANCE) files      files         files         files         files         files          files         inv          inv
SetProperty(MAX_DOWNLOAD_SIZE) ok        late          late          late          late          late           late          inv          inv
SetProperty(USE_STORED_CREDENTIALS) ok   ok            ok            ok            ok            ok             ok            inv          inv
SetProperty(MINIMUM_NOTIFICATION_INTERVAL_MS) ok ok    ok            ok            ok            ok             ok            inv          inv
SetProperty(ON_DEMAND_MODE) ok           active        active        active        active        ok             active            inv          inv
GetProperty(ID_COST_FLAGS) ok            ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(NOTIFICATION_CLSID) ok       ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(DYNAMIC_CONTENT) ok          ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(HIGH_PERFORMANCE) ok         ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(MAX_DOWNLOAD_SIZE) ok        ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(USE_STORED_CREDENTIALS) ok   ok            ok            ok            ok            ok             ok            ok           ok
GetProperty(MINIMUM_NOTIFICATION_INTERVAL_MS) ok ok    ok            ok            ok            ok             ok            ok           ok
GetProperty(ON_DEMAND_MODE) ok           ok            ok            ok            ok            ok             ok            ok           ok
Http.SetClientCertificateByID ok         ok            ok            ok            ok            ok             ok            inv          inv
Http.SetClientCertificateByName ok       ok            ok            ok            ok            ok             ok            inv          inv
Http.RemoveClientCertificate false       false         false         false         false         false          false         inv          inv
Http.GetClientCertificate  stub          stub          stub          stub          stub          stub           stub          stub         stub
Http.SetCustomHeaders      ok            ok            ok            ok            ok            ok             ok            inv          inv
Http.GetCustomHeaders      ok            ok            ok            ok            ok            ok             ok            ok           ok
Http.SetSecurityFlags      ok            ok            ok            ok            ok            ok             ok            inv          inv
Http.SetSecurityFlags(CRL) ok            ok            ok*           ok*           ok            ok             ok            inv          inv
Http.GetSecurityFlags      ok            ok            ok            ok            ok            ok             ok            ok           ok
Http.SetHttpMethod         ok            late          late          late          late          late           late          inv          inv
Http.GetHttpMethod         ok            ok            ok            ok            ok            ok             ok            ok           ok
Http.SetServerCertificateValidationInterface ok active active        active        active        ok             ok            inv          inv
Http.MakeCustomHeadersWriteOnly ok       ok            ok            ok            ok            ok             ok            inv          inv
Token.SetHelperTokenFlags  ok            ok            ok            ok            ok            ok             ok            inv          inv
Token.GetHelperTokenFlags  ok            ok            ok            ok            ok            ok             ok            ok           ok
Token.SetHelperToken       ok            ok            ok            ok            ok            ok             ok            inv          inv
Token.ClearHelperToken     ok            ok            ok            ok            ok            ok             ok            inv          inv
Token.GetHelperTokenSid    ok            ok            ok            ok            ok            ok             ok            ok           ok
Manager.GetJob             ok            ok            ok            ok            ok            ok             ok            gone         gone
Manager.EnumJobs           ok            ok            ok            ok            ok            ok             ok            gone         gone
File.GetRemoteName         ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetLocalName          ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetProgress           ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetFileRanges         ok            ok            ok            ok            ok            ok             ok            ok           ok
File.SetRemoteName         ok            ok            ok*           ok*           ok            ok             ok            inv          inv
File.GetTemporaryName      ok            ok            ok            ok            ok            ok             ok            ok           ok
File.SetValidationState    pending       pending       pending       pending       pending       pending        ok            inv          inv
File.SetValidationState(FALSE) pending   pending       pending       pending       pending       pending        ok>ERROR      inv          inv
File.GetValidationState    ok            ok            ok            ok            ok            ok             ok            ok           ok
File.IsDownloadedFromPeer  ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetPeerDownloadStats  ok            ok            ok            ok            ok            ok             ok            ok           ok
File.SetProperty           fixed         fixed         fixed         fixed         fixed         fixed          fixed         fixed        fixed
File.GetProperty           ok            ok            ok            ok            ok            ok             ok            ok           ok
File.UpdateDownloadPosition ok           ok            ok            ok            ok            ok             ok            inv          inv
File.RequestFileRanges     ok            ok            ok            ok            ok            ok             ok            inv          inv
File.GetFilledFileRanges   ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Next                 ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Skip                 ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Reset                ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Clone                ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.GetCount             ok            ok            ok            ok            ok            ok             ok            ok           ok
Error.GetError             none          none          none          none          ok            ok             none          none         none
Error.GetFile              none          none          none          none          ok            ok             none          none         none
Error.GetErrorDescription  none          none          none          none          ok            ok             none          none         none
Error.GetErrorContextDescription none    none          none          none          ok            ok             none          none         none
Error.GetProtocol          none          none          none          none          ok            ok             none          none         none
"""

CODES: Final = {
    "ok": ("S_OK", 0),
    "false": ("S_FALSE", 1),
    "part": ("BG_S_PARTIAL_COMPLETE", 0x00200017),
    "inv": ("BG_E_INVALID_STATE", 0x80200002),
    "none": ("BG_E_ERROR_INFORMATION_UNAVAILABLE", 0x8020000F),
    "gone": ("BG_E_NOT_FOUND", 0x80200001),
    "noif": ("E_NOINTERFACE", 0x80004002),
    "type": ("E_NOTIMPL", 0x80004001),
    "late": ("BG_E_READ_ONLY_PROPERTY_AFTER_RESUME", 0x80200062),
    "files": ("BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE", 0x80200061),
    "active": ("BG_E_READ_ONLY_WHEN_JOB_ACTIVE", 0x80200075),
    "pending": ("E_PENDING", 0x8000000A),
    "fixed": ("BG_E_READ_ONLY_PROPERTY", 0x80200058),
    "stub": ("RPC_X_BAD_STUB_DATA", 0x800706F7),
}
"""Symbol and number of what a cell says."""

STATES, *_ROWS = [line.split() for line in _TABLE.strip().splitlines()]
ROWS: Final = {method: dict(zip(STATES, cells, strict=True)) for method, *cells in _ROWS}
CELLS: Final = [(method, state, cell) for method, cells in ROWS.items() for state, cell in cells.items()]

PREFIXES: Final = {
    "": (
        *("IBackgroundCopyJob", "IBackgroundCopyJob2", "IBackgroundCopyJob3", "IBackgroundCopyJob4"),
        "IBackgroundCopyJob5",
    ),
    "Http": ("IBackgroundCopyJobHttpOptions", "IBackgroundCopyJobHttpOptions2", "IBackgroundCopyJobHttpOptions3"),
    "Token": ("IBitsTokenOptions",),
    "Manager": ("IBackgroundCopyManager",),
    "File": (
        *("IBackgroundCopyFile", "IBackgroundCopyFile2", "IBackgroundCopyFile3", "IBackgroundCopyFile4"),
        *("IBackgroundCopyFile5", "IBackgroundCopyFile6"),
    ),
    "Files": ("IEnumBackgroundCopyFiles",),
    "Error": ("IBackgroundCopyError",),
}
"""Which interfaces the methods of a prefix belong to, those of a newer one after those of its parent."""

WITHOUT_JOB: Final = frozenset(
    {
        *("IBackgroundCopyManager.CreateJob", "IBackgroundCopyManager.GetErrorDescription"),
        *(f"IEnumBackgroundCopyJobs.{name}" for name in ("Next", "Skip", "Reset", "Clone", "GetCount")),
    }
)
"""Methods for which no job has a state."""


def split(method: str) -> tuple[str, str, str]:
    """Prefix, name and what is in brackets."""
    prefix, dot, rest = method.partition(".")
    if not dot:
        prefix, rest = "", method
    name, _, argument = rest.partition("(")
    return prefix, name, argument.removesuffix(")")
