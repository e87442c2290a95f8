"""`bitsd` with a program that somebody took over: `python bitsd.py broker|worker|manager[=MODULE] [options of bitsd]`.

Everything else is the product: spawner, zygote, the drop, and the other programs.
"""

import sys
from pathlib import Path

from openbits.identity import spawner, zygote

sys.path.insert(0, str(Path(__file__).parents[3]))
program, _, module = sys.argv[1].partition("=")
sys.exit(spawner.main(sys.argv[2:], {**zygote.PROGRAMS, program: f"tests.real.compromised.{module or program}"}))
