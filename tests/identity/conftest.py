"""What the tests of identity share: code and file brokers that run under other uids, in forks of the test process."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from openbits import channel
from openbits.identity import broker, filecalls, landlock, paths
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Publication, Temporary

_PR_SET_DUMPABLE = 4
_LIMIT_SECONDS = 60


def _become(uid: int | None, groups: Sequence[int] = ()) -> None:
    """Drop to a uid that has no account, as the zygote does; None stays who one is."""
    if uid is not None:
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    os.umask(0o077)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _fork(code: Callable[[], None]) -> int:
    """Run the code in a child, which never returns into the test and never outlives its limit; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(_LIMIT_SECONDS)
            code()
            status = 0
        except BaseException:  # noqa: BLE001  # nothing may escape into the test run
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return pid


def _run_as(uid: int | None, code: Callable[[], Any]) -> Any:
    answers, answer = os.pipe()

    def child() -> None:
        _become(uid)
        os.write(answer, json.dumps(code()).encode())

    pid = _fork(child)
    os.close(answer)
    with open(answers, "rb") as lines:  # noqa: PTH123  # a descriptor
        found = lines.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return json.loads(found)


@contextlib.contextmanager
def _running_as(uid: int, code: Callable[[], None]) -> Iterator[None]:
    def child() -> None:
        _become(uid)
        code()

    pid = _fork(child)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def run_as() -> Callable[[int | None, Callable[[], Any]], Any]:
    """`run_as(uid, code)`: the JSON value that the code returns when it runs under the uid; None: under our own."""
    return _run_as


@pytest.fixture
def running_as() -> Callable[[int, Callable[[], None]], contextlib.AbstractContextManager[None]]:
    """`with running_as(uid, code)`: the code runs under the uid as long as the context does."""
    return _running_as


@pytest.fixture
def ordinary_uid() -> int | None:
    """A uid that the permission bits bind: one without account if the tests run as root, else our own."""
    return 61_003 if os.geteuid() == 0 else None


@pytest.fixture(params=[filecalls.openat2, filecalls.walk], ids=["openat2", "walk"])
def opener(request: pytest.FixtureRequest) -> filecalls.Opener:
    """Both ways to open: what holds for openat2 (P2) holds for the walk without it (P10)."""
    chosen: filecalls.Opener = request.param
    return chosen


