"""The kill campaign: random work of several users, sudden deaths, and the oracle after each (docs/campaigns.md).

    python -m tests.campaigns.kill [ROUNDS [SEED]]        or: make campaign-kill N=… SEED=…

A violation prints the story of its round and of the jobs it names, and leaves the state directory where it is.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.actors import PASSWORD, Act, Actor, Answer, Taken
from tests.campaigns.board import Board
from tests.campaigns.inbox import Inbox
from tests.campaigns.ledger import Entry
from tests.campaigns.oracle import Oracle, lasting
from tests.campaigns.pages import Pages
from tests.campaigns.points import POINTS
from tests.campaigns.workload import Workload
from tests.conftest import _add_user, _free_uid, _remove_user
from tests.real.conftest import Person, Service

from openbits import BitsError

VICTIMS = (
    *[("worker",), ("broker",), ("manager",), ("zygote",), ("spawner",)] * 2,
    ("worker", "broker"),
    ("worker", "manager"),
    ("broker", "manager"),
    ("manager", "zygote"),
    ("worker", "broker", "manager", "zygote", "spawner"),
)
ROUND_SECONDS = 60.0
"""A round that takes longer is a violation: somebody waits for ever."""
FUSE_SECONDS = 2.0
"""How long after the work a lit point may be passed, by what goes on in the background."""
STORY_ROUNDS = 3


class ViolationError(AssertionError):
    """A promise was broken; the text is the story."""


@dataclass(slots=True)
class Round:
    """What happens in one round, and what came of it."""

    number: int
    point: str | None
    nth: int
    victims: tuple[str, ...]
    delay_seconds: float
    plans: dict[int, list[Act]]
    killed: set[int] = field(default_factory=set)
    died_at: float | None = None
    answers: list[tuple[int, Answer]] = field(default_factory=list)

    def story(self) -> str:
        """For people."""
        cause = f"death no {self.nth} at {self.point}" if self.point else f"kill {self.victims}"
        lines = [f"round {self.number}: {cause} after {self.delay_seconds:.3f} s; killed {sorted(self.killed)}"]
        lines += [f"  uid {uid}: {_shown(answer)}" for uid, answer in self.answers]
        return "\n".join(lines)


class Campaign:
    """A service with a board, users who act on it, and the rounds."""

    def __init__(self, service: Service, board: Board, owners: list[Any], helper: Any, base: Path, seed: int) -> None:
        self.service = service
        self.board = board
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # to be repeated
        folders = {user.uid: _folder_of(user, base) for user in (*owners, helper)}
        common = base / "common"
        common.mkdir()
        common.chmod(0o1777)
        self.actors = {owner.uid: Actor(owner, str(service.socket), helper.name) for owner in owners}
        self.pages, self.inbox = Pages(), Inbox()
        self.work = Workload(self.random, self.pages, self.inbox, helper.uid, folders, common)
        self.oracle = Oracle(service, self.pages, self.inbox, [*folders.values(), common])
        self.rounds: list[Round] = []
        self.codes: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.jobs = 0
        self.missed: list[str] = list(POINTS)
        """Points at which no process has died yet."""
        self.random.shuffle(self.missed)

    # -- one round ----------------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Plan, work and die, recover, look. Raises ViolationError."""
        self._play(self._plan())

    def _play(self, this: Round) -> None:
        self.rounds = [*self.rounds[1 - STORY_ROUNDS :], this]
        started_at = time.monotonic()
        pids = self.service.pids()
        if this.point is not None:
            self.board.light(this.point, this.nth)
        for uid, plan in this.plans.items():
            self.actors[uid].begin(plan)
        self._let_die(this, started_at)
        taken = self._hear(this)
        self._recover(this, pids)
        self._look(taken)
        if time.monotonic() - started_at > ROUND_SECONDS:
            self._violated([f"the round took {time.monotonic() - started_at:.0f} s"])

    def _plan(self) -> Round:
        is_pointed = bool(self.missed) or self.random.random() < 0.5
        point = (self.missed[0] if self.missed else self.random.choice(list(POINTS))) if is_pointed else None
        kind = POINTS[point].act if point else None
        uids = list(self.actors)
        chosen = uids[-1] if kind == "leave" else self.random.choice(uids)
        plans = {uid: self.work.for_user(uid, kind if uid == chosen else None) for uid in uids}
        if kind == "leave":
            plans[chosen] += self.work.for_user(chosen, "cancel") if not plans[chosen] else []
        nth = 1 if self.missed else self.random.randint(1, 6)
        victims: tuple[str, ...] = ("manager",) if kind == "die" else self.random.choice(VICTIMS)
        number = self.rounds[-1].number + 1 if self.rounds else 1
        return Round(number, point, nth, victims, self.random.uniform(0, 0.6), plans)

    def _let_die(self, this: Round, started_at: float) -> None:
        """Until the actors have done their work: kill when it is time, and start the spawner anew at once."""
        is_to_kill = this.point is None or POINTS[this.point].act == "die"
        patience_ends_at = None
        while True:
            now = time.monotonic()
            if now - started_at > ROUND_SECONDS:
                self._violated(["the work does not end"])
            if is_to_kill and now - started_at >= this.delay_seconds:
                this.died_at = now
                this.killed |= self._kill(this.victims)
                is_to_kill = False
            if this.point is not None and (pid := self.board.died(this.point)):
                this.died_at = this.died_at or now
                this.killed.add(pid)
            self._keep_running()
            if all(actor.has_ended() for actor in self.actors.values()):
                patience_ends_at = patience_ends_at or now + FUSE_SECONDS
                is_burning = this.point is not None and not self.board.died(this.point)
                if not is_to_kill and (not is_burning or now > patience_ends_at):
                    break
            time.sleep(0.01)
        if this.point is not None and (pid := self.board.put_out(this.point)):
            this.killed.add(pid)
            self.missed = [name for name in self.missed if name != this.point]
        elif self.missed:
            self.missed.append(self.missed.pop(0))

    def _kill(self, victims: tuple[str, ...]) -> set[int]:
        killed = set()
        for pid, program in _processes_of(self.service.pid).items():
            if program in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        return killed

    def _keep_running(self) -> None:
        """What the machine's init does: a service that died is started again."""
        if self.service.has_ended():
            self.service.start()

    def _hear(self, this: Round) -> list[Taken]:
        taken: list[Taken] = []
        problems: list[str] = []
        entries = {entry.name: entry for entry in self.work.entries}
        for uid, actor in self.actors.items():
            answers, news = actor.end()
            taken += news
            for answer in answers:
                this.answers.append((uid, answer))
                problems += entries[answer.act.job].hear(answer)
                if answer.kind == "error":
                    self.codes[f"{answer.act.verb} {answer.value:#x}"] += 1
        if problems:
            self._violated(problems)
        return taken

    def _recover(self, this: Round, pids: dict[str, int]) -> None:
        """Until the service answers and nothing of what was killed is part of it."""
        deadline = time.monotonic() + 30
        while True:
            self._keep_running()
            with contextlib.suppress(BitsError):
                now = self.service.pids()
                parts = {now[name] for name in ("spawner", "zygote", "manager")}
                if not parts & this.killed and now["spawner"] == self.service.pid:
                    break
            if time.monotonic() > deadline:
                self._violated(["the service does not come back"])
            time.sleep(0.01)
        if this.died_at is not None and now["manager"] != pids["manager"]:
            self.recoveries.append(time.monotonic() - this.died_at)

    def _look(self, taken: list[Taken]) -> None:
        def collect() -> list[Taken]:
            return [*taken, *(notice for actor in self.actors.values() for notice in actor.notices())]

        problems = self.oracle.look(self.work.entries, collect)
        if problems:
            self._violated(problems)
        for entry in [entry for entry in self.work.entries if entry.is_over]:
            self.work.entries.remove(entry)
            self.jobs += 1
            for path, target in entry.files.items():
                path.unlink(missing_ok=True)
                self.pages.forget(target)
                self.inbox.forget_file(target)
            if entry.reply_path is not None:
                entry.reply_path.unlink(missing_ok=True)

    # -- beginning and end --------------------------------------------------------------------------------------------

    def tour(self) -> None:
        """All kinds of work in order, and one death of the manager: every point is passed."""
        first, second, last = self.actors
        plans = {uid: self.work.for_user(uid, "new") for uid in self.actors}
        parts = {
            first: ["help", "change", "finish", "pause", "send"],
            second: ["turn", "tell", "copy", "cancel", "ask"],
            last: ["swap", "seek", "straight", "forsake", "leave"],
        }
        for uid, kinds in parts.items():
            plans[uid] += [act for kind in kinds for act in self.work.for_user(uid, kind)]
        self._play(Round(0, None, 1, (), 0.0, plans))
        self._play(Round(0, None, 1, ("manager",), 0.0, {uid: [] for uid in self.actors}))

    def finish(self) -> None:
        """Without an operator, but for the tokens: every job can be brought to an end, and nothing stays behind."""
        self._play(Round(0, None, 1, (), 0.0, {uid: self.work.to_the_end(uid) for uid in self.actors}))
        ends = self.rounds[-1].answers
        names = {answer.act.job for _, answer in ends if answer.act.verb == "await" and answer.value == "error"}
        problems = [f"{entry.name} ends in ERROR (P12)" for entry in self.work.entries if self._is_sound(entry, names)]
        if problems:
            self._violated(problems)
        self._play(Round(0, None, 1, (), 0.0, {uid: self.work.for_user(uid, "leave") for uid in self.actors}))
        if problems := lasting(self._left_behind):
            self._violated(problems)

    def _is_sound(self, entry: Entry, failed: set[str]) -> bool:
        """True for a job that failed without the reason that its flags forbid a helper's folder to its owner."""
        return entry.name in failed and entry.helper_uid is None

    def _left_behind(self) -> Iterator[str]:
        yield from (f"{path} is left (P6)" for folder in self.oracle.folders for path in folder.rglob(".BIT*"))
        yield from (
            f"{path.name} may be run and no job has it" for path in (self.service.state / "admitted").glob("*-*")
        )
        admitted = {int(path.stem) for path in (self.service.state / "admitted").glob("*.json")}
        yield from (f"uid {uid} is admitted and has no job" for uid in admitted)

    def summary(self) -> str:
        """What was done, in a few lines."""
        times = sorted(self.recoveries)
        late = f", slowest {times[-1]:.2f} s" if times else ""
        half = f"{statistics.median(times):.2f}" if times else "-"
        codes = ", ".join(f"{name} {count}" for name, count in self.codes.most_common(12))
        return (
            f"{self.jobs} jobs ended; {len(times)} recoveries, median {half} s{late}; "
            f"{len(POINTS) - len(self.missed)} of {len(POINTS)} points were fatal, never fatal: {self.missed}; "
            f"never passed: {self.board.never_passed()}; refusals: {codes}"
        )

    def _violated(self, problems: list[str]) -> None:
        named = [entry for entry in self.work.entries if any(entry.name in problem for problem in problems)]
        jobs = [f"{entry.name} ({entry.job_id}):\n  " + "\n  ".join(entry.story) for entry in named]
        history = [f"states of {entry.name}: {self.oracle.history.states.get(entry.job_id or '')}" for entry in named]
        parts = [*problems, *(one.story() for one in self.rounds), *jobs, *history, self.service.log()[-5000:]]
        raise ViolationError("\n".join([f"seed {self.seed}, state in {self.service.base}", *parts]))

    def close(self) -> None:
        """End the users; jobs stay as they are."""
        for actor in self.actors.values():
            actor.close()
        self.pages.server.close()
        self.inbox.close()


