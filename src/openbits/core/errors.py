"""The one exception of the product: a failed call with its code, its place and a text that says what to do next.

The same class in the manager and, as `openbits.BitsError`, in a client: code and text cross the wire, classes do not.
"""

from openbits.core import codes
from openbits.core.enums import ErrorContext


class BitsError(Exception):
    """A call failed.

    `hresult`: unsigned code. `context`: where it failed, for an error that a job will carry. `text`, also `str()`: what
    cannot be done, for which object and identity, why, and after "; " the next step; a text without one, or an empty
    one, is completed from the table of codes. A traceback shows the code below it.
    """

    def __init__(self, hresult: int, text: str = "", *, context: ErrorContext = ErrorContext.NONE) -> None:
        self.hresult = codes.unsigned(hresult)
        self.context = context
        self.text = codes.message(hresult, text)
        super().__init__(self.text)
        self.add_note(codes.label(hresult))

    @property
    def symbol(self) -> str:
        """Name of the code."""
        return codes.symbol(self.hresult)

    def __reduce__(self) -> tuple[object, ...]:
        """An error crosses process pools; the default would call the constructor with the text alone."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[BitsError], arguments: tuple[object, ...], state: dict[str, object]) -> BitsError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error
