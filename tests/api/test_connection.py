"""The blocking varlink client: judging the other end, framing, errors, descriptors."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openbits.api.connection import (
    MAX_SOCKET_PATH_BYTES,
    Connection,
    ConnectionLostError,
    NotListeningError,
    UnreachableError,
)
from openbits.api.wire import MAX_MESSAGE_BYTES
from openbits.core import codes
from openbits.core.errors import BitsError

Script = Callable[[socket.socket], None]


class RawServer:
    """Accepts one connection and lets a script speak raw bytes to it; keeps what the client sent."""

    def __init__(self, path: Path, script: Script) -> None:
        self.received = b""
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        with sock:
            try:
                self._script(sock)
                sock.settimeout(10)
                while data := sock.recv(1 << 16):
                    self.received += data
            except OSError:
                pass  # the client left

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bitsd.sock"


@pytest.fixture
def talk(path: Path) -> Iterator[Callable[[Script], Connection]]:
    """`talk(script)`: a connection to a server that follows the script."""
    made: list[tuple[RawServer, Connection]] = []

    def connect(script: Script) -> Connection:
        server = RawServer(path, script)
        made.append((server, Connection.open(str(path))))
        return made[-1][1]

    yield connect
    for server, connection in made:
        connection.close()
        server.close()


def answering(*replies: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        for reply in replies:
            sock.sendall(reply)

    return script


def test_a_call_is_one_object_ended_by_nul_and_gives_the_parameters_of_the_answer(path: Path) -> None:
    server = RawServer(path, lambda sock: sock.sendall(b'{"parameters":{"jobs":[]}}\0'))
    connection = Connection.open(str(path))
    assert connection.call("ListJobs", {"all_users": False}) == ({"jobs": []}, [])
    connection.close()
    server.close()
    assert json.loads(server.received.removesuffix(b"\0")) == {
        "method": "io.openbits.Service.ListJobs",
        "parameters": {"all_users": False},
    }


def test_an_answer_may_come_byte_by_byte(talk: Callable[[Script], Connection]) -> None:
    reply = b'{"parameters":{"text":"\xc3\xa4"}}\0'
    connection = talk(answering(*(reply[index : index + 1] for index in range(len(reply)))))
    assert connection.call("X")[0] == {"text": "ä"}


def test_an_answer_just_below_the_limit_is_taken_and_one_above_it_ends_the_connection(
    path: Path, talk: Callable[[Script], Connection]
) -> None:
    text = "x" * (MAX_MESSAGE_BYTES - 100)
    assert talk(answering(json.dumps({"parameters": {"text": text}}).encode() + b"\0")).call("X")[0] == {"text": text}
    path.unlink()
    connection = talk(answering(b'{"parameters":{"text":"' + b"x" * (MAX_MESSAGE_BYTES + 200_000)))
    with pytest.raises(ConnectionLostError, match="above the limit"):
        connection.call("X")
    assert connection.is_closed


def test_a_request_above_the_limit_is_not_sent_and_the_connection_stays_usable(
    talk: Callable[[Script], Connection],
) -> None:
    connection = talk(answering(b'{"parameters":{}}\0'))
    with pytest.raises(BitsError) as caught:
        connection.call("X", {"text": "x" * MAX_MESSAGE_BYTES})
    assert caught.value.hresult == 0x80070057
    assert connection.call("X") == ({}, [])


@pytest.mark.parametrize("garbage", [b"nonsense\0", b"[1]\0", b"\0", b'{"a":\0', b"\xff\0", b"[" * 100_000 + b"\0"])
def test_what_is_not_an_object_ends_the_connection(garbage: bytes, talk: Callable[[Script], Connection]) -> None:
    connection = talk(answering(garbage))
    with pytest.raises(ConnectionLostError) as caught:
        connection.call("X")
    assert caught.value.hresult == 0x800706BA
    assert connection.is_closed


def test_a_service_that_hangs_up_is_unreachable_and_says_what_to_do(talk: Callable[[Script], Connection]) -> None:
    connection = talk(lambda sock: sock.shutdown(socket.SHUT_RDWR))
    with pytest.raises(ConnectionLostError, match="connect again"):
        connection.call("X")
    with pytest.raises(ConnectionLostError, match="was closed"):
        connection.call("X")


@pytest.mark.parametrize(
    ("error", "hresult"),
    [
        ("org.varlink.service.InvalidParameter", 0x80070057),
        ("org.varlink.service.MethodNotFound", 0x80004001),
        ("org.varlink.service.PermissionDenied", 0x80070005),
        ("io.example.Else", 0x80004005),
    ],
)
def test_errors_of_the_protocol_become_bits_errors_with_their_name(
    error: str, hresult: int, talk: Callable[[Script], Connection]
) -> None:
    connection = talk(answering(json.dumps({"error": error, "parameters": {"parameter": "files"}}).encode() + b"\0"))
    with pytest.raises(BitsError, match="parameter files") as caught:
        connection.call("X")
    assert caught.value.hresult == hresult
    assert error in str(caught.value)


def test_failed_carries_code_and_text_of_the_service(talk: Callable[[Script], Connection]) -> None:
    failure = {"hresult": 0x80200001, "symbol": "BG_E_NOT_FOUND", "message": "there is no job 7; list the jobs"}
    connection = talk(
        answering(json.dumps({"error": "io.openbits.Service.Failed", "parameters": failure}).encode() + b"\0")
    )
    with pytest.raises(BitsError) as caught:
        connection.call("OpenJob")
    assert (caught.value.hresult, caught.value.symbol) == (0x80200001, "BG_E_NOT_FOUND")
    assert str(caught.value) == "there is no job 7; list the jobs"


def test_descriptors_go_with_a_call_of_any_length_and_come_back_with_the_answer(
    talk: Callable[[Script], Connection],
) -> None:
    def echo(sock: socket.socket) -> None:
        data, descriptors, _, _ = socket.recv_fds(sock, 1 << 16, 4)
        while not data.endswith(b"\0"):
            data += sock.recv(1 << 16)
        socket.send_fds(sock, [b'{"parameters":{"token":0}}\0'], descriptors)
        os.close(descriptors[0])

    connection = talk(echo)
    sent = os.memfd_create("sent")
    answer, received = connection.call("X", {"token": 0, "text": "x" * 300_000}, [sent])
    assert answer == {"token": 0}
    assert os.fstat(received[0]).st_ino == os.fstat(sent).st_ino
    assert not os.get_inheritable(received[0])
    for descriptor in (sent, *received):
        os.close(descriptor)


def test_descriptors_that_come_with_an_error_or_above_four_are_closed(
    path: Path, talk: Callable[[Script], Connection], eventually: Callable[..., object]
) -> None:
    def flood(reply: bytes, count: int) -> Script:
        def script(sock: socket.socket) -> None:
            sock.recv(1 << 16)
            descriptors = [os.memfd_create("surplus") for _ in range(count)]
            socket.send_fds(sock, [reply], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

        return script

    def is_none_open() -> bool:
        links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if os.path.lexists(entry)]
        return not any("surplus" in link for link in links)

    connection = talk(flood(b'{"error":"io.example.Else"}\0', 1))
    with pytest.raises(BitsError):
        connection.call("X")
    path.unlink()
    connection = talk(flood(b'{"parameters":{}}\0', 6))
    with pytest.raises(ConnectionLostError, match="descriptors"):
        connection.call("X")
    eventually(is_none_open)


def test_a_list_may_be_spread_over_several_replies(talk: Callable[[Script], Connection]) -> None:
    connection = talk(answering(b'{"parameters":{"jobs":[1,2]},"continues":true}\0', b'{"parameters":{"jobs":[3]}}\0'))
    assert connection.collect("ListJobs", {"all_users": False}, "jobs") == [1, 2, 3]


def test_a_stream_that_times_out_goes_on_in_the_middle_of_a_message(talk: Callable[[Script], Connection]) -> None:
    go_on = threading.Event()

    def script(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(b'{"parameters":{"ev')
        go_on.wait(10)
        sock.sendall(b'ent":1},"continues":true}\0')

    connection = talk(script)
    connection.stream("Subscribe", {})
    with pytest.raises(TimeoutError):
        connection.next_reply(0.05)
    go_on.set()
    assert connection.next_reply(10) == {"event": 1}


def test_an_answer_that_does_not_come_in_time_ends_the_connection(talk: Callable[[Script], Connection]) -> None:
    connection = talk(lambda _: None)
    with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
        connection.call("Hello", timeout_seconds=0.05)
    assert connection.is_closed


def test_a_call_interrupted_by_the_user_ends_the_connection(
    talk: Callable[[Script], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer still under way must not be taken for that of the next call."""
    connection = talk(answering(b'{"parameters":{"late":1}}\0'))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection._frames, "feed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.call("X")
    assert connection.is_closed


