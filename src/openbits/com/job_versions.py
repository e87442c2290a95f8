"""IBackgroundCopyJob2 to 5 (jobs.md §7.4 to §7.7): what later versions of BITS added to a job."""

import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openbits.com.constants import BG_AUTH_TARGET, BG_LENGTH_TO_EOF, BG_SIZE_UNKNOWN, BITS_JOB_PROPERTY_ID
from openbits.com.job import IBackgroundCopyJob
from openbits.com.structures import (
    BG_AUTH_CREDENTIALS,
    BG_BASIC_CREDENTIALS,
    BG_FILE_RANGE,
    BG_JOB_REPLY_PROGRESS,
    BITS_JOB_PROPERTY_VALUE,
    NotifyCmdLine,
    ReplyData,
    size,
)
from openbits.com.unknown import COMError, mandatory, number, structure, structures
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, Priority
from openbits.core.properties import DEFAULT_COST_FLAGS, PROPERTIES, Property


class IBackgroundCopyJob2(IBackgroundCopyJob, iid="54b50739-686f-45eb-9dff-d6a9a0faa9af"):
    """Since 1.5: command line, reply, credentials."""

    def SetNotifyCmdLine(self, Program: str | None, Parameters: str | None) -> int:
        """The program that is run, as the caller, for JobTransferred and JobError; NULL twice: none.

        Raises BG_E_STRING_TOO_LONG; E_INVALIDARG for parameters without a program.
        """
        self.job.set_notify_command_line(Program, Parameters)
        return codes.S_OK

    def GetNotifyCmdLine(self) -> NotifyCmdLine:
        """Program and parameters; empty strings if there is none."""
        return NotifyCmdLine(*self.job.notify_command_line())

    def GetReplyProgress(self) -> BG_JOB_REPLY_PROGRESS:
        """Progress of the reply. Raises E_NOTIMPL unless the job is an upload-reply."""
        total, transferred = self.job.reply_progress()
        return BG_JOB_REPLY_PROGRESS(BytesTotal=size(total), BytesTransferred=transferred)

    def GetReplyData(self) -> ReplyData:
        """The reply in memory, before and after Complete (OPEN-23); without a reply NULL and 0.

        Raises BG_E_INVALID_STATE before the job is TRANSFERRED, BG_E_TOO_LARGE for a reply above 1 MiB, E_NOTIMPL.
        """
        data = self.job.reply_data()
        return ReplyData(data or None, len(data))

    def SetReplyFileName(self, ReplyFileName: str | None) -> int:
        """Where the reply goes; NULL or empty: beside the upload file, under a name that the service makes.

        Raises BG_E_INVALID_STATE once the reply is coming, E_ACCESSDENIED, E_INVALIDARG, E_NOTIMPL.
        """
        self.job.set_reply_file_name(ReplyFileName)
        return codes.S_OK

    def GetReplyFileName(self) -> str | None:
        """The path of the reply, NULL as long as neither it nor the upload file is known. Raises E_NOTIMPL."""
        return self.job.reply_file_name()

    def SetCredentials(self, credentials: BG_AUTH_CREDENTIALS) -> int:
        """Credentials for one target and scheme, in place of earlier ones; nothing gives them back.

        Raises BG_E_INVALID_AUTH_TARGET, BG_E_INVALID_AUTH_SCHEME, BG_E_USERNAME_TOO_LARGE, BG_E_PASSWORD_TOO_LARGE,
        E_INVALIDARG for BASIC or DIGEST without name or password, E_ACCESSDENIED unless the caller is the owner.
        """
        given = structure(credentials, BG_AUTH_CREDENTIALS, "credentials")
        pair = structure(given.Credentials, BG_BASIC_CREDENTIALS, "Credentials")
        self.job.set_credentials(_target(given.Target), _scheme(given.Scheme), pair.UserName, pair.Password)
        return codes.S_OK

    def RemoveCredentials(self, Target: int, Scheme: int) -> int:
        """Forget those of this pair: S_OK, or S_FALSE if there are none."""
        return _found(is_found=self.job.remove_credentials(_target(Target), _scheme(Scheme)))


class IBackgroundCopyJob3(IBackgroundCopyJob2, iid="443c8934-90ff-48ed-bcde-26f5c7450042"):
    """Since 2.0: ranges, remote prefix, file ACL flags."""

    def ReplaceRemotePrefix(self, OldPrefix: str, NewPrefix: str) -> int:
        """Another beginning for the remote names that begin so: S_OK, or S_FALSE if none does."""
        changed = self.job.replace_remote_prefix(mandatory(OldPrefix, "OldPrefix"), mandatory(NewPrefix, "NewPrefix"))
        return _found(is_found=changed > 0)

    def AddFileWithRanges(self, RemoteUrl: str, LocalName: str, Ranges: Sequence[BG_FILE_RANGE]) -> int:
        """Add a file made of parts of the remote one, in the order given (jobs.md §8.7).

        Raises as AddFile does, and BG_E_INVALID_RANGE, BG_E_OVERLAPPING_RANGES, BG_E_TOO_MANY_RANGES_IN_FILE.
        """
        pairs = [
            (one.InitialOffset, None if one.Length == BG_LENGTH_TO_EOF else mandatory(one.Length, "Length"))
            for one in structures(Ranges, BG_FILE_RANGE, "Ranges")
        ]
        self.job.add_file_with_ranges(mandatory(RemoteUrl, "RemoteUrl"), mandatory(LocalName, "LocalName"), pairs)
        return codes.S_OK

    def SetFileACLFlags(self, Flags: int) -> int:
        """What of owner, group and access lists is copied with a file; not over HTTP.

        Raises E_INVALIDARG for undefined bits, BG_E_INVALID_STATE from TRANSFERRED on.
        """
        return self._set(file_acl_flags=number(Flags, "Flags"))

    def GetFileACLFlags(self) -> int:
        """0 by default."""
        return self.job.info()["properties"]["file_acl_flags"]


