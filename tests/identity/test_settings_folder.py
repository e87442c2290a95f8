"""What a broker reads of a folder of small settings files (`environment.d`): all of one ending, in order of names."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.real.stories import descriptors

from openbits.identity import broker, personal
from openbits.identity.filecalls import Opener, openat2, walk
from openbits.identity.path_errors import PathError


@pytest.fixture(params=[openat2, walk])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


def read(folder: Path, opener: Opener) -> Any:
    request = {"op": "settings", "id": 7, "path": str(folder), "suffix": ".conf"}
    message, found = broker.answer(request, opener)
    assert message == {"reply": 7, "ok": True}, message
    (memory,) = found
    with os.fdopen(memory, "rb") as file:
        return json.load(file)


def test_files_come_with_path_and_text_in_order_of_names(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "20-b.conf").write_text("no_proxy=\u00fc")
    (tmp_path / "10-a.conf").write_bytes(b"no_proxy=\xff")
    (tmp_path / "30-c.conf~").write_text("left by an editor")
    (tmp_path / "README").write_text("no settings")
    assert read(tmp_path, opener) == [
        [str(tmp_path / "10-a.conf"), "no_proxy=\ufffd"],
        [str(tmp_path / "20-b.conf"), "no_proxy=\u00fc"],
    ]


def test_links_of_mine_are_followed_and_an_empty_folder_is_fine(tmp_path: Path, opener: Opener) -> None:
    folder = tmp_path / "environment.d"
    folder.mkdir()
    assert read(folder, opener) == []
    (tmp_path / "dotfiles").write_text("no_proxy=1")
    (folder / "x.conf").symlink_to(tmp_path / "dotfiles")
    assert read(folder, opener) == [[str(folder / "x.conf"), "no_proxy=1"]]


def test_lines_that_are_about_something_else_stay_where_they_are(tmp_path: Path, opener: Opener) -> None:
    """Numbers of lines are what messages name."""
    (tmp_path / "a.conf").write_text("TOKEN=secret\n\nexport HTTPS_PROXY=a:1\r\nKEY=secret # of the proxy\nX=1")
    ((_, text),) = read(tmp_path, opener)
    assert text.splitlines() == ["", "", "export HTTPS_PROXY=a:1", "KEY=secret # of the proxy"]


def test_no_more_than_a_few_small_files_are_read(tmp_path: Path, opener: Opener) -> None:
    for number in range(personal.MAX_FILES + 3):
        (tmp_path / f"{number:03}.conf").write_text("x")
    assert len(read(tmp_path, opener)) == personal.MAX_FILES
    (tmp_path / "000.conf").write_bytes(b"x" * (personal.MAX_BYTES + 1))
    with pytest.raises(PathError) as caught:
        personal.read_folder(os.fsencode(tmp_path), b".conf", opener)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, opener: Opener, kind: str) -> None:
    path = tmp_path / "a.conf"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    before = descriptors(os.getpid())
    with pytest.raises(PathError) as caught:
        personal.read_folder(os.fsencode(tmp_path), b".conf", opener)
    assert str(path) in str(caught.value)
    assert descriptors(os.getpid()) == before


def test_no_such_folder_is_told_as_that(tmp_path: Path, opener: Opener) -> None:
    for path in (tmp_path / "missing", tmp_path / "file" / "x"):
        (tmp_path / "file").touch()
        with pytest.raises(PathError) as caught:
            personal.read_folder(os.fsencode(path), b".conf", opener)
        assert caught.value.errno in {errno.ENOENT, errno.ENOTDIR}


@pytest.mark.parametrize("changes", [{"path": "relative"}, {"path": "/a/../b"}, {"suffix": None}, {"suffix": 7}])
def test_a_request_without_meaning_ends_the_broker(opener: Opener, changes: dict[str, Any]) -> None:
    with pytest.raises(broker.MalformedRequestError):
        broker.answer({"op": "settings", "id": 7, "path": "/srv", "suffix": ".conf", **changes}, opener)
