"""GSS-API with Kerberos (RFC 2744), as far as a client needs it: the library of MIT, called through ctypes.

The library is the machine's own (`libgssapi_krb5.so.2`) and is loaded when it is first needed: it lies in /usr, where
network workers may read. Which tickets it uses, the environment of the process says; nothing is chosen here. Calls may
ask the KDC and DNS, so they may take long: they belong into a helper thread. Tokens are SPNEGO's (RFC 4178).
"""

import ctypes
import functools
from typing import Any, Final

from openbits.core.system import KERBEROS_LIBRARY

_COMPLETE: Final = 0
_ERRORS: Final = 0xFFFF0000
_MUTUAL: Final = 2
_INITIATE: Final = 1
_INDEFINITE: Final = 0xFFFFFFFF
_MAJOR_STATUS: Final = 1
_MINOR_STATUS: Final = 2
_MAX_MESSAGES: Final = 8

_EXPIRED: Final = 11 << 16
_TICKET_EXPIRED: Final = -1765328352
_ROUTINE_ERRORS: Final = 0xFF0000
_WORDS_OF_EXPIRED: Final = "the tickets have expired (kinit gets new ones)"


class _Oid(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint32), ("elements", ctypes.c_char_p))


class _OidSet(ctypes.Structure):
    _fields_ = (("count", ctypes.c_size_t), ("elements", ctypes.POINTER(_Oid)))


class _Buffer(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("value", ctypes.c_void_p))


class _Bindings(ctypes.Structure):
    _fields_ = (
        ("initiator_type", ctypes.c_uint32),
        ("initiator", _Buffer),
        ("acceptor_type", ctypes.c_uint32),
        ("acceptor", _Buffer),
        ("application", _Buffer),
    )


def _oid(encoded: bytes) -> _Oid:
    return _Oid(len(encoded), encoded)


_SPNEGO: Final = _oid(b"\x2b\x06\x01\x05\x05\x02")
_KERBEROS: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")
_HOST_SERVICE: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04")
_USER_NAME: Final = _oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01")


_UNKNOWN: Final = frozenset(
    {
        -1765328378,  # KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN
        -1765328377,  # KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN
        -1765328250,  # KRB5_CONFIG_CANTOPEN
        -1765328230,  # KRB5_REALM_UNKNOWN
        -1765328228,  # KRB5_KDC_UNREACH
        -1765328164,  # KRB5_REALM_CANT_RESOLVE
        -1765328160,  # KRB5_CONFIG_NODEFREALM
    }
)


class GssError(Exception):
    """The library refused; the text is its own.

    `is_expired`: there were tickets, and their time is over. `is_unknown`: no KDC, or none that knows user or service.
    """

    def __init__(self, text: str, *, is_expired: bool = False, is_unknown: bool = False) -> None:
        super().__init__(text)
        self.is_expired = is_expired
        self.is_unknown = is_unknown


class Credential:
    """Who we are: the principal that the environment has tickets of, or a user and password. Raises GssError.

    It is got twice: as Kerberos's own, which alone says what is wrong, and as one of SPNEGO, which is limited to
    Kerberos then: with others it would speak whatever else is installed, and without one of its own, as anybody.
    """

    def __init__(self, user: str | None = None, password: str | None = None) -> None:
        self._plain = ctypes.c_void_p()
        self._handle = ctypes.c_void_p()
        _acquire(self._plain, _KERBEROS, user, password)
        _acquire(self._handle, _SPNEGO, user, password)
        only = _OidSet(1, ctypes.pointer(_KERBEROS))
        _call("gss_set_neg_mechs", self._handle, ctypes.byref(only))

    @property
    def handle(self) -> ctypes.c_void_p:
        """For the library: of SPNEGO."""
        return self._handle

    @property
    def plain(self) -> ctypes.c_void_p:
        """The same of Kerberos."""
        return self._plain

    @functools.cached_property
    def principal(self) -> str:
        """`anna@EXAMPLE.ORG`."""
        name = ctypes.c_void_p()
        _call("gss_inquire_cred", self._plain, ctypes.byref(name), None, None, None)
        text = _Buffer()
        try:
            _call("gss_display_name", name, ctypes.byref(text), None)
            return _taken(text).decode("utf-8", "replace")
        finally:
            _release("gss_release_name", name)

    def __del__(self) -> None:
        for handle in (self._plain, self._handle):
            if handle:
                _release("gss_release_cred", handle)


