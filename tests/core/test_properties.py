"""The registry of properties: what a client may set, and which code refuses the rest (jobs.md §2.3, §7.2)."""

import dataclasses
from typing import Any, get_type_hints

import pytest

from openbits.api.wire import PropertyValues
from openbits.core import properties
from openbits.core.enums import JobState, NotifyFlags, Priority, ProxyUsage
from openbits.core.errors import BitsError
from openbits.core.properties import PROPERTIES, Properties

E_NOTIMPL, E_INVALIDARG, BG_E_STRING_TOO_LONG = 0x80004001, 0x80070057, 0x80200021


def refused(values: dict[str, object]) -> BitsError:
    with pytest.raises(BitsError) as caught:
        properties.changed(Properties(), values)
    return caught.value


# The registry


def test_a_new_job_has_the_documented_values() -> None:
    assert properties.to_wire(Properties()) == {
        "display_name": "",
        "description": "",
        "priority": "normal",
        "notify_flags": 3,
        "minimum_retry_delay_seconds": 600,
        "no_progress_timeout_seconds": 14 * 24 * 3600,
        "proxy_usage": "preconfig",
        "proxy_list": "",
        "proxy_bypass_list": "",
        "auto_complete": False,
    }


def test_registry_value_and_wire_type_have_the_same_properties() -> None:
    names = {item.name for item in dataclasses.fields(Properties)}
    assert set(PROPERTIES) == names == set(get_type_hints(PropertyValues))
    assert all(row.default == getattr(Properties(), name) for name, row in PROPERTIES.items())
    assert all(row.doc for row in PROPERTIES.values())


def test_wire_values_have_the_types_of_the_wire() -> None:
    wire_types = get_type_hints(PropertyValues)
    assert {name: type(value) for name, value in properties.to_wire(Properties()).items()} == wire_types


def test_each_property_has_the_names_of_its_faces() -> None:
    assert {name: (row.getter, row.setter, row.cli_name) for name, row in PROPERTIES.items()} == {
        "display_name": ("GetDisplayName", "SetDisplayName", "display-name"),
        "description": ("GetDescription", "SetDescription", "description"),
        "priority": ("GetPriority", "SetPriority", "priority"),
        "notify_flags": ("GetNotifyFlags", "SetNotifyFlags", "notify-flags"),
        "minimum_retry_delay_seconds": ("GetMinimumRetryDelay", "SetMinimumRetryDelay", "minimum-retry-delay"),
        "no_progress_timeout_seconds": ("GetNoProgressTimeout", "SetNoProgressTimeout", "no-progress-timeout"),
        "proxy_usage": ("GetProxySettings", "SetProxySettings", "proxy-usage"),
        "proxy_list": ("GetProxySettings", "SetProxySettings", "proxy-list"),
        "proxy_bypass_list": ("GetProxySettings", "SetProxySettings", "proxy-bypass-list"),
        "auto_complete": (None, None, "auto-complete"),
    }


def test_everything_can_be_set_until_the_job_is_final() -> None:
    for row in PROPERTIES.values():
        assert row.settable_in == set(JobState) - {JobState.ACKNOWLEDGED, JobState.CANCELLED}


# What is accepted


def test_values_arrive_as_the_model_knows_them() -> None:
    changed = properties.changed(
        Properties(),
        {
            "display_name": "nightly",
            "description": "line one\nline two\tindented",
            "priority": "foreground",
            "notify_flags": 0x3F,
            "minimum_retry_delay_seconds": 60,
            "no_progress_timeout_seconds": 0,
            "auto_complete": True,
        },
    )
    assert changed == Properties(
        display_name="nightly",
        description="line one\nline two\tindented",
        priority=Priority.FOREGROUND,
        notify_flags=NotifyFlags(0x3F),
        minimum_retry_delay_seconds=60,
        no_progress_timeout_seconds=0,
        auto_complete=True,
    )
    assert isinstance(changed.priority, Priority)
    assert isinstance(changed.notify_flags, NotifyFlags)
    assert properties.changed(Properties(), properties.to_wire(changed)) == changed


def test_what_is_not_named_stays() -> None:
    before = Properties(display_name="a", priority=Priority.LOW)
    assert properties.changed(before, {"description": "d"}) == dataclasses.replace(before, description="d")
    assert properties.changed(before, {}) == before


