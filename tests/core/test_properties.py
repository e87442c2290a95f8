"""The registry of properties: what a client may set, and which code refuses the rest (jobs.md §2.3, §7.2)."""

import dataclasses
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from openbits.api.wire import PropertyValues
from openbits.core import property_rules
from openbits.core.enums import CostFlags, JobType, NotifyFlags, Priority, ProxyUsage
from openbits.core.errors import BitsError
from openbits.core.properties import DEFAULT_COST_FLAGS, PROPERTIES, Properties

E_NOTIMPL, E_INVALIDARG, BG_E_STRING_TOO_LONG = 0x80004001, 0x80070057, 0x80200021


def refused(values: dict[str, object]) -> BitsError:
    with pytest.raises(BitsError) as caught:
        property_rules.changed(Properties(), values)
    return caught.value


# The registry


def test_a_new_job_has_the_documented_values() -> None:
    assert property_rules.to_wire(Properties()) == {
        "display_name": "",
        "description": "",
        "priority": "normal",
        "notify_flags": 3,
        "minimum_retry_delay_seconds": 600,
        "no_progress_timeout_seconds": 14 * 24 * 3600,
        "proxy_usage": "preconfig",
        "proxy_list": "",
        "proxy_bypass_list": "",
        "maximum_download_seconds": None,
        "file_acl_flags": 0,
        "peer_caching_flags": 0,
        "security_flags": 0,
        "http_method": "",
        "cost_flags": None,
        "notification_clsid": "",
        "dynamic_content": False,
        "high_performance": False,
        "max_download_size_bytes": None,
        "use_stored_proxy_credentials": False,
        "minimum_notification_interval_ms": 500,
        "on_demand_mode": False,
        "parallel_files": 1,
        "maximum_rate_bytes_per_second": None,
        "segments": 1,
        "auto_complete": False,
    }


def test_registry_value_and_wire_type_have_the_same_properties() -> None:
    names = {item.name for item in dataclasses.fields(Properties)}
    assert set(PROPERTIES) == names == set(get_type_hints(PropertyValues))
    assert all(row.default == getattr(Properties(), name) for name, row in PROPERTIES.items())
    assert all(row.doc for row in PROPERTIES.values())


def test_wire_values_have_the_types_of_the_wire() -> None:
    full = Properties(
        maximum_download_seconds=1,
        cost_flags=CostFlags.ROAMING,
        max_download_size_bytes=1,
        maximum_rate_bytes_per_second=1,
    )
    for name, hint in get_type_hints(PropertyValues).items():
        kinds = get_args(hint) or (hint,)
        assert type(property_rules.to_wire(full)[name]) is kinds[0]
        assert PROPERTIES[name].is_optional == (NoneType in kinds)
        assert type(property_rules.to_wire(Properties())[name]) in kinds


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
        "maximum_download_seconds": ("GetMaximumDownloadTime", "SetMaximumDownloadTime", "maximum-download-time"),
        "file_acl_flags": ("GetFileACLFlags", "SetFileACLFlags", "file-acl-flags"),
        "peer_caching_flags": ("GetPeerCachingFlags", "SetPeerCachingFlags", "peer-caching-flags"),
        "security_flags": ("GetSecurityFlags", "SetSecurityFlags", "security-flags"),
        "http_method": ("GetHttpMethod", "SetHttpMethod", "http-method"),
        "cost_flags": (None, None, "cost-flags"),
        "notification_clsid": (None, None, "notification-clsid"),
        "dynamic_content": (None, None, "dynamic-content"),
        "high_performance": (None, None, "high-performance"),
        "max_download_size_bytes": (None, None, "max-download-size"),
        "use_stored_proxy_credentials": (None, None, "use-stored-proxy-credentials"),
        "minimum_notification_interval_ms": (None, None, "minimum-notification-interval"),
        "on_demand_mode": (None, None, "on-demand-mode"),
        "parallel_files": (None, None, "parallel-files"),
        "maximum_rate_bytes_per_second": (None, None, "maximum-rate"),
        "segments": (None, None, "segments"),
        "auto_complete": (None, None, "auto-complete"),
    }


