"""Settings: what is misspelt must not pass silently."""

from pathlib import Path

import pytest

from openbits.service.config import Config, ConfigError, load


def test_no_folder_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") == Config()


def test_later_files_win_and_tables_are_merged(tmp_path: Path) -> None:
    (tmp_path / "10-base.toml").write_text('[tls]\nca_file = "/a"\n[clocks]\nconnect_seconds = 5\n')
    (tmp_path / "20-site.toml").write_text('[tls]\nca_file = "/b"\n[clocks]\nfloor_seconds = 7\n')
    config = load(tmp_path)
    assert config.ca_file() == "/b"
    assert (config.clocks.connect_seconds, config.clocks.floor_seconds) == (5, 7)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tlz]\n", "unknown table [tlz]"),
        ("[tls]\ncafile = 'x'\n", "unknown key tls.cafile"),
        ("[tls]\nca_file = 3\n", "tls.ca_file must be a text"),
        ("[clocks]\nconnect_seconds = 0\n", "clocks.connect_seconds must be a whole number above 0"),
        ("[clocks]\nconnect_seconds = true\n", "clocks.connect_seconds must be a whole number above 0"),
        ("[identity]\nadministrators = 'root'\n", "identity.administrators must be a list of texts"),
        ("[tls\n", "cannot read"),
        ('[sessions]\nlogon_required = "always"\n', "sessions.logon_required must be one of never, session, linger"),
        ("[sessions]\nlogon_required = true\n", "sessions.logon_required must be one of never, session, linger"),
        ('[log]\nlevel = "trace"\n', "log.level must be one of warning, info, debug"),
        ('[sessions]\nassume_logged_on = "all"\n', "sessions.assume_logged_on must be a list of texts"),
    ],
)
def test_a_mistake_names_file_and_rule(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path)
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)


def test_group_names_become_gids_and_administrators_are_privileged(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[identity]\nadministrators = ["daemon", "no-such-group"]\n')
    settings = load(tmp_path).access_settings()
    assert settings.administrators == frozenset({1})
    assert {0, 1} <= settings.privileged_groups
