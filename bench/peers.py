"""How each program is asked for the same work: one table of programs, one function that writes the command of each.

Everybody gets equal parallelism, one connection a file, no configuration of the machine, and silence. `synced` is curl
with what makes its files as durable as ours.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BITS: Final = str(Path(sys.executable).with_name("bits"))

Command = Sequence[str | Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What everybody has to do: fetch `names` below `base` into a folder, `parallel` files at a time."""

    base: str
    names: tuple[str, ...]
    total_bytes: int
    parallel: int
    ca: Path
    scratch: Path
    rate_bytes_per_second: int | None = None

    @property
    def urls(self) -> list[str]:
        """All of them."""
        return [f"{self.base}/{name}" for name in self.names]

    def listed(self, name: str, lines: Sequence[str]) -> Path:
        """A file with these lines, for programs that read their work from one."""
        path = self.scratch / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path


def curl(task: Task, folder: Path) -> Command:
    """One process for all files."""
    lines = [line for name in task.names for line in (f'url="{task.base}/{name}"', f'output="{folder / name}"')]
    return [
        *("curl", "-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", task.ca),
        *(("--limit-rate", str(task.rate_bytes_per_second)) if task.rate_bytes_per_second else ()),
        *(("--parallel", "--parallel-immediate", "--parallel-max", str(task.parallel)) if len(task.names) > 1 else ()),
        *("--config", task.listed("curl", lines)),
    ]


def synced(task: Task, folder: Path) -> Command:
    """The same, and its files are on the disk when it ends."""
    sync = 'sync -d "$0"/*' if len(task.names) == 1 else 'sync -f "$0"'
    return ["sh", "-c", f'"$@" && {sync}', folder, *curl(task, folder)]


def aria2c(task: Task, folder: Path) -> Command:
    """With as many downloads as wanted, each over one connection, and no allocation of files."""
    return [
        *("aria2c", "--no-conf", "--quiet", "--max-connection-per-server=1", "--split=1", "--file-allocation=none"),
        *("--allow-overwrite=true", "--auto-file-renaming=false", f"--ca-certificate={task.ca}", "--async-dns=false"),
        *((f"--max-overall-download-limit={task.rate_bytes_per_second}",) if task.rate_bytes_per_second else ()),
        f"--max-concurrent-downloads={task.parallel}",
        f"--dir={folder}",
        f"--input-file={task.listed('aria2c', task.urls)}",
    ]


def wget2(task: Task, folder: Path) -> Command:
    """With as many threads as wanted."""
    return [
        *("wget2", "--no-config", "--quiet", "--no-robots", "--no-http2", f"--ca-certificate={task.ca}"),
        f"--max-threads={task.parallel}",
        f"--directory-prefix={folder}",
        f"--input-file={task.listed('wget2', task.urls)}",
    ]


def rclone(task: Task, folder: Path) -> Command:
    """Its http remote; it asks for each file by HEAD before it gets it."""
    return [
        *("rclone", "--config", "", "--quiet", "--ca-cert", task.ca, "copy", ":http:", folder),
        *("--http-url", task.base, "--files-from-raw", task.listed("rclone", task.names), "--no-traverse"),
        *("--multi-thread-streams", "0", "--transfers", str(task.parallel), "--checkers", str(task.parallel)),
        *(("--bwlimit", f"{task.rate_bytes_per_second}B") if task.rate_bytes_per_second else ()),
    ]


def bits(task: Task, folder: Path) -> Command:
    """Ours: a foreground job through the whole service."""
    return [
        *(BITS, "get"),
        *(("--maximum-rate", str(task.rate_bytes_per_second)) if task.rate_bytes_per_second else ()),
        # *(("--parallel-files", str(task.parallel)) if len(task.names) > 1 else ()),
        *task.urls,
        folder,
    ]


OURS: Final = "bits"

BASE: Final = "curl"
"""Whom the others are compared with."""

PROGRAMS: Final[Mapping[str, Callable[[Task, Path], Command]]] = {
    "curl": curl,
    "curl, synced": synced,
    "aria2c": aria2c,
    "wget2": wget2,
    "rclone": rclone,
    OURS: bits,
}


def is_there(program: str) -> bool:
    """True if it can be run."""
    return program == OURS or shutil.which(program.partition(",")[0]) is not None


def versions() -> dict[str, str]:
    """The first line of what each says about itself."""
    found = {}
    for program in ("curl", "aria2c", "wget2", "rclone", "nginx"):
        path = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if path is not None:
            option = {"rclone": "version", "nginx": "-v"}.get(program, "--version")
            told = subprocess.run([path, option], check=False, capture_output=True, text=True)
            found[program] = (told.stdout or told.stderr).splitlines()[0]
    return found
