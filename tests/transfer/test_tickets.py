"""The ticket cache of a worker: what the libraries of Kerberos find, and what a file of tickets says of itself."""

import fcntl
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.real.kdc import REALM, Kdc

from openbits.transfer import tickets
from openbits.transfer.tickets import BadTicketsError, TicketCache, owner

PASSWORD = "throw-away"


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    kdc = Kdc(tmp_path_factory.mktemp("realm"))
    kdc.add("anna", PASSWORD)
    yield kdc
    kdc.close()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> TicketCache:
    """A cache in a process whose environment says nothing, and is left as it was."""
    for name in ("KRB5CCNAME", "KRB5_CLIENT_KTNAME"):
        monkeypatch.setenv(name, "")
    return TicketCache()


def kinit(kdc: Kdc, path: Path, life: str = "") -> bytes:
    me = SimpleNamespace(name="anna", uid=os.geteuid(), gid=os.getegid())
    return kdc.kinit(me, PASSWORD, cache=path, life=life).read_bytes()


def given_file(data: bytes) -> int:
    """A descriptor as it comes with an order."""
    memory = os.memfd_create("test")
    os.pwrite(memory, data, 0)
    return memory


def found() -> bytes:
    """What the cache that the environment names has."""
    kind, _, path = os.environ["KRB5CCNAME"].partition(":")
    assert kind == "FILE"
    return Path(path).read_bytes()


@pytest.mark.real("krb5kdc", "kadmin.local", "kinit")
def test_real_tickets_say_whose_they_are_and_how_long_they_last(realm: Kdc, tmp_path: Path) -> None:
    before = time.time()
    for life, seconds in (("1h", 3600), ("10h", 36_000)):
        known = owner(kinit(realm, tmp_path / "cache", life))
        assert known.principal == f"anna@{REALM}"
        assert known.ends_at is not None
        assert before + seconds - 2 <= known.ends_at <= time.time() + seconds + 2


@pytest.mark.real("krb5kdc", "kadmin.local", "kinit")
def test_the_real_library_reads_the_copy(realm: Kdc, cache: TicketCache, tmp_path: Path) -> None:
    cache.use("FILE:/x", "", given_file(kinit(realm, tmp_path / "cache")), 0.0)
    inherited = Path(os.environ["KRB5CCNAME"].removeprefix("FILE:").replace("self", str(os.getpid())))
    assert realm.tickets(inherited) == [f"krbtgt/{REALM}@{REALM}"]
    assert cache.owner() == owner((tmp_path / "cache").read_bytes())


def test_other_tickets_replace_those_before_and_the_same_leave_what_was_got_meanwhile(cache: TicketCache) -> None:
    cache.use("FILE:/x", "", given_file(b"first"), 0.0)
    place = Path(os.environ["KRB5CCNAME"].removeprefix("FILE:"))
    with place.open("ab") as library:
        library.write(b" and a service ticket")
    cache.use("FILE:/x", "", given_file(b"first"), 0.0)
    assert found() == b"first and a service ticket"
    cache.use("FILE:/x", "", given_file(b"new"), 0.0)
    assert found() == b"new"
    assert str(place) == os.environ["KRB5CCNAME"].removeprefix("FILE:")  # the library may be on its way there


def test_the_library_is_not_disturbed_while_it_reads(cache: TicketCache) -> None:
    cache.use("FILE:/x", "", given_file(b"first"), 0.0)
    with Path(os.environ["KRB5CCNAME"].removeprefix("FILE:")).open("rb") as library:
        shared = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(library, fcntl.F_OFD_SETLK, shared)
        pid = os.fork()
        if pid == 0:
            os.close(library.fileno())  # a lock belongs to the description, which both would have
            signal.alarm(20)
            cache.use("FILE:/x", "", given_file(b"new"), 0.0)
            os._exit(0)
        deadline = time.monotonic() + 10
        while "setlk" not in (wait := Path(f"/proc/{pid}/wchan").read_text()):
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it did not wait"
            assert time.monotonic() < deadline, wait
        assert library.read() == b"first"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.real("krb5kdc", "kadmin.local", "kinit")
def test_tickets_that_are_over_say_whose_they_were_and_since_when(
    realm: Kdc, cache: TicketCache, tmp_path: Path
) -> None:
    real = kinit(realm, tmp_path / "cache", "1h")
    ends_at = owner(real).ends_at or 0.0
    cache.use("FILE:/x", "", given_file(real), ends_at - 1)
    assert cache.problem == ""
    cache.use("FILE:/x", "", given_file(real), ends_at)
    assert "expired" in cache.problem
    assert f"anna@{REALM}" in cache.problem
    assert time.strftime("%H:%M", time.gmtime(ends_at)) in cache.problem


def test_a_cache_that_is_no_file_is_named_and_none_is_none(cache: TicketCache) -> None:
    cache.use("KCM:", "", None, 0.0)
    assert os.environ["KRB5CCNAME"] == "KCM:"
    assert (cache.name, cache.owner()) == ("KCM:", None)


@pytest.mark.real("krb5kdc", "kadmin.local", "kinit")
def test_after_the_tickets_are_gone_nothing_of_them_is_used(
    realm: Kdc, cache: TicketCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    cache.use("FILE:/x", "", given_file(kinit(realm, tmp_path / "cache")), 0.0)
    assert cache.owner() is not None
    cache.use("", "it does not exist", None, 0.0)
    assert not os.environ["KRB5CCNAME"].startswith("FILE:")
    assert not os.environ["KRB5_CLIENT_KTNAME"]
    assert (cache.problem, cache.owner()) == ("it does not exist", None)


def test_root_has_the_keytab_of_the_machine(cache: TicketCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cache.use("", "", None, 0.0)
    assert os.environ["KRB5_CLIENT_KTNAME"] == "FILE:/etc/krb5.keytab"
    assert os.environ["KRB5CCNAME"].startswith("MEMORY:")


@given(st.binary(max_size=400))
def test_whatever_the_bytes_are_they_are_tickets_or_refused(data: bytes) -> None:
    for content in (data, b"\x05\x04\x00\x00" + data):
        try:
            owner(content)
        except BadTicketsError:
            continue


@given(st.data())
@pytest.mark.real("krb5kdc", "kadmin.local", "kinit")
def test_real_tickets_that_were_damaged_are_read_or_refused(realm: Kdc, data: st.DataObject) -> None:
    path = realm.caches / "whole"
    whole = path.read_bytes() if path.exists() else kinit(realm, path)
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position] + data.draw(st.binary(max_size=8)) + whole[position + data.draw(st.integers(0, 8)) :]
    try:
        owner(damaged)
    except tickets.BadTicketsError:
        return
