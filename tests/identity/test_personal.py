"""What a broker reads that people keep for this service: small files, secrets that are theirs alone, ticket caches."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real.stories import descriptors

from openbits import channel
from openbits.identity import broker, personal, tickets
from openbits.identity.filecalls import Opener, openat2, walk
from openbits.identity.path_errors import PathError

MINE = os.geteuid()
OTHER = 61_003


@pytest.fixture(params=[openat2, walk])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file with a secret, as it should be."""
    path = tmp_path / "credentials.toml"
    path.write_text("password")
    path.chmod(0o600)
    return path


def content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def refusal(act: Callable[[], object]) -> tuple[int, str, str]:
    """errno, step and text; nothing stays open."""
    before = descriptors(os.getpid())
    with pytest.raises(PathError) as caught:
        act()
    assert descriptors(os.getpid()) == before
    return caught.value.errno, caught.value.step, str(caught.value)


class TestSettings:
    def test_a_secret_that_is_mine_alone_is_read_as_a_copy_that_nobody_changes(
        self, kept: Path, opener: Opener
    ) -> None:
        request = {"op": "settings", "id": 7, "path": str(kept), "is_secret": True}
        message, (copy,) = broker.answer(request, opener)
        assert message == {"reply": 7, "ok": True}
        kept.write_text("other")
        with pytest.raises(PermissionError):
            os.pwrite(copy, b"x", 0)
        assert content(copy) == b"password"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
    def test_a_secret_that_others_may_read_is_refused_with_what_to_do(
        self, kept: Path, opener: Opener, mode: int
    ) -> None:
        kept.chmod(mode)
        number, step, text = refusal(lambda: personal.read(os.fsencode(kept), opener, is_secret=True))
        assert (number, step) == (errno.EPERM, "read")
        assert f"mode {mode:04o}" in text
        assert "chmod 600" in text
        assert content(personal.read(os.fsencode(kept), opener, is_secret=False)) == b"password"

    @pytest.mark.root
    def test_a_secret_of_somebody_else_is_refused(self, kept: Path, opener: Opener) -> None:
        os.chown(kept, OTHER, OTHER)
        number, _, text = refusal(lambda: personal.read(os.fsencode(kept), opener, is_secret=True))
        assert number == errno.EPERM
        assert f"owner uid {OTHER}" in text

    def test_only_small_regular_files_are_read_and_nothing_is_waited_for(
        self, kept: Path, opener: Opener, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "large").write_bytes(b"x" * (personal.MAX_BYTES + 1))
        (tmp_path / "full").write_bytes(b"x" * personal.MAX_BYTES)
        for name, number in (("pipe", errno.EINVAL), (".", errno.EINVAL), ("large", errno.EFBIG), ("no", errno.ENOENT)):
            path = os.fsencode(tmp_path if name == "." else tmp_path / name)
            assert refusal(lambda path=path: personal.read(path, opener, is_secret=False))[0] == number  # type: ignore[misc]
        assert (
            len(content(personal.read(os.fsencode(tmp_path / "full"), opener, is_secret=False))) == personal.MAX_BYTES
        )

    def test_a_link_of_mine_is_followed(self, kept: Path, opener: Opener, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(kept)
        assert content(personal.read(os.fsencode(tmp_path / "link"), opener, is_secret=True)) == b"password"

    @pytest.mark.parametrize("path", ["credentials.toml", "/a/../b", "", "/a\0b", None])
    def test_the_broker_ends_on_a_path_that_the_manager_cannot_mean(self, path: object, opener: Opener) -> None:
        with pytest.raises(broker.MalformedRequestError):
            broker.answer({"op": "settings", "id": 7, "path": path}, opener)


class TestNameOfTheTicketCache:
    def test_without_configuration_it_is_the_default_of_the_library(self, tmp_path: Path) -> None:
        assert tickets.name_of_cache("", tmp_path / "missing") == f"FILE:/tmp/krb5cc_{MINE}"

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ("default_ccache_name = FILE:/run/user/%{uid}/krb5cc", f"FILE:/run/user/{MINE}/krb5cc"),
            ("  default_ccache_name=%{TEMP}/tickets_%{euid}", f"FILE:/tmp/tickets_{MINE}"),
            ('\tdefault_ccache_name = "KEYRING:persistent:%{USERID}"', f"KEYRING:persistent:{MINE}"),
            ("default_ccache_name = KCM:", "KCM:"),
        ],
    )
    def test_the_configuration_says_where(self, tmp_path: Path, line: str, name: str) -> None:
        (tmp_path / "krb5.conf").write_text(
            f"[logging]\ndefault_ccache_name = FILE:/no\n[libdefaults]\n{line}\n[realms]\n"
        )
        assert tickets.name_of_cache("", tmp_path / "krb5.conf") == name

    def test_included_files_are_read_in_their_order_and_the_first_word_counts(self, tmp_path: Path) -> None:
        folder = tmp_path / "krb5.conf.d"
        folder.mkdir()
        (folder / ".hidden.conf").write_text("[libdefaults]\ndefault_ccache_name = FILE:/hidden\n")
        (folder / "b.rpmsave~").write_text("[libdefaults]\ndefault_ccache_name = FILE:/leftover\n")
        (folder / "kcm_default").write_text("[libdefaults]\ndefault_ccache_name = KCM:\n")
        configuration = tmp_path / "krb5.conf"
        configuration.write_text(f"includedir {folder}\n[libdefaults]\ndefault_ccache_name = FILE:/late\n")
        assert tickets.name_of_cache("", configuration) == "KCM:"

    def test_a_file_that_includes_itself_is_no_trap(self, tmp_path: Path) -> None:
        configuration = tmp_path / "krb5.conf"
        configuration.write_text(f"include {configuration}\n[libdefaults]\ndefault_ccache_name = FILE:/once\n")
        assert tickets.name_of_cache("", configuration) == "FILE:/once"

    def test_a_token_has_the_one_that_its_logon_made(self) -> None:
        assert tickets.name_of_cache("FILE:/tmp/krb5cc_1_Xy") == "FILE:/tmp/krb5cc_1_Xy"
        assert tickets.name_of_cache("/run/krb5cc_1_Xy") == "FILE:/run/krb5cc_1_Xy"


