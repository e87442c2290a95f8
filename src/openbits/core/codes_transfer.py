"""Codes of the BITS facility that put a job into an error state (errors.md §2, classes F, T, E).

Not here: what only methods return (`codes_bits`).
"""

from typing import Final

from openbits.core.codes_table import event as _event
from openbits.core.codes_table import fatal as _fatal
from openbits.core.codes_table import transient as _transient
from openbits.core.enums import ErrorContext as _Context

# Waiting for a condition to end; the job goes on by itself

BG_E_DESTINATION_LOCKED: Final = _event(
    "BG_E_DESTINATION_LOCKED",
    0x8020000D,
    _Context.LOCAL_FILE,
    "the destination volume is locked or not available",
    "mount or free the volume; the job goes on by itself when it is back",
)
BG_E_NETWORK_DISCONNECTED: Final = _event(
    "BG_E_NETWORK_DISCONNECTED",
    0x80200010,
    _Context.GENERAL_TRANSPORT,
    "no network connection is up",
    "connect to a network; the job goes on by itself then",
)
BG_E_BLOCKED_BY_POLICY: Final = _event(
    "BG_E_BLOCKED_BY_POLICY",
    0x8020003E,
    _Context.GENERAL_QUEUE_MANAGER,
    "the bandwidth limit for background jobs is 0 at this time",
    "wait until the limit ends, or give the job foreground priority",
)
BG_E_BLOCKED_BY_COST_TRANSFER_POLICY: Final = _event(
    "BG_E_BLOCKED_BY_COST_TRANSFER_POLICY",
    0x80200059,
    _Context.GENERAL_QUEUE_MANAGER,
    "the network costs more than the job may spend",
    "use another network, or change the cost flags of the job",
)
BG_E_STANDBY_MODE: Final = _event(
    "BG_E_STANDBY_MODE",
    0x80200065,
    _Context.GENERAL_QUEUE_MANAGER,
    "the computer is in a power-saving mode",
    "wake the computer up; the job goes on by itself then",
)
BG_E_BLOCKED_BY_BATTERY_POLICY: Final = _event(
    "BG_E_BLOCKED_BY_BATTERY_POLICY",
    0x80200067,
    _Context.GENERAL_QUEUE_MANAGER,
    "the job may not transfer on battery",
    "connect the computer to mains; the job goes on by itself then",
)
BG_E_BLOCKED_BY_BATTERY_SAVER: Final = _event(
    "BG_E_BLOCKED_BY_BATTERY_SAVER",
    0x80200068,
    _Context.GENERAL_QUEUE_MANAGER,
    "battery saver is on and the job is no foreground job",
    "connect the computer to mains, or give the job foreground priority",
)
BG_E_BLOCKED_BY_BACKGROUND_ACCESS_POLICY: Final = _event(
    "BG_E_BLOCKED_BY_BACKGROUND_ACCESS_POLICY",
    0x8020006E,
    _Context.GENERAL_QUEUE_MANAGER,
    "the program that owns the job may not work in the background now",
    "bring the program to the front, or allow its background activity",
)
BG_E_BLOCKED_BY_GAME_MODE: Final = _event(
    "BG_E_BLOCKED_BY_GAME_MODE",
    0x8020006F,
    _Context.GENERAL_QUEUE_MANAGER,
    "another program has the focus of game mode",
    "leave the game; the job goes on by itself then",
)
BG_E_BLOCKED_BY_SYSTEM_POLICY: Final = _event(
    "BG_E_BLOCKED_BY_SYSTEM_POLICY",
    0x80200070,
    _Context.GENERAL_QUEUE_MANAGER,
    "the system is short of resources",
    "close other programs; the job goes on by itself when resources are free",
)

# Local file, policies and tokens

BG_E_VOLUME_CHANGED: Final = _fatal(
    "BG_E_VOLUME_CHANGED",
    0x8020000E,
    _Context.LOCAL_FILE,
    "another volume is where the volume of the local file was",
    "mount the volume that was there before, then resume the job",
)
BG_E_LOCAL_FILE_CHANGED: Final = _fatal(
    "BG_E_LOCAL_FILE_CHANGED",
    0x8020001D,
    _Context.LOCAL_FILE,
    "the source of the upload changed after the transfer began",
    "cancel the job and create a new one for the changed file",
)
BG_E_VALIDATION_FAILED: Final = _fatal(
    "BG_E_VALIDATION_FAILED",
    0x80200053,
    _Context.REMOTE_FILE,
    "the application declared the file invalid",
    "resume the job to fetch the file again",
)
BG_E_MAXDOWNLOAD_TIMEOUT: Final = _fatal(
    "BG_E_MAXDOWNLOAD_TIMEOUT",
    0x80200054,
    _Context.GENERAL_QUEUE_MANAGER,
    "the transfer took longer than the maximum download time",
    "resume the job, which starts the time anew, or raise the maximum",
)
BG_E_TOKEN_REQUIRED: Final = _fatal(
    "BG_E_TOKEN_REQUIRED",
    0x80200056,
    _Context.GENERAL_QUEUE_MANAGER,
    "the flags of the job ask for a helper token and there is none (never set, log-off, or restart of the service)",
    "set a helper token (bits token set), or set its flags to 0 (bits token flags JOB none), then resume the job",
)
BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED: Final = _fatal(
    "BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED",
    0x80200064,
    _Context.REMOTE_FILE,
    "the job is larger than its own limit for downloads",
    "create a new job with a larger limit or fewer files",
)
BG_E_WATCHDOG_TIMEOUT: Final = _transient(
    "BG_E_WATCHDOG_TIMEOUT",
    0x80200069,
    _Context.GENERAL_QUEUE_MANAGER,
    "an operation inside the service took too long",
    "wait for the next attempt, or resume the job to try now",
)
BG_E_INVALID_PROXY_INFO: Final = _fatal(
    "BG_E_INVALID_PROXY_INFO",
    0x8020003F,
    _Context.GENERAL_TRANSPORT,
    "the proxy list or the bypass list cannot be read",
    "correct the proxy settings (bits proxy explain URL --job JOB says which), then resume the job",
)
BG_E_INVALID_CREDENTIALS: Final = _fatal(
    "BG_E_INVALID_CREDENTIALS",
    0x80200040,
    _Context.REMOTE_FILE,
    "the stored credentials have an unusable form",
    "set the credentials of the job again, then resume it",
)

