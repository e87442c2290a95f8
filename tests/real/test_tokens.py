"""Tokens are descriptors: what is none is refused without effect, what is one may be closed and passed on.

identity.md §8, tests T-4 and T-5.
"""

import json
import os
import queue
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import openbits
from openbits import BitsError, Level, NotifyFlags, Outcome, TokenFlags

pytestmark = pytest.mark.root

E_ACCESSDENIED = 0x80070005
E_HANDLE = 0x80070006
BG_E_INVALID_STATE = 0x80200002
BG_E_TOKEN_REQUIRED = 0x80200056
BG_S_UNABLE_TO_DELETE_FILES = 0x0020001A

CURE = "set a helper token (bits token set), or set its flags to 0 (bits token flags JOB none), then resume the job"
"""Both repairs of identity.md §5."""

BODY = secrets.token_bytes(300_000)
GOOD_CREATE = {"display_name": "x", "type": "download", "umask": 0o22}


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def call(client: openbits.Client, method: str, parameters: dict[str, Any], *descriptors: int) -> int:
    """HRESULT of a call that carries these descriptors; 0 if it succeeds. Received descriptors are closed."""
    try:
        _, received = client.connection.call(method, parameters, descriptors)
    except BitsError as error:
        return error.hresult
    for descriptor in received:
        os.close(descriptor)
    return 0


# -- T-4: what is no token ------------------------------------------------------------------------------------------


def shut_down(token: openbits.Token) -> None:
    """End a token while descriptors of it are open: the service sees end of file, as after the last copy."""
    with socket.socket(fileno=os.dup(token.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


Forged = dict[str, int]


@pytest.fixture
def forge() -> Iterator[Callable[[openbits.Client, openbits.Client], Forged]]:
    """Everything that could be mistaken for a token; the second client is one of another service."""
    opened: list[int] = []

    def make(client: openbits.Client, other: openbits.Client) -> Forged:
        message_ends, stream_ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), socket.socketpair()
        reading, writing = os.pipe()
        ended = client.open_process_token()
        shut_down(ended)
        with tempfile.TemporaryFile() as file, other.open_process_token() as foreign, ended:
            found = {
                "a random socket": socket.socket(socket.AF_INET).detach(),
                "an end of a pair like that of a token": message_ends[0].detach(),
                "an end of a stream pair": stream_ends[0].detach(),
                "a memfd": os.memfd_create("token"),
                "a regular file": os.dup(file.fileno()),
                "a pipe": reading,
                "a directory": os.open("/etc", os.O_RDONLY),
                "an O_PATH descriptor": os.open(client.connection.path, os.O_PATH),
                "the connection to the service itself": os.dup(client.connection._socket.fileno()),
                "a connection to another service": os.dup(other.connection._socket.fileno()),
                "a token of another service": os.dup(foreign.fileno()),
                "a token that has ended": os.dup(ended.fileno()),
            }
        opened.extend([*found.values(), writing, message_ends[1].detach(), stream_ends[1].detach()])
        return found

    yield make
    for descriptor in opened:
        os.close(descriptor)


TAKES_TOKEN: dict[str, dict[str, Any]] = {
    "CreateJob": GOOD_CREATE,
    "OpenJob": {"job_id": "the job"},
    "ListJobs": {"all_users": False},
    "Complete": {"handle": "its handle"},
    "SetHelperToken": {"handle": "its handle"},
    "OpenProcessToken": {"level": 3},
    "SetNotify": {"handle": "its handle", "subscriber": None},
    "GetTokenInfo": {},
}
"""docs/api.md: every method with a parameter `token`."""


def test_t4_what_is_no_token_of_this_service_is_refused_and_changes_nothing(
    make_service: Callable[..., Any],
    throwaway_user: Callable[..., Any],
    as_user: Callable[..., Any],
    forge: Callable[..., Forged],
) -> None:
    service, other_service = make_service(), make_service()
    service.start()
    other_service.start()
    alice = throwaway_user()

    def story() -> dict[str, dict[str, int]]:
        with service.client() as client, other_service.client() as other:
            job = client.create_job("aim")
            job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.NETWORK)
            before = job.info()
            known = {"the job": str(job.id), "its handle": client.call("OpenJob", {"job_id": str(job.id)})["handle"]}
            codes: dict[str, dict[str, int]] = {}
            for what, descriptor in forge(client, other).items():
                for method, template in TAKES_TOKEN.items():
                    parameters = {k: known.get(v, v) if isinstance(v, str) else v for k, v in template.items()}
                    parameters["token"] = 0
                    if method == "ListJobs":
                        code = code_of_list(client, parameters, descriptor)
                    else:
                        code = call(client, method, parameters, descriptor)
                    codes.setdefault(what, {})[method] = code
            assert job.info() == before
            assert [info["job_id"] for info in client.job_infos()] == [str(job.id)]
            return codes

    codes = as_user(alice, story)
    assert len(codes) == 12
    for what, answers in codes.items():
        assert answers == dict.fromkeys(TAKES_TOKEN, E_HANDLE), what


