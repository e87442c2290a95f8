"""`bitsd` with probe programs instead of the real ones: `python harness.py [options of bitsd]`."""

import os
import sys
from pathlib import Path

from openbits.identity import spawner, zygote

sys.path.insert(0, str(Path(__file__).parent))
spawner.LOGON_COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("probe_logon.py")))
spawner.STUCK_SECONDS = 1.0

manager = os.environ.get("PROBE_MANAGER", "probe_manager")
children = {"broker": "probe_child", "worker": "probe_child", "notify": zygote.PROGRAMS["notify"]}
sys.exit(spawner.main(sys.argv[1:], {"manager": manager, **children}))
