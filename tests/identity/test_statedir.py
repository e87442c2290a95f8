"""Where a service lives: options, environment, usual places (design.md §1)."""

from pathlib import Path

import pytest

from openbits.identity.statedir import StartError, places

ROOT, USER = 0, 1000
HOME = {"HOME": "/home/alice"}


@pytest.fixture(autouse=True)
def machine_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    file.write_text("3d1219c7c4c5\n")
    monkeypatch.setattr("openbits.identity.statedir.MACHINE_ID_FILES", (tmp_path / "missing", file))


def test_the_machines_service_has_its_usual_places() -> None:
    place = places({}, ROOT, None, None)
    assert (str(place.state), str(place.socket), str(place.config)) == (
        "/var/lib/openbits",
        "/run/openbits/bitsd.sock",
        "/etc/openbits",
    )


def test_a_users_own_service_lives_in_the_state_home_one_folder_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    place = places(HOME, USER, None, None)
    assert str(place.state) == "/home/alice/.local/state/openbits/3d1219c7c4c5"
    assert str(place.socket) == "/home/alice/.local/state/openbits/3d1219c7c4c5/bitsd.sock"
    assert str(place.config) == "/home/alice/.config/openbits"


def test_xdg_variables_move_it_unless_they_are_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    moved = places({"XDG_STATE_HOME": "/state", "XDG_CONFIG_HOME": "/config"}, USER, None, None)
    assert (str(moved.state), str(moved.config)) == ("/state/openbits/3d1219c7c4c5", "/config/openbits")
    ignored = places({"XDG_STATE_HOME": "state"}, USER, None, None)
    assert str(ignored.state) == "/home/alice/.local/state/openbits/3d1219c7c4c5"


@pytest.mark.parametrize("uid", [ROOT, USER])
def test_overrides_count_and_options_count_more(uid: int) -> None:
    environ = {"OPENBITS_STATE_DIR": "/a", "OPENBITS_SOCKET": "/b/s", "OPENBITS_CONFIG": "/c"}
    place = places(environ, uid, None, None)
    assert (str(place.state), str(place.socket), str(place.config)) == ("/a", "/b/s", "/c")
    place = places(environ, uid, "/x", "/y/s")
    assert (str(place.state), str(place.socket)) == ("/x", "/y/s")


def test_the_socket_of_a_user_follows_the_state_directory_and_that_of_root_does_not() -> None:
    assert str(places({}, USER, "/x", None).socket) == "/x/bitsd.sock"
    assert str(places({}, ROOT, "/x", None).socket) == "/run/openbits/bitsd.sock"


def test_without_a_home_only_the_usual_places_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert str(places({}, USER, "/x", None).state) == "/x"
    with pytest.raises(StartError, match="set HOME, or use --state-dir"):
        places({}, USER, None, None)
