"""All rows of reliability.md §5, in the order of their numbers."""

from typing import Final

from tests.transfer.misbehaviour_heads import SAYINGS
from tests.transfer.misbehaviour_rows import BODIES
from tests.transfer.misbehaviour_ways import ON_THE_WAY

ROWS: Final = tuple(sorted((*BODIES, *ON_THE_WAY, *SAYINGS), key=lambda row: row.number))
