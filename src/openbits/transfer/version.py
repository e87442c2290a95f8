"""Which version of a remote file an answer speaks of, how a later request is tied to it, and what is no file at all.

Values in, values out. A version is known by size, Last-Modified and ETag (jobs.md §9.3, OPEN-43); what one side does
not tell is not compared. Whoever continues a file, or fetches it in parts, asks here first, so that bytes of two
versions never meet.
"""

import enum
import posixpath
import re
from typing import Final

from openbits.core import codes
from openbits.core.model import Validators
from openbits.transfer import headers
from openbits.transfer.decisions import Fail, failure
from openbits.transfer.headers import Head
from openbits.transfer.urls import Target

Fields = tuple[tuple[str, str], ...]
"""Header fields of a request."""

HEAD_REFUSED: Final = frozenset({400, 403, 404, 405, 406, 411, 500, 501})
"""Answers to HEAD after which the GET may still work; anything else would be the same for the GET."""

WHOLE: Final = frozenset({200, 203})
"""The body is the whole file."""

_NEVER_PAGES: Final = re.compile(
    r"\.(7z|apk|bin|bz2|cab|deb|dmg|exe|gz|img|iso|jar|msi|msu|pkg|qcow2|rar|rpm|squashfs|tar|tgz|vhdx|whl|xz|zip|zst|"
    r"avi|flac|jpg|mkv|mp3|mp4|pdf|png|sig|webm)",
    re.IGNORECASE,
)
"""Names of files that no server sends as a web page."""

PAGE: Final = "text/html"
"""What a network says in place of the server while it waits for a login."""


def seen_in(head: Head) -> Validators:
    """The version that an answer names; its size is that of the body. Raises BadResponseError."""
    return Validators(
        size_bytes=headers.content_length(head),
        etag=headers.etag(head),
        last_modified=headers.last_modified(head),
        media_type=headers.media_type(head),
    )


def difference(known: Validators, seen: Validators) -> str | None:
    """Why the two are different versions of the file, for people; None if nothing says so."""
    if _differ(_opaque(known.etag), _opaque(seen.etag)):
        return _changed("ETag", known.etag, seen.etag)
    if _differ(_moment(known), _moment(seen)):
        return _changed("Last-Modified", known.last_modified, seen.last_modified)
    if _differ(known.size_bytes, seen.size_bytes):
        return _changed("size", known.size_bytes, seen.size_bytes)
    return None


def is_only_tag(known: Validators, seen: Validators) -> bool:
    """True if the ETags differ, but date and size are those of the same version.

    Then the tag is perhaps not that of the file but of a node of the server, or of the request (row 18).
    """
    has_date_and_size = None not in {known.last_modified, seen.last_modified, known.size_bytes, seen.size_bytes}
    return (
        has_date_and_size
        and _differ(_opaque(known.etag), _opaque(seen.etag))
        and not _differ(_moment(known), _moment(seen))
        and not _differ(known.size_bytes, seen.size_bytes)
    )


class Tag(enum.Enum):
    """What the ETag of an answer says."""

    TELLS = enum.auto()
    """It is to be compared."""
    DOUBTFUL = enum.auto()
    """The same has to be asked again to see what it means."""
    TELLS_NOTHING = enum.auto()
    """It is new in each answer: size and Last-Modified tell the version."""


TELLS_NOTHING_NOTE: Final = "the ETag is new in each answer; size and Last-Modified tell the version"


class Doubt:
    """What is thought of answers with another ETag, date and size being the same (row 18).

    A file that really changed has the same new tag twice. A server of two nodes comes back to the first one; one whose
    tag is new in each answer tells the version by date and size alone.
    """

    def __init__(self) -> None:
        self._doubted: str | None = None

    def of(self, known: Validators, seen: Validators) -> Tag:
        """What the tag of this answer says, after the answers before it."""
        if not is_only_tag(known, seen):
            self._doubted = None
            return Tag.TELLS
        if self._doubted is None:
            self._doubted = seen.etag
            return Tag.DOUBTFUL
        return Tag.TELLS if self._doubted == seen.etag else Tag.TELLS_NOTHING


