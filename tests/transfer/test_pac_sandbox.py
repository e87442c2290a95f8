"""Proxy scripts that mean no good: what a script can do in its sandbox, and what it costs (jobs.md §9.7)."""

import ctypes
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.identity import seccomp
from openbits.transfer import pac_sandbox
from openbits.transfer.pac_sandbox import MEMORY_BYTES, Nursery

DEADLINE_SECONDS = 20


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """One for all tests: no script may harm those that come after it."""
    made = Nursery()
    yield made
    made.close()


def begin(nursery: Nursery, script: str | bytes) -> socket.socket:
    question = {
        "url": "http://h.example/x",
        "host": "h.example",
        "local": "2026-11-21T12:30:00",
        "utc": "2026-11-21T11:30:00",
        "addresses": ["192.0.2.7"],
    }
    code = script if isinstance(script, bytes) else script.encode()
    sandbox = nursery.begin(code, question)
    sandbox.settimeout(DEADLINE_SECONDS)
    return sandbox


def nothing(_: str) -> Sequence[str]:
    return ()


def run(nursery: Nursery, script: str | bytes, resolve: Callable[[str], Sequence[str]] = nothing) -> Message | None:
    """The last word; None if the limits ended it."""
    with begin(nursery, script) as sandbox:
        try:
            while "resolve" in (message := channel.receive(sandbox)[0]):
                channel.send(sandbox, {"addresses": resolve(message["resolve"])})
        except ChannelClosedError:
            return None
        return message


def returning(expression: str) -> str:
    return f"function FindProxyForURL(url, host) {{ return {expression}; }}"


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        (returning("'PROXY a:1; DIRECT'"), "PROXY a:1; DIRECT"),
        (returning("url + ' ' + host"), "http://h.example/x h.example"),
        (returning("myIpAddress() + dnsResolve('nobody') + isPlainHostName('a')"), "192.0.2.7nulltrue"),
        (returning("String(isInNet()) + weekdayRange(1, 2, 3, 4, 5) + dnsDomainLevels({})"), "falsefalse0"),
        ("const FindProxyForURL = (url, host) => `DIRECT`;", "DIRECT"),
        ("class A { #x = 'DIRECT'; get x() { return this.#x; } }\n" + returning("new A().x"), "DIRECT"),
        ("function FindProxyForURLEx(url, host) { return 'PROXY ex:1'; }", "PROXY ex:1"),
        ("function shExpMatch() { return 'mine'; }\n" + returning("shExpMatch('a', 'b')"), "mine"),
        ("// b\u00fccher\n" + returning("'DIRECT'"), "DIRECT"),
    ],
)
def test_a_script_answers(nursery: Nursery, script: str, answer: str) -> None:
    assert run(nursery, script) == {"answer": answer}


def test_what_a_script_asks_for_is_looked_up_by_the_worker_and_once(nursery: Nursery) -> None:
    asked = list[str]()

    def resolve(name: str) -> Sequence[str]:
        asked.append(name)
        return ["10.1.2.3"] if name == "in.example" else []

    script = returning("['in.example', 'out.example', 'in.example'].map(dnsResolve).join()")
    assert run(nursery, script, resolve) == {"answer": "10.1.2.3,,10.1.2.3"}
    assert asked == ["in.example", "out.example"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("", "no function FindProxyForURL"),
        ("var FindProxyForURL = 'DIRECT';", "no function FindProxyForURL"),
        ("function FindProxyForURL(", "SyntaxError"),
        (b"\xff\xfe\x00f", "SyntaxError"),
        ("throw new Error('at once');", "at once"),
        (returning("nowhere.x"), "ReferenceError"),
        (returning("null"), "returned no text but null"),
        (returning("undefined"), "returned no text but null"),
        (returning("17"), "returned no text but 17"),
        (returning("{proxy: 'a:1'}"), 'returned no text but {"proxy": "a:1"}'),
        ("async " + returning("'DIRECT'"), "returned no text but {}"),
        (returning("{get x() { throw 'hidden'; }}"), "hidden"),
        ("function f() { return f() + 1; }\n" + returning("f()"), "call stack"),
        (returning("JSON.parse('['.repeat(1e6))"), "call stack"),
        (returning("eval('('.repeat(1e6))"), "call stack"),
        ("import('os');\n" + returning("'DIRECT'"), "os"),
        (returning("require('fs')"), "ReferenceError"),
        (returning("process.env.PATH"), "ReferenceError"),
        (returning("call_python('exec', 'import os')"), "exec"),
        (returning("'x'.repeat(1 << 29)"), "out of memory"),
    ],
)
def test_a_faulty_script_says_why(nursery: Nursery, script: str | bytes, error: str) -> None:
    message = run(nursery, script)
    assert message is not None
    assert error in message["error"]


