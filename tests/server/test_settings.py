"""The settings of the server: what the file may say, what directories inherit (§11), and how mistakes are told."""

import re
import subprocess
from pathlib import Path

import pytest

from openbits.core.packets import MAX_NUMBER
from openbits.server import properties, settings_file
from openbits.server.model import CleanupUnits, Commit, Directory, Notification
from openbits.server.settings import Address, Settings
from openbits.server.settings_file import SettingsError, load

SERVER = '[server]\nroot = "/srv/files"\n'


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "bits-server.toml"
    file.write_text(SERVER + text)
    return load(file, {})


def directory(tmp_path: Path, text: str, path: str = "/inbox/") -> Directory:
    found = read(tmp_path, text).directory_of(path)
    assert found is not None
    return found


def test_a_directory_without_a_property_has_the_defaults_of_the_reference(tmp_path: Path) -> None:
    """§11, the column Default."""
    one = directory(tmp_path, '[directories."/inbox/"]\n')
    assert not one.upload_enabled
    assert one.session_timeout_seconds == 1_209_600
    assert one.maximum_upload_bytes == MAX_NUMBER
    assert one.notification is Notification.NONE
    assert one.notification_url == ""
    assert (one.host_id, one.host_id_fallback_seconds) == ("", 86_400)
    assert not one.allow_overwrites
    assert (one.cleanup_use_default, one.cleanup_count, one.cleanup_units) == (True, 12, CleanupUnits.HOURS)
    assert (one.session_limit_enable, one.session_limit) == (True, 50)
    assert one.max_fragment_bytes == 64 * 1024 * 1024
    assert (one.max_connections, one.max_bandwidth_bytes_per_second) == (0, 0)
    assert (one.commit, one.mode, one.method_override) == (Commit.FINAL, 0o640, False)
    assert not one.allow_anonymous
    assert one.quota_bytes == 0
    assert read(tmp_path, "").max_sessions_total == 10_000


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("BITSUploadEnabled = true", "upload_enabled", True),
        ("BITSUploadEnabled = 1", "upload_enabled", True),
        ("BITSSessionTimeout = 60", "session_timeout_seconds", 60),
        ('BITSMaximumUploadSize = "1000"', "maximum_upload_bytes", 1000),
        ('BITSMaximumUploadSize = "1844674407370955"', "maximum_upload_bytes", 1_844_674_407_370_955),
        ('BITSMaximumUploadSize = ""', "maximum_upload_bytes", MAX_NUMBER),
        ("BITSMaximumUploadSize = 1000", "maximum_upload_bytes", 1000),
        ("BITSServerNotificationType = 2", "notification", Notification.BY_VALUE),
        ('BITSServerNotificationURL = "https://a/b"', "notification_url", "https://a/b"),
        ('BITSHostId = "node3.example.net"', "host_id", "node3.example.net"),
        ('BITSHostId = "[2001:db8::1]:8443"', "host_id", "[2001:db8::1]:8443"),
        ("BITSHostIdFallbackTimeout = 4294967295", "host_id_fallback_seconds", 4_294_967_295),
        ("BITSAllowOverwrites = 1", "allow_overwrites", True),
        ("BITSCleanupUseDefault = false", "cleanup_use_default", False),
        ("BITSCleanupCount = 24", "cleanup_count", 24),
        ("BITSCleanupUnits = 0", "cleanup_units", CleanupUnits.MINUTES),
        ("BITSSessionLimitEnable = 0", "session_limit_enable", False),
        ("BITSNumberOfSessionsLimit = 3", "session_limit", 3),
        ("max_fragment = 5120", "max_fragment_bytes", 5120),
        ("max_connections = 2", "max_connections", 2),
        ("max_bandwidth = 1000000", "max_bandwidth_bytes_per_second", 1_000_000),
        ('commit = "close"', "commit", Commit.CLOSE),
        ('mode = "0664"', "mode", 0o664),
        ("method_override = true", "method_override", True),
        ('allow_users = ["alice"]', "allow_users", frozenset({"alice"})),
        ('allow_groups = ["ops", "staff"]', "allow_groups", frozenset({"ops", "staff"})),
        ("allow_anonymous = true", "allow_anonymous", True),
        ("readable = false", "is_readable", False),
        ("quota_bytes = 5", "quota_bytes", 5),
    ],
)
def test_a_property_is_read_by_its_documented_name(tmp_path: Path, line: str, field: str, value: object) -> None:
    assert getattr(directory(tmp_path, f'[directories."/inbox/"]\n{line}\n'), field) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[directories."/in/"]\nBITSUploadEnable = true', "unknown BITSUploadEnable in"),
        ('[directories."/in/"]\nBITSUploadEnabled = "yes"', "BITSUploadEnabled must be true or false"),
        ('[directories."/in/"]\nBITSUploadEnabled = 2', "BITSUploadEnabled must be true or false"),
        ('[directories."/in/"]\nBITSMaximumUploadSize = "-1"', "BITSMaximumUploadSize must be"),
        (
            '[directories."/in/"]\nBITSMaximumUploadSize = 9223372036854775808',
            "cannot read|BITSMaximumUploadSize must be",
        ),
        ('[directories."/in/"]\nBITSServerNotificationType = 3', "BITSServerNotificationType must be one of 0, 1, 2"),
        ('[directories."/in/"]\nBITSServerNotificationType = true', "BITSServerNotificationType must be one of"),
        ('[directories."/in/"]\nBITSHostId = "user@host"', "BITSHostId must be a host"),
        ('[directories."/in/"]\nBITSCleanupCount = 25', "BITSCleanupCount must be at most 24"),
        ('[directories."/in/"]\nBITSCleanupCount = 61\nBITSCleanupUnits = 0', "BITSCleanupCount must be at most 60"),
        ('[directories."/in/"]\nBITSCleanupCount = 361\nBITSCleanupUnits = 2', "BITSCleanupCount must be"),
        ('[directories."/in/"]\nBITSCleanupCount = 0', "BITSCleanupCount must be"),
        ('[directories."/in/"]\nmode = "0755"', "mode must be permissions without execution"),
        ('[directories."/in/"]\nmode = "8"', "mode must be"),
        ('[directories."/in/"]\ncommit = "later"', "commit must be one of final, close"),
        ('[directories."/in/"]\nallow_users = "alice"', "allow_users must be a list"),
        ('[directories."/in/"]\nBITSUploadEnabled = true\nallow_anonymous = true', "need a quota_bytes"),
        ('[directories."/in"]\n', "must be a path that begins and ends with a slash"),
        ('[directories."/in/../"]\n', "must be a path that begins and ends with a slash"),
        ('[directories."/BITS-Sessions/"]\n', "must be a path that begins and ends with a slash"),
        ('[directories."/a%20b/"]\n', "must be a path that begins and ends with a slash"),
        ("directories = 1", "unknown directories in|must have tables"),
        ("[directorys]", "unknown directorys in the file"),
        ("[limits]\nhead_seconds = 0", "limits.head_seconds must be a whole number from 1"),
        ("[limits]\nhead_second = 1", "unknown head_second"),
        ('[tls]\ncertificate = "/c.pem"', "tls.certificate and tls.key need each other"),
        ('[tls]\nclient_ca = "/c.pem"', "tls.client_ca needs"),
        ('[tls]\ncertificate = "/c"\nkey = "/k"\nclient_required = true', "need tls.client_ca"),
        ('[tls]\ncertificate = "c.pem"\nkey = "/k"', "tls.certificate must be an absolute path"),
        ("]", "cannot read"),
        ('[directories."/in/"]\nmax_fragment = 5119', "max_fragment must be a whole number from 5120"),  # §7.4
        ('trusted_proxies = ["*"]', "trusted_proxies must be a list of addresses"),
        ('trusted_proxies = ["a b"]', "trusted_proxies must be a list of addresses"),
        ('public_url = "https://h/x?y"', "public_url must be"),
        ('public_url = "https://alice@h"', "public_url must be"),
        ('public_url = "https:///x"', "public_url must be"),
    ],
)
def test_a_mistake_names_file_key_and_rule(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as error:
        read(tmp_path, text)
    assert str(tmp_path / "bits-server.toml") in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:70000", "::1:80", "[::1]", "h:-1", "[h]:1"]
)
def test_an_address_is_a_host_and_a_port(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r'server\.listen must be a text like "127\.0\.0\.1:8008"'):
        read(tmp_path, f'listen = "{text}"\n')


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [("127.0.0.1:1", True), ("127.9.9.9:0", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False)],
)
def test_an_address_knows_who_can_reach_it(text: str, is_loopback: bool) -> None:  # noqa: FBT001 -- a column of the table
    found = settings_file.address(text)
    assert str(found) == text
    assert found.is_loopback == is_loopback


