"""Unit, folders, account, settings and install script agree with the program (design.md §1)."""

import configparser
import os
import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from openbits.api import locate
from openbits.identity import pam, spawner
from openbits.service import config

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT = PACKAGING / "openbits.service"
SERVER_UNIT = PACKAGING / "bits-server.service"
MANAGER = Path(__file__).with_name("manager-equivalent.service")
INSTALLED = {
    "usr/lib/systemd/system/openbits.service",
    "usr/lib/sysusers.d/openbits.conf",
    "usr/share/dbus-1/system.d/openbits.conf",
    "usr/lib/tmpfiles.d/openbits.conf",
    "etc/pam.d/openbits",
    "etc/openbits/openbits.toml",
    "etc/openbits/policy.d/policy.toml",
}


def directive(name: str, path: Path = UNIT) -> str:
    """The only value of a directive."""
    (value,) = re.findall(rf"^{name}=(.*)$", path.read_text(), re.MULTILINE)
    return str(value)


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """What the install script puts into a package."""
    _install(tmp_path)
    return tmp_path


def _install(folder: Path, *arguments: str) -> None:
    environ = {"PATH": os.environ["PATH"], "DESTDIR": str(folder), "PREFIX": "/usr"}
    subprocess.run(["sh", PACKAGING / "install", *arguments], env=environ, check=True, timeout=60)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# -- the unit -------------------------------------------------------------------------------------------------------


@pytest.mark.real("systemd-analyze")
@pytest.mark.parametrize("shipped", [UNIT, SERVER_UNIT], ids=["service", "upload-server"])
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path, shipped: Path) -> None:
    unit = tmp_path / shipped.name
    unit.write_text(re.sub(r"/usr/bin/bits\S*", "/bin/true", shipped.read_text()).replace("=bits-server\n", "=root\n"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.real("systemd-analyze")
@pytest.mark.parametrize(("unit", "tenths"), [(UNIT, 35), (MANAGER, 10)], ids=["spawner", "manager"])
def test_the_exposure_stays_what_it_is(unit: Path, tenths: int) -> None:
    """Fails if a directive is lost; `systemd-analyze security --offline=true FILE` shows the list."""
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={tenths}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_what_binds_the_manager_is_in_the_unit_or_said_to_be_its_own() -> None:
    """The equivalent of the manager differs from the unit only below its line `# The manager itself`."""
    inherited, own = MANAGER.read_text().split("# The manager itself", 1)
    replaced = set(re.findall(r"^(\w+)=", own, re.MULTILINE))
    lines = {line for line in inherited.splitlines() if re.match(r"\w+=", line)}
    assert lines <= set(UNIT.read_text().splitlines())
    sandbox = re.search(r"^CapabilityBoundingSet.*?(?=^\[Install\])", UNIT.read_text(), re.MULTILINE | re.DOTALL)
    assert sandbox is not None
    expected = {line for line in sandbox.group(0).splitlines() if re.match(r"\w+=", line)}
    assert {line for line in expected if line.partition("=")[0] not in replaced} <= lines


def test_the_folders_of_the_unit_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("OPENBITS_STATE_DIR", "OPENBITS_SOCKET", "OPENBITS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    defaults = spawner._options([])
    assert defaults.state_dir == locate.MACHINE_STATE_DIRECTORY == f"/var/lib/{directive('StateDirectory')}"
    assert defaults.config_dir == locate.MACHINE_CONFIG_DIRECTORY == f"/etc/{directive('ConfigurationDirectory')}"
    assert defaults.socket == f"{locate.MACHINE_DIRECTORY}/{locate.SOCKET_NAME}"
    assert directive("ExecStart") == "/usr/bin/bitsd"  # without arguments: the defaults are what counts
    lines = [line.split() for line in (PACKAGING / "tmpfiles.d" / "openbits.conf").read_text().splitlines()]
    made = {words[1]: tuple(words[2:5]) for words in lines if words[0] == "d"}
    assert made == {
        locate.MACHINE_DIRECTORY: ("0755", "root", "root"),
        locate.MACHINE_STATE_DIRECTORY: (directive("StateDirectoryMode"), "root", "root"),
    }


def test_systemd_waits_longer_than_the_program() -> None:
    seconds = {"min": 60}
    amount, word = re.fullmatch(r"(\d+)(min)", directive("WatchdogSec")).groups()  # type: ignore[union-attr]
    assert int(amount) * seconds[word] > spawner.BEAT_SECONDS + spawner.STUCK_SECONDS + spawner.LONGEST_PAUSE_SECONDS
    assert int(directive("TimeoutStopSec")) > 2 * spawner.FAREWELL_SECONDS


# -- settings and files -----------------------------------------------------------------------------------------------


def test_the_example_shows_every_setting_with_its_default() -> None:
    text = (PACKAGING / "openbits.toml").read_text()
    assert tomllib.loads(text) == {name: {} for name in config._SECTIONS}  # as installed it changes nothing
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    for name, section in config._SECTIONS.items():
        defaults = {field.name: field.default for field in fields(section)}
        defaults = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
        assert set(shown[name]) == set(defaults), name
        assert {key: value for key, value in shown[name].items() if key != "ca_file"} == {
            key: value for key, value in defaults.items() if key != "ca_file"
        }


def test_a_package_gets_the_files_and_nothing_else(staged: Path) -> None:
    assert _files(staged) == INSTALLED
    assert (staged / "etc/pam.d/openbits").read_text() == (pam._PACKAGED / "openbits").read_text()
    assert {oct((staged / name).stat().st_mode & 0o7777) for name in INSTALLED} == {"0o644"}


def test_the_upload_server_is_installed_when_it_is_asked_for_and_upgraded_afterwards(staged: Path) -> None:
    _install(staged, "server")
    assert _files(staged) - INSTALLED == {
        "usr/lib/systemd/system/bits-server.service",
        "usr/lib/sysusers.d/bits-server.conf",
        "etc/bits-server/bits-server.toml",
    }
    unit = staged / "usr/lib/systemd/system/bits-server.service"
    assert directive("ExecStart", unit) == "/usr/bin/bits-server --config /etc/bits-server/bits-server.toml"
    unit.write_text("of an older version")
    _install(staged)
    assert unit.read_text() == SERVER_UNIT.read_text()


def test_s9_1_the_upload_server_may_share_files_with_the_group_of_an_application() -> None:
    """Storage.share gives a folder mode 2770, which RestrictSUIDSGID denies for directories, too (systemd.exec(5))."""
    assert not re.search(r"^RestrictSUIDSGID=", SERVER_UNIT.read_text(), re.MULTILINE)


def test_the_account_of_the_upload_server_is_that_of_its_unit() -> None:
    accounts = (PACKAGING / "sysusers.d" / "bits-server.conf").read_text()
    assert re.search(rf"^u {directive('User', SERVER_UNIT)} ", accounts, re.MULTILINE)


def test_another_prefix_is_in_the_unit(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "DESTDIR": str(tmp_path)}
    subprocess.run(["sh", PACKAGING / "install"], env=environ, check=True, timeout=60)
    unit = tmp_path / "usr/local/lib/systemd/system/openbits.service"
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.read_string(unit.read_text())
    assert parsed["Service"]["ExecStart"] == "/usr/local/bin/bitsd"


def test_the_install_script_refuses_who_is_not_root(tmp_path: Path) -> None:
    fake = tmp_path / "id"
    fake.write_text("#!/bin/sh\necho 1000\n")
    fake.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", PACKAGING / "install"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot install for the machine as uid 1000: use sudo" in done.stderr
