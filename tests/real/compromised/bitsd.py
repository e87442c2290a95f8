"""`bitsd` with programs that somebody took over: `python bitsd.py PROGRAM=MODULE [options of bitsd]`.

Everything else is the product: spawner, zygote, the drop, and the other programs.
"""

import sys

from openbits.identity import spawner, zygote

program, _, module = sys.argv[1].partition("=")
sys.exit(spawner.main(sys.argv[2:], {**zygote.PROGRAMS, program: module}))
