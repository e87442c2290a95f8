"""The file broker: performs the path recipe for the manager, under one identity (docs/processes.md).

It is a child of the zygote that has already dropped to its identity, perhaps confined by Landlock to the directories
of its jobs. It has no network, imports nothing late and opens nothing but what `paths` opens. One request at a time
is answered; the broker ends when its channel closes, and on a request that the protocol does not allow: a manager
that sends one is broken or not ours.

What a request can make it do is bounded by `paths` and by the form of its fields: what is made or removed has a name
of our form, what is opened must be the recorded file, so that no request reaches another one but by publishing over it.
"""

import os
import re
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.failpoints import failpoint
from openbits.identity import certificates, paths, personal, snapshots, sources, tickets
from openbits.identity.filecalls import Opener, choose_opener
from openbits.identity.path_errors import NAME_BYTES, PATH_BYTES, PathError, failing
from openbits.identity.paths import Directory, Publication, Temporary
from openbits.identity.sources import Attributes

_TEMPORARY_NAME = re.compile(r"\.BIT[0-9a-f]{8}\.tmp")
"""OPEN-32."""

COPY_BYTES = 1 << 24
"""Most bytes of one copy: a fraction of a second, since nothing else is answered meanwhile."""

_SHA1 = re.compile(r"[0-9a-f]{40}")
FILES_AT_ONCE = 64
"""Most files that one request makes or publishes: what a message has room for, and again a fraction of a second."""

_INTEGERS = range(2**64)
_TIMES_NS = range(-(2**63), 2**63)
_UMASKS = _MODES = range(0o1000)
_PARTS = ("owner", "group", "acl")
_OFFSETS = range(2**62)
_LENGTHS = range(COPY_BYTES + 1)

Answer = tuple[Message, list[int]]
"""Fields of the answer and the descriptor to pass, if any."""


class MalformedRequestError(Exception):
    """The manager sent something that the protocol does not allow."""


def run(control: socket.socket, ticket_cache: str = "") -> None:
    """Answer requests until the channel closes or a request is malformed.

    `ticket_cache`: name of that of the token this broker was started from, if it has one of its own.
    """
    opener = choose_opener()
    while True:
        try:
            request, received = channel.receive(control)
            failpoint("broker.asked")
            try:
                known = {"received": received, "ticket_cache": ticket_cache}
                message, descriptors = answer({**request, **known}, opener)
            finally:
                channel.close_all(received)
            failpoint("broker.done")
        except (ChannelClosedError, MalformedRequestError):
            return
        try:
            channel.send(control, message, descriptors)
            failpoint("broker.answered")
        except ChannelClosedError:
            return
        finally:
            channel.close_all(descriptors)


def answer(request: Message, opener: Opener) -> Answer:
    """The answer to one request, whose descriptors are its field `received`. Raises MalformedRequestError.

    Its field `ticket_cache` is what `run` was given; neither can come from the manager.
    """
    number = request.get("id")
    operation = _OPERATIONS.get(_text(request, "op"))
    if not isinstance(number, int | str) or operation is None:
        raise MalformedRequestError("a request has an id and a known op")
    try:
        fields, descriptors = operation(request, opener)
    except PathError as error:
        failed = {
            "reply": number,
            "ok": False,
            "errno": error.errno,
            "step": error.step,
            "subject": _plain(error.subject),
            "text": str(error),
        }
        return failed, []
    return {"reply": number, "ok": True, **fields}, descriptors


def _resolve(request: Message, opener: Opener) -> Answer:
    is_source = request.get("is_source", False) is True
    directory, name = paths.resolve(_bytes(request, "path"), opener, is_source=is_source)
    others = [_component(one) for one in _others(request)]
    count = len(others) if is_source else paths.count_replaceable(directory, others, opener)
    plain = {"path": _plain(directory.path), "dev": directory.dev, "ino": directory.ino}
    return {"directory": plain, "name": _plain(name), "others": count}, []


def _open_source(request: Message, opener: Opener) -> Answer:
    found, descriptor = sources.source(_directory(request), _name(request), opener)
    plain = {
        "size_bytes": found.size_bytes,
        "modified_ns": found.modified_ns,
        "mode": found.mode,
        "uid": found.uid,
        "gid": found.gid,
        "acl": None if found.acl is None else found.acl.hex(),
    }
    return {"attributes": plain}, [descriptor]