def test_the_properties_of_job5_have_the_documented_ids_and_members() -> None:
    """jobs.md §13, first and second column."""
    assert {row.com_property: (name, row.com_member) for name, row in PROPERTIES.items() if row.com_property} == {
        "ID_COST_FLAGS": ("cost_flags", "Dword"),
        "NOTIFICATION_CLSID": ("notification_clsid", "ClsID"),
        "DYNAMIC_CONTENT": ("dynamic_content", "Enable"),
        "HIGH_PERFORMANCE": ("high_performance", "Enable"),
        "MAX_DOWNLOAD_SIZE": ("max_download_size_bytes", "Uint64"),
        "USE_STORED_CREDENTIALS": ("use_stored_proxy_credentials", "Target"),
        "MINIMUM_NOTIFICATION_INTERVAL_MS": ("minimum_notification_interval_ms", "Dword"),
        "ON_DEMAND_MODE": ("on_demand_mode", "Enable"),
    }


@pytest.mark.parametrize(
    ("priority", "allowed"),
    [("FOREGROUND", 0x8000007F), ("HIGH", 0x80000067), ("NORMAL", 0x80000067), ("LOW", 0x80000067)],
)
def test_cost_flags_by_default_are_those_of_the_priority(priority: str, allowed: int) -> None:
    """OPEN-56: NOT_ROAMING, and in the background STANDARD."""
    assert DEFAULT_COST_FLAGS[Priority[priority]] == allowed


# What is accepted


