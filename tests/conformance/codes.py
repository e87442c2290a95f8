"""Every code that a method can return, when, and the test that proves it (jobs.md §2.3, §7, §13, §14, errors.md §7).

A line is `CODE  when  =>  proof`. A proof is `state` (a cell of `states`), `arg` (a row of test_com_arguments), a file
of FILES and the name of a test in it, or `differs: why`. A method without a line for S_OK is proved by its cells.
"""

# ruff: noqa: E501  # the table

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FILES: Final = {
    "args": "tests/real/test_com_arguments.py",
    "states": "tests/real/test_com_states.py",
    "versions": "tests/real/test_com_versions.py",
    "uploads": "tests/real/test_uploads.py",
    "http": "tests/real/test_com_http_options.py",
    "parts": "tests/real/test_file_parts.py",
    "names": "tests/real/test_remote_names.py",
    "ownership": "tests/real/test_ownership.py",
    "policies": "tests/real/test_policies.py",
    "identity": "tests/real/test_identity_rules.py",
    "levels": "tests/real/test_levels.py",
    "bad": "tests/real/test_bad_input.py",
    "callbacks": "tests/com/test_callbacks.py",
    "real-callbacks": "tests/real/test_com_callbacks.py",
    "programs": "tests/real/test_callback_programs.py",
    "job": "tests/com/test_job.py",
    "job5": "tests/com/test_job_versions.py",
    "file6": "tests/com/test_files.py",
    "interfaces": "tests/com/test_interfaces.py",
    "disk": "tests/real/test_faults_disk.py",
    "entrusted": "tests/real/test_entrusted.py",
}

