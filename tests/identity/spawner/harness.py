"""`bitsd` with probe programs instead of the real ones: `python harness.py [options of bitsd]`."""

import sys
from pathlib import Path

from openbits.identity import generation, spawner

sys.path.insert(0, str(Path(__file__).parent))
generation.LOGON_COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("probe_logon.py")))
generation.LOGON_SECONDS = generation.STUCK_SECONDS = 1.0

sys.exit(spawner.main(sys.argv[1:], {"manager": "probe_manager", "broker": "probe_child", "worker": "probe_child"}))