def _create(request: Message, opener: Opener) -> Answer:
    directory, names = _directory(request), [_temporary_name(name) for name in _several(request, "names")]
    made, descriptors = list[Temporary](), list[int]()
    for name in names:
        try:
            temporary, descriptor = paths.create(directory, name, opener)
        except PathError:
            if not made:
                raise
            break  # whoever asks for the rest hears of it
        made.append(temporary)
        descriptors.append(descriptor)
    plain = [
        {
            "name": _plain(temporary.name),
            "dev": temporary.dev,
            "ino": temporary.ino,
            "birth_ns": temporary.birth_ns,
            "uid": temporary.uid,
        }
        for temporary in made
    ]
    return {"temporaries": plain}, descriptors


def _reopen(request: Message, opener: Opener) -> Answer:
    size_bytes, descriptor = paths.reopen(_directory(request), _temporary(request), opener)
    return {"size_bytes": size_bytes}, [descriptor]


def _read(request: Message, opener: Opener) -> Answer:
    return {}, [paths.read(_directory(request), _temporary(request), opener)]


def _snapshot(request: Message, opener: Opener) -> Answer:
    most = _integer(request, "most", _LENGTHS)
    descriptor = paths.read(_directory(request), _temporary(request), opener)
    try:
        with failing("read", _directory(request).path):
            size_bytes, memory = snapshots.sealed_copy(descriptor, most)
    finally:
        os.close(descriptor)
    return {"size_bytes": size_bytes}, [] if memory is None else [memory]


def _copy(request: Message, opener: Opener) -> Answer:
    paths.copy(
        _directory(request),
        _temporary(request),
        _source(request),
        opener,
        offset=_integer(request, "offset", _OFFSETS),
        length=_integer(request, "length", _LENGTHS),
    )
    return {}, []


def _dress(request: Message, opener: Opener) -> Answer:
    parts = request.get("parts")
    if not isinstance(parts, list) or not all(part in _PARTS for part in parts):
        raise MalformedRequestError("parts is a list of owner, group and acl")
    sources.dress(_directory(request), _temporary(request), opener, like=_attributes(request), parts=parts)
    return {}, []


def _place(request: Message, opener: Opener) -> Answer:
    paths.place(_directory(request), _temporary(request), _name(request), opener)
    return {}, []


def _publish(request: Message, opener: Opener) -> Answer:
    files = [_publication(fields) for fields in _several(request, "files")]
    return {"published": paths.publish(_directory(request), files, opener)}, []


def _remove(request: Message, opener: Opener) -> Answer:
    temporary = _temporary(request)
    _temporary_name(temporary.name.decode("utf-8", "surrogateescape"))
    paths.remove(_directory(request), temporary, opener)
    return {}, []


def _certificates(request: Message, opener: Opener) -> Answer:
    return {}, [certificates.read_store(_path(request), opener)]


def _key_pair(request: Message, opener: Opener) -> Answer:
    sha1 = _text(request, "sha1")
    if not _SHA1.fullmatch(sha1):
        raise MalformedRequestError("sha1 is 40 hexadecimal digits")
    return {}, [certificates.read_key_pair(_path(request), sha1, opener)]


def _settings(request: Message, opener: Opener) -> Answer:
    if "suffix" in request:
        return {}, [personal.read_folder(_path(request), _bytes(request, "suffix"), opener)]
    return {}, [personal.read(_path(request), opener, is_secret=request.get("is_secret") is True)]


def _tickets(request: Message, opener: Opener) -> Answer:
    name, memory = tickets.read(_text(request, "ticket_cache"), opener)
    return {"name": name}, [] if memory is None else [memory]


_OPERATIONS: Mapping[str, Callable[[Message, Opener], Answer]] = {
    "resolve": _resolve,
    "source": _open_source,
    "create": _create,
    "reopen": _reopen,
    "read": _read,
    "snapshot": _snapshot,
    "copy": _copy,
    "dress": _dress,
    "place": _place,
    "publish": _publish,
    "remove": _remove,
    "certificates": _certificates,
    "key-pair": _key_pair,
    "settings": _settings,
    "tickets": _tickets,
}


