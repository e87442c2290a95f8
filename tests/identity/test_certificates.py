"""What a broker reads of a certificate store: certificates of regular files, without waiting (identity.md §13)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real.stories import descriptors

from openbits.identity import broker, certificates
from openbits.identity.filecalls import Opener, openat2, walk
from openbits.identity.path_errors import PathError

KEY = "-----BEGIN PRIVATE KEY-----\nQ2FuYXJ5\n-----END PRIVATE KEY-----\n"


def block(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


@pytest.fixture(params=[openat2, walk])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "MY"
    folder.mkdir()
    return folder


def read(store: Path, opener: Opener) -> str:
    memory = certificates.read_store(os.fsencode(store), opener)
    with os.fdopen(memory, "rb") as file:
        return file.read().decode()


def test_certificates_come_in_the_order_of_names_and_keys_stay(store: Path, opener: Opener) -> None:
    (store / "b.pem").write_text(KEY + block("Yg==") + block("YjI=") + KEY)
    (store / "a.crt").write_text(f"Subject: somebody\n{block('YQ==')}".replace("\n", "\r\n"))
    (store / "c.key").write_text(KEY)
    (store / "notes.txt").write_text(block("bm8="))
    (store / "d.pem").write_bytes(b"\xff\x00 no certificate")
    assert read(store, opener) == block("YQ==") + block("Yg==") + block("YjI=")


def test_nothing_is_waited_for_or_followed(store: Path, opener: Opener, tmp_path: Path) -> None:
    os.mkfifo(store / "a.pem")
    (store / "b.pem").mkdir()
    (tmp_path / "elsewhere.pem").write_text(block("ZWxzZQ=="))
    (store / "c.pem").symlink_to(tmp_path / "elsewhere.pem")
    (store / "d.pem").write_text(block("ZA=="))
    assert read(store, opener) == block("ZA==")


def test_much_is_read_and_not_more(store: Path, opener: Opener) -> None:
    for number in range(300):
        (store / f"{number:03}.pem").write_text(block("A" * 100) if number else block("B" * 70_000))
    found = read(store, opener)
    assert "B" not in found.replace("BEGIN", "")
    assert found.count("BEGIN") == certificates.MAX_FILES - 1


def test_the_answer_is_bounded(store: Path, opener: Opener) -> None:
    for number in range(40):
        (store / f"{number:02}.pem").write_text(block("A" * 60_000))
    assert certificates.MAX_BYTES - 70_000 < len(read(store, opener)) <= certificates.MAX_BYTES


@pytest.mark.parametrize(
    ("make", "number"),
    [(lambda _: None, errno.ENOENT), (lambda store: store.touch(), errno.ENOTDIR)],
    ids=["missing", "a file"],
)
def test_what_is_no_store_is_told(store: Path, opener: Opener, make: Callable[[Path], Any], number: int) -> None:
    store.rmdir()
    make(store)
    before = descriptors(os.getpid())
    with pytest.raises(PathError) as caught:
        read(store, opener)
    assert (caught.value.errno, caught.value.step, caught.value.subject) == (number, "directory", os.fsencode(store))
    assert descriptors(os.getpid()) == before


def test_the_broker_passes_them_as_a_descriptor(store: Path, opener: Opener) -> None:
    (store / "a.pem").write_text(block("YQ=="))
    message, (descriptor,) = broker.answer({"op": "certificates", "id": 7, "path": str(store)}, opener)
    assert message == {"reply": 7, "ok": True}
    with os.fdopen(descriptor, "rb") as file:
        assert file.read().decode() == block("YQ==")


@pytest.mark.parametrize("path", ["MY", "/a/../MY", "", "/a\0b", 5])
def test_the_broker_ends_on_a_path_that_the_manager_cannot_mean(path: object, opener: Opener) -> None:
    with pytest.raises(broker.MalformedRequestError):
        broker.answer({"op": "certificates", "id": 7, "path": path}, opener)
