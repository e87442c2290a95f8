"""Codes of the BITS facility that a method returns or that name something (errors.md §2, classes M, X, I, S).

Not here: what puts a job into an error state (`codes_transfer`).
"""

from typing import Final

from openbits.core.codes_table import internal as _internal
from openbits.core.codes_table import method as _method
from openbits.core.codes_table import place as _place
from openbits.core.codes_table import success as _success

# Jobs, their state and their error object

BG_E_NOT_FOUND: Final = _method(
    "BG_E_NOT_FOUND",
    0x80200001,
    "the queue has no such job: the id is wrong, or the job was completed or cancelled",
    "list the jobs and use an id from there",
)
BG_E_INVALID_STATE: Final = _method(
    "BG_E_INVALID_STATE",
    0x80200002,
    "the state of the job forbids this call",
    "look at the state of the job; one that was completed or cancelled never changes again, create a new one",
)
BG_E_EMPTY: Final = _method(
    "BG_E_EMPTY", 0x80200003, "the job has no file to transfer", "add at least one file, then resume the job"
)
BG_E_FILE_NOT_AVAILABLE: Final = _method(
    "BG_E_FILE_NOT_AVAILABLE",
    0x80200004,
    "the error concerns no file",
    "read context and code of the error instead",
)
BG_E_PROTOCOL_NOT_AVAILABLE: Final = _method(
    "BG_E_PROTOCOL_NOT_AVAILABLE",
    0x80200005,
    "the error concerns no transfer protocol",
    "read context and code of the error instead",
)
BG_E_ERROR_INFORMATION_UNAVAILABLE: Final = _method(
    "BG_E_ERROR_INFORMATION_UNAVAILABLE",
    0x8020000F,
    "the job has no error to report",
    "ask for the error only while the job is in an error state",
)
BG_E_FILE_NOT_FOUND: Final = _method(
    "BG_E_FILE_NOT_FOUND", 0x80200029, "the job has no file of that name", "list the files of the job"
)
BG_E_TOO_MANY_JOBS_PER_USER: Final = _method(
    "BG_E_TOO_MANY_JOBS_PER_USER",
    0x80200049,
    "the user has as many jobs as the limit MaxJobsPerUser allows",
    "complete or cancel jobs that are no longer needed, or have an administrator raise the limit",
)
BG_E_TOO_MANY_JOBS_PER_MACHINE: Final = _method(
    "BG_E_TOO_MANY_JOBS_PER_MACHINE",
    0x80200050,
    "the queue has as many jobs as the limit MaxJobsPerMachine allows",
    "complete or cancel jobs that are no longer needed, or have an administrator raise the limit",
)
BG_E_DATABASE_CORRUPT: Final = _method(
    "BG_E_DATABASE_CORRUPT",
    0x8020006C,
    "the stored queue is damaged; the service stops and repairs it at its next start",
    "start the service again and list the jobs",
)
BG_E_REMOTE_NOT_SUPPORTED: Final = _method(
    "BG_E_REMOTE_NOT_SUPPORTED",
    0x80200014,
    "the caller is on another computer",
    "make the call on the computer that runs the service",
)
BG_E_NEW_OWNER_DIFF_MAPPING: Final = _method(
    "BG_E_NEW_OWNER_DIFF_MAPPING",
    0x80200015,
    "drive letters mean different volumes for the new owner",
    "leave the job to its owner, or create a new one",
)
BG_E_NEW_OWNER_NO_FILE_ACCESS: Final = _method(
    "BG_E_NEW_OWNER_NO_FILE_ACCESS",
    0x80200016,
    "the new owner has no access to the temporary files of the job",
    "give the new owner write access to the destination directories, then take ownership again",
)

# Arguments

