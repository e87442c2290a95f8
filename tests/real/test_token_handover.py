"""A token without a password: a process that already is the helper hands its own to the owner (identity.md §8).

`bits token set … --run COMMAND` and, in two terminals, `bits token set … --wait` with `bits token open --to ADDRESS`;
with the real sudo, su and runuser.
"""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import User, _add_user, _remove_user
from tests.real.conftest import Person, Service, run_as
from tests.real.stories import Job, real_user, running_service

pytestmark = pytest.mark.root

BITS = [sys.executable, "-I", "-m", "openbits.cli.main"]
OPEN = [*BITS, "token", "open"]
PASSWORD = "correct horse 7"
ROOT = Person(uid=0, gid=0)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    """The owner, who may act as beth by sudo, with her password."""
    user = _add_user(PASSWORD, ())
    try:
        yield user
    finally:
        _remove_user(user.name, user.uid)


@pytest.fixture(scope="module")
def beth() -> Iterator[User]:
    """The helper."""
    with real_user() as user:
        yield user


@pytest.fixture
def sudoers(alice: User, beth: User) -> Iterator[Callable[[str], None]]:
    """`sudoers(tag)`: alice may run everything as beth, `NOPASSWD:` or with her password."""
    rule = Path("/etc/sudoers.d") / alice.name

    def write(tag: str) -> None:
        rule.write_text(f"Defaults:{alice.name} use_pty\n{alice.name} ALL=({beth.name}) {tag} ALL\n")
        rule.chmod(0o440)

    yield write
    rule.unlink(missing_ok=True)


@pytest.fixture
def job(service: Service, alice: User) -> Job:
    """A job of alice."""
    return job_of(service, alice)


def job_of(service: Service, user: User | Person) -> Job:
    """An empty job of this user."""

    def create() -> str:
        with service.client() as client:
            return str(client.create_job("handed over").id)

    return Job(service, run_as(user, create))


Result = subprocess.CompletedProcess[str]


