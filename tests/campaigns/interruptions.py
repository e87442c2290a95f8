"""The campaign of interrupted uploads: one file, a real service, a real `bits-server`, and a sudden end at any byte.

    python -m tests.campaigns.interruptions [N [SEED [MEBIBYTES]]]        or: make campaign-upload N=… SEED=…

The relay between them stops at N random bytes of the file; there something ends or is cut. In the end the file is
there once and is the same, and after each interruption at most one fragment was sent a second time.
"""

import argparse
import contextlib
import hashlib
import os
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.campaigns.relay import Relay
from tests.real.conftest import Service
from tests.server.process import ServerProcess

from openbits import BitsError, Job, JobType, Priority
from openbits.api.connection import UnreachableError

PATIENCE_SECONDS: Final = 90
"""Nothing that happens takes longer than this until bytes move again."""
MEBIBYTE: Final = 1024 * 1024
SETTINGS: Final = """
[directories."/inbox/"]
BITSUploadEnabled = true
BITSSessionLimitEnable = false
allow_anonymous = true
quota_bytes = 10_000_000_000
"""
MOST_AT_ONCE: Final = 3
"""Fragments that one moment costs: both programs may be killed at once, and just when one sends again by itself."""
DONE: Final = {"transferred", "acknowledged"}


class BrokenError(AssertionError):
    """A promise was broken; the text is the story."""