def _shown(answer: Answer) -> str:
    value = f"{answer.value:#x}" if answer.kind == "error" else str(answer.value)
    return f"{answer.act.verb} {answer.act.job} {answer.act.arguments or ''} -> {answer.kind} {value} {answer.text}"


def _folder_of(user: Any, base: Path) -> Path:
    folder = base / f"files-{user.uid}"
    folder.mkdir(mode=0o700)
    os.chown(folder, user.uid, user.gid)
    return folder


def _processes_of(spawner: int) -> dict[int, str]:
    """Pid and program of everything that runs below the spawner, and of it."""
    found, ready = {spawner: "spawner"}, [spawner]
    while ready:
        pid = ready.pop()
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip().removeprefix("bits-")
                ready.append(int(child))
    return found


@contextlib.contextmanager
def running(seed: int) -> Iterator[Campaign]:
    """A campaign with two owners who have accounts, one who has none, and a helper; its folder stays if it fails."""
    base = Path(tempfile.mkdtemp(prefix="openbits-campaign-", dir="/tmp"))  # the one folder all uids can pass
    base.chmod(0o755)
    with contextlib.ExitStack() as ending:
        users = [_add_user(None, ()), _add_user(None, ()), _add_user(PASSWORD, ())]
        for user in users:
            ending.callback(_remove_user, user.name, user.uid)
        stranger_uid = _free_uid()
        board = Board.make(base / "board")
        bitsd = Path(__file__).with_name("bitsd.py")
        service = Service(base, 0, command=(sys.executable, "-I", str(bitsd), str(base / "board")))
        ending.callback(service.close)
        service.start()
        owners = [*users[:2], Person(uid=stranger_uid, gid=stranger_uid)]
        campaign = Campaign(service, board, owners, users[2], base, seed)
        ending.callback(campaign.close)
        yield campaign
    shutil.rmtree(base)


def main() -> int:
    """Run rounds until one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=500)
    parser.add_argument("seed", nargs="?", type=int, default=secrets.randbelow(10**9))
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it makes users and becomes them; run it as root")
    began_at = time.monotonic()
    say = sys.stdout.write
    say(f"seed {options.seed}\n")
    try:
        with running(options.seed) as campaign:
            for number in range(1, options.rounds + 1):
                campaign.round()
                if number % 25 == 0:
                    pace = number / (time.monotonic() - began_at) * 60
                    say(f"{number} rounds, {pace:.0f} a minute, {len(campaign.work.entries)} jobs open\n")
                    sys.stdout.flush()
            campaign.finish()
            say(f"{options.rounds} rounds without a violation\n{campaign.summary()}\n")
    except ViolationError as violation:
        say(f"VIOLATION\n{violation}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