def bits(service: Service, user: User | Person, *arguments: str) -> Result:
    """Run the command as a user."""
    environ = {"OPENBITS_SOCKET": str(service.socket), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        [*BITS, "token", *arguments],
        env=environ,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def helper_of(job: Job) -> tuple[str | None, int]:
    info = job.info()
    return info["helper_name"], info["helper_token_flags"]


def no_folder_is_left(user: User) -> bool:
    return user.uid not in {path.stat().st_uid for path in Path(tempfile.gettempdir()).glob("bits-token-*")}


# -- one command ------------------------------------------------------------------------------------------------------


@pytest.mark.real("sudo")
def test_sudo_runs_the_helper_and_the_job_has_its_token(
    service: Service, alice: User, beth: User, job: Job, sudoers: Callable[[str], None]
) -> None:
    """sudo clears the environment, closes descriptors and has a pty of its own: none of it matters."""
    sudoers("NOPASSWD:")
    run = ["--run", "--", "sudo", "-u", beth.name, *OPEN]
    done = bits(service, alice, "set", job.id, "--user", beth.name, "--flags", "network", *run)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"bits: gave {alice.name} a token of {beth.name}" in done.stderr
    assert helper_of(job) == (beth.name, 2)
    assert no_folder_is_left(alice)


@pytest.mark.real("sudo")
def test_sudo_asks_for_the_password_on_the_terminal(
    service: Service, alice: User, beth: User, job: Job, sudoers: Callable[[str], None]
) -> None:
    sudoers("PASSWD:")
    command = [*BITS, "token", "set", job.id, "--user", beth.name, "--run", "sudo", "-u", beth.name, *OPEN]
    pid, terminal = pty.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(alice.gid, alice.gid, alice.gid)
        os.setresuid(alice.uid, alice.uid, alice.uid)
        os.execve(command[0], command, {"OPENBITS_SOCKET": str(service.socket), "PATH": "/usr/bin:/bin"})
    seen = read_until(terminal, "password for")
    os.write(terminal, f"{PASSWORD}\n".encode())
    seen += read_until(terminal, "gave ")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert helper_of(job) == (beth.name, 1)
    assert PASSWORD not in seen


def read_until(terminal: int, text: str) -> str:
    """What the terminal showed, until this text was there."""
    seen, deadline = "", time.monotonic() + 20
    while text not in seen:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
        seen += os.read(terminal, 4096).decode()
    return seen


@pytest.mark.parametrize("way", ["runuser", "su"])
def test_root_uses_runuser_and_su(way: str, service: Service, beth: User) -> None:
    """su takes the command as one word: {} is where the address goes."""
    ways = {
        "runuser": ["runuser", "-u", beth.name, "--", *OPEN],
        "su": ["su", beth.name, "-c", " ".join([*OPEN, "--to", "{}"])],
    }
    owned = job_of(service, ROOT)
    done = bits(service, ROOT, "set", owned.id, "--user", str(beth.uid), "--run", *ways[way])
    assert done.returncode == 0, done.stderr
    assert helper_of(owned) == (beth.name, 1)


# -- two terminals ----------------------------------------------------------------------------------------------------


class Waiting:
    """`bits token set … --wait` of a user, in the middle of it."""

    def __init__(self, service: Service, user: User, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*BITS, "token", "set", *arguments, "--wait"],
            env={"OPENBITS_SOCKET": str(service.socket)},
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self.said = self._process.stderr.readline()
        found = re.search(r"bits token open --to (\S+)", self.said)
        assert found, self.said
        self.address = found.group(1)

    def end(self) -> tuple[int, str]:
        """Exit code and what it said after its first line."""
        _, said = self._process.communicate(timeout=30)
        return self._process.returncode, said

    def close(self) -> None:
        """Interrupt it if it still waits, as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self.end()


@pytest.fixture
def wait_for_beth(service: Service, alice: User, beth: User, job: Job) -> Iterator[Callable[[], Waiting]]:
    """`wait_for_beth()`: alice waits for a token of beth for her job."""
    made: list[Waiting] = []

    def start() -> Waiting:
        made.append(Waiting(service, alice, job.id, "--user", beth.name))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_in_two_terminals_the_owner_waits_and_says_what_the_helper_must_run(
    service: Service, alice: User, beth: User, job: Job, wait_for_beth: Callable[[], Waiting]
) -> None:
    waiting = wait_for_beth()
    assert waiting.said.startswith(f"waiting for {beth.name}, who must run:")
    folder = Path(waiting.address.partition(":")[2]).parent
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (alice.uid, 0o711)
    with pytest.raises(AssertionError, match="PermissionError"):
        run_as(beth, os.listdir, folder)
    opened = bits(service, beth, "open", "--to", waiting.address)
    assert (opened.returncode, opened.stderr) == (0, f"bits: gave {alice.name} a token of {beth.name}\n")
    assert waiting.end() == (0, "")
    assert helper_of(job) == (beth.name, 1)
    assert no_folder_is_left(alice)


@pytest.mark.attack(11)
def test_strangers_are_sent_away_and_do_not_get_in_the_way(
    service: Service, alice: User, beth: User, job: Job, wait_for_beth: Callable[[], Waiting]
) -> None:
    """Also one who connects and says nothing."""
    waiting = wait_for_beth()
    path = waiting.address.partition(":")[2]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent, real_user() as carol:
        silent.connect(path)
        refused = bits(service, carol, "open", "--to", waiting.address)
        assert refused.returncode == 5
        assert f"{alice.name} does not want a token of {carol.name}; see the other side" in refused.stderr
        assert bits(service, beth, "open", "--to", waiting.address).returncode == 0
    assert waiting.end()[0] == 0
    assert helper_of(job) == (beth.name, 1)


def test_a_token_goes_only_to_who_is_named_in_the_address(
    service: Service, alice: User, beth: User, wait_for_beth: Callable[[], Waiting]
) -> None:
    """Whoever took the place of a listener that is gone gets nothing."""
    waiting = wait_for_beth()
    path = waiting.address.partition(":")[2]
    nobody = bits(service, beth, "open", "--to", path)
    assert (nobody.returncode, "does not say who waits there" in nobody.stderr) == (2, True)
    refused = bits(service, beth, "open", "--to", f"root:{path}")
    assert refused.returncode == 5
    assert f"{alice.name} listens at {path}, and not root; nothing was handed over" in refused.stderr
    assert bits(service, beth, "open", "--to", waiting.address).returncode == 0
    assert waiting.end()[0] == 0


def test_who_stops_waiting_leaves_nothing_behind(
    service: Service, alice: User, beth: User, wait_for_beth: Callable[[], Waiting]
) -> None:
    waiting = wait_for_beth()
    waiting.close()
    assert no_folder_is_left(alice)
    late = bits(service, beth, "open", "--to", waiting.address)
    assert (late.returncode, "is `bits token set` still waiting there?" in late.stderr) == (2, True)


def test_a_token_of_root_is_handed_over_only_if_that_is_said(service: Service) -> None:
    owned = job_of(service, ROOT)
    refused = bits(service, ROOT, "set", owned.id, "--user", "root", "--run", *OPEN)
    assert refused.returncode == 1
    assert "this would hand over a token of root" in refused.stderr
    assert "--root" in refused.stderr
    assert helper_of(owned) == (None, 0)
    done = bits(service, ROOT, "set", owned.id, "--user", "root", "--run", *OPEN, "--root")
    assert done.returncode == 0, done.stderr
    assert helper_of(owned) == ("root", 1)


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["no-such-program"], 2, ["cannot run no-such-program: No such file or directory"]),
        ([], 2, ["--run needs a command"]),
        (["false"], 1, ["'false' ended with status 1 and without a token", "must run 'bits token open' as"]),
        ([*OPEN], 1, ["ended with status 5 and without a token, but alice came: that is not beth; it must run"]),
        (
            ["sh", "-c", "exec sleep 100"],
            4,
            ["no token of beth came within 0.5 s; alice waited for 'sh -c exec sleep 100', run as beth"],
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_who_waited_for_what_is_said_when_no_token_comes(
    command: list[str], code: int, words: list[str], service: Service, alice: User, beth: User, job: Job
) -> None:
    seconds = "0.5" if code == 4 else "20"
    done = bits(service, alice, "set", job.id, "--user", beth.name, "--timeout", seconds, "--run", *command)
    assert done.returncode == code, done.stderr
    for text in words:
        assert text.replace("alice", alice.name).replace("beth", beth.name) in done.stderr
    assert helper_of(job) == (None, 0)
    assert no_folder_is_left(alice)


SEND_OTHERS = """
import socket, sys
kind, path = sys.argv[1], sys.argv[2].partition(":")[2]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    sock.connect(path)
    sock.recv(4096)
    ends = {"nothing": [], "file": [sys.stdin], "none of ours": [sock], "two": [sock, sock]}[kind]
    socket.send_fds(sock, [b"T"], [end.fileno() for end in ends])
"""


@pytest.mark.real("sudo")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "cannot receive a token: 0 descriptors came"),
        ("file", "cannot receive a token: 1 descriptor that is no socket came"),
        ("none of ours", "the descriptor is not a token of this service"),
        ("two", "cannot receive a token: 2 descriptors came"),
    ],
)
@pytest.mark.attack(11)
def test_what_is_no_token_of_this_service_is_not_taken_and_is_named(
    kind: str, words: str, service: Service, alice: User, beth: User, job: Job, sudoers: Callable[[str], None]
) -> None:
    sudoers("NOPASSWD:")
    command = [sys.executable, "-I", "-c", SEND_OTHERS, kind, "{}"]
    done = bits(service, alice, "set", job.id, "--user", beth.name, "--run", "sudo", "-u", beth.name, *command)
    assert done.returncode == 1
    assert f"ended with status 0 and without a token, but {beth.name} came: {words}" in done.stderr
    assert helper_of(job) == (None, 0)


def test_an_address_where_nobody_waits_and_a_user_who_does_not_exist_are_named(
    service: Service, beth: User, job: Job
) -> None:
    gone = bits(service, beth, "open", "--to", f"{beth.name}:/run/bits-token-gone/socket")
    assert gone.returncode == 2
    assert "/run/bits-token-gone/socket" in gone.stderr
    assert "is `bits token set` still waiting there?" in gone.stderr
    unknown = bits(service, ROOT, "set", job.id, "--user", "no-such-user", "--run", "true")
    assert (unknown.returncode, "there is no user 'no-such-user'" in unknown.stderr) == (2, True)


def test_the_helper_talks_to_the_owners_service_or_to_none(alice: User, beth: User, open_tmp_path: Path) -> None:
    """An owner who names a socket of his own in place of the service's gets nothing from the helper."""
    fake = open_tmp_path / "fake"
    fake.mkdir()
    os.chown(fake, alice.uid, alice.gid)

    def lure() -> tuple[int, str]:
        with (
            socket.socket(socket.AF_UNIX) as claimed,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        ):
            claimed.bind(str(fake / "bitsd.sock"))
            claimed.listen()
            listener.bind(str(fake / "listener"))
            (fake / "listener").chmod(0o666)
            (fake / "bitsd.sock").chmod(0o666)
            listener.listen()
            (fake / "ready").touch()
            taken, _ = listener.accept()
            taken.send(str(fake / "bitsd.sock").encode())
            data, descriptors, _, _ = socket.recv_fds(taken, 10, 4)
            return len(descriptors), data.decode()

    opener = subprocess.Popen(
        [
            "sh",
            "-c",
            f'until [ -e {fake}/ready ]; do sleep 0.05; done; exec "$@"',
            "sh",
            *OPEN,
            "--to",
            f"{alice.name}:{fake}/listener",
        ],
        user=beth.uid,
        group=beth.gid,
        extra_groups=[],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run_as(alice, lure) == (0, "")
    _, said = opener.communicate(timeout=30)
    assert opener.returncode == 6
    assert f"belongs to uid {alice.uid}, neither root nor you" in said
