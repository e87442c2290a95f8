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
        ('[log]\nlevel = ["info"]\n', "log.level must be one of warning, info, debug"),
        ('[log]\nlevel = "trace"\n', "log.level must be one of warning, info, debug"),
        ('[sessions]\nassume_logged_on = "all"\n', "sessions.assume_logged_on must be a list of texts"),
        ("[http]\nstrict = 1\n", "http.strict must be true or false"),
        ('[http]\ndenied_networks = ["10.0.0.1/8"]\n', "http.denied_networks: 10.0.0.1/8 has host bits set"),
        ('[http]\ndenied_networks = ["example.org"]\n', "http.denied_networks: 'example.org' does not appear to be"),
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


def test_what_a_user_keeps_for_jobs_is_no_setting_of_a_service_of_his_own(tmp_path: Path) -> None:
    """The folder is the same, ~/.config/openbits; a mistake in there is the error of a job."""
    (tmp_path / "credentials.toml").write_text('[[proxy]]\nhost = "p"\n')
    (tmp_path / "proxy.toml").write_text("[proxy\n")
    (tmp_path / "service.toml").write_text('[log]\nlevel = "debug"\n')
    assert load(tmp_path, is_users_own=True).log.level == "debug"
    with pytest.raises(ConfigError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('usage = "direct"', "proxy.usage must be one of environment, no-proxy, override, autodetect, script"),
        ('list = "p:1"', 'list in table [proxy]: it goes with usage = "override" alone'),
        ('usage = "override"\nlist = "ftp=p:1"', "list in table [proxy]: the protocol before = is one of http, https"),
        ('usage = "script"\nurl = "/etc/proxy.pac"', "url in table [proxy]: write the http or https URL"),
    ],
)
def test_proxies_that_cannot_be_used_are_found_at_the_start(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "proxy.toml").write_text(f"[proxy]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert complaint in str(caught.value)
