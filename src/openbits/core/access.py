"""Who may do what with a job, and which of its two identities opens which resource.

Two tables and the rules of the helper token: verb → rule (jobs.md §6, identity.md §1), use and flags → identity
(identity.md §4), and the checks of IBitsTokenOptions (identity.md §2, §3). Pure: users and groups arrive as numbers
that the kernel reported, group names come with the settings, nothing is looked up. A handle on a job keeps the identity
that passed the check when it was obtained (A20), called `caller_at_open` here.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from openbits.core import codes
from openbits.core.enums import Level, TokenFlags
from openbits.core.enums import Verb as Verb  # noqa: PLC0414  # callers name verbs as `access.Verb`
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.core.wording import label


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Groups that matter for access, as numbers; the names are for messages. We refuse widely and grant narrowly."""

    administrators: frozenset[int] = frozenset()
    """Members have the rights of administrators; by default nobody but uid 0 has."""
    privileged_groups: frozenset[int] = frozenset()
    """Groups that lead to root; a member is no helper for an ordinary user's job."""
    group_names: Mapping[int, str] = field(default_factory=dict)


class Rule(enum.Enum):
    """Who may, with respect to one job."""

    ANYONE = enum.auto()
    OWNER = enum.auto()
    OWNER_OR_ADMINISTRATOR = enum.auto()
    ADMINISTRATOR = enum.auto()


RULES: Mapping[Verb, Rule] = {
    Verb.CREATE_JOB: Rule.ANYONE,
    Verb.LOG_ON: Rule.ANYONE,
    Verb.LIST_OWN: Rule.ANYONE,
    Verb.LIST_ALL: Rule.ADMINISTRATOR,
    Verb.OPEN_JOB: Rule.OWNER_OR_ADMINISTRATOR,
    Verb.READ: Rule.OWNER_OR_ADMINISTRATOR,
    Verb.CHANGE: Rule.OWNER_OR_ADMINISTRATOR,
    Verb.SET_CREDENTIALS: Rule.OWNER,
    Verb.SET_HELPER_TOKEN: Rule.OWNER_OR_ADMINISTRATOR,
    Verb.TAKE_OWNERSHIP: Rule.ADMINISTRATOR,
}


def is_administrator(identity: Identity, settings: Settings) -> bool:
    """Effective uid 0, or a member of a group that grants it. Membership in sudo or wheel alone grants nothing."""
    return identity.uid == 0 or bool(_gids(identity) & settings.administrators)


def is_privileged_helper(identity: Identity, owner_uid: int, settings: Settings) -> bool:
    """True if this token is too powerful for an ordinary user's job (A24 condition 2); the owner's own never is."""
    return bool(_privilege(identity, owner_uid, settings))


def may(caller: Identity, verb: Verb, owner_uid: int | None, settings: Settings) -> bool:
    """True if the caller may do this; `owner_uid` is that of the job, None for verbs without a job."""
    match RULES[verb]:
        case Rule.ANYONE:
            return True
        case Rule.OWNER:
            return caller.uid == owner_uid
        case Rule.OWNER_OR_ADMINISTRATOR:
            return caller.uid == owner_uid or is_administrator(caller, settings)
        case Rule.ADMINISTRATOR:
            return is_administrator(caller, settings)


# The helper token (identity.md §2, §3)


def check_helper_token_caller(caller_at_open: Identity, owner_uid: int, settings: Settings) -> None:
    """The rule of every method of IBitsTokenOptions: owner (A24 condition 1) or administrator, else E_ACCESSDENIED.

    Enough for GetHelperTokenFlags, ClearHelperToken and GetHelperTokenSid.
    """
    if not may(caller_at_open, Verb.SET_HELPER_TOKEN, owner_uid, settings):
        raise BitsError(
            codes.E_ACCESSDENIED,
            f"cannot use the helper token of this job: {label(caller_at_open)}, who obtained it, is neither its owner"
            " nor an administrator; obtain the job as its owner",
        )


def check_set_helper_token(
    caller_at_open: Identity, helper: Identity, level: Level, owner_uid: int, settings: Settings
) -> None:
    """SetHelperToken with the identity and the level of the call (A22, A24, A25).

    Raises E_ACCESSDENIED, or CO_E_FAILEDTOIMPERSONATE if the level is only IDENTIFY (T-3).
    """
    check_helper_token_caller(caller_at_open, owner_uid, settings)
    if level < Level.IMPERSONATE:
        code = codes.E_ACCESSDENIED if level is Level.ANONYMOUS else codes.CO_E_FAILEDTOIMPERSONATE
        raise BitsError(
            code,
            f"cannot set {label(helper)} as helper token: the call was made at level {level.name};"
            " make it at level IMPERSONATE",
        )
    _check_helper(caller_at_open, helper, owner_uid, settings, act=f"set {label(helper)} as helper token")


def may_hand_over(helper: Identity, owner: Identity, settings: Settings) -> bool:
    """True if bytes that came in under this helper may go on in a file of another identity when the token is gone.

    For an ordinary helper the owner could have had them in a file of his own, by the flags; those of a privileged
    one are not his to choose (identity.md §3 row 2).
    """
    return not is_privileged_helper(helper, owner.uid, settings) or is_administrator(owner, settings)


