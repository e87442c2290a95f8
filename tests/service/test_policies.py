"""Policy files: what they say holds, a mistake is never passed over, changes are noticed."""

import asyncio
from pathlib import Path

import pytest

from openbits.core.policies import DEFAULTS, Policies
from openbits.service import policies
from openbits.service.policies import Loaded, PolicyError, PolicyWatch, load


def test_no_folder_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") == Loaded(policies=DEFAULTS, origins={})


def test_later_files_win_and_each_value_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "10-base.toml").write_text("# site\nMaxJobsPerUser = 5\nMaxFilesPerJob = 7\n")
    (tmp_path / "20-more.toml").write_text('\n\n"MaxFilesPerJob" = 9\nEnablePeercaching = true\n')
    (tmp_path / "30-more.toml.dpkg-old").write_text("MaxFilesPerJob = 0\n")
    loaded = load(tmp_path)
    assert loaded.policies == Policies(max_jobs_per_user=5, max_files_per_job=9, enable_peercaching=True)
    assert loaded.origins == {
        "MaxJobsPerUser": f"{tmp_path}/10-base.toml:2",
        "MaxFilesPerJob": f"{tmp_path}/20-more.toml:3",
        "EnablePeercaching": f"{tmp_path}/20-more.toml:4",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("MaxJobsPerUser = 0", "site.toml:1: MaxJobsPerUser = 0 is out of range; it must be a whole number from 1 to"),
        ("\nJobInactivityTimeout = 1000", "site.toml:2: JobInactivityTimeout = 1000 is out of range; it must be a"),
        ("JobInactivityTimeout = 0", "whole number from 1 to 999"),
        ("MaxDownloadTime = -1", "MaxDownloadTime = -1 is out of range"),
        ("MaxDownloadTime = 4294967296", "MaxDownloadTime = 4294967296 is out of range"),
        ("MaxDownloadTime = 1.5", "MaxDownloadTime = 1.5 is out of range"),
        ("MaxFilesPerJob = '10'", "MaxFilesPerJob = '10' is out of range"),
        ("MaxFilesPerJob = true", "MaxFilesPerJob = true is out of range"),
        ("[MaxFilesPerJob]\nlimit = 1", "site.toml:1: MaxFilesPerJob = {'limit': 1} is out of range"),
        ("EnablePeercaching = 1", "EnablePeercaching = 1 is out of range; it must be true or false"),
        ("UseLMCompat = 3", "UseLMCompat = 3 is out of range; it must be one of 0, 1, 2"),
        ("MaxJobPerUser = 5", "site.toml:1: unknown policy 'MaxJobPerUser'; known are AllowServiceNotifyCmdLine, "),
        ("maxjobsperuser = 5", "unknown policy 'maxjobsperuser'; the name is MaxJobsPerUser"),
        ("MaxJobsPerUser = 5\nMaxJobsPerUser = 6", "cannot read"),
        ("MaxJobsPerUser", "cannot read"),
        ("MaxJobsPerUser = 300", "MaxJobsPerUser (300) must be below MaxJobsPerMachine (300)"),
        ("MaxJobsPerMachine = 60", "MaxJobsPerUser (60) must be below MaxJobsPerMachine (60)"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_key_and_rule(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(PolicyError) as refused:
        load(tmp_path)
    assert complaint in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_huge_value_does_not_flood_the_message(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f"MaxFilesPerJob = '{'x' * 10_000}'")
    with pytest.raises(PolicyError) as refused:
        load(tmp_path)
    assert len(str(refused.value)) < 400


def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path) -> None:
    (tmp_path / "site.toml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match=r"cannot read .*site\.toml"):
        load(tmp_path)
    (tmp_path / "folder").write_text("")
    with pytest.raises(PolicyError, match="cannot read"):
        load(tmp_path / "folder")


def test_a_change_is_told_once_and_a_mistake_keeps_what_was_in_force(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    five = Policies(max_jobs_per_user=5)
    watch, heard = PolicyWatch(tmp_path), list[Policies]()
    watch.on_change = heard.append

    def look() -> tuple[Policies, str, list[Policies]]:
        asyncio.run(watch.look())
        return watch.policies, watch.problem, heard

    for text in ("MaxJobsPerUser = 5", "MaxJobsPerUser = 5", "# other words\nMaxJobsPerUser = 5", "MaxJobsPerUser = 5"):
        path.write_text(text)
        assert look() == (five, "", [five])
    path.write_text("MaxJobs = 5")
    for _ in range(2):
        assert look() == (five, watch.problem, [five])
        assert f"{path}:1: unknown policy" in watch.problem
    told = watch.info()
    assert told["problem"] == watch.problem
    (row,) = [one for one in told["policies"] if one["name"] == "MaxJobsPerUser"]
    assert (row["value"], row["default"], row["origin"]) == (5, 60, f"{path}:1")
    path.unlink()
    assert look() == (DEFAULTS, "", [five, DEFAULTS])


def test_nothing_is_read_as_long_as_no_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.toml").write_text("MaxJobsPerUser = 5")
    watch = PolicyWatch(tmp_path)
    monkeypatch.setattr(policies, "load", lambda _: pytest.fail("read without a reason"))
    asyncio.run(watch.look())


def test_a_service_does_not_begin_with_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("MaxJobs = 5")
    with pytest.raises(PolicyError):
        PolicyWatch(tmp_path)
