"""`python -m tests.fuzz SECONDS [TARGET…]`: each target for so long, guided by coverage, in a process of its own.

What breaks is left as a file `crash-…` in the present folder; a mended one belongs into `tests/fuzz/corpus/<target>/`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # `make fuzz` installs it

with atheris.instrument_imports(include=["openbits"]):
    from tests.fuzz.harness import play
    from tests.fuzz.targets import CORPUS, TARGETS

MOST_MIB: Final = 256


def main(arguments: list[str]) -> int:
    """The number of targets that broke."""
    if arguments[:1] == ["--only"]:
        return fuzz(arguments[1], float(arguments[2]))
    seconds, names = arguments[0], arguments[1:] or list(TARGETS)
    broken = 0
    for name in names:
        done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--only", name, seconds], check=False)
        sys.stdout.write(f"{name}: {'broken' if done.returncode else 'sound'}\n")
        sys.stdout.flush()
        broken += done.returncode != 0
    return broken


def fuzz(name: str, seconds: float) -> int:
    """Until the time is over; then, and when something breaks, the library ends the process."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds:.0f}", "-max_len=4096", "-timeout=5", f"-rss_limit_mb={MOST_MIB * 2}"]
        known = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
        atheris.Setup([name, *limits, "-print_final_stats=1", folder, *known], lambda data: play(target, data))
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
