"""The asyncio client with the running service: a tokened job of a real user, and waiting across its restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site

import openbits


@pytest.mark.root
def test_an_owner_downloads_into_the_folder_of_the_helper(
    service: Service,
    site: Site,
    throwaway_user: Callable[..., Any],
    as_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    owner, helper = throwaway_user(), throwaway_user(password="word")
    path = private_folder(helper) / "file"
    url = site.put("/file", b"content")

    async def story() -> str:
        taken: list[str] = []
        async with openbits.AsyncClient(socket=str(service.socket)) as client:
            job = await client.create_job("async", priority=openbits.Priority.FOREGROUND)
            with await client.logon_user(helper.name, "word") as token, token.impersonate():
                await job.set_helper_token()
            await job.set_helper_token_flags(openbits.TokenFlags.LOCAL_FILE)
            await job.add_file(url, path)

            async def complete(mine: openbits.AsyncJob, info: openbits.JobInfo) -> None:
                await mine.complete()
                taken.append(info["state"])

            await job.notify(complete)
            await job.resume()
            while not taken:
                outcome = await job.wait(20)
            assert taken == ["transferred"]
            return outcome.value

    assert as_user(owner, lambda: asyncio.run(story())) in {"transferred", "acknowledged"}
    assert (path.read_bytes(), path.stat().st_uid, site.uids("/file")) == (b"content", helper.uid, {owner.uid})


@pytest.mark.root
def test_waiting_outlasts_the_death_of_the_manager(
    service: Service, site: Site, private_folder: Callable[[Any], Path], root: Any, eventually: Callable[..., object]
) -> None:
    content = b"x" * 300_000
    url = site.put("/file", content)
    gate = site.gate("/file", 100_000)

    async def story(path: Path) -> openbits.Outcome:
        async with openbits.AsyncClient(socket=str(service.socket)) as client:
            job = await client.create_job("async", priority=openbits.Priority.FOREGROUND, auto_complete=True)
            await job.add_file(url, path)
            await job.resume()
            waiting = asyncio.ensure_future(job.wait(60))
            await asyncio.to_thread(eventually, lambda: site.offsets("/file"))
            await asyncio.to_thread(service.kill, "manager")
            gate.set()
            return await waiting

    path = private_folder(root) / "file"
    assert asyncio.run(story(path)) is openbits.Outcome.ACKNOWLEDGED
    assert path.read_bytes() == content