class TestTickets:
    def asked(self, cache: str, opener: Opener) -> tuple[dict[str, object], list[int]]:
        message, found = broker.answer({"op": "tickets", "id": 7, "ticket_cache": cache}, opener)
        return message, found

    def test_a_file_comes_as_a_copy_with_its_name(self, tmp_path: Path, opener: Opener) -> None:
        (tmp_path / "cache").write_bytes(b"tickets")
        message, (copy,) = self.asked(f"FILE:{tmp_path}/cache", opener)
        assert message == {"reply": 7, "ok": True, "name": f"FILE:{tmp_path}/cache"}
        assert content(copy) == b"tickets"

    @pytest.mark.parametrize("name", ["KCM:", "KEYRING:persistent:1000", "MEMORY:x", "DIR:/run/user/1000/krb5cc"])
    def test_of_what_is_no_file_there_is_the_name_alone(self, opener: Opener, name: str) -> None:
        assert self.asked(name, opener) == ({"reply": 7, "ok": True, "name": name}, [])

    def test_no_cache_is_told(self, tmp_path: Path, opener: Opener) -> None:
        message, found = self.asked(f"FILE:{tmp_path}/cache", opener)
        assert (message["errno"], message["step"], found) == (errno.ENOENT, "read", [])

    @pytest.mark.root
    def test_tickets_that_somebody_else_has_put_there_are_not_used(self, tmp_path: Path, opener: Opener) -> None:
        path = tmp_path / "cache"
        path.write_bytes(b"tickets")
        os.chown(path, OTHER, OTHER)
        number, _, text = refusal(lambda: tickets.read(f"FILE:{path}", opener))
        assert number == errno.EPERM
        assert f"uid {OTHER}" in text

    def test_neither_links_nor_pipes_are_followed(self, tmp_path: Path, opener: Opener) -> None:
        (tmp_path / "real").write_bytes(b"tickets")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        os.mkfifo(tmp_path / "pipe")
        for name in ("link", "pipe"):
            assert refusal(lambda name=name: tickets.read(f"FILE:{tmp_path}/{name}", opener))[1] == "read"  # type: ignore[misc]

    def test_the_manager_cannot_name_a_cache(self, tmp_path: Path, start_broker: Callable[..., Any]) -> None:
        (tmp_path / "cache").write_bytes(b"tickets")
        answer, found = start_broker().ask("tickets", ticket_cache=f"FILE:{tmp_path}/cache")
        channel.close_all(found)
        assert str(tmp_path) not in str(answer)