# -- fields of a request ----------------------------------------------------------------------------------------------


def _directory(request: Message) -> Directory:
    fields = _object(request, "directory")
    path = _bytes(fields, "path")
    if len(path) > PATH_BYTES or b"\0" in path or not paths.is_normalised(path):
        raise MalformedRequestError("a directory has a canonical path")
    return Directory(path=path, dev=_integer(fields, "dev", _INTEGERS), ino=_integer(fields, "ino", _INTEGERS))


def _temporary(request: Message) -> Temporary:
    fields = _object(request, "temporary")
    return Temporary(
        name=_name(fields),
        dev=_integer(fields, "dev", _INTEGERS),
        ino=_integer(fields, "ino", _INTEGERS),
        birth_ns=_integer(fields, "birth_ns", _TIMES_NS),
        uid=_integer(fields, "uid", _INTEGERS),
    )


def _publication(fields: Any) -> Publication:
    if not isinstance(fields, dict):
        raise MalformedRequestError("files are objects")
    umask = None if fields.get("umask") is None else _integer(fields, "umask", _UMASKS)
    modified_ns = None if fields.get("modified_ns") is None else _integer(fields, "modified_ns", _TIMES_NS)
    return Publication(temporary=_temporary(fields), name=_name(fields), umask=umask, modified_ns=modified_ns)


def _attributes(request: Message) -> Attributes:
    fields = _object(request, "like")
    try:
        access = None if fields.get("acl") is None else bytes.fromhex(_text(fields, "acl"))
    except ValueError as error:
        raise MalformedRequestError("acl is hexadecimal") from error
    return Attributes(
        size_bytes=_integer(fields, "size_bytes", _INTEGERS),
        modified_ns=_integer(fields, "modified_ns", _TIMES_NS),
        mode=_integer(fields, "mode", _MODES),
        uid=_integer(fields, "uid", _INTEGERS),
        gid=_integer(fields, "gid", _INTEGERS),
        acl=access,
    )


def _path(request: Message) -> bytes:
    path = _bytes(request, "path")
    if b"\0" in path or not paths.is_normalised(path):
        raise MalformedRequestError("a path is absolute and has no detours")
    return path


def _temporary_name(name: object) -> bytes:
    if not isinstance(name, str) or not _TEMPORARY_NAME.fullmatch(name):
        raise MalformedRequestError("a temporary file is called .BIT<8 hex>.tmp")
    return name.encode()


def _name(request: Message) -> bytes:
    return _component(request.get("name"))


def _component(given: object) -> bytes:
    name = _bytes({"name": given}, "name")
    if name in {b"", b".", b".."} or b"/" in name or b"\0" in name or len(name) > NAME_BYTES:
        raise MalformedRequestError("a final name is one component of a path")
    return name


def _source(request: Message) -> int:
    received: list[int] = request["received"]
    if len(received) != 1 or not stat.S_ISREG(os.fstat(received[0]).st_mode):
        raise MalformedRequestError("a copy comes with the descriptor of one regular file")
    return received[0]


def _object(fields: Message, key: str) -> Message:
    value = fields.get(key)
    if not isinstance(value, dict):
        raise MalformedRequestError(f"{key} is an object")
    return value


def _others(request: Message) -> list[Any]:
    return [] if request.get("others", []) == [] else _several(request, "others")


def _several(fields: Message, key: str) -> list[Any]:
    value = fields.get(key)
    if not isinstance(value, list) or not 1 <= len(value) <= FILES_AT_ONCE:
        raise MalformedRequestError(f"{key} are 1 to {FILES_AT_ONCE}")
    return value


def _integer(fields: Message, key: str, allowed: range) -> int:
    value: Any = fields.get(key)
    if type(value) is not int or value not in allowed:
        raise MalformedRequestError(f"{key} is an integer from {allowed.start} to {allowed.stop - 1}")
    return value


def _text(fields: Message, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise MalformedRequestError(f"{key} is a string")
    return value


def _bytes(fields: Message, key: str) -> bytes:
    """A path or name; bytes that are not UTF-8 travel as lone surrogates, as in Python's own file names."""
    try:
        return _text(fields, key).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise MalformedRequestError(f"{key} is not the text of a path") from error


def _plain(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
