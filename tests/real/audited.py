"""The audit log of a service under test: of the journal where this machine has one, else of its stderr."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.real.conftest import Service

from openbits.service.audit import JOURNAL

Entry = dict[str, Any]


def entries(service: Service, act: str | None = None) -> list[Entry]:
    """What the service has written, oldest first; only of one act if that is named."""
    found = _of_journal(service) if Path(JOURNAL).exists() else _of_stderr(service)
    return [entry for entry in found if act in {None, entry["act"]}]


def _of_stderr(service: Service) -> list[Entry]:
    return [json.loads(line) for line in service.log().splitlines() if line.startswith('{"at"')]


def _of_journal(service: Service) -> list[Entry]:
    manager = service.pids()["manager"]
    command = ["journalctl", "--sync", "--output=json", "--no-pager", f"_PID={manager}", "SYSLOG_IDENTIFIER=openbits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    for line in said.splitlines():
        fields = {name.removeprefix("OPENBITS_").lower(): value for name, value in json.loads(line).items()}
        found.append({name: int(value) if str(value).isdecimal() else value for name, value in fields.items()})
    return found
