"""The main job, shown: who opened what, according to the kernel, and what log-off and kill -9 leave behind.

As root it makes two throw-away users, runs the helper-token sample for flags 0 to 3 and compares the uid of every file
and socket with the table of identity.md §4; then the owner logs off in the middle of a transfer, and then
worker, manager and the whole service are killed in the middle of one. As an ordinary user it does the part that needs
one identity. It ends non-zero if one cell differs. Users, folders and processes are gone afterwards. `URL=…` in the
environment: that URL is downloaded too.
"""

import contextlib
import hashlib
import io
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from demo_server import LoopbackServer

import openbits
from openbits.core.access import Use, Who, identity_for
from openbits.core.enums import TokenFlags

PYTHON = sys.executable
BITS = str(Path(PYTHON).with_name("bits"))

SMALL = secrets.token_bytes(300_000)
LARGE = secrets.token_bytes(24 * 1024 * 1024)

CREATE = """
import sys, openbits
with openbits.Client() as client:
    job = client.create_job("demo: interrupted", auto_complete=True, priority=openbits.Priority.FOREGROUND)
    job.add_file(sys.argv[1], sys.argv[2])
    job.resume()
    print("   job", job.id)
"""

CREATE_AND_STAY = """
import sys, openbits
client = openbits.Client()
url, with_token, without, helper = sys.argv[1:]
token = client.logon_user(helper, sys.stdin.readline().rstrip())
for path, flags in (with_token, openbits.TokenFlags.LOCAL_FILE), (without, openbits.TokenFlags(0)):
    job = client.create_job("demo: log-off", priority=openbits.Priority.FOREGROUND)
    with token.impersonate():
        job.set_helper_token()
    job.set_helper_token_flags(flags)
    job.add_file(url, path)
    job.resume()
    print(job.id, flush=True)
sys.stdin.read()
"""

COME_BACK = """
import sys, openbits
with openbits.Client() as client:
    job = client.job(sys.argv[1])
    with client.logon_user(sys.argv[2], sys.stdin.readline().rstrip()) as token, token.impersonate():
        job.set_helper_token()
    job.resume()
    job.wait(60)
    job.complete()
"""

PRESENCE = '[sessions]\nbus_address = ""\nscan_seconds = 1\n'
"""The throw-away users have no sessions that logind could end; what ends here is their last process."""


@dataclass
class Person:
    """Somebody the demo acts as: a throw-away user, or whoever runs it."""

    name: str
    uid: int
    gid: int
    folder: Path
    password: str = field(default="", repr=False)


