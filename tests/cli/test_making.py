"""`bits create`, `add`, `set`: properties from the registry, pairs of URL and path."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.fakeservice import FakeService, Values
from tests.cli.conftest import Result

from openbits.cli import property_options
from openbits.core.properties import PROPERTIES, Property

Bits = Callable[..., Result]


def test_create_prints_the_id_of_a_suspended_job(bits: Bits, service: FakeService) -> None:
    result = bits("create", "nightly", "--priority", "low", "--auto-complete", "--minimum-retry-delay", "60")
    (job_id,) = service.jobs
    assert result == Result(0, f"{job_id}\n", "")
    job = service.jobs[job_id]
    assert (job["state"], job["type"]) == ("suspended", "download")
    wanted = {"display_name": "nightly", "priority": "low", "auto_complete": True, "minimum_retry_delay_seconds": 60}
    assert wanted.items() <= job["properties"].items()


def test_only_what_was_given_is_set(bits: Bits, service: FakeService) -> None:
    bits("create", "nightly")
    assert service.methods() == ["CreateJob"]


def test_create_as_json_is_the_job(bits: Bits, service: FakeService) -> None:
    shown = json.loads(bits("create", "nightly", "--json").out)
    assert shown == service.jobs[shown["job_id"]]


@pytest.mark.parametrize("rule", PROPERTIES.values(), ids=PROPERTIES.keys())
def test_every_property_of_the_registry_is_an_option_and_an_assignment(
    rule: Property, bits: Bits, service: FakeService
) -> None:
    """Its default, written and read back, is itself; the help of both commands names it."""
    word = property_options.shown(rule, rule.default).removesuffix(" s")
    assert f"{rule.cli_name}," in "".join(bits("set", "--help").out.split()).replace(";", ",")
    if rule.type is not str:
        assert property_options.parse(rule, word) == rule.default
    if rule.name != "display_name":
        assert f"--{rule.cli_name}" in bits("create", "--help").out
    service.add_job("x")
    assert bits("set", "x", f"{rule.cli_name}={word}").code == 0
    (values,) = [call.parameters["values"] for call in service.calls if call.method == "SetProperties"]
    assert list(values) == [rule.name]


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("priority=foreground", "priority", "foreground"),
        ("notify-flags=job-error,file-transferred", "notify_flags", 0x12),
        ("notify-flags=none", "notify_flags", 0),
        ("auto-complete=yes", "auto_complete", True),
        ("auto-complete=no", "auto_complete", False),
        ("no-progress-timeout=0", "no_progress_timeout_seconds", 0),
        ("description=a=b c", "description", "a=b c"),
        ("description=", "description", ""),
    ],
)
def test_set_reads_a_word_as_the_registry_says(
    assignment: str, name: str, value: object, bits: Bits, service: FakeService
) -> None:
    job_id = service.add_job("x")
    assert bits("set", "x", assignment) == Result(0, "", "")
    assert service.jobs[job_id]["properties"][name] == value


@pytest.mark.parametrize(
    "assignment",
    [
        "priority", "colour=red", "priority=urgent", "auto-complete=maybe", "minimum-retry-delay=soon",
        "minimum-retry-delay=-1", "notify-flags=job-error,moon",
    ],
)  # fmt: skip
def test_a_word_that_is_no_value_is_usage_and_names_the_rule(assignment: str, bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    result = bits("set", "x", "description=fine", assignment)
    assert result.code == 2
    name, _, value = assignment.partition("=")
    assert name in result.err
    assert value in result.err
    assert "E_INVALIDARG (0x80070057)" in result.err
    assert "SetProperties" not in service.methods()


def test_a_property_is_set_once_at_a_time(bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    assert "twice" in bits("set", "x", "priority=low", "priority=high").err


def test_add_makes_paths_absolute_and_puts_files_into_folders(
    bits: Bits, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job_id = service.add_job("x")
    result = bits("add", "x", "http://h/a", "b", "http://h/c", ".", "http://h/d", "new/", "http://h/e", "/srv/e")
    assert result == Result(0, "", "")
    assert [(file["remote_name"], file["local_name"]) for file in service.files[job_id]] == [
        ("http://h/a", f"{tmp_path}/b"),
        ("http://h/c", f"{tmp_path}/c"),
        ("http://h/d", f"{tmp_path}/new/d"),
        ("http://h/e", "/srv/e"),
    ]
    assert service.methods().count("AddFiles") == 1


def test_add_reads_pairs_from_stdin_with_spaces_in_paths(
    bits: Bits, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.add_job("x")
    monkeypatch.setattr("sys.stdin", io.StringIO("http://h/a /srv/a b\n\n  http://h/c\t/srv/c\n"))
    assert bits("add", "x", "-").code == 0
    assert [file["local_name"] for file in service.files[job_id]] == ["/srv/a b", "/srv/c"]


@pytest.mark.parametrize("line", ["http://h/a", "/srv/a http://h/a", "word"])
def test_a_bad_line_is_named_and_nothing_is_added(
    line: str, bits: Bits, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.add_job("x")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"http://h/ok /srv/ok\n{line}\n"))
    result = bits("add", "x", "-")
    assert result.code == 2
    assert "line 2" in result.err
    assert service.files[job_id] == []


@pytest.mark.parametrize("operands", [("http://h/a",), ("/srv/a", "http://h/a"), ("http://h/a", "b", "http://h/c")])
def test_add_needs_pairs(operands: tuple[str, ...], bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    assert bits("add", "x", *operands).code == 2
    assert "AddFiles" not in service.methods()


def test_get_detached_prints_the_id_and_leaves_the_job_to_the_service(bits: Bits, service: FakeService) -> None:
    result = bits("get", "--detach", "--description", "for later", "http://h/a", "/srv/a")
    (job_id,) = service.jobs
    assert result == Result(0, f"{job_id}\n", "")
    job = service.jobs[job_id]
    properties: Values = job["properties"]
    assert (job["state"], properties["auto_complete"], properties["priority"]) == ("queued", True, "foreground")
    assert properties["description"] == "for later"
    assert "Subscribe" not in service.methods()