def is_same(known: Validators, seen: Validators) -> bool:
    """True if both name a version, and the same one: nothing differs, and an ETag or a date is on both sides."""
    has_tags = known.etag is not None and seen.etag is not None
    has_dates = known.last_modified is not None and seen.last_modified is not None
    return difference(known, seen) is None and (has_tags or has_dates)


def is_resumable(known: Validators) -> bool:
    """True if a later answer can be compared with this version; a size alone proves nothing."""
    return known.etag is not None or known.last_modified is not None


def guard(known: Validators) -> str | None:
    """The If-Range value: a strong ETag, else the date; a weak ETag proves nothing about bytes (row 19)."""
    return known.etag if headers.is_strong(known.etag) else known.last_modified


def ladder(known: Validators, position: int) -> list[Fields]:
    """How the rest from `position` on is asked for, one way after the other (reliability.md §5 note A).

    With the strong ETag; with the date; without a condition, the answer is compared; the whole file, of which the
    beginning is left out.
    """
    wanted = ("Range", f"bytes={position}-")
    tag = [known.etag] if known.etag is not None and headers.is_strong(known.etag) else []
    dated = [known.last_modified] if known.last_modified is not None else []
    return [*((wanted, ("If-Range", value)) for value in (*tag, *dated)), (wanted,), ()]


def is_portal(known: Validators, seen: Validators) -> bool:
    """True if a web page of another size came where something else was known: nobody's file changes into a page.

    So says the network that wants a login first (rows 57 and 58); the file is still what it was.
    """
    is_page = seen.media_type == PAGE and known.media_type not in {None, PAGE}
    return is_page and known.size_bytes not in {None, seen.size_bytes} and not is_same(known, seen)


def is_login_page(head: Head, answered: Target, *, asked_for: Target) -> bool:
    """True if a page of another server came for a plain URL that is certainly no page (row 58).

    Networks that want a login redirect what they can read; a server that leads to an excuse is as little use.
    """
    is_page = head.status in WHOLE and headers.media_type(head) == PAGE
    suffix = posixpath.splitext(asked_for.resource.partition("?")[0])[1]
    is_elsewhere = asked_for.scheme == "http" and answered.host.lower() != asked_for.host.lower()
    return is_page and is_elsewhere and bool(_NEVER_PAGES.fullmatch(suffix))


def refused(head: Head, step: str, wall: float) -> Fail:
    """A status that ends the attempt; `wall` is the time of day. Authentication has been tried before (`route`)."""
    who, field = ("proxy", "proxy-authenticate") if head.status == 407 else ("server", "www-authenticate")
    schemes = [value.split()[0] for value in head.values(field) if value.strip()]
    is_offer = head.status in {401, 407} and bool(schemes)
    offer = f", offering {headers.printable(', '.join(schemes), 80)}" if is_offer else ""
    words = f"the {who} answered {head.status_line}{offer}{answerer(head)}"
    return failure(codes.from_http_status(head.status), step, words, headers.retry_after(head, wall))


def answerer(head: Head) -> str:
    """Whose software answered, and through what, for people: `, Server: …, Via: …`; may be empty."""
    told = [(name, value) for name in ("Server", "Via") for value in head.values(name.lower())]
    return "".join(f", {name}: {headers.printable(value, 60)}" for name, value in told)


def _differ(before: object, after: object) -> bool:
    return before is not None and after is not None and before != after


def _opaque(tag: str | None) -> str | None:
    return tag.removeprefix("W/") if tag is not None else None


def _moment(version: Validators) -> float | str | None:
    """One instant has several spellings."""
    text = version.last_modified
    return None if text is None else headers.instant(text) or text


def _changed(what: str, before: object, after: object) -> str:
    return f"the file changed on the server ({what} {before} -> {after})"