def code_of_list(client: openbits.Client, parameters: dict[str, Any], descriptor: int) -> int:
    try:
        client.connection.collect("ListJobs", parameters, "jobs", [descriptor])
    except BitsError as error:
        return error.hresult
    return 0


@pytest.mark.attack(11)
def test_t4_a_token_of_an_earlier_life_of_the_service_is_none(service: Any) -> None:
    with service.client() as client:
        token = client.open_process_token()
    service.stop()
    service.start()
    with token, service.client() as client, pytest.raises(BitsError) as caught:
        client.token_info(token)
    assert caught.value.hresult == E_HANDLE
    assert "get one with LogonUser or OpenProcessToken" in str(caught.value)


def test_t4_a_closed_token_is_refused_before_anything_is_sent(service: Any) -> None:
    with service.client() as client:
        token = client.open_process_token()
        token.close()
        with pytest.raises(BitsError) as caught, token.impersonate():
            pass
    assert caught.value.hresult == E_HANDLE
    assert "it was closed; log on again" in str(caught.value)


# -- descriptors do not leak ----------------------------------------------------------------------------------------


def tries(client: openbits.Client, handle: int, descriptors: list[int]) -> Iterator[Callable[[], object]]:
    """Every way to present, receive or withhold descriptors, good and bad."""
    attempt = partial(partial, call, client)
    for descriptor in descriptors:
        yield attempt("SetHelperToken", {"handle": handle, "token": 0}, descriptor)
        yield attempt("GetTokenInfo", {"token": 0}, descriptor)
        yield attempt("OpenJob", {"job_id": "?", "token": 0}, descriptor)
        yield attempt("CreateJob", {**GOOD_CREATE, "type": "?", "token": 0}, descriptor)
        yield attempt("GetJob", {"handle": handle}, *[descriptor] * 4)
        yield attempt("GetTokenInfo", {"token": 3}, descriptor, descriptor)
        yield attempt("NoSuchMethod", {}, descriptor)
    yield attempt("OpenProcessToken", {"level": 3})
    yield attempt("OpenProcessToken", {"level": 9})
    yield attempt("SetHelperToken", {"handle": handle})


@pytest.mark.attack(11)
def test_t4_a_thousand_tries_leave_no_descriptor_behind(service: Any, eventually: Callable[..., Any]) -> None:
    pids = service.pids()

    def count() -> tuple[int, int]:
        return descriptors_of(pids["manager"]), descriptors_of(pids["spawner"])

    near, far = socket.socketpair()
    memory, path = os.memfd_create("x"), os.open("/", os.O_PATH)
    with near, far, service.client() as client, client.open_process_token() as token:
        handle = client.call("CreateJob", GOOD_CREATE)["handle"]
        attempts = list(tries(client, handle, [memory, path, near.fileno(), token.fileno()]))
        for attempt in attempts:  # the first round makes what stays: the job's helper token
            attempt()
        before = count()
        for number in range(1000):
            attempts[number % len(attempts)]()
        eventually(lambda: count() <= before)
    os.close(memory)
    os.close(path)


def test_connections_that_end_in_the_middle_leave_no_descriptor_behind(
    service: Any, eventually: Callable[..., Any]
) -> None:
    """A client that sends a call with a token, or asks for one, and is gone before the answer."""
    pids = service.pids()

    def count() -> tuple[int, int]:
        return descriptors_of(pids["manager"]), descriptors_of(pids["spawner"])

    def hang_up(method: str, parameters: dict[str, Any], *descriptors: int, oneway: bool = False) -> None:
        message = {"method": f"io.openbits.Service.{method}", "parameters": parameters, "oneway": oneway}
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(service.socket))
            socket.send_fds(raw, [json.dumps(message).encode() + b"\0"], descriptors)
            if oneway:  # answered by nothing; the next call's answer shows that it was carried out
                raw.sendall(b'{"method":"io.openbits.Service.Hello","parameters":{"level":3}}\0')
                assert raw.recv(65536)

    with service.client() as client, client.open_process_token() as token:
        eventually(lambda: count() == count())
        before = count()
        for number in range(300):
            oneway = number % 2 == 0
            hang_up("OpenProcessToken", {"level": 3}, oneway=oneway)
            hang_up("GetTokenInfo", {"token": 0}, token.fileno(), oneway=oneway)
            hang_up("LogonUser", {"user": "root", "level": 3}, oneway=oneway) if number < 4 else None
        eventually(lambda: count() <= before)
        client.open_process_token().close()  # and the limit of tokens was not used up


