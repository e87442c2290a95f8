"""PAM through ctypes: one transaction about one account. Not a binding of all of PAM; no policy and no HRESULTs.

Only the prompts for the user and for the secret are answered; null passwords are refused whatever the system allows.
"""

import ctypes
from pathlib import Path
from typing import Any, Self

_SUCCESS, _OPEN_ERR, _CONV_ERR, _USER_ITEM = 0, 1, 19, 2  # these and the next two lines: <security/_pam_types.h>
_ECHO_OFF, _ECHO_ON, _ERROR_MSG, _TEXT_INFO = 1, 2, 3, 4
_DISALLOW_NULL_AUTHTOK, _ESTABLISH_CRED, _DELETE_CRED = 0x1, 0x2, 0x4

_INSTALLED = (Path("/etc/pam.d/openbits"), Path("/usr/lib/pam.d/openbits"))
_PACKAGED = Path(__file__).with_name("pam.d")


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_Converse = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _Converse), ("data", ctypes.c_void_p))


class PamError(Exception):
    """PAM said no: `code` is its result, the text is PAM's own and holds no secret."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Transaction:
    """From pam_start to pam_end; every failure is a PamError.

    Without a password nothing is proved, but the account must be usable. `password` may be wiped after `log_on`.
    """

    def __init__(self, user: str, password: bytearray | None) -> None:
        try:
            self._pam, self._libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)
        except OSError as error:
            raise PamError(_OPEN_ERR, f"{error}") from error
        self._pam.pam_strerror.restype = self._pam.pam_getenv.restype = ctypes.c_char_p
        self._libc.calloc.restype, self._libc.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
        self._user, self._password = bytearray(user.encode()), password
        self._handle, self._result, self._is_established = ctypes.c_void_p(), _SUCCESS, False
        self._conversation = _Conversation(_Converse(self._converse), None)  # PAM keeps pointing at it

    def __enter__(self) -> Self:
        """Start with the administrator's service file, else with ours on top of the system's common stack."""
        start, folder = self._pam.pam_start, []
        if not any(path.exists() for path in _INSTALLED) and hasattr(self._pam, "pam_start_confdir"):  # libpam 1.4
            has_common_auth = Path("/etc/pam.d/common-auth").exists()
            start, folder = self._pam.pam_start_confdir, [_PACKAGED if has_common_auth else _PACKAGED / "system-auth"]
        conversation, handle = ctypes.byref(self._conversation), ctypes.byref(self._handle)
        result = start(b"openbits", bytes(self._user), conversation, *map(bytes, folder), handle)
        if result != _SUCCESS:
            raise PamError(result, "cannot start service openbits")
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_established:
            self._result = self._pam.pam_setcred(self._handle, _DELETE_CRED)
        self._pam.pam_end(self._handle, self._result)

    def log_on(self) -> tuple[str, str | None]:
        """The account's name as PAM has it now (modules may rewrite it) and the ticket cache, if the stack made one."""
        if self._password is not None:
            self._call("pam_authenticate", _DISALLOW_NULL_AUTHTOK)
        self._call("pam_acct_mgmt", _DISALLOW_NULL_AUTHTOK)
        self._call("pam_setcred", _ESTABLISH_CRED)
        self._is_established = True
        name = ctypes.c_char_p()
        self._call("pam_get_item", _USER_ITEM, ctypes.byref(name))
        cache: bytes | None = self._pam.pam_getenv(self._handle, b"KRB5CCNAME")
        return (name.value or b"").decode(), None if cache is None else cache.decode()

    def _call(self, function: str, *arguments: Any) -> None:
        self._result = getattr(self._pam, function)(self._handle, *arguments)
        if self._result != _SUCCESS:
            raise PamError(self._result, self._pam.pam_strerror(self._handle, self._result).decode(errors="replace"))

    def _converse(self, count: int, messages: Any, responses: Any, _data: Any) -> int:
        """PAM asks, this answers; it must not raise, ctypes would report success for that."""
        known = {_ECHO_OFF: self._password, _ECHO_ON: self._user, _ERROR_MSG: bytearray(), _TEXT_INFO: bytearray()}
        answers = [known.get(messages[index].contents.style) for index in range(count)]
        memory = None if None in answers else self._libc.calloc(count, ctypes.sizeof(_Response))
        if memory is None:
            return _CONV_ERR
        for index, answer in enumerate(answers):
            _Response.from_address(memory + index * ctypes.sizeof(_Response)).text = self._copy(answer or bytearray())
        responses[0] = memory
        return _SUCCESS

    def _copy(self, answer: bytearray) -> int | None:
        """NUL-terminated, in memory that PAM frees; no Python object in between that could not be wiped."""
        copy: int | None = self._libc.calloc(len(answer) + 1, 1)
        if copy is not None and answer:
            ctypes.memmove(copy, (ctypes.c_char * len(answer)).from_buffer(answer), len(answer))
        return copy
