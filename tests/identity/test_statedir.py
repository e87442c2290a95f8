"""Where a service lives: options, environment, usual places (design.md §1)."""

import os
from pathlib import Path

import pytest

from openbits.identity.spawner import _options

ROOT, USER = 0, 1000
ENVIRONMENT = {"OPENBITS_STATE_DIR": "/a", "OPENBITS_SOCKET": "/b/s", "OPENBITS_CONFIG": "/c"}


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> "Places":
    return Places(monkeypatch)


class Places:
    """`places(environ, uid, options…)`: state directory, socket and configuration folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, environ: dict[str, str], uid: int, *options: str) -> tuple[str, str | None, str]:
        self._monkeypatch.setattr(os, "environ", environ)
        self._monkeypatch.setattr(os, "geteuid", lambda: uid)
        found = _options(options)
        return found.state_dir, found.socket, found.config_dir


def test_the_machines_service_has_its_usual_places(places: Places) -> None:
    assert places({}, ROOT) == ("/var/lib/openbits", "/run/openbits/bitsd.sock", "/etc/openbits")


@pytest.mark.parametrize("uid", [ROOT, USER])
def test_overrides_count_and_options_count_more(places: Places, uid: int) -> None:
    assert places(ENVIRONMENT, uid) == ("/a", "/b/s", "/c")
    assert places(ENVIRONMENT, uid, "--state-dir", "/x", "--socket", "/y/s") == ("/x", "/y/s", "/c")
    assert places(ENVIRONMENT, uid, "--config-dir", "/z") == ("/a", "/b/s", "/z")


def test_relative_places_become_absolute(places: Places) -> None:
    here = str(Path.cwd())
    assert places({}, USER, "--state-dir", ".", "--socket", "s") == (here, f"{here}/s", "/etc/openbits")


def test_a_users_own_service_must_name_its_state_directory(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        places({}, USER)
    assert ending.value.code == 2
    assert "required: --state-dir" in capsys.readouterr().err