class Context:
    """One conversation with the service `HTTP` of a host. `bindings`: what ties it to the TLS connection, if any.

    It is begun twice, too: behind SPNEGO the library has numbers of its own for Kerberos's reasons. The ticket that the
    first one has got is there for the second.
    """

    def __init__(self, credential: Credential, host: str, bindings: bytes | None) -> None:
        self._handle = ctypes.c_void_p()
        self._credential = credential
        self._target = _imported(f"HTTP@{host}", _HOST_SERVICE)
        self._application = bindings
        self.is_complete = False

    def step(self, token: bytes | None) -> bytes:
        """Take what the other side said, None at the beginning; what it is to be told. Raises GssError."""
        if token is None:
            handle = ctypes.c_void_p()
            try:
                self._init(self._credential.plain, handle, _KERBEROS, b"")
            finally:
                _delete(handle)
        status, answer = self._init(self._credential.handle, self._handle, _SPNEGO, token or b"")
        self.is_complete = status == _COMPLETE
        return answer

    def _init(
        self, credential: ctypes.c_void_p, handle: ctypes.c_void_p, mechanism: _Oid, token: bytes
    ) -> tuple[int, bytes]:
        given, answer = _buffer(token), _Buffer()
        status = _call(
            "gss_init_sec_context",
            credential,
            ctypes.byref(handle),
            self._target,
            ctypes.byref(mechanism),
            _MUTUAL,
            0,
            self._bindings(),
            ctypes.byref(given),
            None,
            ctypes.byref(answer),
            None,
            None,
        )
        return status, _taken(answer)

    def _bindings(self) -> Any:
        return None if self._application is None else ctypes.byref(_Bindings(application=_buffer(self._application)))

    def __del__(self) -> None:
        _delete(self._handle)
        if self._target:
            _release("gss_release_name", self._target)


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises GssError: the machine has none."""
    try:
        library = ctypes.CDLL(KERBEROS_LIBRARY)
    except OSError:
        text = f"there is no Kerberos on this machine ({KERBEROS_LIBRARY}; Debian: libgssapi-krb5-2)"
        raise GssError(text, is_unknown=True) from None
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    for name, arguments in (
        ("gss_acquire_cred", (pointer, number, pointer, ctypes.c_int, pointer, pointer, pointer)),
        (
            "gss_acquire_cred_with_password",
            (pointer, pointer, number, pointer, ctypes.c_int, pointer, pointer, pointer),
        ),
        ("gss_set_neg_mechs", (pointer, pointer)),
        ("gss_inquire_cred", (pointer, pointer, pointer, pointer, pointer)),
        ("gss_import_name", (pointer, pointer, pointer)),
        ("gss_display_name", (pointer, pointer, pointer)),
        (
            "gss_init_sec_context",
            (
                pointer, pointer, pointer, pointer, number, number, pointer, pointer, pointer, pointer, pointer,
                pointer,
            ),
        ),
        ("gss_delete_sec_context", (pointer, pointer)),
        ("gss_release_name", (pointer,)),
        ("gss_release_cred", (pointer,)),
        ("gss_release_buffer", (pointer,)),
        ("gss_display_status", (number, ctypes.c_int, pointer, pointer, pointer)),
    ):  # fmt: skip
        function = getattr(library, name)
        function.restype = number
        function.argtypes = (pointer, *arguments)  # each begins with the place of the minor status
    return library


def _call(name: str, *arguments: Any) -> int:
    """Call a function of the library; its status. Raises GssError."""
    minor = ctypes.c_uint32()
    major = int(getattr(_library(), name)(ctypes.byref(minor), *arguments))
    if major & _ERRORS:
        detail_code = ctypes.c_int32(minor.value).value
        if major & _ROUTINE_ERRORS == _EXPIRED or detail_code == _TICKET_EXPIRED:
            raise GssError(_WORDS_OF_EXPIRED, is_expired=True)  # the library's own are none when it is the name it says
        detail = _words(minor.value, _MINOR_STATUS) if minor.value else ""
        text = (detail or _words(major, _MAJOR_STATUS)).rstrip("\0")
        raise GssError(text, is_unknown=detail_code in _UNKNOWN)
    return major


def _acquire(place: ctypes.c_void_p, mechanism: _Oid, user: str | None, password: str | None) -> None:
    mechanisms = _OidSet(1, ctypes.pointer(mechanism))
    wanted = (_INDEFINITE, ctypes.byref(mechanisms), _INITIATE, ctypes.byref(place), None, None)
    if user is None or password is None:
        _call("gss_acquire_cred", None, *wanted)
        return
    name, secret = _imported(user, _USER_NAME), _buffer(password.encode())
    try:
        _call("gss_acquire_cred_with_password", name, ctypes.byref(secret), *wanted)
    finally:
        _release("gss_release_name", name)


def _delete(context: ctypes.c_void_p) -> None:
    if context:
        minor = ctypes.c_uint32()
        _library().gss_delete_sec_context(ctypes.byref(minor), ctypes.byref(context), None)


def _release(name: str, handle: ctypes.c_void_p) -> None:
    minor = ctypes.c_uint32()
    getattr(_library(), name)(ctypes.byref(minor), ctypes.byref(handle))


def _imported(text: str, kind: _Oid) -> ctypes.c_void_p:
    name, given = ctypes.c_void_p(), _buffer(text.encode())
    _call("gss_import_name", ctypes.byref(given), ctypes.byref(kind), ctypes.byref(name))
    return name


def _words(status: int, kind: int) -> str:
    """What the library says about a status."""
    words: list[str] = []
    more, minor = ctypes.c_uint32(), ctypes.c_uint32()
    while len(words) < _MAX_MESSAGES:
        text = _Buffer()
        place = ctypes.byref(_KERBEROS) if kind == _MINOR_STATUS else None
        major = _library().gss_display_status(
            ctypes.byref(minor), status, kind, place, ctypes.byref(more), ctypes.byref(text)
        )
        if major & _ERRORS:
            break
        words.append(_taken(text).decode("utf-8", "replace"))
        if more.value == 0:
            break
    return "; ".join(words)


def _buffer(data: bytes) -> _Buffer:
    """`data` as the library takes it; the buffer keeps it alive."""
    buffer = _Buffer(len(data), ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p))
    buffer.data = data
    return buffer


def _taken(buffer: _Buffer) -> bytes:
    """The bytes that the library put there, and its memory given back."""
    data = ctypes.string_at(buffer.value, buffer.length) if buffer.value else b""
    minor = ctypes.c_uint32()
    _library().gss_release_buffer(ctypes.byref(minor), ctypes.byref(buffer))
    return data