_TABLE = """
IBackgroundCopyManager.CreateJob
    S_OK  a job in SUSPENDED, priority NORMAL, owned by the caller  =>  job::test_create_job_gives_the_pair_of_id_and_job
    E_INVALIDARG  name NULL or longer than 256 characters (OPEN-17)  =>  arg
    E_NOTIMPL  undefined type (OPEN-14)  =>  arg
    BG_E_TOO_MANY_JOBS_PER_USER  MaxJobsPerUser  =>  policies::test_an_ordinary_user_has_60_jobs_and_not_61_and_one_that_ends_makes_room
    BG_E_TOO_MANY_JOBS_PER_MACHINE  MaxJobsPerMachine  =>  policies::test_two_who_create_at_once_do_not_slip_through
    E_ACCESSDENIED  restricted token, or a caller at level ANONYMOUS  =>  levels::test_t3_at_level_anonymous_every_call_is_denied
IBackgroundCopyManager.GetJob
    BG_E_NOT_FOUND  unknown, completed or cancelled  =>  state
    E_ACCESSDENIED  job of somebody else  =>  identity::test_a_foreign_job_is_denied_and_nothing_of_it_disclosed
    E_INVALIDARG  NULL  =>  arg
IBackgroundCopyManager.EnumJobs
    E_ACCESSDENIED  ALL_USERS without administrator  =>  args::test_enum_jobs_for_everybody
    E_NOTIMPL  other bits (OPEN-14)  =>  arg
    E_INVALIDARG  NULL  =>  arg
IBackgroundCopyManager.GetErrorDescription
    S_OK  any code of BITS, HTTP or the system; LanguageId 0 is the default  =>  arg
    ERROR_RESOURCE_LANG_NOT_FOUND  language missing  =>  arg
    E_INVALIDARG  NULL, or no code  =>  arg
IBackgroundCopyJob.AddFileSet
    E_INVALIDARG  Count 0, or one pair that AddFile would refuse: none is added (OPEN-15)  =>  args::test_one_bad_file_adds_none_of_a_set
    BG_E_TOO_MANY_FILES  upload, Count > 1 or a file exists  =>  args::test_an_upload_has_one_file_without_ranges_or_another_name
    BG_E_TOO_MANY_FILES_IN_JOB  MaxFilesPerJob  =>  policies::test_a_job_has_200_files_and_not_201
    E_ACCESSDENIED  destination directory not writable  =>  bad::test_a_directory_that_may_not_be_written_names_identity_object_and_right
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.AddFile
    E_INVALIDARG  bad name, unsupported protocol, relative local path  =>  arg
    ERROR_PATH_NOT_FOUND  directory missing (OPEN-30)  =>  bad::test_a_missing_directory_is_named
    ERROR_FILENAME_EXCED_RANGE  local name too long (OPEN-29)  =>  arg
    BG_E_TOO_MANY_FILES  upload, a file exists  =>  args::test_an_upload_has_one_file_without_ranges_or_another_name
    BG_E_TOO_MANY_FILES_IN_JOB  MaxFilesPerJob  =>  policies::test_a_job_has_200_files_and_not_201
    E_ACCESSDENIED  destination directory not writable  =>  bad::test_a_directory_that_may_not_be_written_names_identity_object_and_right
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.Resume
    BG_E_EMPTY  no file  =>  job::test_the_four_state_methods
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.Suspend
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.Cancel
    BG_S_UNABLE_TO_DELETE_FILES  some temporaries remain  =>  ownership::test_cancel_by_the_new_owner_says_when_something_of_the_old_one_stays
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.Complete
    BG_S_PARTIAL_COMPLETE  some files not transferred  =>  state
    BG_S_UNABLE_TO_DELETE_FILES  done but leftovers  =>  tests/campaigns/test_history.py::test_the_queue_does_what_the_model_says_whatever_happens
    BG_E_INVALID_STATE  final job; an upload that is not TRANSFERRED  =>  state
    ERROR_ALREADY_EXISTS  the error of a failed rename, here of a directory in the way (OPEN-35, OPEN-37)  =>  parts::test_a_failed_rename_of_an_unfinished_job_leaves_it_suspended
    BG_E_TOKEN_REQUIRED  the identity of the rename is gone (OPEN-58)  =>  tests/campaigns/test_history.py::test_the_queue_does_what_the_model_says_whatever_happens
IBackgroundCopyJob.GetError
    BG_E_ERROR_INFORMATION_UNAVAILABLE  no error object (§3.6)  =>  state
IBackgroundCopyJob.SetDisplayName
    E_INVALIDARG  NULL  =>  arg
    BG_E_STRING_TOO_LONG  more than 256 characters (OPEN-17)  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetDescription
    E_INVALIDARG  NULL  =>  arg
    BG_E_STRING_TOO_LONG  more than 1024 characters  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetPriority
    E_NOTIMPL  undefined  =>  arg
    E_INVALIDARG  NULL  =>  arg
    BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD  the job has an HTTP method of its own (§9.9 M3)  =>  args::test_a_method_of_ones_own_goes_with_nothing_that_needs_the_usual_one
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetNotifyFlags
    E_NOTIMPL  undefined bits  =>  arg
    E_INVALIDARG  NULL  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetNotifyInterface
    E_NOINTERFACE  no callback (OPEN-18)  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetMinimumRetryDelay
    E_INVALIDARG  no number of 32 bits  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetNoProgressTimeout
    E_INVALIDARG  no number of 32 bits  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.SetProxySettings
    E_NOTIMPL  undefined usage  =>  arg
    E_INVALIDARG  list NULL with OVERRIDE, or lists with another usage  =>  arg
    BG_E_PROXY_LIST_TOO_LARGE  more than 32,000 characters (OPEN-49)  =>  arg
    BG_E_PROXY_BYPASS_LIST_TOO_LARGE  more than 32,000 characters  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob.TakeOwnership
    E_ACCESSDENIED  no administrator  =>  ownership::test_the_owner_and_a_stranger_are_refused
    BG_E_NEW_OWNER_NO_FILE_ACCESS  temporaries not accessible to the caller  =>  ownership::test_without_access_to_the_folder_nothing_changes
    BG_E_NEW_OWNER_DIFF_MAPPING  drive letters differ  =>  differs: there are no drive letters
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob2.SetNotifyCmdLine
    BG_E_STRING_TOO_LONG  Program above 260, Parameters above 4000 characters  =>  arg
    E_INVALIDARG  Parameters without Program (OPEN-22), no full path  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob2.GetReplyProgress
    S_OK  upload-reply  =>  versions::test_the_reply_file_is_named_or_generated
    E_NOTIMPL  other types  =>  state
IBackgroundCopyJob2.GetReplyData
    S_OK  TRANSFERRED, and ACKNOWLEDGED while the interface is held (OPEN-23)  =>  uploads::test_the_reply_is_there_before_complete_and_its_file_after
    BG_E_INVALID_STATE  before TRANSFERRED  =>  versions::test_the_reply_file_is_named_or_generated
    BG_E_TOO_LARGE  reply above 1 MiB  =>  versions::test_a_reply_above_one_mebibyte_is_read_from_its_file
    E_NOTIMPL  other types  =>  state
IBackgroundCopyJob2.SetReplyFileName
    S_OK  upload-reply; NULL: generated  =>  versions::test_the_reply_file_is_named_or_generated
    E_INVALIDARG  invalid or too long  =>  versions::test_a_reply_file_that_cannot_be_is_refused
    E_ACCESSDENIED  directory not writable  =>  versions::test_a_reply_file_that_cannot_be_is_refused
    BG_E_INVALID_STATE  the reply download began; final job  =>  uploads::test_the_reply_may_be_given_another_place_until_it_comes
    E_NOTIMPL  other types  =>  arg
IBackgroundCopyJob2.GetReplyFileName
    S_OK  upload-reply; NULL before there is a file  =>  versions::test_the_reply_file_is_named_or_generated
    E_NOTIMPL  other types  =>  state
IBackgroundCopyJob2.SetCredentials
    BG_E_INVALID_AUTH_TARGET  undefined  =>  http::test_credentials_of_every_target_and_scheme
    BG_E_INVALID_AUTH_SCHEME  undefined  =>  http::test_credentials_of_every_target_and_scheme
    BG_E_USERNAME_TOO_LARGE  more than 300 characters  =>  http::test_credentials_of_every_target_and_scheme
    BG_E_PASSWORD_TOO_LARGE  more than 65,536 characters (OPEN-24)  =>  http::test_credentials_of_every_target_and_scheme
    E_INVALIDARG  NULL user or password with BASIC or DIGEST  =>  http::test_credentials_of_every_target_and_scheme
    E_ACCESSDENIED  not the owner (A6)  =>  entrusted::test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob2.RemoveCredentials
    S_OK  the pair was set  =>  http::test_credentials_of_every_target_and_scheme
    S_FALSE  the pair is not set  =>  state
    BG_E_INVALID_AUTH_TARGET  undefined  =>  http::test_credentials_of_every_target_and_scheme
    BG_E_INVALID_AUTH_SCHEME  undefined  =>  http::test_credentials_of_every_target_and_scheme
    E_INVALIDARG  NULL  =>  differs: NULL is an undefined target or scheme, BG_E_INVALID_AUTH_*
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob3.ReplaceRemotePrefix
    S_FALSE  nothing matched  =>  state
    E_INVALIDARG  empty argument, resulting URL invalid or too long  =>  arg
    E_NOTIMPL  uploads  =>  args::test_an_upload_has_one_file_without_ranges_or_another_name
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob3.AddFileWithRanges
    E_INVALIDARG  Count 0, or as AddFile  =>  arg
    BG_E_INVALID_RANGE  impossible range (R2, OPEN-40)  =>  arg
    BG_E_OVERLAPPING_RANGES  overlap or duplicate (R4)  =>  arg
    BG_E_TOO_MANY_RANGES_IN_FILE  MaxRangesPerFile  =>  parts::test_ranges_that_are_refused_leave_no_file[BG_E_TOO_MANY_RANGES_IN_FILE]
    BG_E_UNSUPPORTED_JOB_CONFIGURATION  DYNAMIC_CONTENT (R1)  =>  parts::test_made_content_has_no_ranges
    BG_E_TOO_MANY_FILES_IN_JOB  MaxFilesPerJob  =>  policies::test_a_job_has_200_files_and_not_201
    E_NOTIMPL  uploads  =>  args::test_an_upload_has_one_file_without_ranges_or_another_name
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob3.SetFileACLFlags
    E_INVALIDARG  unknown bit  =>  arg
    BG_E_INVALID_STATE  from TRANSFERRED on  =>  state
IBackgroundCopyJob4.SetPeerCachingFlags
    E_NOTIMPL  undefined bits (OPEN-14)  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob4.SetMaximumDownloadTime
    E_INVALIDARG  no number of 32 bits  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob5.SetProperty
    BG_E_UNKNOWN_PROPERTY_ID  an id that is not in §13  =>  arg
    BG_E_READ_ONLY_PROPERTY  an id that can only be read  =>  differs: §13 has no such property
    BG_E_READ_ONLY_PROPERTY_AFTER_RESUME  DYNAMIC_CONTENT, MAX_DOWNLOAD_SIZE  =>  state
    BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE  HIGH_PERFORMANCE  =>  state
    BG_E_READ_ONLY_WHEN_JOB_ACTIVE  ON_DEMAND_MODE (OPEN-57)  =>  state
    BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY  uploads  =>  versions::test_what_is_for_downloads_is_refused_for_uploads[1]
    BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE  MAX_DOWNLOAD_SIZE 0  =>  arg
    BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED  another target than PROXY  =>  arg
    BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD  DYNAMIC_CONTENT, ON_DEMAND_MODE (M5)  =>  args::test_a_method_of_ones_own_goes_with_nothing_that_needs_the_usual_one
    E_NOTIMPL  undefined cost states  =>  arg
    E_INVALIDARG  NULL, or a value in another member of the union  =>  arg
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJob5.GetProperty
    BG_E_UNKNOWN_PROPERTY_ID  an id that is not in §13  =>  arg
    E_INVALIDARG  NULL  =>  arg
IBackgroundCopyJobHttpOptions.SetClientCertificateByID
    E_NOTIMPL  undefined location, and those that only Windows has  =>  http::test_other_locations_are_not_implemented[8]
    ERROR_FILE_NOT_FOUND  store not found  =>  http::test_a_certificate_by_id
    CRYPT_E_NOT_FOUND  no such certificate  =>  http::test_a_certificate_by_id
    RPC_X_NULL_REF_POINTER  NULL  =>  http::test_null_is_a_null_reference_here
    RPC_X_BAD_STUB_DATA  hash not 20 bytes  =>  http::test_a_certificate_by_id
    BG_E_STRING_TOO_LONG  store name above 256 characters  =>  http::test_a_certificate_by_id
    E_ACCESSDENIED  not the owner  =>  entrusted::test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions.SetClientCertificateByName
    E_NOTIMPL  undefined location, and those that only Windows has  =>  http::test_other_locations_are_not_implemented[8]
    CRYPT_E_NOT_FOUND  no such certificate  =>  http::test_a_certificate_by_name
    RPC_X_NULL_REF_POINTER  NULL  =>  http::test_null_is_a_null_reference_here
    BG_E_STRING_TOO_LONG  store or subject above 256 characters  =>  http::test_a_certificate_by_name
    E_INVALIDARG  empty subject  =>  http::test_a_certificate_by_name
    E_ACCESSDENIED  not the owner  =>  entrusted::test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions.RemoveClientCertificate
    S_OK  one was set  =>  http::test_a_certificate_by_id
    S_FALSE  none  =>  state
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions.GetClientCertificate
    S_OK  what was chosen  =>  http::test_a_certificate_by_id
    RPC_X_BAD_STUB_DATA  none set, or not permitted  =>  state
IBackgroundCopyJobHttpOptions.SetCustomHeaders
    BG_E_STRING_TOO_LONG  more than 16,384 characters with the terminator  =>  http::test_custom_headers
    E_INVALIDARG  malformed, or headers of the engine (OPEN-25)  =>  http::test_custom_headers
    E_ACCESSDENIED  not the owner  =>  entrusted::test_what_is_entrusted_is_the_owners_alone_to_give_and_nobodys_to_read
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions.GetCustomHeaders
    S_FALSE  unset: NULL  =>  http::test_custom_headers
    E_ACCESSDENIED  write-only (OPEN-26), or not the owner  =>  http::test_custom_headers
IBackgroundCopyJobHttpOptions.SetSecurityFlags
    E_NOTIMPL  undefined bits  =>  http::test_security_flags_and_method
    RPC_X_NULL_REF_POINTER  NULL  =>  http::test_null_is_a_null_reference_here
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions2.SetHttpMethod
    E_INVALIDARG  no method, or longer than 32 characters (M6)  =>  http::test_security_flags_and_method
    RPC_X_NULL_REF_POINTER  NULL  =>  http::test_null_is_a_null_reference_here
    BG_E_READ_ONLY_PROPERTY_AFTER_RESUME  after the first Resume (M1, OPEN-50)  =>  state
    BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD  DYNAMIC_CONTENT, ON_DEMAND_MODE (M5)  =>  args::test_a_method_of_ones_own_goes_with_nothing_that_needs_the_usual_one
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions3.SetServerCertificateValidationInterface
    E_NOINTERFACE  no callback  =>  callbacks::test_something_else_is_no_certificate_callback_and_null_takes_it_back
    BG_E_READ_ONLY_WHEN_JOB_ACTIVE  unless SUSPENDED, ERROR, TRANSFERRED  =>  state
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyJobHttpOptions3.MakeCustomHeadersWriteOnly
    BG_E_INVALID_STATE  final job: the rule of all setters  =>  state
IBitsTokenOptions.SetHelperTokenFlags
    E_INVALIDARG  unknown bits (OPEN-14)  =>  args::test_the_flags_of_a_helper_token
    E_ACCESSDENIED  H1: the helper is an administrator  =>  identity::test_flags_cannot_be_changed_by_the_owner_while_a_privileged_token_is_set
    BG_E_INVALID_STATE  final job  =>  state
IBitsTokenOptions.SetHelperToken
    CO_E_FAILEDTOIMPERSONATE  not capturable at impersonation level  =>  levels::test_t3_set_helper_token_by_the_level_of_the_token
    E_ACCESSDENIED  H1  =>  identity::test_the_refusal_of_a_privileged_helper_says_who_why_and_what_to_do
    BG_E_INVALID_STATE  final job  =>  state
IBitsTokenOptions.ClearHelperToken
    BG_E_INVALID_STATE  final job  =>  state
IEnumBackgroundCopyJobs.Next
    S_OK  n delivered; fewer (S_FALSE there): a shorter list  =>  job::test_enumerators_are_snapshots_with_a_position
    E_INVALIDARG  NULL  =>  args::test_enumerators_refuse_what_is_no_number
IEnumBackgroundCopyJobs.Skip
    S_OK  n passed  =>  job::test_enumerators_are_snapshots_with_a_position
    S_FALSE  fewer were left  =>  job::test_enumerators_are_snapshots_with_a_position
IEnumBackgroundCopyJobs.Reset
    S_OK  back to the start of the same snapshot  =>  job::test_enumerators_are_snapshots_with_a_position
IEnumBackgroundCopyJobs.Clone
    S_OK  an independent copy at the same position  =>  job::test_enumerators_are_snapshots_with_a_position
IEnumBackgroundCopyJobs.GetCount
    S_OK  of the snapshot, not the rest  =>  job::test_enumerators_are_snapshots_with_a_position
IEnumBackgroundCopyFiles.Next
    S_FALSE  fewer than n  =>  differs: a list that is shorter
    E_INVALIDARG  NULL  =>  args::test_enumerators_refuse_what_is_no_number
IEnumBackgroundCopyFiles.Skip
    S_FALSE  fewer were left  =>  args::test_enumerators_refuse_what_is_no_number
IBackgroundCopyFile2.GetFileRanges
    S_OK  as given, in that order  =>  file6::test_ranges_are_given_back_in_their_order
    S_FALSE  none: 0 and NULL  =>  file6::test_a_whole_file_has_no_ranges
IBackgroundCopyFile2.SetRemoteName
    E_INVALIDARG  invalid or above 2200 characters  =>  names::test_names_by_their_documented_methods
    E_NOTIMPL  uploads  =>  args::test_an_upload_has_one_file_without_ranges_or_another_name
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyFile3.SetValidationState
    E_PENDING  file not finished  =>  state
    BG_E_RECORD_DELETED  cache record gone  =>  differs: there is no peer cache
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyFile5.SetProperty
    BG_E_READ_ONLY_PROPERTY  HTTP_RESPONSE_HEADERS  =>  state
    BG_E_UNKNOWN_PROPERTY_ID  any other id  =>  file6::test_the_one_property_is_read_only
IBackgroundCopyFile5.GetProperty
    BG_E_UNKNOWN_PROPERTY_ID  another id than 1  =>  file6::test_the_one_property_is_read_only
IBackgroundCopyFile6.UpdateDownloadPosition
    BG_E_RANDOM_ACCESS_NOT_SUPPORTED  ranges, dynamic content, uploads, file://  =>  parts::test_a_file_with_ranges_has_no_random_access
    E_INVALIDARG  NULL, no number of 64 bits  =>  file6::test_what_is_null_or_no_number_of_64_bits_is_invalid
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyFile6.RequestFileRanges
    BG_E_INVALID_RANGE  outside the file  =>  parts::test_what_is_here_of_an_ordinary_download
    BG_E_RANDOM_ACCESS_NOT_SUPPORTED  as above  =>  parts::test_a_file_with_ranges_has_no_random_access
    E_INVALIDARG  NULL  =>  file6::test_what_is_null_or_no_number_of_64_bits_is_invalid
    BG_E_INVALID_STATE  final job  =>  state
IBackgroundCopyFile6.GetFilledFileRanges
    BG_E_RANDOM_ACCESS_NOT_SUPPORTED  as above  =>  parts::test_a_file_with_ranges_has_no_random_access
    E_OUTOFMEMORY  memory exhausted  =>  differs: Python raises MemoryError
IBackgroundCopyError.GetFile
    BG_E_FILE_NOT_AVAILABLE  the context concerns no file  =>  job::test_only_some_contexts_concern_a_file
IBackgroundCopyError.GetErrorDescription
    E_INVALIDARG  LanguageId 0  =>  job::test_the_error_object_is_a_snapshot_of_the_jobs_error
    ERROR_RESOURCE_LANG_NOT_FOUND  language missing  =>  job::test_the_error_object_is_a_snapshot_of_the_jobs_error
IBackgroundCopyError.GetErrorContextDescription
    E_INVALIDARG  LanguageId 0  =>  job::test_the_error_object_is_a_snapshot_of_the_jobs_error
    ERROR_RESOURCE_LANG_NOT_FOUND  language missing  =>  job::test_the_error_object_is_a_snapshot_of_the_jobs_error
IBackgroundCopyError.GetProtocol
    BG_E_PROTOCOL_NOT_AVAILABLE  it concerns none  =>  job::test_the_error_object_is_a_snapshot_of_the_jobs_error
IBackgroundCopyCallback.JobTransferred
    S_OK  taken  =>  callbacks::test_job_transferred_is_called_on_another_thread_and_may_complete_the_job
    E_FAIL  any other answer, or an exception: called again (N5)  =>  callbacks::test_an_exception_or_a_failure_code_has_bits_call_again
IBackgroundCopyCallback.JobError
    S_OK  taken; with the error object  =>  callbacks::test_job_error_brings_the_error_object
IBackgroundCopyCallback.JobModification
    S_OK  the result is ignored (N7)  =>  callbacks::test_what_is_told_without_a_number_is_not_told_again
IBackgroundCopyCallback2.FileTransferred
    S_OK  every code that is no failure takes it (OPEN-52)  =>  callbacks::test_a_file_is_taken_with_every_code_that_is_no_failure
    E_FAIL  comes again and keeps the job's own notice back (N1)  =>  programs::test_a_refused_file_comes_again_and_keeps_the_job_back
IBackgroundCopyCallback3.FileRangesTransferred
    S_OK  the result is ignored (N7)  =>  callbacks::test_what_is_told_without_a_number_is_not_told_again
IBackgroundCopyServerCertificateValidationCallback.ValidateServerCertificate
    S_OK  accepts the certificate  =>  callbacks::test_a_certificate_callback_is_asked_with_the_documented_arguments
    E_FAIL  any failure: TRANSIENT_ERROR, context 8  =>  programs::test_no_server_is_talked_to_while_its_certificate_is_not_checked
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One code of a method; `proof` as in the table."""

    method: str
    code: str
    when: str
    proof: str


def _read() -> Iterator[Row]:
    method = ""
    for line in _TABLE.strip().splitlines():
        if not line.startswith(" "):
            method = line
            continue
        said, _, proof = line.strip().partition("  =>  ")
        code, _, when = said.partition("  ")
        yield Row(method=method, code=code, when=when, proof=proof)


ROWS: Final = tuple(_read())
