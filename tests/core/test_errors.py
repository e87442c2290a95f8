"""The one exception of the product (house-style §5.11)."""

import copy
import pickle

import pytest

from openbits.api.connection import ConnectionLostError
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError


@pytest.mark.parametrize(
    "error",
    [
        BitsError(0x80070005, "cannot open it: alice may not; ask bob", context=ErrorContext.LOCAL_FILE),
        ConnectionLostError("/run/openbits/bitsd.sock", "it ended"),
    ],
)
def test_an_error_crosses_process_pools(error: BitsError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # our own bytes
        assert type(twin) is type(error)
        assert (twin.hresult, twin.context, str(twin)) == (error.hresult, error.context, str(error))
        assert twin.__notes__ == error.__notes__
        assert vars(twin) == vars(error)
