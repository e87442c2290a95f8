"""Response heads as values, for tests of what decides about them."""

from openbits.transfer.headers import Head

MONDAY = "Mon, 02 Nov 2026 10:00:00 GMT"
MONDAY_AT = 1_793_613_600.0
TUESDAY = "Tue, 03 Nov 2026 10:00:00 GMT"


def answer(status: int, *more: tuple[str, str], version: str = "1.1", **fields: str | int) -> Head:
    """A response head; field names with underscores. `more`: fields that come several times."""
    named = tuple((name.replace("_", "-"), str(value)) for name, value in fields.items())
    return Head(status=status, status_line=f"HTTP/{version} {status} Reason", fields=(*named, *more))