def test_values_arrive_as_the_model_knows_them() -> None:
    changed = property_rules.changed(
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
    assert property_rules.changed(Properties(), property_rules.to_wire(changed)) == changed


def test_what_is_not_named_stays() -> None:
    before = Properties(display_name="a", priority=Priority.LOW)
    assert property_rules.changed(before, {"description": "d"}) == dataclasses.replace(before, description="d")
    assert property_rules.changed(before, {}) == before


@pytest.mark.parametrize(("given", "kept"), [(0, 5), (4, 5), (5, 5), (6, 6), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_short_retry_delay_is_silently_raised(given: int, kept: int) -> None:
    changed = property_rules.changed(Properties(), {"minimum_retry_delay_seconds": given})
    assert changed.minimum_retry_delay_seconds == kept


@pytest.mark.parametrize(("given", "kept"), [(0, 1024), (1023, 1024), (1024, 1024), (10**10, 10**10), (None, None)])
def test_a_rate_below_the_floor_of_progress_is_silently_raised(given: int | None, kept: int | None) -> None:
    changed = property_rules.changed(Properties(), {"maximum_rate_bytes_per_second": given})
    assert changed.maximum_rate_bytes_per_second == kept


def test_characters_are_counted_not_bytes() -> None:
    name, description = "\U0001f4e6" * 256, "ä" * 1024
    changed = property_rules.changed(Properties(), {"display_name": name, "description": description})
    assert (changed.display_name, changed.description) == (name, description)


GUID = "d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("display_name", "x" * 256),
        ("description", "x" * 1024),
        ("no_progress_timeout_seconds", 0xFFFFFFFF),
        ("maximum_download_seconds", 0),
        ("maximum_download_seconds", 0xFFFFFFFF),
        ("maximum_download_seconds", None),
        ("notify_flags", 0x3F),
        ("file_acl_flags", 15),
        ("peer_caching_flags", 7),
        ("security_flags", 0x001F),
        ("security_flags", 0x0100),
        ("security_flags", 0x0200),
        ("security_flags", 0x0900),
        ("security_flags", 0x0800),
        ("cost_flags", 0),
        ("cost_flags", 0xC00000FF),
        ("cost_flags", None),
        ("maximum_rate_bytes_per_second", 1024),
        ("maximum_rate_bytes_per_second", 2**64 - 1),
        ("maximum_rate_bytes_per_second", None),
        ("max_download_size_bytes", 1),
        ("max_download_size_bytes", 2**32),
        ("max_download_size_bytes", 2**64 - 1),
        ("max_download_size_bytes", None),
        ("minimum_notification_interval_ms", 0),
        ("minimum_notification_interval_ms", 0xFFFFFFFF),
        ("notification_clsid", GUID),
        ("notification_clsid", ""),
        ("http_method", "PROPFIND"),
        ("http_method", "M" * 32),
        ("http_method", "get"),
        ("http_method", "!#$%&'*+-.^_`|~09azAZ"),
        ("dynamic_content", True),
        ("high_performance", True),
        ("on_demand_mode", True),
        ("use_stored_proxy_credentials", True),
    ],
)
def test_a_value_within_the_limits_is_kept_as_it_is(name: str, value: object) -> None:
    assert property_rules.to_wire(property_rules.changed(Properties(), {name: value}))[name] == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (GUID.upper(), GUID),
        ("{" + GUID + "}", GUID),
        ("00000000-0000-0000-0000-000000000000", ""),
    ],
)
def test_a_guid_is_kept_in_one_spelling_and_the_null_guid_clears(given: str, kept: str) -> None:
    before = Properties(notification_clsid=GUID)
    assert property_rules.changed(before, {"notification_clsid": given}).notification_clsid == kept


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
        ("maximum_download_seconds", 0x100000000, E_INVALIDARG),
        ("maximum_download_seconds", -1, E_INVALIDARG),
        ("file_acl_flags", 0x10, E_INVALIDARG),
        ("file_acl_flags", None, E_INVALIDARG),
        ("peer_caching_flags", 0x08, E_NOTIMPL),
        ("security_flags", 0x0020, E_NOTIMPL),
        ("security_flags", 0x0400, E_NOTIMPL),
        ("security_flags", 0x0700, E_NOTIMPL),
        ("security_flags", 0x0300, E_NOTIMPL),
        ("security_flags", 0x0B00, E_NOTIMPL),
        ("security_flags", 0x1000, E_NOTIMPL),
        ("security_flags", 2**32, E_INVALIDARG),
        ("cost_flags", 0x100, E_NOTIMPL),
        ("cost_flags", 2**32, E_INVALIDARG),
        ("max_download_size_bytes", 0, 0x80200063),
        ("max_download_size_bytes", 2**64, E_INVALIDARG),
        ("max_download_size_bytes", -1, E_INVALIDARG),
        ("max_download_size_bytes", True, E_INVALIDARG),
        ("minimum_notification_interval_ms", 2**32, E_INVALIDARG),
        ("minimum_notification_interval_ms", None, E_INVALIDARG),
        ("notification_clsid", "not a guid", E_INVALIDARG),
        ("notification_clsid", "d41bd4a4", E_INVALIDARG),
        ("notification_clsid", "0" * 39, E_INVALIDARG),
        ("notification_clsid", None, E_INVALIDARG),
        ("http_method", "M" * 33, E_INVALIDARG),
        ("http_method", "GET IT", E_INVALIDARG),
        ("http_method", "GET\r\nX: y", E_INVALIDARG),
        ("http_method", "G\u00cbT", E_INVALIDARG),
        ("http_method", "(GET)", E_INVALIDARG),
        ("http_method", None, E_INVALIDARG),
        ("dynamic_content", 1, E_INVALIDARG),
        ("high_performance", None, E_INVALIDARG),
        ("on_demand_mode", "yes", E_INVALIDARG),
        ("use_stored_proxy_credentials", 2, E_INVALIDARG),
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
        property_rules.changed(before, {"display_name": "after", "priority": "urgent"})
    assert before.display_name == "before"


def test_the_refusal_says_what_would_be_right() -> None:
    assert str(refused({"priority": "urgent"})) == (
        "cannot set priority to 'urgent': it is undefined; use one of foreground, high, normal, low"
    )
    assert "0 to 4294967295" in str(refused({"no_progress_timeout_seconds": -1}))
    assert "known are display_name, description," in str(refused({"colour": "red"}))


def test_a_huge_value_does_not_flood_the_message() -> None:
    for name in ("display_name", "priority", "x" * 100_000):
        assert len(str(refused({name: "y" * 100_000}))) < 700


