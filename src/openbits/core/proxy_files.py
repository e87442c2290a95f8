"""Proxy settings in files: our own table `[proxy]`, and the variables of the environment that files set.

Pure: texts come in. What is wrong is told by file, line and rule and never by content, which may be another user's
than that of whoever reads the message.

The table has `usage` (`environment`, `no-proxy`, `override`, `autodetect`, `script`), and with `override` `list` and
`bypass` (as in `core.proxies`), with `script` the `url` of a PAC script. `environment`, which is the default, says
nothing: whatever comes next is asked.

Variables: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, in lower or upper case; lower case wins. Values are
`[kind://][user:password@]server[:port]`. Other lines of such a file are none of our business.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from openbits.core import proxies
from openbits.core.no_proxy import Exceptions
from openbits.core.proxies import KINDS, BadProxiesError, Settings, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table `[proxy]`."""

    usage: Usage = Usage.ENVIRONMENT
    list: str = ""
    bypass: str = ""
    url: str = ""

    def settings(self, source: str) -> Settings | None:
        """What it means; None: nothing. Raises BadProxiesError with key and rule."""
        for key, usage in (("list", Usage.OVERRIDE), ("bypass", Usage.OVERRIDE), ("url", Usage.SCRIPT)):
            if getattr(self, key) and self.usage is not usage:
                raise KeyedError(key, f'it goes with usage = "{usage}" alone')
        match self.usage:
            case Usage.ENVIRONMENT:
                return None
            case Usage.OVERRIDE:
                made = Settings(usage=Usage.OVERRIDE, proxy_list=self.list, bypass=self.bypass, source=source)
                self._check_lists(made)
                return made
            case Usage.SCRIPT:
                if not re.fullmatch(r"https?://[!-~]+", self.url):
                    raise KeyedError("url", "write the http or https URL of the script")
                return Settings(usage=Usage.SCRIPT, script_url=self.url, source=source)
            case _:
                return Settings(usage=self.usage, source=source)

    def _check_lists(self, made: Settings) -> None:
        for key in ("list", "bypass"):
            try:
                proxies.read(made if key == "bypass" else Settings(usage=made.usage, proxy_list=made.proxy_list))
            except BadProxiesError as error:
                raise KeyedError(key, str(error).rpartition(": ")[2]) from None


class KeyedError(BadProxiesError):
    """A key of the table cannot be used."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(f"{key} in table [proxy]: {rule}")
        self.key = key
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """User and password that a variable has for its proxy."""

    label: str
    """Of the proxy."""
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What variables say: settings, and what is secret in them."""

    settings: Settings
    credentials: tuple[Credential, ...] = ()


