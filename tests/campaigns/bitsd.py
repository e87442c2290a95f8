"""`bitsd` with failpoints: `python bitsd.py BOARD [options of bitsd]`. Everything else is the product.

Clocks that only make a campaign wait are shorter: the pause before the next generation, and the checkpoints of files.
"""

import sys
from pathlib import Path

from openbits import failpoints
from openbits.identity import spawner, zygote

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.campaigns.board import Board  # the folder of the tests is not on the path of an isolated start

failpoints.arm(Board(Path(sys.argv[1])).passed)
spawner.STEADY_SECONDS = 0.0
sys.exit(spawner.main(sys.argv[2:], {**zygote.PROGRAMS, "worker": "tests.campaigns.hasty_worker"}))