# CreateJob


@pytest.mark.parametrize("name", ["", "nightly", "x" * 256])
def test_a_name_is_good_for_a_new_job(name: str) -> None:
    property_rules.check_display_name_at_create(name)


@pytest.mark.parametrize("name", [None, "x" * 257, "a\0b", 7])
def test_a_bad_name_of_a_new_job_is_an_invalid_argument(name: Any) -> None:
    with pytest.raises(BitsError) as caught:
        property_rules.check_display_name_at_create(name)
    assert caught.value.hresult == E_INVALIDARG


# Proxy settings fit together (jobs.md §7.2)

OVERRIDE = {"proxy_usage": "override", "proxy_list": "p:3128"}


def test_override_needs_a_list_and_every_other_usage_empties_it() -> None:
    with_list = property_rules.changed(Properties(), {**OVERRIDE, "proxy_bypass_list": "<local>"})
    assert (with_list.proxy_usage, with_list.proxy_list) == (ProxyUsage.OVERRIDE, "p:3128")
    assert property_rules.changed(with_list, {"proxy_list": "q"}).proxy_bypass_list == "<local>"
    for usage in ("preconfig", "no_proxy", "autodetect"):
        after = property_rules.changed(with_list, {"proxy_usage": usage})
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
    assert property_rules.changed(Properties(), odd).proxy_list == "!" * 32_000


# A method of one's own (jobs.md §9.9)

NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD = 0x80200071


def test_another_method_makes_the_job_foreground_for_good() -> None:
    """M3: any call of SetPriority is refused, also one that would change nothing."""
    custom = property_rules.changed(Properties(priority=Priority.LOW), {"http_method": "POST"})
    assert (custom.http_method, custom.priority) == ("POST", Priority.FOREGROUND)
    for priority in ("foreground", "high", "normal", "low"):
        with pytest.raises(BitsError, match="cannot set priority to") as caught:
            property_rules.changed(custom, {"priority": priority})
        assert caught.value.hresult == NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD
    assert property_rules.changed(custom, {"description": "d"}).priority is Priority.FOREGROUND


def test_a_new_job_is_given_method_and_priority_at_once_only_if_they_fit() -> None:
    both = property_rules.changed(Properties(), {"priority": "foreground", "http_method": "POST"})
    assert (both.http_method, both.priority) == ("POST", Priority.FOREGROUND)
    assert refused({"priority": "low", "http_method": "POST"}).hresult == NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD


@pytest.mark.parametrize(
    ("job_type", "usual", "other"),
    [
        (JobType.DOWNLOAD, "GET", "BITS_POST"),
        (JobType.UPLOAD, "BITS_POST", "GET"),
        (JobType.UPLOAD_REPLY, "BITS_POST", "GET"),
    ],
)
def test_the_usual_method_of_the_type_does_nothing(job_type: JobType, usual: str, other: str) -> None:
    """M2."""
    before = Properties(priority=Priority.LOW)
    assert property_rules.changed(before, {"http_method": usual}, job_type) == before
    assert property_rules.changed(before, {"http_method": other}, job_type).priority is Priority.FOREGROUND


@pytest.mark.parametrize("name", ["dynamic_content", "on_demand_mode"])
def test_another_method_does_not_go_with_what_needs_the_usual_one(name: str) -> None:
    """M5, in either order; the text names what was to be set."""
    for before, values, named in (
        (Properties(http_method="POST", priority=Priority.FOREGROUND), {name: True}, f"cannot set {name} to True"),
        (
            property_rules.changed(Properties(), {name: True}),
            {"http_method": "POST"},
            "cannot set http_method to 'POST'",
        ),
        (Properties(), {name: True, "http_method": "POST"}, f"cannot set {name} to True"),
    ):
        with pytest.raises(BitsError, match=named) as caught:
            property_rules.changed(before, values)
        assert caught.value.hresult == NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD
    custom = Properties(http_method="POST", priority=Priority.FOREGROUND)
    assert property_rules.changed(custom, {name: False}) == custom