def read_table(text: str, path: str) -> Settings | None:
    """What a settings file of ours says; None: nothing. Raises BadProxiesError naming file, line and rule."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise _bad(path, int(line[1]) if line else _lines(text), "this is not TOML") from None
    unknown = [name for name in document if name != "proxy"]
    if unknown:
        raise _bad(path, _line_of(text, rf"\[?{re.escape(unknown[0])}"), "the only table of this file is [proxy]")
    table = document.get("proxy", {})
    if not isinstance(table, dict):
        raise _bad(path, _line_of(text, "proxy"), "proxy is a table: write [proxy]")
    known = Table.__dataclass_fields__
    for key, value in table.items():
        number = _line_of(text, re.escape(key))
        if key not in known:
            raise _bad(path, number, f"the keys of [proxy] are {', '.join(known)}")
        if not isinstance(value, str) or (key == "usage" and value not in set(Usage)):
            raise _bad(path, number, f"{key} is {'one of ' + ', '.join(Usage) if key == 'usage' else 'a text'}")
    values = {key: str(value) for key, value in table.items() if key != "usage"}
    try:
        return Table(usage=Usage(table.get("usage", Usage.ENVIRONMENT)), **values).settings(path)
    except KeyedError as error:
        raise _bad(path, _line_of(text, error.key), f"{error.key}: {error.rule}") from None


# Variables

_NAMES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

_ASSIGNMENT: Final = re.compile(
    r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)=(?P<value>\"[^\"]*\"|'[^']*'|[^#\"']*)[ \t]*(?:#.*)?"
)

_PROXY_VALUE: Final = re.compile(
    r"(?:(?P<kind>[A-Za-z0-9]+)://)?(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?"
    r"(?P<host>\[[^\]]*\]|[^:/@\s]*)(?::(?P<port>\d*))?/?"
)


@dataclass(frozen=True, slots=True)
class _Value:
    """Of one variable, and where it stands."""

    text: str = field(repr=False)
    path: str
    line: int


def read_environment(files: Iterable[tuple[str, str]], source: str) -> Environment | None:
    """What files (path and text, later ones winning) say by variables; None: they name no proxy and no exception.

    `source` names all of them. Raises BadProxiesError naming file, line and rule.
    """
    found: dict[str, _Value] = {}
    for path, text in files:
        found.update(_variables(path, text))
    values = {name: found.get(name) or found.get(name.upper()) for name in _NAMES}
    no_proxy = values.pop("no_proxy")
    rows, credentials = list[str](), list[Credential]()
    for name, value in values.items():
        if value is None or not value.text:
            continue
        label, credential = _proxy(name, value)
        protocol = name.removesuffix("_proxy")
        rows.append(label if protocol == "all" else f"{protocol}={label}")
        credentials += [] if credential is None else [credential]
    exceptions = Exceptions.parse("" if no_proxy is None else no_proxy.text)
    if not rows:
        is_direct = exceptions.text == "*"
        return Environment(settings=Settings(usage=Usage.NO_PROXY, source=source)) if is_direct else None
    if exceptions.ignored:
        source += f" (not understood in no_proxy: {len(exceptions.ignored)} of its items)"
    settings = Settings(usage=Usage.OVERRIDE, proxy_list=" ".join(rows), no_proxy=exceptions.text, source=source)
    return Environment(settings=settings, credentials=tuple(credentials))


def _variables(path: str, text: str) -> Mapping[str, _Value]:
    """The variables of one file that matter. Raises BadProxiesError."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = re.match(r"[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=", line)
        if name is None or name[1] not in {*_NAMES, *(known.upper() for known in _NAMES)}:
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            raise _bad(path, number, f"write {name[1]}=value, the value perhaps in quotes")
        value = match["value"].strip()
        value = value[1:-1] if value[:1] in {'"', "'"} else value
        if "$" in value or "\\" in value:
            raise _bad(path, number, f"{name[1]} has to stand there as it is: $ and \\ are not looked at")
        found[name[1]] = _Value(value, path, number)
    return found


def _proxy(name: str, value: _Value) -> tuple[str, Credential | None]:
    """One proxy as an item of a proxy list, and what is secret in it."""
    match = _PROXY_VALUE.fullmatch(value.text)
    kind = (match["kind"] or "http").lower() if match is not None else ""
    proxy = None if match is None else proxies.proxy_of(kind, match["host"], match["port"] or "")
    if match is None or proxy is None:
        rule = f"{name} is [kind://][user:password@]server[:port], and kind one of {', '.join(KINDS)}"
        raise _bad(value.path, value.line, rule)
    credential = None
    if match["user"]:
        credential = Credential(
            label=proxy.label, user=unquote(match["user"]), password=unquote(match["password"] or "")
        )
    return f"{proxy.kind}://{proxy.host}:{proxy.port}", credential


# What is wrong, and where


def _bad(path: str, line: int, rule: str) -> BadProxiesError:
    return BadProxiesError(f"cannot use {path}: line {line}: {rule}")


def _line_of(text: str, key: str) -> int:
    """Where a key stands; the first line if it is spelled in an odd way."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"""[ \t]*["']?{key}\b""", line):
            return number
    return 1


def _lines(text: str) -> int:
    return len(text.splitlines()) or 1