@pytest.fixture
def bounded() -> Iterator[None]:
    """Nothing hangs, and no failure leaves a descriptor open."""

    def hang(*_: object) -> None:
        raise TimeoutError("the recipe hangs")

    before = _descriptors()
    previous = signal.signal(signal.SIGALRM, hang)
    signal.alarm(_LIMIT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
    assert _descriptors() == before


def _descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def directory(tmp_path: Path, opener: filecalls.Opener) -> Directory:
    """A destination directory as AddFile fixed it."""
    place = tmp_path / "in"
    place.mkdir()
    return paths.resolve(bytes(place / "file"), opener)[0]


@pytest.fixture
def place(directory: Directory) -> Path:
    """The path of the destination directory."""
    return Path(os.fsdecode(directory.path))


@pytest.fixture
def temporary(directory: Directory, opener: filecalls.Opener) -> Temporary:
    """A temporary file with some bytes in it, whose descriptor the worker has closed."""
    made, descriptor = paths.create(directory, b".BIT0123abcd.tmp", opener)
    os.write(descriptor, b"transferred")
    os.close(descriptor)
    return made


@pytest.fixture
def taken(place: Path) -> Path:
    """The path of the temporary file, whether it is there or not."""
    return place / ".BIT0123abcd.tmp"


@pytest.fixture
def publish(opener: filecalls.Opener) -> Callable[..., None]:
    """Publish as `file`, with the usual umask and the local time, or with changes of these."""
    usual = {"name": b"file", "umask": 0o022, "modified_ns": None}

    def act(directory: Directory, temporary: Temporary, **changes: Any) -> None:
        assert paths.publish(directory, [Publication(temporary=temporary, **{**usual, **changes})], opener) == 1

    return act


@pytest.fixture
def acts(
    opener: filecalls.Opener, publish: Callable[[Directory, Temporary], None]
) -> Callable[[Directory, Temporary], dict[str, Callable[[], object]]]:
    """By name, what the manager asks for after AddFile; each begins with the check of the directory."""
    return lambda directory, temporary: {
        "create": lambda: paths.create(directory, b".BITffffffff.tmp", opener),
        "reopen": lambda: paths.reopen(directory, temporary, opener),
        "publish": lambda: publish(directory, temporary),
        "remove": lambda: paths.remove(directory, temporary, opener),
    }


@pytest.fixture
def refused() -> Callable[..., PathError]:
    """`refused(act, *arguments)`: the error of an act that must not succeed."""

    def error_of(act: Callable[..., object], *arguments: Any, **options: Any) -> PathError:
        with pytest.raises(PathError) as caught:
            act(*arguments, **options)
        return caught.value

    return error_of


class BrokerProcess:
    """A file broker in its own process and the manager's end of its channel."""

    def __init__(self, uid: int | None, groups: Sequence[int], confined_to: Path | None) -> None:
        self.control, theirs = channel.pair()
        self.control.settimeout(_LIMIT_SECONDS)
        self.exit_status: int | None = None
        place = None if confined_to is None else os.open(confined_to, os.O_PATH)
        self.pid = _fork(lambda: _be_broker(theirs, uid, groups, place))
        theirs.close()
        if place is not None:
            os.close(place)

    def ask(self, op: str, **fields: Any) -> tuple[channel.Message, list[int]]:
        """One request, of one file, and its answer; the descriptors belong to the test."""
        if op == "publish":
            file = {"name": "file", "umask": 0o022, "modified_ns": None, **fields}
            fields = {"directory": file.pop("directory"), "files": [file]}
        if op == "create":
            fields["names"] = [fields.pop("name")]
        answer, descriptors = self.send(op, **fields)
        if answer["ok"] and op == "publish":
            assert answer.pop("published") == 1
        if answer["ok"] and op == "create":
            (answer["temporary"],) = answer.pop("temporaries")
        return answer, descriptors

    def send(self, op: str, **fields: Any) -> tuple[channel.Message, list[int]]:
        """One request as the manager makes it."""
        channel.send(self.control, {"id": 7, "op": op, **fields})
        answer, descriptors = channel.receive(self.control, most_descriptors=broker.FILES_AT_ONCE)
        assert answer.pop("reply") == 7
        return answer, descriptors

    def do(self, op: str, **fields: Any) -> channel.Message:
        """A request that succeeds; descriptors of the answer are closed."""
        answer, descriptors = self.ask(op, **fields)
        channel.close_all(descriptors)
        assert answer.pop("ok") is True, answer
        return answer

    def fail(self, op: str, **fields: Any) -> channel.Message:
        """A request that fails."""
        answer, descriptors = self.ask(op, **fields)
        assert descriptors == []
        assert answer.pop("ok") is False, answer
        return answer

    def make(self, directory: dict[str, Any], name: str = ".BIT0123abcd.tmp") -> dict[str, Any]:
        """A temporary file with all its bytes."""
        answer, (descriptor,) = self.ask("create", directory=directory, name=name)
        os.write(descriptor, b"transferred")
        os.close(descriptor)
        temporary: dict[str, Any] = answer["temporary"]
        return temporary

    def end(self) -> int:
        """Close the channel: the broker ends by itself; its exit status."""
        self.control.close()
        return self.wait()

    def wait(self) -> int:
        """Exit status of a broker that ends; a failure if it does not."""
        deadline = time.monotonic() + 10
        while self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            else:
                time.sleep(0.005)
        return self.exit_status


def _be_broker(control: socket.socket, uid: int | None, groups: Sequence[int], place: int | None) -> None:
    keep = {control.fileno(), place}
    for descriptor in range(3, 256):
        if descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _become(uid, groups)
    if place is not None:
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which Landlock asks for
        landlock.restrict((), [place], is_network_allowed=False)
        os.close(place)
    broker.run(control)


@pytest.fixture
def start_broker() -> Iterator[Callable[..., BrokerProcess]]:
    """Factory `start_broker(uid=None, groups=(), confined_to=None)`; at the end each ends with its channel."""
    started: list[BrokerProcess] = []

    def start(uid: int | None = None, groups: Sequence[int] = (), confined_to: Path | None = None) -> BrokerProcess:
        started.append(BrokerProcess(uid, groups, confined_to))
        return started[-1]

    yield start
    assert [each.end() for each in started] == [0] * len(started)
