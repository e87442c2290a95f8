"""What a broker reads of a certificate store: certificates of regular files, without waiting (identity.md §13)."""

import errno
import hashlib
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


def pair(store: Path, sha1: str, opener: Opener) -> str:
    with os.fdopen(certificates.read_key_pair(os.fsencode(store), sha1, opener), "rb") as file:
        return file.read().decode()


OLD_FORM = KEY.replace("PRIVATE", "RSA PRIVATE").replace(
    "Q2Fu", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nQ2Fu"
)
"""How programs of the nineties write a key with a passphrase."""

SHA1_OF_B = hashlib.sha1(b"b").hexdigest()  # noqa: S324  # what certificates are named by; Yg== is b


def test_a_certificate_comes_with_its_chain_and_its_key(store: Path, opener: Opener) -> None:
    (store / "a.pem").write_text(block("YQ==") + KEY.replace("Q2FuYXJ5", "b3RoZXI="))
    (store / "b.pem").write_text(KEY + block("Y2hhaW4=") + block("Yg=="))
    assert pair(store, SHA1_OF_B, opener) == block("Yg==") + block("Y2hhaW4=") + KEY
    (store / "b.pem").write_text(block("Yg==").replace("\n", "\r\n"))
    (store / "b.key").write_text(f"some words\n{KEY}")
    assert pair(store, SHA1_OF_B, opener) == block("Yg==") + KEY


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"])
def test_keys_of_each_form_are_found(store: Path, opener: Opener, kind: str) -> None:
    key = KEY.replace("PRIVATE KEY", kind)
    (store / "b.pem").write_text(block("Yg==") + key)
    assert pair(store, SHA1_OF_B, opener).endswith(key)


@pytest.mark.parametrize(
    ("content", "number", "words"),
    [
        (block("YQ=="), errno.ENOENT, "no certificate with SHA-1"),
        (block("Yg=="), errno.ENOKEY, "b.key beside it"),
        (block("Yg==") + KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"), errno.EKEYREJECTED, "passphrase"),
        (block("Yg==") + OLD_FORM, errno.EKEYREJECTED, "passphrase"),
    ],
)
def test_what_is_missing_for_a_client_certificate_is_told(
    store: Path, opener: Opener, content: str, number: int, words: str
) -> None:
    (store / "b.pem").write_text(content)
    before = descriptors(os.getpid())
    with pytest.raises(PathError) as caught:
        pair(store, SHA1_OF_B, opener)
    assert (caught.value.errno, caught.value.step) == (number, "read")
    assert words in str(caught.value)
    assert descriptors(os.getpid()) == before


@pytest.mark.root
def test_a_key_that_may_not_be_read_is_not_called_missing(
    open_tmp_path: Path, throwaway_user: Callable[..., Any], opener: Opener
) -> None:
    store = open_tmp_path / "MY"
    store.mkdir(mode=0o755)
    (store / "b.pem").write_text(block("Yg=="))
    (store / "b.key").write_text(KEY)
    (store / "b.key").chmod(0o600)
    user = throwaway_user()

    def read_as_user() -> None:
        os.setresuid(user.uid, user.uid, user.uid)
        try:
            certificates.read_key_pair(os.fsencode(store), SHA1_OF_B, opener)
        except PathError as error:
            os._exit(0 if (error.errno, "b.key" in str(error)) == (errno.EACCES, True) else 1)
        os._exit(2)

    pid = os.fork()
    if pid == 0:
        try:
            read_as_user()
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("sha1", [SHA1_OF_B.upper(), "", "0" * 39, None])
def test_the_broker_ends_on_a_name_of_a_certificate_that_is_none(store: Path, opener: Opener, sha1: object) -> None:
    with pytest.raises(broker.MalformedRequestError):
        broker.answer({"op": "key-pair", "id": 7, "path": str(store), "sha1": sha1}, opener)


@pytest.mark.parametrize("path", ["MY", "/a/../MY", "", "/a\0b", 5])
def test_the_broker_ends_on_a_path_that_the_manager_cannot_mean(path: object, opener: Opener) -> None:
    with pytest.raises(broker.MalformedRequestError):
        broker.answer({"op": "certificates", "id": 7, "path": path}, opener)
