"""What the manager orders, read from its messages (docs/processes.md, "Manager ↔ network worker").

What cannot be read is a manager that breaks the contract: BrokenPeerError, KeyError, TypeError or ValueError, each of
which ends the worker.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from openbits.channel import Message
from openbits.core.enums import SecurityFlags
from openbits.core.model import Range, UploadSession, Validators
from openbits.core.proxies import Settings as ProxySettings
from openbits.core.proxies import Usage
from openbits.core.proxies import read as read_proxies
from openbits.transfer import auth, transport
from openbits.transfer.transport import Order, Refusal, UploadOrder, UploadStep

_MOST_ENTRUSTED: Final = 2
"""Descriptors of an order that are no files to move: the memory file, and the ticket cache."""


class BrokenPeerError(Exception):
    """The manager said something that is not in the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What came with an order: the file to write, the one to read, what was entrusted to the job, the ticket cache."""

    target: int | None
    source: int | None
    entrusted: Mapping[str, Any] = field(repr=False)
    tickets: int | None


def sort(message: Message, descriptors: list[int]) -> Given:
    """Which descriptor of an order is what; those that are taken are no longer in the list. Raises BrokenPeerError."""
    is_copy = str(message["url"]).partition(":")[0].lower() in transport.COPYING
    upload = message.get("upload")
    has_target, has_source = upload is None, is_copy
    if upload is not None:
        has_source = UploadStep(upload["step"]) is UploadStep.SEND
    rest = len(descriptors) - has_target - has_source
    if not 0 <= rest <= (0 if is_copy else _MOST_ENTRUSTED):
        raise BrokenPeerError("an order has other descriptors than it needs")
    tickets = descriptors.pop() if rest == _MOST_ENTRUSTED else None
    given = entrusted(descriptors.pop()) if rest else {}
    source = descriptors.pop() if has_source else None
    target = descriptors.pop() if has_target else None
    return Given(target=target, source=source, entrusted=given, tickets=tickets)


def read(message: Message, given: Given, ticket_problem: str) -> Order:
    """The order; `ticket_problem`: why there is no ticket, if one is needed."""
    secrets = given.entrusted
    return Order(
        job=str(message["transfer"]).partition(":")[0],
        url=str(message["url"]),
        security_flags=SecurityFlags(int(message["security_flags"])),
        validators=_validators(message["validators"]),
        proxies=proxies(message["proxy"]),
        source=given.source,
        is_upload=message["is_upload"] is True,
        upload=_upload(message.get("upload"), int(message["offset"])),
        headers=tuple((str(name), str(value)) for name, value in secrets.get("headers", ())),
        tls_refusal=_refusal(message["tls_refusal"]),
        has_certificate_callback=message["has_certificate_callback"] is True,
        client_certificate=_text_or_none(secrets.get("certificate")),
        revocation_lists=str(secrets.get("revocation_lists") or "").encode(),
        is_foreground=message["is_foreground"] is True,
        method=str(message["method"]),
        is_dynamic=message["is_dynamic"] is True,
        given_url=str(message["given_url"]),
        size_limit_bytes=number_or_none(message["size_limit_bytes"]),
        ranges=ranges(secrets.get("ranges", ())),
        wanted=ranges(secrets.get("wanted", ())),
        filled=ranges(secrets.get("filled", ())),
        is_on_demand=message["is_on_demand"] is True,
        segments=int(message["segments"]),
        rate_bytes_per_second=number_or_none(message["rate_bytes_per_second"]),
        authentication=auth.read(message["authentication"], secrets.get("credentials", ()), ticket_problem),
    )


def _upload(given: Message | None, acknowledged_bytes: int) -> UploadOrder | None:
    if given is None:
        return None
    return UploadOrder(
        step=UploadStep(given["step"]),
        session=_session(given["session"]),
        acknowledged_bytes=acknowledged_bytes,
        name=str(given["name"]),
        is_reply_wanted=given["is_reply_wanted"] is True,
    )


def _session(given: Message | None) -> UploadSession | None:
    if given is None:
        return None
    failed_at = given["host_failed_at"]
    return UploadSession(
        session_id=str(given["session_id"]),
        host=str(given["host"]),
        fallback_seconds=number_or_none(given["fallback_seconds"]),
        host_failed_at=None if failed_at is None else float(failed_at),
        is_received=given["is_received"] is True,
        reply_url=str(given["reply_url"]),
    )


def _validators(given: Message) -> Validators:
    size = given["size_bytes"]
    return Validators(
        size_bytes=None if size is None else int(size),
        etag=_text_or_none(given["etag"]),
        last_modified=_text_or_none(given["last_modified"]),
        media_type=_text_or_none(given["media_type"]),
    )


def _refusal(given: Message | None) -> Refusal | None:
    return None if given is None else Refusal(hresult=int(given["hresult"]), detail=str(given["detail"]))


def proxies(given: Message) -> ProxySettings:
    """The manager has checked them: settings that cannot be read are a broken manager (ValueError)."""
    settings = ProxySettings(
        usage=Usage(given["usage"]),
        proxy_list=str(given["list"]),
        bypass=str(given["bypass"]),
        no_proxy=str(given["no_proxy"]),
        script_url=str(given["script_url"]),
    )
    read_proxies(settings)
    return settings


def entrusted(descriptor: int) -> dict[str, Any]:
    """What was entrusted to the job, from a memory file."""
    try:
        with os.fdopen(descriptor, "rb") as content:
            return dict(json.loads(content.read()))
    except OSError as error:
        raise BrokenPeerError("what was entrusted to the job cannot be read") from error


def ranges(given: Sequence[Sequence[int | None]]) -> tuple[Range, ...]:
    """Offset and length of each; no length: up to the end."""
    return tuple(Range(offset=int(offset or 0), length_bytes=number_or_none(length)) for offset, length in given)


def number_or_none(value: object) -> int | None:
    """A number that may be missing."""
    return None if value is None else int(str(value))


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
