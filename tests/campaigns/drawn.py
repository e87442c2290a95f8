"""What the job campaign draws from: methods with arguments that are good, at a limit, beyond it, or nonsense."""

from typing import Any, Final

from openbits import com

S_OK, S_FALSE = 0, 1
E_NOTIMPL, E_INVALIDARG = 0x80004001, 0x80070057
NULL_REFERENCE, BAD_STUB_DATA, FILE_NOT_FOUND = 0x800706F4, 0x800706F7, 0x80070002
STRING_TOO_LONG, INVALID_RANGE, OVERLAPPING_RANGES = 0x80200021, 0x8020002B, 0x8020002C
UNKNOWN_PROPERTY_ID, READ_ONLY_PROPERTY = 0x80200057, 0x80200058

LONG: Final = 2**32 - 1
NULL_GUID: Final = "00000000-0000-0000-0000-000000000000"

SETTERS: Final[list[tuple[str, tuple[Any, ...]]]] = [
    *(("DisplayName", (value,)) for value in ("", "name", "n" * 256, "n" * 257, None, 5)),
    *(("Description", (value,)) for value in ("", "two\nlines", "\N{SNOWMAN}" * 1024, "d" * 1025, None)),
    *(("Priority", (value,)) for value in (0, 0, 0, 2, 3, 4, -1, None)),
    *(("NotifyFlags", (value,)) for value in (0, 3, 0x3F, 0x40, LONG, None, "3")),
    *(("MinimumRetryDelay", (value,)) for value in (0, 4, 5, 700, 2**32, -1, None)),
    *(("NoProgressTimeout", (value,)) for value in (0, 100_000, LONG, LONG + 1, -1, None)),
    *(("ProxySettings", value) for value in ((0, None, None), (1, None, None), (4, None, None), (None, None, None))),
    *(("ProxySettings", value) for value in ((0, "p", None), (1, None, ""), (2, None, None), (2, None, "h"))),
    *(("ProxySettings", value) for value in ((2, "p" * 32_001, None), (2, "p", "h" * 32_001))),
    *(("NotifyCmdLine", value) for value in (("/bin/true", "true 'a b'"), ("/bin/true", None), (None, None))),
    *(("NotifyCmdLine", value) for value in (("/" + "p" * 259, None), ("/" + "p" * 260, None), (None, "true"))),
    *(("NotifyCmdLine", value) for value in (("/bin/true", "p" * 4000), ("/bin/true", "p" * 4001), ("true", None))),
    *(("FileACLFlags", (value,)) for value in (0, 15, 16, LONG, None)),
    *(("PeerCachingFlags", (value,)) for value in (0, 7, 8, None)),
    *(("MaximumDownloadTime", (value,)) for value in (100_000, LONG, LONG + 1, -1, None)),
    *(("SecurityFlags", (value,)) for value in (0, 1, 0x1F, 0x0A1F, 0x0B1F, 0x20, None)),
    *(
        ("CustomHeaders", (value,))
        for value in (None, "A: b\r\n", "A: b\r\nX-Y: z\r\n", "Host: h\r\n", "no header\r\n")
    ),
    *(("CustomHeaders", ("A: " + "b" * size + "\r\n",)) for size in (16_378, 16_379)),
    *(("HttpMethod", (value,)) for value in ("GET", "", "two words", "M" * 33, None)),
    *(("1 Dword", (value,)) for value in (0x80000021, 0xC00000FF, 0x100)),
    *(("3 Enable", (value,)) for value in (True, False)),
    *(("4 Enable", (value,)) for value in (False,)),
    *(("5 Uint64", (value,)) for value in (0, 10**9, 2**64 - 1, 2**64)),
    *(("7 Target", (value,)) for value in (1, 2, 3)),
    *(("9 Dword", (value,)) for value in (0, 500, LONG)),
    *(("10 Enable", (value,)) for value in (False,)),
]
"""Names as in `rules.SETTINGS`. What changes how a file is transferred is not drawn: this world has no rest for it."""

_RANGE = com.BG_FILE_RANGE
_FILE = "http://h.example/f"