BG_E_STRING_TOO_LONG: Final = _method(
    "BG_E_STRING_TOO_LONG",
    0x80200021,
    "a text is longer than its limit (display name 256 characters, description 1024)",
    "shorten the text",
)
BG_E_PROXY_LIST_TOO_LARGE: Final = _method(
    "BG_E_PROXY_LIST_TOO_LARGE", 0x80200018, "the proxy list is too long", "name fewer proxies"
)
BG_E_PROXY_BYPASS_LIST_TOO_LARGE: Final = _method(
    "BG_E_PROXY_BYPASS_LIST_TOO_LARGE", 0x80200019, "the proxy bypass list is too long", "name fewer hosts"
)
BG_E_USERNAME_TOO_LARGE: Final = _method(
    "BG_E_USERNAME_TOO_LARGE", 0x80200025, "the user name is longer than 300 characters", "use a shorter user name"
)
BG_E_PASSWORD_TOO_LARGE: Final = _method(
    "BG_E_PASSWORD_TOO_LARGE", 0x80200026, "the password is longer than 65536 characters", "use a shorter password"
)
BG_E_INVALID_AUTH_TARGET: Final = _method(
    "BG_E_INVALID_AUTH_TARGET", 0x80200027, "the target of the credentials is undefined", "use server or proxy"
)
BG_E_INVALID_AUTH_SCHEME: Final = _method(
    "BG_E_INVALID_AUTH_SCHEME",
    0x80200028,
    "the authentication scheme is undefined",
    "use basic, digest, ntlm, negotiate or passport",
)
BG_E_TOO_MANY_FILES: Final = _method(
    "BG_E_TOO_MANY_FILES", 0x8020001C, "an upload job has exactly one file", "create one job for each file"
)
BG_E_TOO_MANY_FILES_IN_JOB: Final = _method(
    "BG_E_TOO_MANY_FILES_IN_JOB",
    0x80200051,
    "the job has as many files as the limit MaxFilesPerJob allows",
    "put the other files into another job",
)
BG_E_TOO_MANY_RANGES_IN_FILE: Final = _method(
    "BG_E_TOO_MANY_RANGES_IN_FILE",
    0x80200052,
    "the file has more ranges than the limit MaxRangesPerFile allows",
    "join neighbouring ranges, or use several jobs",
)
BG_E_OVERLAPPING_RANGES: Final = _method(
    "BG_E_OVERLAPPING_RANGES", 0x8020002C, "two ranges of the file overlap or are the same", "join the ranges"
)

# Job and file properties

BG_E_UNKNOWN_PROPERTY_ID: Final = _method(
    "BG_E_UNKNOWN_PROPERTY_ID", 0x80200057, "there is no property with this id", "use one of the documented ids"
)
BG_E_READ_ONLY_PROPERTY: Final = _method(
    "BG_E_READ_ONLY_PROPERTY", 0x80200058, "the property can only be read", "leave it out of the call"
)
BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY: Final = _method(
    "BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY",
    0x80200060,
    "only download jobs have this property",
    "leave it out of the call",
)
BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE: Final = _method(
    "BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE",
    0x80200061,
    "the property cannot change any more once the job has a file",
    "create a new job and set the property before the first file is added",
)
BG_E_READ_ONLY_PROPERTY_AFTER_RESUME: Final = _method(
    "BG_E_READ_ONLY_PROPERTY_AFTER_RESUME",
    0x80200062,
    "the property cannot change any more once the job was resumed",
    "create a new job and set the property before its first resume",
)
BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE: Final = _method(
    "BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE",
    0x80200063,
    "the largest download size cannot be 0",
    "give at least 1 byte, or leave the property unset for no limit",
)
BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED: Final = _method(
    "BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED",
    0x80200066,
    "stored credentials can be used for the proxy only",
    "use the target proxy, or set the credentials of the server explicitly",
)
BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD: Final = _method(
    "BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD",
    0x80200071,
    "the call is not possible in a job with a custom http method",
    "use a job with the default method",
)
BG_E_UNSUPPORTED_JOB_CONFIGURATION: Final = _method(
    "BG_E_UNSUPPORTED_JOB_CONFIGURATION",
    0x80200072,
    "the settings of the job do not allow this call",
    "look at the properties of the job and change the one that conflicts",
)
BG_E_READ_ONLY_WHEN_JOB_ACTIVE: Final = _method(
    "BG_E_READ_ONLY_WHEN_JOB_ACTIVE",
    0x80200075,
    "this can only change while the job is suspended, transferred or in error",
    "suspend the job, make the change, resume the job",
)

# Peer caching: never built, its interfaces answer E_NOINTERFACE; the names stay for programs that test for them

BG_E_RECORD_DELETED: Final = _method(
    "BG_E_RECORD_DELETED", 0x80200042, "the cache record of the file is gone", "download the file again"
)
BG_E_COMMIT_IN_PROGRESS: Final = _method(
    "BG_E_COMMIT_IN_PROGRESS", 0x80200043, "the cache record is being updated", "repeat the call in a few seconds"
)
BG_E_DISCOVERY_IN_PROGRESS: Final = _method(
    "BG_E_DISCOVERY_IN_PROGRESS", 0x80200044, "a search for peers is running", "repeat the call in a few seconds"
)
BG_E_PEERCACHING_DISABLED: Final = _method(
    "BG_E_PEERCACHING_DISABLED", 0x80200047, "peer caching is off", "go on without it: files come from their server"
)
BG_E_BUSYCACHERECORD: Final = _method(
    "BG_E_BUSYCACHERECORD", 0x80200048, "the cache record is in use", "repeat the call in a few seconds"
)