def test_a_directory_inherits_everything_but_that_uploads_are_enabled(tmp_path: Path) -> None:
    """§11: inherited from the parent directory except BITSUploadEnabled; what is nearer counts."""
    text = """
[directories."/"]
BITSUploadEnabled = true
BITSSessionTimeout = 60
allow_users = ["alice"]
[directories."/in/"]
BITSSessionTimeout = 30
[directories."/in/deep/er/"]
BITSUploadEnabled = true
[directories."/inbox/"]
"""
    settings = read(tmp_path, text)
    found = {one.url_path: one for one in settings.directories}
    deeper, inbox = found["/in/deep/er/"], found["/inbox/"]
    assert (deeper.upload_enabled, deeper.session_timeout_seconds) == (True, 30)
    assert deeper.allow_users == frozenset({"alice"})
    assert (inbox.upload_enabled, inbox.session_timeout_seconds) == (False, 60)


@pytest.mark.parametrize(
    ("path", "found"),
    [("/in/a", "/in/"), ("/in/deep/a", "/in/deep/"), ("/in/deeper", "/in/"), ("/inbox", None), ("/in", None)],
)
def test_the_longest_prefix_names_the_directory(tmp_path: Path, path: str, found: str | None) -> None:
    directory = read(tmp_path, '[directories."/in/"]\n[directories."/in/deep/"]\n').directory_of(path)
    assert (None if directory is None else directory.url_path) == found


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[server]\nroot = "/a"\nlisten = "127.0.0.1:1"\n')
    found = load(file, {"root": Path("/b"), "listen": Address(host="::1", port=2)})
    assert (found.root, found.listen, found.spool) == (Path("/b"), Address(host="::1", port=2), Path("/.b.bits-spool"))


