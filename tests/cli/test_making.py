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
    word = property_options.word_of(rule, rule.default)
    assert f"{rule.cli_name}," in "".join(bits("set", "--help").out.split()).replace(";", ",")
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
        ("maximum-download-time=3600", "maximum_download_seconds", 3600),
        ("maximum-download-time=none", "maximum_download_seconds", None),
        ("max-download-size=18446744073709551615", "max_download_size_bytes", 2**64 - 1),
        ("max-download-size=none", "max_download_size_bytes", None),
        ("cost-flags=unrestricted,below-cap,ignore-congestion", "cost_flags", 0x80000005),
        ("cost-flags=none", "cost_flags", None),
        ("cost-flags=0", "cost_flags", 0),
        ("security-flags=enable-crl-check,redirect-disallow", "security_flags", 0x0201),
        ("security-flags=none", "security_flags", 0),
        (
            "notification-clsid=D41BD4A4-6ABD-4C1A-9D03-2B9B3F2E0F11",
            "notification_clsid",
            "D41BD4A4-6ABD-4C1A-9D03-2B9B3F2E0F11",
        ),
        ("notification-clsid=none", "notification_clsid", ""),
        ("minimum-notification-interval=0", "minimum_notification_interval_ms", 0),
        ("http-method=PUT", "http_method", "PUT"),
        ("high-performance=yes", "high_performance", True),
        ("use-stored-proxy-credentials=yes", "use_stored_proxy_credentials", True),
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
        "minimum-retry-delay=-1", "minimum-retry-delay=none", "notify-flags=job-error,moon", "notify-flags=0",
        "max-download-size=1.5G", "max-download-size=unlimited", "cost-flags=none,roaming", "on-demand-mode=none",
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


def test_values_are_shown_with_their_unit_and_read_without_it() -> None:
    shown = {name: property_options.shown(rule, rule.default) for name, rule in PROPERTIES.items()}
    assert shown["no_progress_timeout_seconds"] == "1209600 s"
    assert shown["minimum_notification_interval_ms"] == "500 ms"
    assert shown["max_download_size_bytes"] == shown["cost_flags"] == shown["notification_clsid"] == "none"
    assert property_options.shown(PROPERTIES["max_download_size_bytes"], 2**64 - 1) == "18446744073709551615 bytes"
    kinds = {name: property_options.kind_of(rule) for name, rule in PROPERTIES.items()}
    assert (kinds["max_download_size_bytes"], kinds["notification_clsid"]) == ("BYTES|none", "GUID|none")
    assert (kinds["minimum_notification_interval_ms"], kinds["cost_flags"]) == ("MILLISECONDS", "WORDS|none")


def test_show_has_what_is_not_as_in_a_new_job_ready_to_be_set(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("x")
    assert "set  " not in bits("show", "x").out
    service.jobs[job_id]["properties"].update(
        max_download_size_bytes=2**64 - 1,
        cost_flags=0,
        security_flags=0x0201,
        notification_clsid="d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11",
        proxy_usage="no_proxy",
        dynamic_content=True,
        http_method="P\x1bUT",
        maximum_download_seconds=60,
        priority="low",
    )
    lines = [line.split(maxsplit=1)[1] for line in bits("show", "x").out.splitlines() if line.startswith("set  ")]
    assert lines == [
        "proxy-usage=no-proxy",
        "maximum-download-time=60",
        "security-flags=enable-crl-check,redirect-disallow",
        "http-method=P?UT",
        "cost-flags=0",
        "notification-clsid=d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11",
        "dynamic-content=yes",
        "max-download-size=18446744073709551615",
    ]
    service.jobs[job_id]["properties"]["http_method"] = "PUT"
    lines.remove("http-method=P?UT")
    assert bits("set", "x", *lines).code == 0


def test_show_says_where_the_reply_goes(bits: Bits, service: FakeService) -> None:
    reply = {"local_name": "/srv/answer", "bytes_total": None, "bytes_transferred": 0}
    service.add_job("x", type="upload_reply", reply=reply)
    assert "reply        /srv/answer, not here yet\n" in bits("show", "x").out
    reply.update(bytes_total=2048, bytes_transferred=1024)
    assert "reply        /srv/answer, 1.0 KiB/2.0 KiB\n" in bits("show", "x").out


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


def test_add_with_ranges_counts_bytes_as_http_does(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("x")
    assert bits("add", "x", "http://h/a", "/srv/a", "--range", "100-199", "--range", "0-0", "--range", "900-").code == 0
    (file,) = service.files[job_id]
    assert [(part["offset"], part["length"]) for part in file["ranges"]] == [(100, 100), (0, 1), (900, None)]


@pytest.mark.parametrize("text", ["5-4", "-5", "5", "a-b", "0x1-2", "1-2,4-5", ""])
def test_a_range_that_is_none_is_named(text: str, bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    result = bits("add", "x", "http://h/a", "/srv/a", f"--range={text}")
    assert result.code == 2
    assert f"cannot read the range {text!r}" in result.err
    assert "AddFiles" not in service.methods()


def test_ranges_are_those_of_one_file(bits: Bits, service: FakeService) -> None:
    service.add_job("x")
    result = bits("add", "x", "http://h/a", "/srv/a", "http://h/b", "/srv/b", "--range", "0-4")
    assert result.code == 2
    assert "cannot add 2 files with --range" in result.err


def test_get_detached_prints_the_id_and_leaves_the_job_to_the_service(bits: Bits, service: FakeService) -> None:
    result = bits("get", "--detach", "--description", "for later", "http://h/a", "/srv/a")
    (job_id,) = service.jobs
    assert result == Result(0, f"{job_id}\n", "")
    job = service.jobs[job_id]
    properties: Values = job["properties"]
    assert (job["state"], properties["auto_complete"], properties["priority"]) == ("queued", True, "foreground")
    assert properties["description"] == "for later"
    assert "Subscribe" not in service.methods()