# Successes that are not S_OK

BG_S_PARTIAL_COMPLETE: Final = _success(
    "BG_S_PARTIAL_COMPLETE",
    0x00200017,
    "the finished files were kept, the unfinished ones deleted; the job is gone",
    "create a new job for the files that are missing",
)
BG_S_UNABLE_TO_DELETE_FILES: Final = _success(
    "BG_S_UNABLE_TO_DELETE_FILES",
    0x0020001A,
    "done, but some temporary files could not be removed",
    "find their names in the log and remove them as the user they belong to",
)
BG_S_PROXY_CHANGED: Final = _success("BG_S_PROXY_CHANGED", 0x0020002A, "the proxy was changed")
BG_S_OVERRIDDEN_BY_POLICY: Final = _success(
    "BG_S_OVERRIDDEN_BY_POLICY",
    0x00200055,
    "the preference is stored, but a policy with another value is in force",
    "ask an administrator about the policy",
)

# Places of errors (errors.md §3); a subject may follow the text

BG_S_ERROR_CONTEXT_NONE: Final = _place("BG_S_ERROR_CONTEXT_NONE", 0x00200006, "nothing failed")
BG_E_ERROR_CONTEXT_UNKNOWN: Final = _place(
    "BG_E_ERROR_CONTEXT_UNKNOWN", 0x80200007, "the place of the failure is not known"
)
BG_E_ERROR_CONTEXT_GENERAL_QUEUE_MANAGER: Final = _place(
    "BG_E_ERROR_CONTEXT_GENERAL_QUEUE_MANAGER", 0x80200008, "in the queue manager"
)
BG_E_ERROR_CONTEXT_LOCAL_FILE: Final = _place(
    "BG_E_ERROR_CONTEXT_LOCAL_FILE", 0x80200009, "while working on the local file"
)
BG_E_ERROR_CONTEXT_REMOTE_FILE: Final = _place(
    "BG_E_ERROR_CONTEXT_REMOTE_FILE", 0x8020000A, "while working on the remote file"
)
BG_E_ERROR_CONTEXT_GENERAL_TRANSPORT: Final = _place(
    "BG_E_ERROR_CONTEXT_GENERAL_TRANSPORT", 0x8020000B, "on the way to the server"
)
BG_E_ERROR_CONTEXT_QUEUE_MANAGER_NOTIFICATION: Final = _place(
    "BG_E_ERROR_CONTEXT_QUEUE_MANAGER_NOTIFICATION", 0x8020000C, "while a notification was being delivered"
)
BG_E_ERROR_CONTEXT_REMOTE_APPLICATION: Final = _place(
    "BG_E_ERROR_CONTEXT_REMOTE_APPLICATION", 0x8020001E, "in the server application behind the upload"
)
BG_E_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK: Final = _place(
    "BG_E_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK", 0x80200076, "in the certificate validation callback"
)

# Known for source compatibility, never raised