# What the server did

BG_E_MISSING_FILE_SIZE: Final = _fatal(
    "BG_E_MISSING_FILE_SIZE",
    0x80200011,
    _Context.REMOTE_FILE,
    "the server did not tell the size of the file",
    "use a url with a fixed content, or allow dynamic content for the job",
)
BG_E_INSUFFICIENT_HTTP_SUPPORT: Final = _fatal(
    "BG_E_INSUFFICIENT_HTTP_SUPPORT",
    0x80200012,
    _Context.REMOTE_FILE,
    "the server does not speak http/1.1 well enough",
    "use another server or proxy, then create the job anew",
)
BG_E_INSUFFICIENT_RANGE_SUPPORT: Final = _fatal(
    "BG_E_INSUFFICIENT_RANGE_SUPPORT",
    0x80200013,
    _Context.REMOTE_FILE,
    "the server, or a proxy before it, does not honour range requests",
    "use a server or proxy that lets ranges through, or, for whole files, foreground priority; then resume the job",
)
BG_E_INVALID_SERVER_RESPONSE: Final = _fatal(
    "BG_E_INVALID_SERVER_RESPONSE",
    0x8020001B,
    _Context.REMOTE_FILE,
    "the answer of the server breaks the rules of http or of the upload protocol",
    "check server and proxy, then resume the job",
)
BG_E_REMOTE_FILE_CHANGED: Final = _fatal(
    "BG_E_REMOTE_FILE_CHANGED",
    0x80200073,
    _Context.REMOTE_FILE,
    "the remote file changed during the transfer more often than the job begins anew",
    "wait until the file on the server stays the same, then resume the job",
)
BG_E_INVALID_RANGE: Final = _fatal(
    "BG_E_INVALID_RANGE",
    0x8020002B,
    _Context.REMOTE_FILE,
    "a range lies outside the file",
    "compare the ranges with the size of the remote file and create the job anew",
)
BG_E_RANDOM_ACCESS_NOT_SUPPORTED: Final = _fatal(
    "BG_E_RANDOM_ACCESS_NOT_SUPPORTED",
    0x8020006D,
    _Context.REMOTE_FILE,
    "ranges on demand need an http download of one whole static file from a server with range support",
    "download the file as a whole: switch on_demand_mode off",
)
BG_E_CONNECT_FAILURE: Final = _transient(
    "BG_E_CONNECT_FAILURE",
    0x8020002D,
    _Context.GENERAL_TRANSPORT,
    "the connection could not be opened",
    "check address, port and firewall; the job tries again by itself",
)
BG_E_CONNECTION_CLOSED: Final = _transient(
    "BG_E_CONNECTION_CLOSED",
    0x8020002E,
    _Context.GENERAL_TRANSPORT,
    "the connection was closed too early",
    "wait for the next attempt, or resume the job to try now",
)
BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED: Final = _transient(
    "BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED",
    0x80200074,
    _Context.SERVER_CERTIFICATE_CALLBACK,
    "the job needs its certificate callback and cannot reach it",
    "set the certificate callback again, then resume the job",
)

# Uploads

BG_E_SESSION_NOT_FOUND: Final = _transient(
    "BG_E_SESSION_NOT_FOUND",
    0x8020001F,
    _Context.REMOTE_FILE,
    "the server does not know the upload session any more",
    "nothing: the job starts a new session by itself; if that keeps failing, check the upload server",
)
BG_E_TOO_LARGE: Final = _fatal(
    "BG_E_TOO_LARGE",
    0x80200020,
    _Context.REMOTE_FILE,
    "the file exceeds the limit of the upload server, or the reply exceeds 1 MiB",
    "raise the limit of the server and resume the job; read a large reply from its file",
)
BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH: Final = _fatal(
    "BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH",
    0x80200022,
    _Context.REMOTE_FILE,
    "the other side is no upload server with a protocol version in common",
    "check that uploads are enabled for this url on the server",
)
BG_E_SERVER_EXECUTE_ENABLE: Final = _fatal(
    "BG_E_SERVER_EXECUTE_ENABLE",
    0x80200023,
    _Context.REMOTE_FILE,
    "the upload directory of the server lets programs run, so uploads are refused there",
    "turn script and program execution off for that directory, then resume the job",
)
BG_E_NO_PROGRESS: Final = _transient(
    "BG_E_NO_PROGRESS",
    0x80200024,
    _Context.REMOTE_FILE,
    "the transfer goes in circles without advancing",
    "check the configuration of the server; the job tries again by itself",
)