def test_a_token_for_a_job_that_is_over_is_refused_and_not_kept(service: Any, eventually: Callable[..., Any]) -> None:
    manager = service.pids()["manager"]
    with service.client() as client:
        job = client.create_job("over")
        job.cancel()
        before = descriptors_of(manager)
        for _ in range(20):
            with client.open_process_token() as token, token.impersonate(), pytest.raises(BitsError) as caught:
                job.set_helper_token()
            assert caught.value.hresult == BG_E_INVALID_STATE
        assert job.info()["helper_sid"] is None
        eventually(lambda: descriptors_of(manager) <= before)


@pytest.mark.attack(11)
def test_thousands_of_handles_and_jobs_under_one_token_take_one_descriptor(
    service: Any, eventually: Callable[..., Any]
) -> None:
    """Else one user's connections took all descriptors of the manager. The token ends with the last who uses it."""
    pids = service.pids()
    with service.client() as client:
        job = client.create_job("many")
        manager, spawner = descriptors_of(pids["manager"]), descriptors_of(pids["spawner"])
        opening = {"job_id": str(job.id), "token": 0}
        with client.open_process_token() as token:
            under = partial(client.connection.call, descriptors=[token.fileno()])
            first, *handles = [under("OpenJob", opening)[0]["handle"] for _ in range(3000)]
            helped = [under("CreateJob", {**GOOD_CREATE, "token": 0})[0]["handle"] for _ in range(30)]
            for handle in helped:
                under("SetHelperToken", {"handle": handle, "token": 0})
            eventually(lambda: descriptors_of(pids["manager"]) <= manager + 1)
        for handle in helped:
            assert client.call("Cancel", {"handle": handle}) == {"hresult": 0}
        for handle in (*handles, *helped):
            client.call("ReleaseJob", {"handle": handle})
        assert client.call("GetJob", {"handle": first})["job"]["job_id"] == str(job.id)
        assert descriptors_of(pids["spawner"]) > spawner, "the first handle still uses the token"
        client.call("ReleaseJob", {"handle": first})
        eventually(lambda: descriptors_of(pids["manager"]) <= manager)
        eventually(lambda: descriptors_of(pids["spawner"]) <= spawner)


# -- T-5: the token outlives the caller's handle, and may come from somebody else ------------------------------------


def test_t5_a_program_of_the_helper_hands_its_own_token_to_the_owner(
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
) -> None:
    """No password: the helper's program opens its own token and passes it by SCM_RIGHTS, then both let go of it."""
    owner, helper = throwaway_user(), throwaway_user()
    url = site.put("/data", BODY)
    target = private_folder(helper) / "data.bin"
    given, taken = socket.socketpair()

    def give() -> None:
        with service.client() as client, client.open_process_token() as token:
            socket.send_fds(given, [b"token"], [token.fileno()])

    def take() -> tuple[int, str | None, str]:
        _, (descriptor,), _, _ = socket.recv_fds(taken, 16, 1)
        with service.client() as client, openbits.Token(descriptor) as token:
            about = client.token_info(token)
            job = client.create_job("two programs")
            with token.impersonate():
                job.set_helper_token()
            token.close()
            job.set_helper_token_flags(TokenFlags.LOCAL_FILE | TokenFlags.NETWORK)
            job.add_file(url, target)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            sid = job.info()["helper_sid"]
            job.complete()
            return about["uid"], sid, job.state.name

    with given, taken:
        as_user(helper, give)
        assert as_user(owner, take) == (helper.uid, f"S-1-22-1-{helper.uid}", "ACKNOWLEDGED")
    assert site.uids("/data") == {helper.uid}
    assert target.read_bytes() == BODY
    assert target.stat().st_uid == helper.uid


def test_a_program_hears_of_the_job_that_it_made_under_a_token(
    service: Any, throwaway_user: Callable[..., Any], as_user: Callable[..., Any]
) -> None:
    """The job is the other user's, the event stream the program's: it may hear of what it may see by the handle."""
    program, other = throwaway_user(), throwaway_user()

    def story() -> tuple[int, str]:
        heard: queue.Queue[Any] = queue.Queue()
        with service.client() as client:
            with token.impersonate():
                job = client.create_job("of the other")
            client.notifier.register(job, heard.put)
            job.set(notify_flags=NotifyFlags.JOB_MODIFICATION, description="told")
            assert heard.get(timeout=10)["notice"] == "modification"
            info = job.info()
            job.cancel()
            return info["owner_uid"], info["properties"]["description"]

    with service.client() as client, client.logon_user(other.name, None) as token:
        assert as_user(program, story) == (other.uid, "told")