BG_E_KEEP_ALIVE_FAILURE: Final = _internal(
    "BG_E_KEEP_ALIVE_FAILURE", 0x8020002F, "a kept-alive connection was closed by the server (historic)"
)
BG_E_MESSAGE_LENGTH_LIMIT_EXCEEDED: Final = _internal(
    "BG_E_MESSAGE_LENGTH_LIMIT_EXCEEDED", 0x80200030, "an answer exceeded the length limit (historic)"
)
BG_E_NAME_RESOLUTION_FAILURE: Final = _internal(
    "BG_E_NAME_RESOLUTION_FAILURE", 0x80200031, "a host name was not resolved (historic; now 0x80072EE7)"
)
BG_E_PENDING: Final = _internal("BG_E_PENDING", 0x80200032, "an operation is not finished (historic; now E_PENDING)")
BG_E_PIPELINE_FAILURE: Final = _internal(
    "BG_E_PIPELINE_FAILURE", 0x80200033, "a pipelined request lost its connection (historic)"
)
BG_E_PROTOCOL_ERROR: Final = _internal(
    "BG_E_PROTOCOL_ERROR", 0x80200034, "an answer came, and it was a protocol error (historic)"
)
BG_E_PROXY_NAME_RESOLUTION_FAILURE: Final = _internal(
    "BG_E_PROXY_NAME_RESOLUTION_FAILURE", 0x80200035, "the name of the proxy was not resolved (historic)"
)
BG_E_RECEIVE_FAILURE: Final = _internal(
    "BG_E_RECEIVE_FAILURE", 0x80200036, "no complete answer was received (historic)"
)
BG_E_REQUEST_CANCELED: Final = _internal("BG_E_REQUEST_CANCELED", 0x80200037, "a request was cancelled (historic)")
BG_E_SECURE_CHANNEL_FAILURE: Final = _internal(
    "BG_E_SECURE_CHANNEL_FAILURE", 0x80200038, "a tls handshake failed (historic; now 0x80072F7D)"
)
BG_E_SEND_FAILURE: Final = _internal("BG_E_SEND_FAILURE", 0x80200039, "a request could not be sent (historic)")
BG_E_SERVER_PROTOCOL_VIOLATION: Final = _internal(
    "BG_E_SERVER_PROTOCOL_VIOLATION", 0x8020003A, "an answer was not valid http (historic)"
)
BG_E_TIMEOUT: Final = _internal("BG_E_TIMEOUT", 0x8020003B, "a request timed out (historic; now 0x80072EE2)")
BG_E_TRUST_FAILURE: Final = _internal(
    "BG_E_TRUST_FAILURE", 0x8020003C, "the server certificate was not trusted (historic)"
)
BG_E_UNKNOWN_ERROR: Final = _internal("BG_E_UNKNOWN_ERROR", 0x8020003D, "an error of unknown kind (historic)")
BG_E_INVALID_HASH_ALGORITHM: Final = _internal(
    "BG_E_INVALID_HASH_ALGORITHM", 0x80200041, "a peer used an unsupported hash algorithm"
)
BG_E_UPNP_ERROR: Final = _internal(
    "BG_E_UPNP_ERROR", 0x80200045, "the gateway device could not tell its bandwidth; interface counters are used"
)
BG_E_TEST_OPTION_BLOCKED_DOWNLOAD: Final = _internal(
    "BG_E_TEST_OPTION_BLOCKED_DOWNLOAD", 0x80200046, "a test switch of the peer search forbade the download"
)
BG_E_APP_PACKAGE_NOT_FOUND: Final = _internal(
    "BG_E_APP_PACKAGE_NOT_FOUND", 0x8020006A, "the app package of the caller was not found (Windows only)"
)
BG_E_APP_PACKAGE_SCENARIO_NOT_SUPPORTED: Final = _internal(
    "BG_E_APP_PACKAGE_SCENARIO_NOT_SUPPORTED", 0x8020006B, "app packages may not do this (Windows only)"
)

# Identifiers of the event log, not results

BITS_MC_JOB_CANCELLED: Final = _internal("BITS_MC_JOB_CANCELLED", 0x80194000, "event log: a job was cancelled")
BITS_MC_FILE_DELETION_FAILED: Final = _internal(
    "BITS_MC_FILE_DELETION_FAILED", 0x80194001, "event log: temporary files could not be removed"
)
BITS_MC_FILE_DELETION_FAILED_MORE: Final = _internal(
    "BITS_MC_FILE_DELETION_FAILED_MORE", 0x80194002, "event log: more temporary files could not be removed"
)
BITS_MC_JOB_PROPERTY_CHANGE: Final = _internal(
    "BITS_MC_JOB_PROPERTY_CHANGE", 0x80194003, "event log: a property of a job was changed"
)
BITS_MC_JOB_TAKE_OWNERSHIP: Final = _internal(
    "BITS_MC_JOB_TAKE_OWNERSHIP", 0x80194004, "event log: a job got a new owner"
)
BITS_MC_JOB_SCAVENGED: Final = _internal(
    "BITS_MC_JOB_SCAVENGED", 0x80194005, "event log: a job was cancelled because nobody used it"
)
BITS_MC_JOB_NOTIFICATION_FAILURE: Final = _internal(
    "BITS_MC_JOB_NOTIFICATION_FAILURE", 0x80194006, "event log: a notification could not be delivered"
)
BITS_MC_STATE_FILE_CORRUPT: Final = _internal(
    "BITS_MC_STATE_FILE_CORRUPT", 0x80194007, "event log: the stored queue is damaged"
)
BITS_MC_FAILED_TO_START: Final = _internal(
    "BITS_MC_FAILED_TO_START", 0x80194008, "event log: the service could not start"
)
BITS_MC_FATAL_IGD_ERROR: Final = _internal(
    "BITS_MC_FATAL_IGD_ERROR", 0x80194009, "event log: the gateway device failed for good"
)
BITS_MC_PEERCACHING_PORT: Final = _internal(
    "BITS_MC_PEERCACHING_PORT", 0x8019400A, "event log: the port of peer caching is not available"
)
BITS_MC_WSD_PORT: Final = _internal(
    "BITS_MC_WSD_PORT", 0x8019400B, "event log: the port of the peer search is not available"
)