def test_d10_the_spool_is_outside_the_served_tree_by_default(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert not found.spool.is_relative_to(found.root)


def test_a_file_without_a_root_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[server]\n")
    with pytest.raises(SettingsError, match=r"a\.toml: server\.root is missing"):
        load(file, {})


def test_the_documentation_has_every_key_with_its_default() -> None:
    """One row for each: | `key` | default | …"""
    text = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    keys = [*properties.BY_NAME, *settings_file.SERVER, *settings_file.TLS, *settings_file.LIMITS]
    missing = [key for key in keys if not re.search(rf"^\|[^|]*`{re.escape(key)}`", text, re.MULTILINE)]
    assert not missing


def test_the_packaged_settings_can_be_read_as_they_are_and_with_every_line_in_use(tmp_path: Path) -> None:
    packaged = (Path(__file__).parents[2] / "packaging" / "bits-server.toml").read_text()
    in_use = re.sub(r"^# (?=[\w]+ = |\[)", "", packaged, flags=re.MULTILINE)
    for text in (packaged, in_use):
        file = tmp_path / "bits-server.toml"
        file.write_text(text)
        assert load(file, {}).root == Path("/var/lib/bits-server/files")


def test_the_packaged_settings_show_the_defaults(tmp_path: Path) -> None:
    packaged = (Path(__file__).parents[2] / "packaging" / "bits-server.toml").read_text()
    file = tmp_path / "bits-server.toml"
    file.write_text(re.sub(r"^# (?=[\w]+ = )", "", packaged, flags=re.MULTILINE).replace("BITSUpload", "# BITSUpload"))
    shown = load(file, {})
    defaults = Settings(root=Path("/var/lib/bits-server/files"), spool=Path("/var/lib/bits-server/.files.bits-spool"))
    assert shown.limits == defaults.limits
    for name in ("spool", "listen", "plain_passwords", "public_url", "trusted_proxies", "log_level", "as_root"):
        assert getattr(shown, name) == getattr(defaults, name), name
    assert shown.max_sessions_total == defaults.max_sessions_total


@pytest.mark.real("systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "packaging" / "bits-server.service").read_text()
    unit = tmp_path / "bits-server.service"
    unit.write_text(text.replace("/usr/bin/bits-server", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "table", "name"),
    [
        ("", "", "these settings"),
        ('spool = "{root}/spool"', "", "spool"),
        ('spool = "{root}"', "", "spool"),
        ('users_file = "{root}/users"', "", "users_file"),
        ('users_file = "{root}/../link"', "", "users_file"),
        ("", '[tls]\ncertificate = "/srv/pem"\nkey = "{root}/key"\n', "tls.key"),
        ("", '[tls]\ncertificate = "/srv/pem"\nkey = "/srv/key"\nclient_ca = "{root}/ca"\n', "tls.client_ca"),
        (
            "",
            '[directories."/a/"]\nnotification_secret_file = "{root}/secret"\n',
            "notification_secret_file",
        ),
    ],
)
def test_s13_what_says_who_may_do_what_is_not_served(tmp_path: Path, line: str, table: str, name: str) -> None:
    root = tmp_path / "files"
    root.mkdir()
    (root / "real").touch()
    (tmp_path / "link").symlink_to(root / "real")
    file = (root if name == "these settings" else tmp_path) / "bits-server.toml"
    text = f'[server]\nroot = "{root}"\n{line.format(root=root)}\n{table.format(root=root)}'
    file.write_text(f'{text}[directories."/"]\n')
    with pytest.raises(SettingsError, match=rf"^{name}: {root}\S* would be served, as a part of /; move it out of"):
        load(file, {})
    file.write_text(f'{text}[directories."/inbox/"]\n')  # which does not serve what lies beside it
    if name != "notification_secret_file":
        assert load(file, {}).root == root
