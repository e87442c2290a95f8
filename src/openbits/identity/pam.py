"""PAM through ctypes: one transaction about one account. Not a binding of all of PAM; no policy and no HRESULTs.

Only the prompts for the user and for the secret are answered; null passwords are refused whatever the system allows.
"""

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Self

_SUCCESS, _OPEN_ERR, _CONV_ERR, _USER_ITEM = 0, 1, 19, 2  # these and the next two lines: <security/_pam_types.h>
_ECHO_OFF, _ECHO_ON, _ERROR_MSG, _TEXT_INFO = 1, 2, 3, 4
_DISALLOW_NULL_AUTHTOK, _ESTABLISH_CRED, _DELETE_CRED = 0x1, 0x2, 0x4

_INSTALLED = (Path("/etc/pam.d/openbits"), Path("/usr/lib/pam.d/openbits"))
_PACKAGED = Path(__file__).with_name("pam.d")


_Converse = CFUNCTYPE(c_int, c_int, POINTER(POINTER(c_int)), POINTER(c_void_p), c_void_p)
"""Conversation function; a `struct pam_message` begins with its style, an int."""


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
        self._libc.calloc.restype = self._libc.strndup.restype = c_void_p
        self._user, self._password = bytearray(user.encode()), password
        self._handle, self._result, self._is_established = c_void_p(), _SUCCESS, False
        self._function = _Converse(self._converse)  # PAM keeps pointing at this and the next
        self._conversation = (c_void_p * 2)(ctypes.cast(self._function, c_void_p), None)

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
        answers = [known.get(messages[index].contents.value) for index in range(count)]
        size = 2 * ctypes.sizeof(c_void_p)  # of a struct pam_response: the text, and a number that is not used
        memory = None if None in answers else self._libc.calloc(c_size_t(count), c_size_t(size))
        if memory is None:
            return _CONV_ERR
        for index, answer in enumerate(answers):
            c_void_p.from_address(memory + index * size).value = self._copy(answer or bytearray())
        responses[0] = memory
        return _SUCCESS

    def _copy(self, answer: bytearray) -> int | None:
        """NUL-terminated, in memory that PAM frees; no Python object in between that could not be wiped."""
        copy: int | None = self._libc.strndup((ctypes.c_char * len(answer)).from_buffer(answer), len(answer))
        return copy