@pytest.mark.parametrize(
    "script",
    [
        "while (true) {}",
        returning("(() => { for (;;) {} })()"),
        returning("/^(a+)+$/.test('a'.repeat(60) + 'b')"),
        returning("new Array(1e9).join('x')"),
        returning("(() => { for (let i = 0; ; i++) { try { dnsResolve('same.example'); } catch (e) {} } })()"),
    ],
)
def test_a_script_without_end_costs_a_second_of_cpu(nursery: Nursery, script: str) -> None:
    before = time.monotonic()
    assert run(nursery, script) is None
    assert time.monotonic() - before < 8  # the machine may be busy


@pytest.mark.parametrize(
    "grow",
    [
        "all.push('x'.repeat(1e6) + all.length)",
        "all.push(new ArrayBuffer(1e6))",
        "all.push(new Uint8Array(1e6).fill(7))",
    ],
)
def test_a_script_that_wants_all_memory_gets_a_little(nursery: Nursery, grow: str) -> None:
    """It ends within what it may have; the most it ever used is read from /proc while it runs."""
    message = run(nursery, f"const all = [];\n{returning('(() => { for (;;) ' + grow + '; })()')}")
    assert message is None or "memory" in message["error"]
    assert run(nursery, returning("'DIRECT'")) == {"answer": "DIRECT"}


def test_a_huge_answer_is_cut(nursery: Nursery) -> None:
    message = run(nursery, returning("'PROXY a:1;'.repeat(1e5)"))
    assert message is not None
    assert len(message["answer"]) == pac_sandbox.MAX_ANSWER


def test_scripts_do_not_meet(nursery: Nursery) -> None:
    assert run(nursery, "globalThis.left = 1; Object.prototype.left = 2;\n" + returning("'DIRECT'")) is not None
    assert run(nursery, returning("typeof left + typeof ({}).left")) == {"answer": "undefinedundefined"}


def test_a_script_sees_the_language_and_the_documented_functions_alone(nursery: Nursery) -> None:
    """Everything else that is global is of ECMAScript itself, or a clock."""
    found = run(
        nursery, returning("Object.getOwnPropertyNames(globalThis).filter(n => /^[a-z]/.test(n)).sort().join()")
    )
    assert found is not None
    language = (
        "decodeURI decodeURIComponent encodeURI encodeURIComponent escape eval globalThis isFinite isNaN parseFloat"
    )
    language += " parseInt undefined unescape"
    documented = (
        "alert convert_addr dateRange dnsDomainIs dnsDomainLevels dnsResolve dnsResolveEx getClientVersion isInNet"
        " isInNetEx isPlainHostName isResolvable isResolvableEx localHostOrDomainIs myIpAddress myIpAddressEx"
        " shExpMatch sortIpAddressList timeRange weekdayRange"
    )
    engine = "performance queueMicrotask dukpy call_python"  # the last: how the documented ones are called
    assert found["answer"].split(",") == sorted(f"{language} {documented} {engine}".split())