def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    path = folder / "bitsd.sock"
    assert len(str(path)) > MAX_SOCKET_PATH_BYTES
    directory = os.open(folder, os.O_PATH)
    server = RawServer(Path(f"/proc/self/fd/{directory}/bitsd.sock"), answering(b'{"parameters":{"a":1}}\0'))
    os.close(directory)
    connection = Connection.open(str(path))
    assert connection.call("X")[0] == {"a": 1}
    connection.close()
    server.close()


def test_a_missing_socket_and_a_stale_one_are_told_apart(path: Path) -> None:
    with pytest.raises(NotListeningError, match="no such socket") as caught:
        Connection.open(str(path))
    assert caught.value.hresult == codes.RPC_S_SERVER_UNAVAILABLE == 0x800706BA
    assert str(path) in str(caught.value)
    assert f"bitsd --socket {path}" in str(caught.value)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NotListeningError, match="stale"):
        Connection.open(str(path))


@pytest.mark.root
@pytest.mark.attack(30)
def test_a_directory_of_a_stranger_is_refused_before_connecting(open_tmp_path: Path, free_uid: int) -> None:
    folder = open_tmp_path / "run"
    folder.mkdir()
    path = folder / "bitsd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(0)
        os.chown(folder, free_uid, free_uid)
        with pytest.raises(UnreachableError, match=f"belongs to uid {free_uid}"):
            Connection.open(str(path))
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.root
@pytest.mark.attack(30)
def test_a_listener_of_a_stranger_gets_no_byte(open_tmp_path: Path, free_uid: int) -> None:
    """In /tmp anybody may put a socket, although the folder is root's."""
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    path = folder / "bitsd.sock"
    ready, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(free_uid, free_uid, free_uid)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1)
        os.write(report, b"!")
        got = listener.accept()[0].recv(10)
        os._exit(len(got))
    assert os.read(ready, 1) == b"!"
    with pytest.raises(UnreachableError, match=f"runs as uid {free_uid}"):
        Connection.open(str(path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(ready)
    os.close(report)


def test_a_child_process_may_not_use_the_connection_of_its_parent(talk: Callable[[Script], Connection]) -> None:
    connection = talk(answering(b'{"parameters":{}}\0'))
    child = os.fork()
    if child == 0:
        try:
            connection.call("X")
        except UnreachableError as error:
            os._exit(7 if "after the fork" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert connection.call("X") == ({}, [])