def test_the_last_copy_of_a_token_ends_it_and_what_it_vouched_for(
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """A job that is over lets go of its token, and then no process of the helper stays behind."""
    owner, helper = throwaway_user(), throwaway_user()
    url = site.put("/data", BODY)
    target = private_folder(helper) / "data.bin"

    def story() -> None:
        with service.client() as client:
            job = client.create_job("short")
            with token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.LOCAL_FILE | TokenFlags.NETWORK)
            job.add_file(url, target)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            job.complete()

    with service.client() as client, client.logon_user(helper.name, None) as token:
        as_user(owner, story)
        eventually(target.exists)
        assert f"broker:{helper.uid}" in service.pids()  # this process still has its copy
    eventually(lambda: not {f"broker:{helper.uid}", f"worker:{helper.uid}"} & set(service.pids()))


@pytest.mark.parametrize("how", ["its logon helper is killed", "a holder shuts it down"])
def test_a_token_that_ends_while_a_job_uses_it_stops_the_job_with_token_required(
    how: str,
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """H4: dropped while the transfer is unfinished → ERROR, BG_E_TOKEN_REQUIRED; the cure is another token."""
    owner, helper = throwaway_user(), throwaway_user()
    url = site.put("/data", BODY)
    gate = site.gate("/data", 100_000)
    target = private_folder(helper) / "data.bin"

    def begin() -> str:
        with service.client() as client:
            job = client.create_job("interrupted")
            with token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.LOCAL_FILE | TokenFlags.NETWORK)
            job.add_file(url, target)
            job.resume()
            return str(job.id)

    def repair() -> None:
        with service.client() as client:
            job = client.job(job_id)
            with again.impersonate():
                job.set_helper_token()
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            assert job.complete() == 0

    with service.client() as client:
        with client.logon_user(helper.name, None, level=Level.IMPERSONATE) as token:
            job_id = as_user(owner, begin)
            job = client.job(job_id)
            eventually(lambda: job.info()["state"] == "transferring")
            if how == "its logon helper is killed":
                os.kill(logon_helper_of(service), signal.SIGKILL)
            else:
                shut_down(token)
            eventually(lambda: job.info()["state"] == "error")
        info = job.info()
        assert (info["error"]["hresult"], info["error"]["context"]) == (BG_E_TOKEN_REQUIRED, "general_queue_manager")
        assert (info["helper_sid"], info["helper_token_flags"]) == (None, 3)
        assert f"the helper token of {helper.name} (uid {helper.uid}) ended" in info["error"]["message"]
        assert info["error"]["message"].endswith(CURE)
        eventually(lambda: not {f"broker:{helper.uid}", f"worker:{helper.uid}"} & set(service.pids()))
        gate.set()
        with client.logon_user(helper.name, None) as again:
            as_user(owner, repair)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("has_token", [True, False])
def test_cancel_removes_the_helpers_file_with_the_token_of_the_job_or_the_next_one_of_that_user(
    *,
    has_token: bool,
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """design.md §2: without the token Cancel says so, and the file is swept with that user's next token."""
    owner, helper = throwaway_user(), throwaway_user()
    url = site.put("/data", BODY)
    gate = site.gate("/data", 100_000)
    folder = private_folder(helper)

    def begin() -> str:
        with service.client() as client:
            job = client.create_job("given up")
            with token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
            job.add_file(url, folder / "data.bin")
            job.resume()
            return str(job.id)

    def cancel() -> tuple[int, str]:
        with service.client() as client:
            job = client.job(job_id)
            if not has_token:
                job.clear_helper_token()
            return job.cancel(), job.state.name

    def next_token() -> None:
        with service.client() as client:
            job = client.create_job("another")
            with token.impersonate():
                job.set_helper_token()

    with service.client() as client, client.logon_user(helper.name, None) as token:
        job_id = as_user(owner, begin)
        eventually(lambda: client.job(job_id).info()["state"] == "transferring")
        assert as_user(owner, cancel) == (0 if has_token else BG_S_UNABLE_TO_DELETE_FILES, "CANCELLED")
        assert len(list(folder.iterdir())) == (0 if has_token else 1)
        if not has_token:
            as_user(owner, next_token)
        eventually(lambda: not list(folder.iterdir()))
    gate.set()


def logon_helper_of(service: Any) -> int:
    """Pid of the one logon helper: a child of the spawner that is not the zygote."""
    pids = service.pids()
    children = Path(f"/proc/{pids['spawner']}/task/{pids['spawner']}/children").read_text().split()
    (helper,) = {int(child) for child in children} - {pids["zygote"]}
    return helper
