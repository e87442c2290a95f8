"""The random work of a campaign: what users do with jobs, as acts on jobs of the ledger.

Each kind of work (`KINDS`) is a short sequence of acts on one job of one user; the acts of one job stay with its user,
so their order is known. Everything is drawn from one generator: a seed gives the same work.
"""

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns.actors import Act
from tests.campaigns.inbox import SIZE, Inbox
from tests.campaigns.ledger import Entry
from tests.campaigns.pages import PARTS, Pages

from openbits.core.names import file_url

FEWEST, MOST = 8, 45
DONE = ["transferred", "error", "suspended"]


SAVED = {"slow": {"seconds": 1.0, "saved_bytes": 120_000}, "calm": {"seconds": 4.0, "saved_bytes": 450_000}}
"""When a job is far enough, by the pace of its server; of a calm one some bytes are durable then."""


@dataclass(slots=True)
class Workload:
    """Users, their folders, and the jobs that are not over."""

    random: random.Random
    pages: Pages
    inbox: Inbox
    helper_uid: int
    folders: dict[int, Path]
    """Private folder of each uid."""
    common: Path
    """A folder in which everybody may create files."""
    entries: list[Entry] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)

    def for_user(self, uid: int, kind: str | None = None) -> list[Act]:
        """Some work of one user; `kind`: this kind of it."""
        kinds = [kind] if kind else [self._any_kind() for _ in range(self.random.randint(1, 3))]
        return [act for one in kinds for act in KINDS[one](self, uid)]

    def _any_kind(self) -> str:
        count = len(self.entries)
        if count < FEWEST:
            return self.random.choice(["new", "help", "finish"])
        return self.random.choice(CLOSING if count > MOST else MIXED)

    def of(self, uid: int) -> Entry | None:
        """Any job of this user that may be there."""
        own = [entry for entry in self.entries if entry.uid == uid and not entry.is_over]
        return self.random.choice(own) if own else None

    def to_the_end(self, uid: int) -> list[Act]:
        """Everything that is there resumed, with its helper, and completed as it arrives."""
        own = [entry for entry in self.entries if entry.uid == uid and not entry.is_over]
        acts = []
        for entry in own:
            acts += [Act("help", entry.name)] if entry.helper_uid is not None else []
            acts += [Act("set", entry.name, {"priority": "foreground"}), Act("resume", entry.name)]
        for entry in own:
            acts += [Act("await", entry.name, {"states": DONE, "seconds": 20.0}), Act("complete", entry.name)]
        return acts

    # -- kinds of work ------------------------------------------------------------------------------------------------

    def start(
        self,
        uid: int,
        *,
        pace: str = "",
        flags: int = 0,
        folder: Path | None = None,
        priority: str = "foreground",
        **properties: Any,
    ) -> list[Act]:
        """A new job with some files, running; `folder`: where, if not in one of its local-file identity."""
        name = f"job-{next(self.numbers)}"
        maker = self.helper_uid if flags & 1 else uid
        self.entries.append(Entry(name=name, uid=uid, helper_uid=self.helper_uid if flags else None))
        at_a_time = 1 if pace else self.random.choice([1, 2, 8])  # what is paced is looked at in the middle of a file
        settings = {"minimum_retry_delay_seconds": 5, "priority": priority, "parallel_files": at_a_time}
        settings |= properties
        acts = [Act("create", name), Act("set", name, settings)]
        acts += [Act("help", name), Act("flags", name, {"flags": flags})] if flags else []
        acts.append(self._add(name, folder or self._folder(maker), pace))
        acts += [Act("notify", name)] if self.random.random() < 0.7 else []
        acts += [Act("set", name, {"auto_complete": True})] if not flags and self.random.random() < 0.2 else []
        return [*acts, Act("resume", name)]

    def _add(self, name: str, folder: Path, pace: str = "") -> Act:
        """One or two files, now and then a handful; `pace`: see Pages, any if empty."""
        files = []
        for _ in range(self.random.choice([1, 2] if pace else [1, 2, 2, 6])):
            target = f"/{pace or self.random.choice(['fast', 'fast', 'fast', 'slow'])}-{next(self.numbers)}"
            files.append((self.pages.put(target), str(folder / target[1:])))
        return Act("add", name, {"files": files})

    def _folder(self, uid: int) -> Path:
        """The user's folder, or a new one in it, for which a confined broker has to be started anew."""
        base = self.folders[uid]
        if self.random.random() < 0.6:
            return base
        made = base / f"folder-{next(self.numbers)}"
        made.mkdir(mode=0o700)
        owner = base.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
        return made

    def new(self, uid: int) -> list[Act]:
        """A job that may have to wait for its turn."""
        return self.start(uid, priority=self.random.choice(["foreground", "high", "normal"]))

    def help(self, uid: int) -> list[Act]:
        """A job with a helper, in one of the three ways."""
        return self.start(uid, flags=self.random.choice([1, 2, 3]))

    def pause(self, uid: int, pace: str = "slow") -> list[Act]:
        """Stopped in the middle, and on again."""
        start = self.start(uid, pace=pace)
        name = start[0].job
        saved = {"states": DONE, **SAVED[pace]}
        return [*start, Act("await", name, saved), Act("suspend", name), Act("resume", name)]

    def change(self, uid: int) -> list[Act]:
        """The file changes on its server while the job pauses in the middle."""
        *start, resume = self.pause(uid, "calm")
        files = next(act.arguments["files"] for act in start if act.verb == "add")
        return [*start, *(Act("renew", resume.job, {"url": url}) for url, _ in files), resume]

    def turn(self, uid: int) -> list[Act]:
        """Another identity has to go on with the bytes; both may create files in the folder."""
        start = self.start(uid, pace="calm", flags=1, folder=self.common)
        name = start[0].job
        saved = {"states": DONE, **SAVED["calm"]}
        flags = self.random.choice([0, 2])
        wait = Act("await", name, {"states": DONE, "seconds": 3.0})
        return [*start, Act("await", name, saved), Act("flags", name, {"flags": flags}), wait]

    def swap(self, uid: int) -> list[Act]:
        """Another identity has to go on with a file that has no bytes yet: it makes its own."""
        start = self.start(uid, pace="late", flags=1, folder=self.common)
        name = start[0].job
        wait = Act("await", name, {"states": DONE, "seconds": 3.0})
        return [*start, Act("begun", name), Act("flags", name, {"flags": self.random.choice([0, 2])}), wait]

    def finish(self, uid: int) -> list[Act]:
        """From the first to the last call."""
        start = self.start(uid, pace="fast")
        name = start[0].job
        return [*start, Act("await", name, {"states": DONE, "seconds": 2.0}), Act("complete", name)]

    def copy(self, uid: int) -> list[Act]:
        """The files come from this machine and not from a server."""
        sources = self.common.parent / "sources"
        sources.mkdir(mode=0o755, exist_ok=True)
        acts = self.start(uid, pace="fast")
        number = next(number for number, act in enumerate(acts) if act.verb == "add")
        pairs = []
        for _, path in acts[number].arguments["files"]:
            source = sources / Path(path).name
            source.write_bytes(self.pages.bodies["/" + source.name][-1])
            source.chmod(0o644)
            pairs.append((file_url(str(source)), path))
        acts[number] = Act("add", acts[number].job, {"files": pairs})
        return [*acts, Act("await", acts[0].job, {"states": DONE, "seconds": 2.0}), Act("complete", acts[0].job)]

    def tell(self, uid: int) -> list[Act]:
        """A program is run when it has arrived, and takes the notice or not."""
        *start, resume = [act for act in self.start(uid, pace="fast") if act.verb != "notify"]
        program = self.random.choice(["/bin/true", "/bin/false"])
        command = Act("command", resume.job, {"program": program})
        waits = [Act("await", resume.job, {"states": states, "seconds": 0.5 + len(states)}) for states in (DONE, [])]
        return [*start, command, resume, *waits, Act("complete", resume.job)]

    def parts(self, uid: int) -> list[Act]:
        """A file is made of parts of the remote one."""
        acts = self.start(uid, pace="slow", segments=self.random.choice([1, 3]))
        number = next(number for number, act in enumerate(acts) if act.verb == "add")
        target = f"/slow-parts-{next(self.numbers)}"
        file = (self.pages.put(target), str(Path(acts[number].arguments["files"][0][1]).with_name(target[1:])))
        acts[number] = Act("add", acts[number].job, {"files": [file], "parts": PARTS})
        return [*acts, Act("await", acts[0].job, {"states": DONE, "seconds": 3.0}), Act("complete", acts[0].job)]

    def seek(self, uid: int) -> list[Act]:
        """Its middle is wanted first, perhaps over several connections, perhaps nothing else."""
        is_demanded = self.random.random() < 0.4
        segments = self.random.choice([1, 4])
        *start, resume = self.start(uid, pace="slow", segments=segments, on_demand_mode=is_demanded)
        name = resume.job
        first, then = ([(at, self.random.randint(1, 200_000))] for at in (100_000, 450_000))
        saved = {"states": DONE, "seconds": 1.0, "saved_bytes": 60_000}
        asked = [Act("want", name, {"parts": first}), resume, Act("await", name, saved)]
        more = [Act("want", name, {"parts": then}), resume]
        return [*start, *asked, *more, Act("await", name, {"states": DONE, "seconds": 2.0})]

    def many(self, uid: int) -> list[Act]:
        """A dozen files move at a time: stopped in the middle, or left to themselves."""
        acts = self.start(uid, pace="fast", parallel_files=8)
        number = next(number for number, act in enumerate(acts) if act.verb == "add")
        name, folder = acts[0].job, Path(acts[number].arguments["files"][0][1]).parent
        targets = [f"/{self.random.choice(['fast', 'slow'])}-{next(self.numbers)}" for _ in range(12)]
        acts[number] = Act("add", name, {"files": [(self.pages.put(one), str(folder / one[1:])) for one in targets]})
        saved = {"states": DONE, "seconds": 1.0, "saved_bytes": 1_000_000}
        stops = [Act("suspend", name), Act("resume", name)] if self.random.random() < 0.5 else []
        return [*acts, Act("await", name, saved), *stops, Act("await", name, {"states": DONE, "seconds": 2.0})]

    def straight(self, uid: int) -> list[Act]:
        """Written straight into the destination, and left there whatever happens."""
        start = self.start(uid, pace="fast", high_performance=True)
        name = start[0].job
        end = Act(self.random.choice(["complete", "complete", "cancel"]), name)
        return [*start, Act("await", name, {"states": DONE, "seconds": 1.0}), end]

    def _upload(self, uid: int, kind: str) -> list[Act]:
        """A new upload to the inbox, running; its file and the reply are in the folder of its local-file identity."""
        name, flags = f"job-{next(self.numbers)}", self.random.choice([0, 0, 1, 2, 3])
        maker = self.helper_uid if flags & 1 else uid
        helper_uid = self.helper_uid if flags else None
        self.entries.append(Entry(name=name, uid=uid, helper_uid=helper_uid, kind=kind))
        target = f"/{self.random.choice(['fast', 'slow'])}-{next(self.numbers)}"
        folder = self.folders[maker]
        source = folder / target[1:]
        source.write_bytes(self.random.randbytes(SIZE))
        os.chown(source, *(folder.stat().st_uid, folder.stat().st_gid))
        source.chmod(0o600)
        acts = [Act("create", name, {"kind": kind})]
        acts.append(Act("set", name, {"minimum_retry_delay_seconds": 5, "priority": "foreground"}))
        acts += [Act("help", name), Act("flags", name, {"flags": flags})] if flags else []
        acts.append(Act("add", name, {"files": [(self.inbox.url(target), str(source))]}))
        acts += [Act("notify", name)] if self.random.random() < 0.7 else []
        return [*acts, Act("resume", name)]

    def send(self, uid: int) -> list[Act]:
        """A file goes to a server."""
        start = self._upload(uid, "upload")
        name = start[0].job
        return [*start, Act("await", name, {"states": DONE, "seconds": 3.0}), Act("complete", name)]

    def ask(self, uid: int) -> list[Act]:
        """The same, and the answer comes back."""
        start = self._upload(uid, "upload_reply")
        name = start[0].job
        return [*start, Act("await", name, {"states": DONE, "seconds": 3.0}), Act("complete", name)]

    def forsake(self, uid: int) -> list[Act]:
        """Given up half-way: the server is told."""
        acts = self._upload(uid, self.random.choice(["upload", "upload_reply"]))
        name = acts[0].job
        number = next(number for number, act in enumerate(acts) if act.verb == "add")
        ((url, path),) = acts[number].arguments["files"]
        slow = (url.replace("/fast-", "/slow-"), path)
        acts[number] = Act("add", name, {"files": [slow]})
        saved = {"states": DONE, "seconds": 2.0, "saved_bytes": 1}
        return [*acts, Act("await", name, saved), Act("cancel", name)]

    def cancel(self, uid: int) -> list[Act]:
        """Begun and given up."""
        start = self.start(uid, pace="slow")
        name = start[0].job
        return [*start, Act("await", name, {"states": DONE, "seconds": 1.0, "saved_bytes": 1}), Act("cancel", name)]

    def leave(self, uid: int) -> list[Act]:
        """Give up all jobs of this user."""
        return [Act("cancel", entry.name) for entry in self.entries if entry.uid == uid and not entry.is_over]

    def die(self, uid: int) -> list[Act]:
        """Work for a round in which the manager dies and starts."""
        return self.start(uid)

    def touch(self, uid: int) -> list[Act]:
        """One call on a job that is there."""
        entry = self.of(uid)
        if entry is None:
            return self.start(uid)
        verb = self.random.choice(["suspend", "resume", "resume", "complete", "cancel", "set", "add", "flags", "help"])
        match verb:
            case "set":
                values = {"description": f"text {next(self.numbers)}", "priority": self.random.choice(["high", "low"])}
                return [Act("set", entry.name, values)]
            case "add":
                return [self._add(entry.name, self._folder(uid))] if entry.helper_uid is None else []
            case "flags" | "help" if entry.helper_uid is None:
                return [Act("resume", entry.name)]
            case "flags":
                return [Act("flags", entry.name, {"flags": self.random.choice([0, 1, 2, 3])})]
            case _:
                return [Act(verb, entry.name)]


KINDS: dict[str, Callable[[Workload, int], list[Act]]] = {
    "new": Workload.new,
    "help": Workload.help,
    "pause": Workload.pause,
    "change": Workload.change,
    "turn": Workload.turn,
    "swap": Workload.swap,
    "finish": Workload.finish,
    "copy": Workload.copy,
    "tell": Workload.tell,
    "parts": Workload.parts,
    "seek": Workload.seek,
    "many": Workload.many,
    "straight": Workload.straight,
    "send": Workload.send,
    "ask": Workload.ask,
    "forsake": Workload.forsake,
    "cancel": Workload.cancel,
    "leave": Workload.leave,
    "die": Workload.die,
    "touch": Workload.touch,
}
_HTTP = ["parts", "seek", "many", "straight", "send", "ask", "forsake"]
MIXED = ["new", "help", "finish", "copy", "tell", "pause", "change", "turn", "swap", "cancel", *_HTTP, *["touch"] * 9]
CLOSING = ["touch", "leave"]