class Campaign:
    """One upload and what happens to it."""

    def __init__(self, base: Path, size_bytes: int, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # to be repeated
        self.size_bytes = size_bytes
        self.source = base / "source"
        self._hash = _write(self.source, size_bytes, self.random)
        (base / "service").mkdir()
        (base / "server").mkdir()
        self.service = Service(base / "service", os.geteuid())
        self.server = ServerProcess(base / "server", SETTINGS, limits="shutdown_seconds = 1")
        self.happened: list[str] = []
        """The interruptions so far."""
        self.service.start()
        self.server.start()
        self.relay = Relay(self.server.port)
        self._client = self.service.client()
        self._job = self._new_job()

    def close(self) -> None:
        """End everything."""
        with contextlib.ExitStack() as endings:
            endings.callback(self.server.close)
            endings.callback(self.service.close)
            endings.callback(self.relay.close)
            endings.callback(self._client.close)

    def _new_job(self) -> Job:
        job = self._client.create_job("interrupted", type=JobType.UPLOAD, priority=Priority.FOREGROUND)
        job.set(minimum_retry_delay_seconds=5)
        job.add_file(f"http://127.0.0.1:{self.relay.port}/inbox/file", self.source)
        return job

    # -- what happens -------------------------------------------------------------------------------------------------

    def run(self, count: int) -> None:
        """Interrupt the upload so many times, each time at a random byte, then let it come to its end."""
        positions = sorted(self.random.randrange(self.size_bytes) for _ in range(count))
        kinds = self._kinds(count)
        self.relay.stop_at(positions[0])
        self._job.resume()
        for number, kind in enumerate(kinds):
            self._wait(self.relay.tripped.is_set, f"byte {positions[number]}, for interruption {number}")
            self.happened.append(kind)
            if number + 1 < count:  # before: who was killed may be there again, and beyond that byte, when the act ends
                self.relay.stop_at(positions[number + 1])
            ACTS[kind](self)
            self.relay.release()
        self._wait(self._is_done, "the end")
        self._tell(lambda job: job.complete())

    def _kinds(self, count: int) -> list[str]:
        """Each kind as often as every other one."""
        kinds = (list(ACTS) * (count // len(ACTS) + 1))[:count]
        self.random.shuffle(kinds)
        return kinds

    def _wait(self, has_come: Callable[[], bool], what: str) -> None:
        """Until it has come; what failed transiently is tried again at once. Raises BrokenError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not has_come():
            state = self._state()
            if state == "error":
                raise BrokenError(f"the job failed while {what} was awaited: {self._error()}\n{self.story()}")
            if state == "transient_error":
                self._tell(lambda job: job.resume())
            if state in DONE and not self._is_done():
                raise BrokenError(f"the job is {state} before its end\n{self.story()}")
            if time.monotonic() > deadline:
                raise BrokenError(f"{what} does not come; the job is {state}: {self._error()}\n{self.story()}")
            time.sleep(0.01)

    def _is_done(self) -> bool:
        return self._state() in DONE

    def _state(self) -> str:
        try:
            return self._job.info()["state"]
        except UnreachableError:
            self._connect()
            return "unknown"

    def _error(self) -> object:
        with contextlib.suppress(BitsError):
            return self._job.error
        return "nobody answers"

    def _tell(self, call: Callable[[Job], object]) -> None:
        """Call until somebody answers; a call that came twice is refused, which is as good."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                call(self._job)
            except UnreachableError:
                self._connect()
            except BitsError:
                return
            else:
                return
        raise BrokenError(f"nobody answers\n{self.story()}")

    def _connect(self) -> None:
        """The service has ended and is there again, or will be."""
        if self.service.has_ended():
            self.service.start()
        self.service.wait_until_it_answers()
        with contextlib.suppress(BitsError):
            self._client.close()
        self._client = self.service.client()
        self._job = self._client.job(self._job.id)

    def story(self) -> str:
        """For people."""
        lines = [f"seed {self.seed}; so far {len(self.happened)} interruptions, the last: {self.happened[-6:]}"]
        lines += [f"  {one}" for one in self.relay.fragments[-12:]]
        lines += ["bits-server:", *self.server.log().splitlines()[-12:]]
        lines += ["service:", *self.service.log().splitlines()[-12:]]
        return "\n".join(lines)

    # -- what ends ----------------------------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """The program that talks to the network."""
        self.service.kill("worker")

    def kill_manager(self) -> None:
        """The program that knows how far the upload is."""
        self.service.kill("manager")
        self._connect()

    def kill_service(self) -> None:
        """All of it."""
        self.service.kill("spawner")
        self._connect()

    def kill_server(self) -> None:
        self.server.kill()
        self.server.start()

    def kill_both(self) -> None:
        self.server.kill()
        self.service.kill("spawner")
        self._connect()
        self.server.start()

    def restart_service(self) -> None:
        """As an administrator does it."""
        self.service.stop()
        self._connect()

    def restart_server(self) -> None:
        """The fragment that is on its way is held: it does not end, and the server does not wait for ever."""
        self.server.stop()
        self.server.start()

    def cut(self) -> None:
        """The network."""
        self.relay.cut()

    def cut_answer(self) -> None:
        """The network, while the fragment is acknowledged."""
        self.relay.cut_answer(self.random.randrange(200))

    def pause(self) -> None:
        """A user."""
        self._tell(lambda job: job.suspend())
        self._tell(lambda job: job.resume())

    # -- what has to hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises BrokenError."""
        problems = []
        target = self.server.inbox / "file"
        if _hash(target) != self._hash:
            problems.append("the file at the server is another one")
        if [path.name for path in self.server.inbox.iterdir()] != ["file"]:
            problems.append(f"there is more than the file: {list(self.server.inbox.iterdir())}")
        problems += self._sent_too_often()
        problems += [f"{name} has a crash in its log" for name, log in self._logs() if "Traceback" in log]
        if problems:
            raise BrokenError("\n".join([*problems, self.story()]))

    def _sent_too_often(self) -> Iterator[str]:
        """At no time more fragments than there were interruptions, of which some fall together and two are one."""
        again, total = self.relay.sent_twice(), 0
        with_news = {one.epoch for one in self.relay.fragments}
        most = MOST_AT_ONCE
        for epoch in range(max(again, default=0) + 1):
            count = again.get(epoch, 0)
            total += count
            if count > most or total > epoch:
                yield f"until moment {epoch} {total} fragments were sent again, {count} of them after it:"
                yield from (f"  {one}" for one in self.relay.fragments if one.epoch in {epoch - 1, epoch})
            most = MOST_AT_ONCE if epoch in with_news else most + 1
        if total > len(self.happened):
            yield f"{total} fragments were sent again in {len(self.happened)} interruptions"

    def _logs(self) -> Iterator[tuple[str, str]]:
        yield "bits-server", self.server.log()
        yield "the service", self.service.log()

    def report(self) -> str:
        """What happened, in a few lines."""
        again = self.relay.sent_twice()
        surplus = self.relay.carried_bytes - self.size_bytes
        lines = [
            f"{self.size_bytes / MEBIBYTE:.0f} MiB in {len(self.relay.fragments)} fragments",
            f"{len(self.happened)} interruptions: {dict(sorted(Counter(self.happened).items()))}",
            f"sent again: {sum(again.values())} fragments, {max(again.values(), default=0)} at most after one of them",
            f"{surplus / MEBIBYTE:.1f} MiB more than the file were sent",
            f"SHA-256 {self._hash} on both sides",
        ]
        return "\n".join(lines)


ACTS: Final[dict[str, Callable[[Campaign], None]]] = {
    "kill worker": Campaign.kill_worker,
    "kill manager": Campaign.kill_manager,
    "kill service": Campaign.kill_service,
    "kill server": Campaign.kill_server,
    "kill both": Campaign.kill_both,
    "restart service": Campaign.restart_service,
    "restart server": Campaign.restart_server,
    "cut": Campaign.cut,
    "cut answer": Campaign.cut_answer,
    "suspend and resume": Campaign.pause,
}


def _write(path: Path, size_bytes: int, draw: random.Random) -> str:
    """Random bytes; returns their hash."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for at in range(0, size_bytes, MEBIBYTE):
            part = draw.randbytes(min(MEBIBYTE, size_bytes - at))
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def running(seed: int, size_bytes: int) -> Iterator[Campaign]:
    """A campaign in a folder of its own, which stays if it fails."""
    base = Path(tempfile.mkdtemp(prefix="openbits-upload-"))
    base.chmod(0o755)
    campaign = Campaign(base, size_bytes, seed)
    try:
        yield campaign
    finally:
        campaign.close()
    shutil.rmtree(base)


def main() -> None:
    parser = argparse.ArgumentParser(description="interrupt one upload many times, at random bytes")
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("seed", type=int, nargs="?", default=secrets.randbelow(10**9))
    parser.add_argument("mebibytes", type=int, nargs="?", default=1024)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201  # a program of its own
    began = time.monotonic()
    with running(options.seed, options.mebibytes * MEBIBYTE) as campaign:
        campaign.run(options.count)
        campaign.check()
        print(campaign.report())  # noqa: T201
    print(f"kept, in {time.monotonic() - began:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