@dataclass
class Table:
    """What the kernel saw beside what was expected."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, resource: str, seen: object, expected: object) -> None:
        """One row; shown at the end."""
        self.rows.append((resource, str(seen), str(expected)))

    def show(self) -> bool:
        """Print the table; True if every row is as expected."""
        heads = ("resource", "what was seen", "expected")
        widths = [max(len(row[column]) for row in [heads, *self.rows]) for column in range(3)]
        print()
        for row in [heads, tuple("-" * width for width in widths), *self.rows]:
            mark = "" if row[1] == row[2] or row[0] in {heads[0], "-" * widths[0]} else "   <-- differs"
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(f"  {line}{mark}".rstrip())
        return all(seen == expected for _, seen, expected in self.rows)


def main() -> int:
    """Run the demo."""
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)  # the programs it runs print, too
    is_root = os.geteuid() == 0
    table = Table()
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(work_folder())
        os.environ["OPENBITS_STATE_DIR"] = str(base / "state")
        os.environ["OPENBITS_SOCKET"] = str(base / "run" / "bitsd.sock")
        if is_root:
            (base / "config").mkdir()
            (base / "config" / "demo.toml").write_text(PRESENCE)
            os.environ["OPENBITS_CONFIG"] = str(base / "config")
            people = [stack.enter_context(throwaway_user(base, role)) for role in ("owner", "helper")]
        stack.callback(stop_service)  # before the users go: its processes run as them
        if is_root:
            print(f"made two users: {people[0].name} (uid {people[0].uid}), {people[1].name} (uid {people[1].uid})")
            openbits.Client().close()  # root's first call starts the service for everybody
            run_sample_with_all_flags(table, *people)
            owner_logs_off(table, *people)
            interrupted_transfers(table, people[0])
        else:
            me = pwd.getpwuid(os.geteuid())
            person = Person(me.pw_name, me.pw_uid, me.pw_gid, base)
            one_identity(table, person)
            interrupted_transfers(table, person)
        own_url(people[0] if is_root else person)
    is_good = table.show()
    if not is_root:
        print("\nAs root this demo also makes two users and shows the helper token: which of the")
        print("two identities opened each file and each socket.  Try: sudo make demo")
    print("\n" + ("every cell is as expected" if is_good else "SOME CELLS DIFFER"))
    return 0 if is_good else 1


def run_sample_with_all_flags(table: Table, owner: Person, helper: Person) -> None:
    """The sixteen steps of the helper-token procedure, once for each combination of flags."""
    for number in range(4):
        flags = TokenFlags(number)
        who = {Who.OWNER: owner, Who.HELPER: helper}
        files_by = who[identity_for(flags, Use.DOWNLOAD_TEMPORARY)]
        network_by = who[identity_for(flags, Use.SOCKET)]
        target = files_by.folder / f"flags{number}.bin"
        with LoopbackServer(SMALL).running() as server:
            print(f"\n== sample with flags {number} ({flag_words(flags)})")
            sample = [PYTHON, "-m", "openbits.samples.helper_token", "--flags", str(number)]
            run_as(owner, [*sample, f"{server.url}/file", str(target), "", helper.name, "-"], helper.password + "\n")
            uids = server.uids_of("/file")
        words = f"flags {number}"
        table.add(f"{words}: file opened by uid", owner_of(target), files_by.uid)
        table.add(f"{words}: socket opened by uid", listed(uids), network_by.uid)
        table.add(f"{words}: content", digest(target), hashlib.sha256(SMALL).hexdigest()[:16])


def owner_logs_off(table: Table, owner: Person, helper: Person) -> None:
    """In the middle of two jobs, both with a helper token and one that uses it; then the owner comes back."""
    with_token, without = helper.folder / "logged-off.bin", owner.folder / "logged-off.bin"
    with LoopbackServer(LARGE).running() as server:
        server.pause_seconds = 0.05
        print(f"\n== the owner logs off in the middle of {len(LARGE) >> 20} MiB (here: its last process ends)")
        urls = [f"{server.url}/large", str(with_token), str(without), helper.name]
        with start_as(owner, [PYTHON, "-c", CREATE_AND_STAY, *urls]) as program:
            said, heard = cast("IO[str]", program.stdin), cast("IO[str]", program.stdout)
            said.write(helper.password + "\n")
            said.flush()
            ids = [heard.readline().strip() for _ in range(2)]
            wait_for(lambda: min(info_of(job_id)["bytes_transferred"] for job_id in ids) > 1 << 20, "the first MiB")
        wait_for(lambda: info_of(ids[0])["error"] is not None, "the log-off")
        lost, goes_on = (info_of(job_id) for job_id in ids)
        error = lost["error"]["symbol"] if lost["error"] else ""
        why = lost["error"]["message"] if lost["error"] else "no error"
        print(textwrap.fill(why, 80, initial_indent="   ", subsequent_indent="   "))
        table.add("log-off: job with a token in use", error, "BG_E_TOKEN_REQUIRED")
        table.add("log-off: job with an unused token", goes_on["state"], "transferring")
        table.add("log-off: helper tokens left", listed_names([lost, goes_on]), "none")
        server.pause_seconds = 0.0
        print("   the owner comes back and sets a new token")
        run_as(owner, [PYTHON, "-c", COME_BACK, ids[0], helper.name], helper.password + "\n")
        wait_for(lambda: info_of(ids[1])["state"] == "transferred", "the job without a token")
        with openbits.Client() as client:
            client.job(ids[1]).complete()
        went_on_at = [seen.first_byte for seen in server.seen if seen.first_byte]
    print(f"   went on at byte {max(went_on_at, default=0)} of {len(LARGE)}")
    table.add("log-off, new token: bytes kept", "yes" if went_on_at else "no", "yes")
    for words, target, person in (("new token", with_token, helper), ("no token", without, owner)):
        table.add(f"log-off, {words}: file of uid", owner_of(target), person.uid)
        table.add(f"log-off, {words}: content", digest(target), hashlib.sha256(LARGE).hexdigest()[:16])


def one_identity(table: Table, person: Person) -> None:
    """Without root there is one identity: everything is opened by it."""
    target = person.folder / "single.bin"
    with LoopbackServer(SMALL).running() as server:
        print("\n== one download with your own service")
        run_as(person, [BITS, "get", f"{server.url}/file", str(target)])
        uids = server.uids_of("/file")
    table.add("one identity: file opened by uid", owner_of(target), person.uid)
    table.add("one identity: socket opened by uid", listed(uids), person.uid)
    table.add("one identity: content", digest(target), hashlib.sha256(SMALL).hexdigest()[:16])


def interrupted_transfers(table: Table, owner: Person) -> None:
    """Kill -9 in the middle of a transfer, of each program and of all of them; the job must not notice."""
    for victim in ("worker", "manager", "whole service"):
        target = owner.folder / f"killed-{victim.split()[0]}.bin"
        with LoopbackServer(LARGE).running() as server:
            server.pause_seconds = 0.01
            print(f"\n== kill -9 of the {victim} in the middle of {len(LARGE) >> 20} MiB")
            run_as(owner, [PYTHON, "-c", CREATE, f"{server.url}/large", str(target)])
            wait_for(lambda: transferred_bytes() > len(LARGE) // 2, "the middle of the transfer")
            kill(victim)
            server.pause_seconds = 0.0
            with openbits.Client():  # the first call after the end of the service starts it again
                wait_for(target.exists, "the file")
            uids = server.uids_of("/large")
            print(f"   went on at byte {max(seen.first_byte for seen in server.seen)} of {len(LARGE)}")
        words = f"kill -9 of {victim.split()[-1]}"
        table.add(f"{words}: content", digest(target), hashlib.sha256(LARGE).hexdigest()[:16])
        table.add(f"{words}: file of uid", owner_of(target), owner.uid)
        table.add(f"{words}: sockets of uid", listed(uids), owner.uid)


def own_url(owner: Person) -> None:
    """Download what the environment variable URL names."""
    url = os.environ.get("URL", "")
    if url:
        print(f"\n== bits get {url}")
        run_as(owner, [BITS, "get", url, str(owner.folder / "url.bin")])
        path = owner.folder / "url.bin"
        print(f"{path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


# -- the service as a whole -------------------------------------------------------------------------------------------


def process_ids() -> dict[str, int]:
    """Pids of the service's programs."""
    with openbits.Client() as client:
        return dict(client.info["process_ids"])


