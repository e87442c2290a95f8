"""What every interface has: an IID, QueryInterface, and COMError for every failure.

An interface class is declared with its IID (`class IX(IUnknown, iid="…")`); its PascalCase methods raise COMError for
whatever the layers below raise as BitsError, so no method has to say so itself.
"""

import functools
import types
import uuid
from collections.abc import Callable, Sequence
from typing import ClassVar, ParamSpec, TypeVar

from openbits.core import codes
from openbits.core.errors import BitsError

P = ParamSpec("P")
R = TypeVar("R")
Interface = TypeVar("Interface", bound="IUnknown")


class COMError(BitsError):
    """A failed call: `.hresult` (unsigned 32 bits), `.name` (symbol of the code) and the text, also `str()`."""

    @property
    def name(self) -> str:
        """Symbol of the code, as `E_ACCESSDENIED`."""
        return self.symbol


def translated(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with COMError in place of BitsError."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except COMError:
            raise
        except BitsError as error:
            raise COMError(error.hresult, error.text, context=error.context) from error

    return wrapper


class IUnknown:
    """Base of all interfaces. Reference counts are Python's; there is no AddRef or Release to call."""

    IID: ClassVar[uuid.UUID] = uuid.UUID("00000000-0000-0000-c000-000000000046")

    def __init_subclass__(cls, iid: str | None = None) -> None:
        super().__init_subclass__()
        if iid is not None:
            cls.IID = uuid.UUID(iid)
        for name, member in list(vars(cls).items()):
            if name[0].isupper() and isinstance(member, types.FunctionType):
                setattr(cls, name, translated(member))

    @translated
    def QueryInterface(self, interface: type[Interface]) -> Interface:
        """Another interface of the same object. Raises E_NOINTERFACE for one that this version does not have."""
        found = self._query(mandatory(interface, "interface"))
        if not isinstance(found, interface):
            raise COMError(
                codes.E_NOINTERFACE, f"{type(self).__name__} has no {interface.__name__} in this version of the service"
            )
        return found

    def _query(self, interface: type["IUnknown"]) -> "IUnknown | None":
        """The object behind an interface, or None; objects with several interfaces override it."""
        return self if interface in type(self).__mro__ else None


def mandatory(value: R | None, name: str) -> R:
    """The value; NULL where a value is required is E_INVALIDARG (jobs.md §2.3)."""
    if value is None:
        raise COMError(codes.E_INVALIDARG, f"{name} is NULL (None); give a value")
    return value


def structure(value: object, kind: type[R], name: str) -> R:
    """A mandatory structure; anything else is E_INVALIDARG. The text has no value: it may be a secret."""
    given = mandatory(value, name)
    if not isinstance(given, kind):
        raise COMError(codes.E_INVALIDARG, f"{name} is of type {type(given).__name__}; give a {kind.__name__}")
    return given


def structures(values: object, kind: type[R], name: str) -> list[R]:
    """A mandatory array of structures."""
    given = mandatory(values, name)
    if not isinstance(given, Sequence):
        text = f"{name} is of type {type(given).__name__}; give a list of {kind.__name__}"
        raise COMError(codes.E_INVALIDARG, text)
    return [structure(one, kind, name) for one in given]


def number(value: int | None, name: str) -> int:
    """A mandatory number without sign; anything else is E_INVALIDARG, as it could not be marshalled."""
    given = mandatory(value, name)
    if not isinstance(given, int) or not 0 <= given <= 0xFFFFFFFF:
        raise COMError(codes.E_INVALIDARG, f"{name} is {given!r}; give a whole number from 0 to 4294967295")
    return given