class IBackgroundCopyJob4(IBackgroundCopyJob3, iid="659cdeae-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, integrity, maximum download time."""

    def SetPeerCachingFlags(self, Flags: int) -> int:
        """Preferences for peer caching, which is not built. Raises E_NOTIMPL for undefined bits."""
        return self._set(peer_caching_flags=number(Flags, "Flags"))

    def GetPeerCachingFlags(self) -> int:
        """0 by default."""
        return self.job.info()["properties"]["peer_caching_flags"]

    def GetOwnerIntegrityLevel(self) -> int:
        """RID of the owner when the job was made or taken over: 0x2000 ordinary, 0x3000 elevated, 0x4000 system."""
        return self.job.info()["owner_integrity_level"]

    def GetOwnerElevationState(self) -> bool:
        """Whether the owner was elevated then: the superuser."""
        return self.job.info()["owner_is_elevated"]

    def SetMaximumDownloadTime(self, Timeout: int) -> int:
        """Seconds that the job may be connecting and transferring altogether, in place of the policy's."""
        return self._set(maximum_download_seconds=number(Timeout, "Timeout"))

    def GetMaximumDownloadTime(self) -> int:
        """What holds for the job: its own value, or the policy's (90 days by default)."""
        return self.job.info()["maximum_download_seconds"]


class IBackgroundCopyJob5(IBackgroundCopyJob4, iid="e847030c-bbba-4657-af6d-484aa42bf1fe"):
    """Since 5.0: job properties (jobs.md §13)."""

    def SetProperty(self, PropertyId: int, PropertyValue: BITS_JOB_PROPERTY_VALUE) -> int:
        """Set one. Raises BG_E_UNKNOWN_PROPERTY_ID; E_INVALIDARG for a value in the wrong member; the property's own.

        MAX_DOWNLOAD_SIZE cannot be taken back; 2**64 - 1 bytes are as good as no limit.
        """
        rule = _property(PropertyId)
        given = getattr(structure(PropertyValue, BITS_JOB_PROPERTY_VALUE, "PropertyValue"), rule.com_member)
        if given is None:
            raise COMError(codes.E_INVALIDARG, f"{rule.com_property} is of another type; set {rule.com_member}")
        return self._set(**{rule.name: _given(rule, given)})

    def GetProperty(self, PropertyId: int) -> BITS_JOB_PROPERTY_VALUE:
        """The value, in the member of its type. Raises BG_E_UNKNOWN_PROPERTY_ID."""
        rule = _property(PropertyId)
        values: Mapping[str, Any] = self.job.info()["properties"]
        value = _kept(rule, values[rule.name], Priority[values["priority"].upper()])
        return BITS_JOB_PROPERTY_VALUE(**{rule.com_member: value})  # type: ignore[arg-type]  # of the member's type


_BY_ID: Final[Mapping[int, Property]] = {
    BITS_JOB_PROPERTY_ID[f"BITS_JOB_PROPERTY_{rule.com_property}"]: rule
    for rule in PROPERTIES.values()
    if rule.com_property
}


def _property(number_of_it: int) -> Property:
    rule = _BY_ID.get(mandatory(number_of_it, "PropertyId"))
    if rule is None:
        known = ", ".join(f"{int(member)} {row.com_property}" for member, row in _BY_ID.items())
        raise COMError(codes.BG_E_UNKNOWN_PROPERTY_ID, f"{number_of_it} is no job property; known are {known}")
    return rule


def _given(rule: Property, value: object) -> object:
    """The value of the registry for what a member of the union says."""
    if rule.com_member == "Target":
        if value != AuthTarget.PROXY:
            text = f"stored credentials cannot be used for target {value!r}; use BG_AUTH_TARGET_PROXY (2)"
            raise COMError(codes.BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED, text)
        return True
    if rule.com_member == "ClsID":
        if not isinstance(value, uuid.UUID):
            raise COMError(codes.E_INVALIDARG, f"ClsID is {value!r}; give a GUID (uuid.UUID)")
        return str(value)
    if rule.com_member == "Enable" and isinstance(value, int):  # a BOOL may be a number, too
        return bool(value)
    return int(value) if isinstance(value, enum.IntEnum) else value  # a BITS_JOB_TRANSFER_POLICY


def _kept(rule: Property, value: object, priority: Priority) -> object:
    """And back; the null GUID and target 0 say that there is none."""
    if value is None:  # the job has none of its own, but something holds
        return DEFAULT_COST_FLAGS[priority] if rule.com_member == "Dword" else BG_SIZE_UNKNOWN
    if rule.com_member == "Target":
        return BG_AUTH_TARGET.BG_AUTH_TARGET_PROXY if value else 0
    return uuid.UUID(str(value) or "0" * 32) if rule.com_member == "ClsID" else value


def _target(value: int) -> AuthTarget:
    try:
        return AuthTarget(mandatory(value, "Target"))
    except ValueError as error:
        known = "1 (SERVER) or 2 (PROXY)"
        raise COMError(codes.BG_E_INVALID_AUTH_TARGET, f"{value!r} is no target of credentials; use {known}") from error


def _scheme(value: int) -> AuthScheme:
    try:
        return AuthScheme(mandatory(value, "Scheme"))
    except ValueError as error:
        known = ", ".join(f"{int(scheme)} ({scheme.name})" for scheme in AuthScheme)
        raise COMError(codes.BG_E_INVALID_AUTH_SCHEME, f"{value!r} is no scheme; use one of {known}") from error


def _found(*, is_found: bool) -> int:
    return codes.S_OK if is_found else codes.S_FALSE