@pytest.mark.parametrize(("given", "kept"), [(0, 5), (4, 5), (5, 5), (6, 6), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_short_retry_delay_is_silently_raised(given: int, kept: int) -> None:
    changed = properties.changed(Properties(), {"minimum_retry_delay_seconds": given})
    assert changed.minimum_retry_delay_seconds == kept


def test_characters_are_counted_not_bytes() -> None:
    name, description = "\U0001f4e6" * 256, "ä" * 1024
    changed = properties.changed(Properties(), {"display_name": name, "description": description})
    assert (changed.display_name, changed.description) == (name, description)


# What is refused


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("display_name", "x" * 257, BG_E_STRING_TOO_LONG),
        ("description", "x" * 1025, BG_E_STRING_TOO_LONG),
        ("display_name", None, E_INVALIDARG),
        ("description", None, E_INVALIDARG),
        ("display_name", 7, E_INVALIDARG),
        ("display_name", "a\0b", E_INVALIDARG),
        ("display_name", "a\nb", E_INVALIDARG),
        ("display_name", "a\x1b[2Jb", E_INVALIDARG),
        ("display_name", "a\x85b", E_INVALIDARG),
        ("display_name", "a\ud800b", E_INVALIDARG),
        ("display_name", "a\u2028b", E_INVALIDARG),
        ("description", "a\0b", E_INVALIDARG),
        ("description", "a\x1b[2Jb", E_INVALIDARG),
        ("description", "a\udfffb", E_INVALIDARG),
        ("priority", "urgent", E_NOTIMPL),
        ("priority", "FOREGROUND", E_NOTIMPL),
        ("priority", "", E_NOTIMPL),
        ("priority", 0, E_INVALIDARG),
        ("priority", Priority.LOW, E_INVALIDARG),
        ("priority", None, E_INVALIDARG),
        ("notify_flags", 0x40, E_NOTIMPL),
        ("notify_flags", 0xFFFFFFFF, E_NOTIMPL),
        ("notify_flags", -1, E_INVALIDARG),
        ("notify_flags", "3", E_INVALIDARG),
        ("notify_flags", True, E_INVALIDARG),
        ("minimum_retry_delay_seconds", -1, E_INVALIDARG),
        ("minimum_retry_delay_seconds", 0x100000000, E_INVALIDARG),
        ("minimum_retry_delay_seconds", 60.0, E_INVALIDARG),
        ("no_progress_timeout_seconds", 0x100000000, E_INVALIDARG),
        ("no_progress_timeout_seconds", False, E_INVALIDARG),
        ("no_progress_timeout_seconds", [], E_INVALIDARG),
        ("auto_complete", 1, E_INVALIDARG),
        ("auto_complete", "true", E_INVALIDARG),
        ("unknown", 1, E_INVALIDARG),
    ],
)
def test_a_bad_value_gets_the_documented_code_and_is_named(name: str, value: object, code: int) -> None:
    error = refused({name: value})
    assert error.hresult == code
    assert name in str(error)
    assert "; " in str(error)
    assert str(error).isprintable()


def test_one_bad_value_refuses_all() -> None:
    before = Properties(display_name="before")
    with pytest.raises(BitsError):
        properties.changed(before, {"display_name": "after", "priority": "urgent"})
    assert before.display_name == "before"


def test_the_refusal_says_what_would_be_right() -> None:
    assert str(refused({"priority": "urgent"})) == (
        "cannot set priority to 'urgent': it is undefined; use one of foreground, high, normal, low"
    )
    assert "0 to 4294967295" in str(refused({"no_progress_timeout_seconds": -1}))
    assert "known are display_name, description," in str(refused({"colour": "red"}))


def test_a_huge_value_does_not_flood_the_message() -> None:
    for name in ("display_name", "priority", "x" * 100_000):
        assert len(str(refused({name: "y" * 100_000}))) < 500


# CreateJob


@pytest.mark.parametrize("name", ["", "nightly", "x" * 256])
def test_a_name_is_good_for_a_new_job(name: str) -> None:
    properties.check_display_name_at_create(name)


@pytest.mark.parametrize("name", [None, "x" * 257, "a\0b", 7])
def test_a_bad_name_of_a_new_job_is_an_invalid_argument(name: Any) -> None:
    with pytest.raises(BitsError) as caught:
        properties.check_display_name_at_create(name)
    assert caught.value.hresult == E_INVALIDARG


# Proxy settings fit together (jobs.md §7.2)

OVERRIDE = {"proxy_usage": "override", "proxy_list": "p:3128"}


def test_override_needs_a_list_and_every_other_usage_empties_it() -> None:
    with_list = properties.changed(Properties(), {**OVERRIDE, "proxy_bypass_list": "<local>"})
    assert (with_list.proxy_usage, with_list.proxy_list) == (ProxyUsage.OVERRIDE, "p:3128")
    assert properties.changed(with_list, {"proxy_list": "q"}).proxy_bypass_list == "<local>"
    for usage in ("preconfig", "no_proxy", "autodetect"):
        after = properties.changed(with_list, {"proxy_usage": usage})
        assert (after.proxy_list, after.proxy_bypass_list) == ("", "")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"proxy_usage": "override"}, E_INVALIDARG),
        ({**OVERRIDE, "proxy_list": ""}, E_INVALIDARG),
        ({"proxy_list": "p"}, E_INVALIDARG),
        ({"proxy_bypass_list": "h"}, E_INVALIDARG),
        ({"proxy_usage": "no_proxy", "proxy_list": "p"}, E_INVALIDARG),
        ({"proxy_usage": "autodetect", "proxy_bypass_list": "h"}, E_INVALIDARG),
        ({"proxy_usage": "sometimes"}, E_NOTIMPL),
        ({**OVERRIDE, "proxy_list": "p" * 32_001}, 0x80200018),
        ({**OVERRIDE, "proxy_bypass_list": "h" * 32_001}, 0x80200019),
        ({**OVERRIDE, "proxy_list": "http://me:secret@p"}, E_INVALIDARG),
    ],
)
def test_proxy_settings_that_do_not_fit_are_refused(values: dict[str, object], code: int) -> None:
    error = refused(values)
    assert error.hresult == code
    assert "secret" not in str(error)


def test_the_content_of_the_lists_is_not_looked_at() -> None:
    """Only at run time (jobs.md §7.2)."""
    odd = {"proxy_usage": "override", "proxy_list": "!" * 32_000, "proxy_bypass_list": "*" * 32_000}
    assert properties.changed(Properties(), odd).proxy_list == "!" * 32_000
