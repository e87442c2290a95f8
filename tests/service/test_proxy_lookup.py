"""Where PRECONFIG is looked up, and how often: once for each attempt of a job (OPEN-48)."""

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from openbits.core.enums import ProxyUsage
from openbits.core.errors import BitsError
from openbits.core.model import Identity, Job
from openbits.core.properties import Properties
from openbits.core.proxies import Settings, Usage
from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source
from openbits.service.proxy_settings import NOBODY_SAYS, ProxyLookup, message_of

NOBODY = 65_534
"""An account that every machine has, with a home that is nowhere: these brokers have other files."""

OF_SERVICE = Settings(usage=Usage.OVERRIDE, proxy_list="service:1", source="the settings of the service")


class Broker:
    """Answers from memory; counts what it is asked for."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.asked: list[str] = []

    async def settings(self, path: str) -> int:
        self.asked.append(path)
        if path not in self.files:
            raise BrokerError({"errno": 2, "step": "read", "subject": path, "text": "there is none"})
        return in_memory(self.files[path])

    async def settings_folder(self, path: str, suffix: str) -> int:
        self.asked.append(path)
        found = sorted((name, text) for name, text in self.files.items() if name.startswith(f"{path}/"))
        if not found:
            raise BrokerError({"errno": 2, "step": "read", "subject": path, "text": "there is none"})
        return in_memory(json.dumps(found))


class Children:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.identities: list[tuple[int, object]] = []

    async def with_reader(self, uid: int, by: object, act: Callable[[Broker], Awaitable[int]]) -> int:
        self.identities.append((uid, by))
        return await act(self.broker)


def in_memory(text: str) -> int:
    memory = os.memfd_create("test")
    os.write(memory, text.encode())
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def lookup(files: dict[str, str], of_service: Settings | None = OF_SERVICE) -> tuple[ProxyLookup, Children]:
    children: Any = Children(Broker(files))
    return ProxyLookup(children, of_service, 999), children


def a_record(uid: int = NOBODY, epoch: int = 1, **properties: Any) -> Any:
    owner = Identity(uid=uid, gid=uid)
    made = Job(job_id=uuid.UUID(int=7), owner=owner, created_at=1.0, modified_at=1.0, state_since=1.0, epoch=epoch)
    job = replace(made, properties=replace(Properties(), **properties))
    return SimpleNamespace(job=job, job_id=job.job_id, helper_token=None)


FILE = "/nonexistent/.config/openbits/proxy.toml"


def test_an_attempt_looks_once_and_the_next_one_again() -> None:
    found, children = lookup({FILE: '[proxy]\nusage = "override"\nlist = "first:1"\n'})

    async def run() -> list[str]:
        first = [await found.of_attempt(a_record(epoch=1)) for _ in range(3)]
        children.broker.files[FILE] = '[proxy]\nusage = "override"\nlist = "second:1"\n'
        return [one.settings.proxy_list for one in (*first, await found.of_attempt(a_record(epoch=2)))]

    assert asyncio.run(run()) == ["first:1", "first:1", "first:1", "second:1"]
    assert children.broker.asked == [FILE, FILE]
    assert children.identities == [(NOBODY, None)] * 2


def test_a_change_of_the_property_counts_within_an_attempt() -> None:
    found, _ = lookup({})

    async def run() -> list[Usage]:
        usages = (ProxyUsage.PRECONFIG, ProxyUsage.NO_PROXY, ProxyUsage.AUTODETECT, ProxyUsage.PRECONFIG)
        return [(await found.of_attempt(a_record(proxy_usage=usage))).settings.usage for usage in usages]

    assert asyncio.run(run()) == [Usage.OVERRIDE, Usage.NO_PROXY, Usage.AUTODETECT, Usage.OVERRIDE]


def test_what_is_remembered_has_an_end() -> None:
    found, children = lookup({})

    async def run() -> None:
        for epoch in range(1_000):
            await found.of_attempt(a_record(epoch=epoch))

    asyncio.run(run())
    assert len(found._remembered) <= 256
    assert len(children.broker.asked) == 2_000


@pytest.mark.parametrize("uid", [0, 1, 999])
def test_system_accounts_are_not_read_for(uid: int) -> None:
    """A55."""
    found, children = lookup({FILE: '[proxy]\nusage = "no-proxy"\n'})
    assert asyncio.run(found.of_attempt(a_record(uid=uid))).settings == OF_SERVICE
    assert children.identities == []


def test_credentials_of_a_variable_go_along_and_are_not_in_the_message() -> None:
    name = "/nonexistent/.config/environment.d/p.conf"
    found, _ = lookup({name: "https_proxy=http://me:secret@p:8080"})
    effective = asyncio.run(found.of_attempt(a_record()))
    assert [(one.label, one.user, one.password) for one in effective.credentials] == [("p:8080", "me", "secret")]
    assert message_of(effective.settings) == {
        "usage": "override", "list": "https=http://p:8080", "bypass": "", "no_proxy": "", "script_url": "",
    }  # fmt: skip


def test_lists_of_a_file_that_are_too_long_are_an_error_and_no_broken_worker() -> None:
    name = "/nonexistent/.config/environment.d/p.conf"
    found, _ = lookup({name: f"http_proxy=p:1\nno_proxy={','.join(['h.example'] * 6_000)}"})
    with pytest.raises(BitsError) as caught:
        asyncio.run(found.of_attempt(a_record()))
    assert caught.value.hresult == 0x8020003F


def test_without_any_configuration_it_is_direct_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("openbits.service.proxy_settings.ENVIRONMENT", tmp_path / "missing")
    found, _ = lookup({}, None)
    effective = asyncio.run(found.of_identity(Source(uid=NOBODY, by=None, label="nobody")))
    assert effective.settings == Settings(source=NOBODY_SAYS)
