"""Proxy settings of a job: stored, read when it transfers, and used by the network identity (jobs.md §9.7, §7.2)."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, create, real_user, running_service
from tests.transfer.forwardproxy import ForwardProxy

import openbits

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(20_000)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    made = ForwardProxy()
    yield made
    made.close()


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


def override(proxy_list: str) -> dict[str, Any]:
    return {"proxy_usage": openbits.ProxyUsage.OVERRIDE, "proxy_list": proxy_list}


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_the_proxy_sees_the_network_identity(
    service: Service, site: Site, proxy: ForwardProxy, owner: Any, throwaway_user: Callable[..., Any], flags: int
) -> None:
    """identity.md §4: the socket is the helper's with flag NETWORK, whoever opens the files."""
    helper = throwaway_user()
    shared = service.base / f"shared{flags}"
    shared.mkdir()
    shared.chmod(0o777)
    url = site.put("/file", BODY)
    with service.client() as client:
        token = client.logon_user(helper.name, None)
    job = create(service, owner, [(url, shared / "file")], is_resumed=False, **override(proxy.name))

    def with_token() -> None:
        with service.client() as client:
            own = client.job(job.id)
            with token.impersonate():
                own.set_helper_token()
            own.set_helper_token_flags(openbits.TokenFlags(flags))
            own.resume()

    with token:
        run_as(owner, with_token)
    job.reaches("transferred")
    assert job.complete() == 0
    assert (shared / "file").read_bytes() == BODY
    network = helper.uid if flags & openbits.TokenFlags.NETWORK else owner.uid
    assert proxy.uids() == {network}
    assert len(proxy.lines) == 2


def test_lists_that_cannot_be_read_are_the_jobs_error(service: Service, site: Site, owner: Any, folder: Path) -> None:
    """Found at run time only; Resume after the correction goes on, also in a service that was restarted."""
    url = site.put("/file", BODY)
    job = create(service, owner, [(url, folder / "file")], **override("http=good:1 ftp=odd:2"))
    error = job.reaches("error")["error"]
    assert error is not None
    assert (error["hresult"], error["context"], error["protocol"]) == (0x8020003F, "general_transport", "http")
    assert "ftp=odd:2" in error["message"]
    assert site.seen == []
    service.kill("manager")
    service.wait_until_it_answers()
    assert job.info()["properties"]["proxy_list"] == "http=good:1 ftp=odd:2"
    job.set(proxy_usage=openbits.ProxyUsage.NO_PROXY)
    assert job.info()["properties"]["proxy_list"] == ""
    job.resume()
    job.reaches("transferred")


def test_the_longest_lists_are_stored_listed_and_used_or_named(service: Service, owner: Any, folder: Path) -> None:
    """OPEN-49; a queue full of them still fits through the socket, page by page."""

    def as_owner() -> list[int]:
        with service.client() as client:
            for number in range(20):
                longest: dict[str, Any] = {"proxy_list": "\u00fc" * 32_000, "proxy_bypass_list": "\U0001f300" * 32_000}
                client.create_job(f"long {number}", proxy_usage=openbits.ProxyUsage.OVERRIDE, **longest)
            found = [info for info in client.job_infos() if info["properties"]["display_name"].startswith("long")]
            for job in client.jobs():
                job.cancel()
            return [len(info["properties"]["proxy_bypass_list"]) for info in found]

    assert run_as(owner, as_owner) == [32_000] * 20
    lists = {**override("p:1 " * 8_000), "proxy_bypass_list": "h " * 16_000}
    job = create(service, owner, [("http://127.0.0.1:1/f", folder / "f")], **lists)
    error = job.reaches("error")["error"]
    assert error is not None
    assert error["hresult"] == 0x8020003F
    assert "at most 48000 are used" in error["message"]


def test_a_change_of_the_proxies_holds_for_a_transfer_under_way(
    service: Service, site: Site, proxy: ForwardProxy, owner: Any, folder: Path
) -> None:
    url = site.put("/file", BODY)
    gate = site.gate("/file", 5_000)
    job = create(service, owner, [(url, folder / "file")], **override(proxy.name))
    job.receives(5_000)
    asked = len(proxy.lines)
    job.set(proxy_usage=openbits.ProxyUsage.NO_PROXY)
    gate.set()
    job.reaches("transferred")
    assert (len(proxy.lines), asked) == (2, 2)
    assert job.complete() == 0
    assert len(site.seen) > asked


def test_dead_proxies_are_a_transient_error(service: Service, site: Site, owner: Any, folder: Path) -> None:
    url = site.put("/file", BODY)
    job: Job = create(service, owner, [(url, folder / "file")], **override("127.0.0.1:1"))
    error = job.reaches("transient_error")["error"]
    assert error is not None
    assert error["hresult"] == 0x80072EFD
    assert "through proxy 127.0.0.1:1" in error["message"]
    assert site.seen == []
    job.cancel()