def test_whoever_evaluates_ends_when_nobody_listens_any_more(nursery: Nursery) -> None:
    before = set(children_of(nursery.pid))
    sandbox = begin(nursery, returning("dnsResolve('slow.example')"))
    assert channel.receive(sandbox)[0] == {"resolve": "slow.example"}
    (pid,) = set(children_of(nursery.pid)) - before
    sandbox.close()
    wait_for(lambda: pid not in children_of(nursery.pid))


def test_a_sandbox_has_no_files_but_its_socket_and_nowhere_to_write(nursery: Nursery) -> None:
    before = set(children_of(nursery.pid))
    with begin(nursery, returning("dnsResolve('wait.example')")) as sandbox:
        channel.receive(sandbox)
        (pid,) = set(children_of(nursery.pid)) - before
        held = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert sorted(name.partition(":")[0] for name in held) == ["pipe"] * 3 + ["socket"]
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert status["Seccomp"] == "2"
        assert status["Threads"] == "1"
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        hard = {line[:26].strip(): line.split()[-2] for line in limits}
        assert (hard["Max cpu time"], hard["Max open files"], hard["Max file size"]) == ("1", "0", "0")
        assert int(hard["Max address space"]) - int(status["VmSize"].split()[0]) * 1024 <= MEMORY_BYTES + (1 << 20)


def test_a_service_with_limits_of_its_own_keeps_them() -> None:
    """LimitAS, LimitNOFILE, LimitCPU of a unit: a sandbox only goes below."""
    pid = os.fork()
    if pid == 0:  # what is given up cannot be had again
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        resource.setrlimit(resource.RLIMIT_CPU, (3600, 3600))
        os._exit(7 if run(Nursery(), returning("'DIRECT'")) == {"answer": "DIRECT"} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_end_of_the_worker_is_the_end_of_its_nursery() -> None:
    made = Nursery()
    with begin(made, returning("dnsResolve('wait.example')")) as sandbox:
        channel.receive(sandbox)
        (inner,) = children_of(made.pid)
        os.kill(made.pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{inner}").exists())
    with pytest.raises(ChannelClosedError):
        made.begin(b"", {})
    made.close()


# What an engine that was taken over could try: calls made from native code in the same confinement.


PARENT = os.getpid()
LIBC = ctypes.CDLL(None, use_errno=True)
CALLS: dict[str, Callable[[], Any]] = {
    "open": lambda: LIBC.open(b"/etc/passwd", 0),
    "socket": lambda: LIBC.socket(2, 1, 0),
    "unix socket": lambda: LIBC.socket(1, 1, 0),
    "fork": LIBC.fork,
    "execve": lambda: LIBC.execv(b"/bin/true", None),
    "kill": lambda: LIBC.kill(PARENT, 0),
    "ptrace": lambda: LIBC.ptrace(0, 0, 0, 0),
    "setrlimit": lambda: LIBC.setrlimit(0, 0),
    "setuid": lambda: LIBC.setuid(0),
    "memory that is code": lambda: LIBC.mmap(None, 4096, 7, 0x22, -1, 0),
    "memory made code": lambda: LIBC.mprotect(0, 4096, 5),
    "process_vm_readv": lambda: LIBC.process_vm_readv(PARENT, None, 0, None, 0, 0),
    "io_uring": lambda: LIBC.syscall(425, 1, None),
    "landlock": lambda: LIBC.syscall(444, None, 0, 1),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_that_computing_does_not_need_kills(name: str) -> None:
    pid = os.fork()
    if pid == 0:
        seccomp.allow_only_computing()
        CALLS[name]()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_computing_goes_on() -> None:
    """Memory, time, exceptions, randomness: what an interpreter does all day."""
    pid = os.fork()
    if pid == 0:
        seccomp.allow_only_computing()
        blocks = [bytearray(1 << 22) for _ in range(8)]
        del blocks
        os._exit(7 if time.time() and os.urandom(8) and sorted(range(10_000), key=str) else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
