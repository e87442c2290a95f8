"""Policies of the machine: `*.toml` of the folder `policy.d` beside the settings, in name order, later files winning.

The keys are the documented names of the group policies; what each means stands in `core.policies`. A mistake is never
passed over: the service does not start with it, and a running service keeps the policies it has, logs the mistake and
shows it to whoever asks for the policies (`bits policy show`, `bits doctor`). Changes of the files apply to the running
service within POLL_SECONDS.
"""

import asyncio
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from openbits.api.wire import PoliciesInfo, PolicyInfo
from openbits.core.policies import DEFAULTS, POLICIES, Policies, Policy, contradiction

log = logging.getLogger("openbits.manager")

FOLDER = "policy.d"
POLL_SECONDS = 2.0


class PolicyError(Exception):
    """A policy file cannot be used; the text names file, line, key and rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the files say: the policies in force, and for each that a file sets, by its name, `file:line`."""

    policies: Policies = DEFAULTS
    origins: Mapping[str, str] = field(default_factory=dict)


def load(folder: Path) -> Loaded:
    """Read the policy folder; a folder that does not exist gives the defaults. Raises PolicyError."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in _files(folder):
        try:
            text = path.read_text()
            document = tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise PolicyError(f"cannot read {path}: {error}") from error
        for name, value in document.items():
            place = f"{path}:{_line_of(name, text)}"
            policy = _known(place, name)
            if not policy.accepts(value):
                raise PolicyError(f"{place}: {name} = {_shown(value)} is out of range; it must be {policy.rule}")
            values[policy.field] = value
            origins[name] = place
    policies = Policies(**values)
    refusal = contradiction(policies)
    if refusal:
        raise PolicyError(f"{folder}: {refusal}")
    return Loaded(policies=policies, origins=origins)


def _files(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PolicyError(f"cannot read {folder}: {os.strerror(error.errno or 0)}") from error
    return [path for path in paths if path.suffix == ".toml"]


def _known(place: str, name: str) -> Policy:
    if name not in POLICIES:
        same = [known for known in POLICIES if known.lower() == name.lower()]
        known = f"the name is {same[0]}" if same else f"known are {', '.join(sorted(POLICIES))}"
        raise PolicyError(f"{place}: unknown policy {_shown(name)}; {known}")
    return POLICIES[name]


def _line_of(name: str, text: str) -> int:
    """Where a key stands; a key of TOML stands in a file once."""
    key = re.compile(rf"""\s*\[?\s*(["']?){re.escape(name)}\1\s*[].=]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)


def _shown(value: object) -> str:
    """A value in a message: as TOML has it, printable and short."""
    text = str(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


class PolicyWatch:
    """The policies of a running service; `problem` is why the files of now are not in force, empty if they are."""

    def __init__(self, folder: Path) -> None:
        """Raises PolicyError: a service does not begin with policies that it cannot read."""
        self.on_change: Callable[[Policies], None] = lambda _: None
        """Called when other policies are in force."""
        self._folder = folder
        self._signature = _signature(folder)
        self._loaded = load(folder)
        self.problem = ""
        _log(self._loaded)

    @property
    def policies(self) -> Policies:
        """What is in force."""
        return self._loaded.policies

    async def run(self) -> NoReturn:
        """Look at the files again and again."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the files if one has changed, in a thread: the loop does not wait for a disk."""
        signature = await asyncio.to_thread(_signature, self._folder)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            loaded = await asyncio.to_thread(load, self._folder)
        except PolicyError as error:
            self.problem = str(error)
            log.error("policies_refused why=%s; those from before stay in force", error)  # noqa: TRY400  # it says all
            return
        self.problem = ""
        is_change = loaded.policies != self._loaded.policies
        self._loaded = loaded
        _log(loaded)
        if is_change:
            self.on_change(loaded.policies)

    def info(self) -> PoliciesInfo:
        """What the API shows of them."""
        rows = [_info(row, self._loaded) for row in POLICIES.values()]
        return {"folder": str(self._folder), "problem": self.problem, "policies": rows}


def _info(row: Policy, loaded: Loaded) -> PolicyInfo:
    value: int | None = getattr(loaded.policies, row.field)
    return {
        "name": row.name,
        "kind": "boolean" if row.type is bool else "number",
        "value": None if value is None else int(value),
        "default": None if row.default is None else int(row.default),
        "unit": row.unit,
        "rule": row.rule,
        "doc": row.doc,
        "origin": loaded.origins.get(row.name, ""),
        "is_used": row.is_used,
    }


def _signature(folder: Path) -> tuple[object, ...]:
    """Changes when a file does; what cannot be looked at is told by `load`."""
    try:
        paths = _files(folder)
    except PolicyError as error:
        return (str(error),)
    return tuple((path.name, *_status(path)) for path in paths)


def _status(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _log(loaded: Loaded) -> None:
    """What is not the default, for whoever looks after the machine (event 82)."""
    for name, origin in loaded.origins.items():
        row = POLICIES[name]
        value = getattr(loaded.policies, row.field)
        use = "" if row.is_used else " it is not used yet"
        log.info("policy_read name=%s value=%s from=%s%s", name, _shown(value), origin, use)
