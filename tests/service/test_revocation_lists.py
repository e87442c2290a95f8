"""The lists that the administrator keeps in a folder: every form, and nothing that holds the service up."""

import os
from pathlib import Path

import pytest
from tests.real.authority import DER, PEM, Authority

from openbits.service import revocation_lists
from openbits.transfer import tls_revocation

ONE, TWO, THREE = Authority("One").crl(), Authority("Two").crl(), Authority("Three").crl()


def test_lists_come_in_the_order_of_their_files_whatever_their_form(tmp_path: Path) -> None:
    (tmp_path / "b.pem").write_bytes(b"words\n" + TWO.public_bytes(PEM) + THREE.public_bytes(PEM))
    (tmp_path / "a.crl").write_bytes(ONE.public_bytes(DER))
    text = revocation_lists.read(tmp_path)
    assert list(tls_revocation.read(text.encode())) == [ONE, TWO, THREE]


def test_no_folder_has_no_lists(tmp_path: Path) -> None:
    assert revocation_lists.read(tmp_path / "crls") == ""
    (tmp_path / "crls").touch()
    assert revocation_lists.read(tmp_path / "crls") == ""


def test_what_is_no_list_or_no_file_does_not_hide_the_others(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").write_bytes(b"no list")
    (tmp_path / "d").symlink_to(tmp_path / "nowhere")
    (tmp_path / "e.crl").write_bytes(ONE.public_bytes(DER))
    assert list(tls_revocation.read(revocation_lists.read(tmp_path).encode())) == [ONE]


def test_what_is_too_much_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = ONE.public_bytes(DER)
    monkeypatch.setattr(revocation_lists, "MAX_BYTES", len(content) + 10)
    (tmp_path / "a.crl").write_bytes(content)
    (tmp_path / "b.crl").write_bytes(TWO.public_bytes(DER))
    assert list(tls_revocation.read(revocation_lists.read(tmp_path).encode())) == [ONE]
    assert "b.crl" in caplog.text