def transferred_bytes() -> int:
    """Bytes of the newest job."""
    with openbits.Client() as client:
        return max((job.info()["bytes_transferred"] for job in client.jobs(all_users=os.geteuid() == 0)), default=0)


def info_of(job_id: str) -> Any:
    """Everything about a job."""
    with openbits.Client() as client:
        return client.job(job_id).info()


def kill(victim: str) -> None:
    """Kill -9 one program, or all of them."""
    pids = process_ids()
    if victim == "whole service":
        chosen = [pids["spawner"]]
    else:
        chosen = [pid for name, pid in pids.items() if name.partition(":")[0] == victim]
    for pid in chosen:
        print(f"   kill -9 {pid} ({victim})")
        os.kill(pid, signal.SIGKILL)


def stop_service() -> None:
    """End the service cleanly, by its pid."""
    with contextlib.suppress(openbits.BitsError, ProcessLookupError):
        pid = process_ids()["spawner"]
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of the service")


# -- small tools ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that every user may pass through."""
    base = Path(tempfile.mkdtemp(prefix="openbits-demo-"))
    base.chmod(0o755)
    (base / "run").mkdir(mode=0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def throwaway_user(base: Path, role: str) -> Iterator[Person]:
    """A user with a password and a private folder; both are gone afterwards."""
    name = f"obdemo-{role[0]}{secrets.token_hex(3)}"
    password = secrets.token_urlsafe(16)
    subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}\n", text=True, check=True)
        entry = pwd.getpwnam(name)
        folder = base / role
        folder.mkdir(mode=0o700)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield Person(name, entry.pw_uid, entry.pw_gid, folder, password)
    finally:
        subprocess.run(["userdel", name], check=True)


def run_as(person: Person, command: list[str], text: str = "") -> None:
    """Run a program as somebody; its output is shown."""
    identity: dict[str, Any] = (
        {"user": person.uid, "group": person.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    subprocess.run(command, input=text, text=True, check=False, cwd="/", timeout=300, **identity)


def start_as(person: Person, command: list[str]) -> subprocess.Popen[str]:
    """Start a program as somebody; at the end of the block its standard input ends, and with it the program."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=person.uid,
        group=person.gid,
        extra_groups=[],
    )


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so, at most a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(openbits.BitsError):
            if condition():
                return
        time.sleep(0.05)
    print(f"   gave up waiting for {what}")


def digest(path: Path) -> str:
    """The beginning of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "no file"


def owner_of(path: Path) -> int | str:
    """Uid that the file system names as the owner."""
    return path.stat().st_uid if path.exists() else "no file"


def listed(uids: set[int]) -> str:
    """Uids as text."""
    return ", ".join(str(uid) for uid in sorted(uids)) or "none"


def listed_names(infos: list[Any]) -> str:
    """Helpers of these jobs."""
    return ", ".join(info["helper_name"] for info in infos if info["helper_sid"]) or "none"


def flag_words(flags: TokenFlags) -> str:
    """Flags for people."""
    names = [str(flag.name).lower().replace("_", " ") for flag in flags]
    return f"helper opens: {' and '.join(names)}" if names else "owner opens everything"


if __name__ == "__main__":
    sys.exit(main())
