"""What is promised to survive kill -9: every property, what was entrusted, commands, names, parts, untold notices.

Properties come from the registry, so a new one is tested without a line here, unless its type has no value below.
"""

import enum
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service, Site, run_as

from openbits import BitsError, Priority
from openbits.core.enums import AuthScheme, AuthTarget
from openbits.core.properties import PROPERTIES, Property

pytestmark = pytest.mark.root

APART = {"http_method", "auto_complete"}
"""Properties that do not go with some others get a job of their own."""
MADE = {
    "notification_clsid": "",  # another class has to be registered first: tests/real/test_commands.py
    "proxy_usage": "override",
    "proxy_list": "http=p:1 q",
    "proxy_bypass_list": "<local>",
    "http_method": "PROPFIND",
}


def another(rule: Property) -> Any:
    """A value that is not the default, as the wire has it."""
    if rule.name in MADE:
        return MADE[rule.name]
    if issubclass(rule.type, enum.IntFlag):
        return int(next(flag for flag in rule.type if flag != rule.default))
    if issubclass(rule.type, enum.Enum):
        return next(member.name.lower() for member in rule.type if member is not rule.default)
    if rule.type is bool:
        return not rule.default
    if rule.type is int:
        return min(12_345, rule.highest or 12_345)
    return f"{rule.name} \N{SNOWMAN}"


def values(*, leave_out: set[str]) -> dict[str, Any]:
    """Every property with another value."""
    return {name: another(rule) for name, rule in PROPERTIES.items() if name not in leave_out}


def kill(service: Service) -> None:
    """SIGKILL for the spawner, with which everything ends at once; then a new start."""
    service.kill("spawner")
    service.start()


def test_there_is_another_value_for_every_property() -> None:
    for name, rule in PROPERTIES.items():
        assert another(rule) != _wire_default(rule) or name == "notification_clsid", name


def test_everything_that_was_set_survives_kill_9(
    service: Service, throwaway_user: Callable[..., User], site: Site, private_folder: Callable[[Any], Path]
) -> None:
    owner = throwaway_user()
    folder = private_folder(owner)
    site.put("/whole", b"whole" * 1000)

    def make() -> dict[str, str]:
        with service.client() as client:
            job = client.create_job("first")
            job.set(**values(leave_out=APART))
            job.set_notify_command_line("/bin/true", "true 'a b'")
            job.set_credentials(AuthTarget.SERVER, AuthScheme.BASIC, "user", "word")
            job.set_credentials(AuthTarget.PROXY, AuthScheme.NEGOTIATE, None, None)
            job.set_custom_headers("X-A: 1\r\nX-B: 2\r\n")
            apart = client.create_job("apart")
            apart.set(**{name: another(PROPERTIES[name]) for name in APART})
            apart.set_custom_headers("X-C: 3\r\n")
            apart.make_custom_headers_write_only()
            parts = client.create_job("parts")
            parts.add_file_with_ranges(f"{site.url}/parts", folder / "parts", [(100, 50), (900, None), (5, 1)])
            parts.add_file(f"{site.url}/old/a", folder / "a")
            parts.add_file(f"{site.url}/old/b", folder / "b")
            assert parts.replace_remote_prefix(f"{site.url}/old/", f"{site.url}/new/") == 2
            parts.set_remote_name(2, f"{site.url}/other")
            done = client.create_job("done", priority=Priority.FOREGROUND, notify_flags=0x13)
            done.add_file(f"{site.url}/whole", folder / "whole")
            done.resume()
            done.wait(20)
            done.set_validation_state(0, is_valid=True)
            return {
                name: str(one.id) for name, one in (("first", job), ("apart", apart), ("parts", parts), ("done", done))
            }

    ids = run_as(owner, make)
    before = run_as(owner, lambda: looked_at(service, ids))
    kill(service)
    after = run_as(owner, lambda: looked_at(service, ids))

    assert after == before
    assert after["first"]["properties"] == {
        **{name: _wire_default(rule) for name, rule in PROPERTIES.items()},
        **values(leave_out=APART),
    }
    assert after["first"]["command"] == ("/bin/true", "true 'a b'")
    assert after["first"]["headers"] == "X-A: 1\r\nX-B: 2\r\n"
    assert after["apart"]["headers"] == "E_ACCESSDENIED"
    assert after["parts"]["ranges"] == [[(100, 50), (900, None), (5, 1)], [], []]
    assert after["done"]["state"] == "transferred"
    assert after["done"]["valid"] == [True]

    def is_told() -> bool:
        """The notice that nobody took before."""
        told = threading.Event()
        with service.client() as client:
            client.job(ids["done"]).notify(lambda _job, _info: told.set())
            return told.wait(20)

    assert run_as(owner, is_told)

    def credentials() -> list[bool]:
        with service.client() as client:
            job = client.job(ids["first"])
            pairs = ((AuthTarget.SERVER, AuthScheme.BASIC), (AuthTarget.PROXY, AuthScheme.NEGOTIATE))
            return [job.remove_credentials(*pair) for pair in (*pairs, *pairs)]

    assert run_as(owner, credentials) == [True, True, False, False]


def looked_at(service: Service, ids: dict[str, str]) -> dict[str, Any]:
    """All that the public API says of each job and that does not change by itself."""
    found: dict[str, Any] = {}
    with service.client() as client:
        for name, job_id in ids.items():
            job = client.job(job_id)
            info: Any = job.info()
            files: Any = job.files()
            try:
                headers = job.custom_headers()
            except BitsError as error:
                headers = error.symbol
            found[name] = {
                **{key: info[key] for key in ("state", "properties", "type", "owner_uid", "created_at", "error_count")},
                "command": job.notify_command_line(),
                "headers": headers,
                "names": [(file["local_name"], file["bytes_total"], file["bytes_transferred"]) for file in files],
                "ranges": [[(one["offset"], one["length"]) for one in file["ranges"]] for file in files],
                "valid": [file["is_valid"] for file in files],
            }
    return found


def _wire_default(rule: Property) -> Any:
    if isinstance(rule.default, enum.IntFlag):
        return int(rule.default)
    return rule.default.name.lower() if isinstance(rule.default, enum.Enum) else rule.default
