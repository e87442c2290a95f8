"""Clients that wait for a job outlast the death of any program of the service."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, run_as
from tests.real.stories import create, names
from tests.real.versions import CHUNK, Versions

from openbits import Outcome

pytestmark = pytest.mark.root

PROGRAMS = ("worker", "broker", "manager", "zygote", "spawner")


@pytest.mark.parametrize("program", PROGRAMS)
def test_waiting_outlasts_the_death_of_any_program(
    program: str, service: Service, throwaway_user: Callable[..., Any], private_folder: Callable[[Any], Path]
) -> None:
    owner, versions = throwaway_user(), Versions(pause_seconds=0.1)
    folder = private_folder(owner)
    job = create(service, owner, [(versions.put("/file"), folder / "file")])
    job.receives(CHUNK)

    reading, writing = os.pipe()

    def wait() -> str:
        with service.client() as client:
            own = client.job(job.id)
            other = client.create_job("another one")
            states = []
            for info in own.follow(timeout=60):
                states.append(info["state"])
                os.write(writing, b".")
            assert states[-1] == "transferred"
            assert own.wait() is Outcome.TRANSFERRED
            assert own.complete() == 0
            assert other.info()["job_id"] == str(other.id)
            return own.info()["state"]

    kept: list[object] = []
    waiter = threading.Thread(target=lambda: kept.append(run_as(owner, wait)))
    waiter.start()
    try:
        assert os.read(reading, 1) == b"."
        service.kill(program)
        if program == "spawner":
            service.start()
    finally:
        waiter.join(70)
        versions.server.close()
        os.close(reading)
        os.close(writing)
    assert kept == ["acknowledged"]
    assert (folder / "file").read_bytes() in versions.bodies["/file"]


def test_bits_get_outlasts_five_deaths_of_the_manager(
    service: Service, throwaway_user: Callable[..., Any], private_folder: Callable[[Any], Path]
) -> None:
    owner, versions = throwaway_user(), Versions()
    folder = private_folder(owner)
    urls = [versions.put(f"/{number}") for number in range(3)]
    command = [sys.executable, "-I", "-m", "openbits.cli.main", "get", *urls, f"{folder}/"]
    environ = {"OPENBITS_SOCKET": str(service.socket), "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        command,
        env=environ,
        user=owner.uid,
        group=owner.gid,
        extra_groups=[],
        cwd="/",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            for _ in range(5):
                if process.poll() is None:
                    time.sleep(0.15)  # the moment is the point
                    service.kill("manager")
                    service.wait_until_it_answers()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            versions.server.close()
    assert process.returncode == 0, err
    assert f"{folder}/0" in out
    assert names(folder) == ["0", "1", "2"]
    for number in range(3):
        assert (folder / str(number)).read_bytes() in versions.bodies[f"/{number}"]