def check_set_helper_token_flags(
    caller_at_open: Identity, current_helper: Identity | None, owner_uid: int, settings: Settings
) -> None:
    """SetHelperTokenFlags while this helper token, if any, is set (identity.md §3 row 2). Raises E_ACCESSDENIED."""
    check_helper_token_caller(caller_at_open, owner_uid, settings)
    if current_helper is not None:
        act = f"change the helper token flags while {label(current_helper)} is the helper"
        _check_helper(caller_at_open, current_helper, owner_uid, settings, act=act)


def _check_helper(caller: Identity, helper: Identity, owner_uid: int, settings: Settings, *, act: str) -> None:
    privilege = _privilege(helper, owner_uid, settings)
    if privilege and not is_administrator(caller, settings):
        raise BitsError(
            codes.E_ACCESSDENIED,
            f"cannot {act}: {label(helper)} {privilege}, and {label(caller)} is no administrator;"
            " use a helper without these rights, or have an administrator make the call",
        )


def _privilege(identity: Identity, owner_uid: int, settings: Settings) -> str:
    """What makes a helper privileged, in words; empty for an ordinary one."""
    if identity.uid == owner_uid:
        return ""
    if identity.uid == 0:
        return "is the superuser"
    found = _gids(identity) & (settings.privileged_groups | settings.administrators)
    names = ", ".join(settings.group_names.get(gid, f"gid {gid}") for gid in sorted(found))
    return f"is in the privileged group {names}" if found else ""


def _gids(identity: Identity) -> frozenset[int]:
    return frozenset((identity.gid, *identity.groups))


# Which identity for what (identity.md §4)


class Who(enum.Enum):
    """The identity under which something is done."""

    OWNER = enum.auto()
    HELPER = enum.auto()
    SETTER = enum.auto()
    """Whoever called SetNotifyInterface or SetNotifyCmdLine."""
    AS_GIVEN = enum.auto()
    """No identity of this machine: the account that the credentials name."""
    SERVICE = enum.auto()


class Use(enum.Enum):
    """A resource or act, one for each row of identity.md §4."""

    UPLOAD_SOURCE = enum.auto()
    DOWNLOAD_TEMPORARY = enum.auto()
    """Create, reopen, delete and rename it."""
    REPLY_FILE = enum.auto()
    DIRECTORY_CHECK = enum.auto()
    """Of AddFile and SetReplyFileName."""
    SMB_REMOTE_FILE = enum.auto()
    SOCKET = enum.auto()
    """HTTP, proxy, DNS, TLS, with or without credentials."""
    SERVER_CHALLENGE_IMPLICIT = enum.auto()
    PROXY_CHALLENGE_IMPLICIT = enum.auto()
    PROXY_STORED_CREDENTIALS = enum.auto()
    PROXY_DETECTION = enum.auto()
    PROXY_USER_SETTINGS = enum.auto()
    EXPLICIT_CREDENTIALS = enum.auto()
    CLIENT_CERTIFICATE = enum.auto()
    """And its key; see `may_use_client_certificate`."""
    CUSTOM_HEADERS = enum.auto()
    """And decisions about TLS trust."""
    CALLBACK = enum.auto()
    COMMAND_LINE = enum.auto()
    QUEUE = enum.auto()
    """State, persistence, enumeration of jobs."""


_O, _H = Who.OWNER, Who.HELPER

_IDENTITIES: Mapping[Use, tuple[Who, Who, Who, Who]] = {
    # flags:                        0   1   2   3   (1 local file, 2 network)
    Use.UPLOAD_SOURCE:             (_O, _H, _O, _H),
    Use.DOWNLOAD_TEMPORARY:        (_O, _H, _O, _H),
    Use.REPLY_FILE:                (_O, _H, _O, _H),
    Use.DIRECTORY_CHECK:           (_O, _H, _O, _H),
    Use.SMB_REMOTE_FILE:           (_O, _O, _H, _H),
    Use.SOCKET:                    (_O, _O, _H, _H),
    Use.SERVER_CHALLENGE_IMPLICIT: (_O, _O, _H, _H),
    Use.PROXY_CHALLENGE_IMPLICIT:  (_O, _O, _H, _H),
    Use.PROXY_STORED_CREDENTIALS:  (_O, _O, _H, _H),
    Use.PROXY_DETECTION:           (_O, _O, _H, _H),
    Use.PROXY_USER_SETTINGS:       (_O, _O, _H, _H),
    Use.EXPLICIT_CREDENTIALS:      (Who.AS_GIVEN,) * 4,
    Use.CLIENT_CERTIFICATE:        (_O, _O, _O, _O),
    Use.CUSTOM_HEADERS:            (_O, _O, _O, _O),
    Use.CALLBACK:                  (Who.SETTER,) * 4,
    Use.COMMAND_LINE:              (Who.SETTER,) * 4,
    Use.QUEUE:                     (Who.SERVICE,) * 4,
}  # fmt: skip


def identity_for(flags: TokenFlags, use: Use) -> Who:
    """The identity for this use under the job's helper token flags; with flags 0 it is nowhere the helper."""
    return _IDENTITIES[use][flags]


def may_use_client_certificate(flags: TokenFlags, owner_uid: int) -> bool:
    """False if the job must fail with ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY before it connects (A40)."""
    return TokenFlags.NETWORK not in flags or owner_uid == 0