FIXED: Final[list[tuple[str, tuple[Any, ...], int, bool]]] = [
    ("GetReplyProgress", (), E_NOTIMPL, False),
    ("GetReplyData", (), E_NOTIMPL, False),
    ("GetReplyFileName", (), E_NOTIMPL, False),
    ("SetReplyFileName", ("/r",), E_NOTIMPL, True),
    ("RemoveClientCertificate", (), S_FALSE, True),
    ("GetClientCertificate", (), BAD_STUB_DATA, False),
    ("SetClientCertificateByID", (8, "MY", bytes(20)), E_NOTIMPL, True),
    ("SetClientCertificateByID", (1, None, bytes(20)), NULL_REFERENCE, True),
    ("SetClientCertificateByID", (1, "no-such-store", bytes(19)), BAD_STUB_DATA, True),
    ("SetClientCertificateByID", (1, "no-such-store", bytes(20)), FILE_NOT_FOUND, True),
    ("SetClientCertificateByName", (1, "s" * 257, "me"), STRING_TOO_LONG, True),
    ("SetClientCertificateByName", (1, "MY", None), NULL_REFERENCE, True),
    ("AddFileWithRanges", (_FILE, "/f", []), E_INVALIDARG, True),
    ("AddFileWithRanges", (_FILE, "/f", None), E_INVALIDARG, True),
    ("AddFileWithRanges", (_FILE, "/f", [_RANGE(InitialOffset=2**64 - 1, Length=1)]), INVALID_RANGE, True),
    ("AddFileWithRanges", (_FILE, "/f", [_RANGE(InitialOffset=0, Length=0)]), INVALID_RANGE, True),
    (
        "AddFileWithRanges",
        (_FILE, "/f", [_RANGE(InitialOffset=0, Length=5), _RANGE(InitialOffset=4, Length=1)]),
        OVERLAPPING_RANGES,
        True,
    ),
    ("GetProperty", (6,), UNKNOWN_PROPERTY_ID, False),
    ("GetProperty", (11,), UNKNOWN_PROPERTY_ID, False),
    ("GetOwnerIntegrityLevel", (), S_OK, False),
    ("GetOwnerElevationState", (), S_OK, False),
    ("SetHelperTokenFlags", (4,), E_INVALIDARG, True),
    ("SetHelperTokenFlags", (0,), S_OK, True),
    ("ClearHelperToken", (), S_OK, True),
    ("GetHelperTokenSid", (), S_OK, False),
    ("SetNotifyInterface", (None,), S_OK, True),
    ("SetNotifyInterface", (object(),), 0x80004002, True),
    ("QueryInterface", (com.IBitsPeerCacheAdministration,), 0x80004002, False),
]
"""Calls with one answer whatever the job is (method, arguments, code); the last says whether a final job refuses it."""

CREDENTIALS: Final[list[tuple[int, int, str | None, str | None]]] = [
    (1, 1, "user", "word"),
    (2, 2, "user", "word"),
    (1, 4, None, None),
    (1, 1, None, None),
    (1, 5, None, None),
    (1, 3, "user", None),
    (1, 1, "u" * 300, "p" * 65_536),
    (1, 1, "u" * 301, "p"),
    (1, 1, "u", "p" * 65_537),
    (0, 1, "u", "p"),
    (3, 1, "u", "p"),
    (1, 0, "u", "p"),
    (1, 6, "u", "p"),
]

GETTERS: Final = (
    *("GetProgress", "GetState", "GetError", "GetTimes", "GetId", "GetType", "GetOwner", "GetErrorCount"),
    *dict.fromkeys(name for name, _ in SETTERS),
    *("EnumFiles", "GetJob", "EnumJobs", "GetNotifyInterface"),
)
BAD_FILES: Final[list[tuple[Any, Any, int]]] = [
    (None, "/f", E_INVALIDARG),
    (_FILE, None, E_INVALIDARG),
    (_FILE, "relative", E_INVALIDARG),
    ("ftp://h.example/f", "/f", E_INVALIDARG),
    ("", "/f", E_INVALIDARG),
    (_FILE, "/no/such/folder/f", 0x80070003),
    ("http://h.example/" + "s" * 261, "/f", E_INVALIDARG),
]
"""Arguments of AddFile that break a rule, and the code."""
NAMES: Final = [*[("job", 0)] * 6, ("", 0), ("n" * 257, 0), (None, 0), ("job", 3), ("job", -1), ("n" * 256, 0)]
"""Arguments of CreateJob."""

VERBS: Final = {"resume": 70, "suspend": 25, "cancel": 6, "complete": 10, "take_ownership": 8}
"""How often a state method is drawn, where a setter with one list of arguments is drawn once."""
KINDS: Final = {"good": 25, "half": 6, "gone": 6, "busy": 6, "silent": 6}
"""Kinds of remote files (see `world`), and how often they are added."""
NEW_NAMES: Final = [*[None] * 12, "", "ftp://h/f", "http://h/" + "s" * 261]
"""For SetRemoteName; None: another good one."""

ACTIONS: Final[list[tuple[Any, ...]]] = [
    *(("verb", verb) for verb, weight in VERBS.items() for _ in range(weight)),
    *(("add", [kind]) for kind, weight in KINDS.items() for _ in range(weight)),
    *(("add", [first, second]) for first in ("good", "half") for second in ("good", "gone", "silent")),
    *(("set", call) for call in SETTERS),
    *(("set", ("Priority", (0,))) for _ in range(15)),
    *(("call_fixed", call) for call in FIXED),
    *(("give_credentials", pair, is_set) for pair in CREDENTIALS for is_set in (True, False)),
    *(("get", name) for name in GETTERS),
    *(("get", name) for name in ("GetState", "GetError", "GetProgress") for _ in range(6)),
    *(("add_badly", bad, is_set) for bad in BAD_FILES for is_set in (True, False)),
    *(("rename", name) for name in NEW_NAMES),
    *(("replace_prefix", bad) for bad in (None, None, None, E_INVALIDARG)),
    *(("validate", is_valid) for is_valid in (True, *[False] * 12)),
    *(("get_file", what) for what in range(7)),
    *(("complete_itself", is_wanted) for is_wanted in (True, False, False)),
    *(("make_write_only",), ("make_write_only",)),
]
"""All calls that one rule draws from: the method of the campaign, and its arguments but the job."""
