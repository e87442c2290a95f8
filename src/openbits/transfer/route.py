"""The way from a question to its answer: which server, through which proxy, along which redirects.

Values in, values out: no socket, clock or libcurl in here. A `Route` lives as long as one run of a transfer. It is
asked a question, says which request to send, is told what came back, and says the next request, or that this is the
answer. What the answer means for the file is not known here (`download`).

1. Every question begins at the origin and follows its own redirects, each hop a fresh request (jobs.md §9.4); a signed
   target may be good for one method only, so where an earlier question ended is not used.
2. The fields of a request are chosen hop by hop from an allow-list; what proves who asks goes to the server alone that
   a client has named.
3. A packet of an upload is led nowhere but within its authority. A large body waits for the server's word, unless that
   has given none before; it does not go out over a connection that has to be let in first.
4. Proxies are chosen for each hop, by somebody else (`choosing`). What cannot be reached is followed by the next one of
   the choice, and never by the target itself unless the choice says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes, packets
from openbits.core.enums import SecurityFlags
from openbits.core.pac import Choice
from openbits.core.proxies import Proxy
from openbits.transfer import urls
from openbits.transfer.decisions import Ask, Fail, failure
from openbits.transfer.headers import Head
from openbits.transfer.ladder import Logins, Refused, Said
from openbits.transfer.mechanisms import MechanismError
from openbits.transfer.proofs import CUSTOM, Again, Hold, Proofs, Prove
from openbits.transfer.request import Breakage, Request
from openbits.transfer.urls import Origin, Target
from openbits.transfer.version import is_login_page

MAX_REDIRECTS: Final = 10

_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})

_DISALLOWED: Final = frozenset({300, *_FOLLOWED})
"""What ends a transfer that may not be redirected."""

_KEEPING: Final = frozenset({307, 308})
"""Redirects that say that the same is to be asked there."""

EXPECTATION_FAILED: Final = 417

EXPECTING_BYTES: Final = 1024 * 1024
"""A larger body waits for the server's word (upload-protocol.md H8)."""

_PROVING: Final = re.compile(r"auth(?!ors?$)|cookie|token|secret|passw|credential|session|key$", re.IGNORECASE)
"""In the name of a custom header that says who asks (`PRIVATE-TOKEN`, `X-Api-Key`): it is for one server."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request next, when the present exchange is over."""

    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """The question is answered by this response."""

    head: Head


@dataclass(frozen=True, slots=True)
class Broken:
    """There is no answer: the exchange broke, in this step."""

    breakage: Breakage
    step: str


@dataclass(frozen=True, slots=True)
class Choose:
    """Find out through which proxies this is to be asked, and go on with `Route.chosen`."""

    target: Target


Move = Send | Choose | Prove | Hold | Answer | Broken | Fail


class Route:
    """From one origin. `custom`: fields that every request has; proofs among them are for the server `given`.

    `logins`: what answers who asks who we are; without, such answers are answers.
    """

    def __init__(
        self,
        origin: Target,
        custom: Sequence[tuple[str, str]],
        flags: SecurityFlags,
        given: Origin | None = None,
        logins: Logins | None = None,
    ) -> None:
        self.notes = list[str]()
        """What people should know of the way."""
        self._origin = origin
        self._custom = custom
        self._flags = flags
        self._given = given or origin.origin
        self._proofs = Proofs(logins, self._given, custom)
        self._choices: dict[str, Choice] = {}
        """By URL."""
        self._unreached: set[Proxy | None] = set()
        self._question = Ask("GET")
        self._request = Request(method="GET", target=origin)
        self._visited: set[str] = set()
        self._is_fresh = False
        self._is_opening = self._is_expecting = False
        self._wordless: set[tuple[Origin, Proxy | None]] = set()
        """Who took a body without a word, or refused to be asked for one; and through which proxy."""
        self.refused_to = ""
        """Where a redirect leads that the job does not follow: its remote name from now on (jobs.md §9.4)."""

    @property
    def given(self) -> Origin:
        """Whose server the one is that what proves who asks is for."""
        return self._given

    @property
    def target(self) -> Target:
        """Where the present request goes."""
        return self._request.target

    @property
    def step(self) -> str:
        """What is being asked, for people."""
        return self._request.step

    @property
    def place(self) -> str:
        """Where the present request goes and through what, for people."""
        place = self._origin.label
        if self._request.target != self._origin:
            place = f"{self._request.target.label} (redirected from {place})"
        if self._request.proxy is not None:
            place = f"{place}: through proxy {self._request.proxy.label}"
        return place

    @property
    def redirected_to(self) -> str:
        """Where the redirects ended, if the job wants it for its remote name (jobs.md §9.4); else empty."""
        is_reported = SecurityFlags.REDIRECT_ALLOW_REPORT in self._flags and self._request.target != self._origin
        return self._request.target.url if is_reported else ""

    @property
    def peer(self) -> str:
        """Whose answer was the last one: scheme, host and port; empty of what came through a proxy."""
        scheme, host, port = self._request.target.origin
        return "" if self._request.proxy is not None else f"{scheme}://{host}:{port}"

    @property
    def proxy(self) -> Proxy | None:
        """Through what the present request goes."""
        return self._request.proxy

    def ask(self, question: Ask) -> Move:
        """Put a question to the origin."""
        self._question = question
        self._visited = {self._origin.url}
        self._is_fresh = False
        return self._send(question.method, self._origin)

    def answered(self, head: Head, local_port: int | None = None, *, has_continued: bool = False) -> Move:
        """A final response head arrived, over the connection with this port here. Raises BadResponseError.

        `has_continued`: after the server had said that it wants the body.
        """
        if self._is_expecting and self._is_wordless(head, has_continued=has_continued):
            self._wordless.add((self._request.target.origin, self._request.proxy))
            self._request = replace(self._request, is_expecting=False)
            if head.status == EXPECTATION_FAILED:
                return self.again()
        verdict = self._proofs.answered(head, local_port)
        if verdict is not None:
            return self._after(verdict)
        if self._is_opening:  # whatever the answer is, the connection is let in
            return self._go()
        if is_login_page(head, self._request.target, asked_for=self._origin):
            page = f"a web page of {self._request.target.peer} came in place of the file"
            return failure(codes.HTTP_STATUS_511, self._request.step, page)
        return self._led(head) or self._renewed(head) or Answer(head)

    @staticmethod
    def _is_wordless(head: Head, *, has_continued: bool) -> bool:
        """True of a server that took a body without a word, or does not want to be asked for one."""
        return head.status == EXPECTATION_FAILED or (head.status < 300 and not has_continued)

    def _led(self, head: Head) -> Move | None:
        """Where a redirect leads: a packet's only within its authority, whatever the job allows (D24)."""
        location = head.value("location")
        if location is None:
            return None
        if self._request.method == packets.METHOD:
            is_followed = self._question.is_followed and head.status in _KEEPING and self._is_near(location)
            return self._follow(head.status, location) if is_followed else None
        if self._flags & SecurityFlags.REDIRECT_DISALLOW and head.status in _DISALLOWED:
            return self._refused(head, location)
        return self._follow(head.status, location) if head.status in _FOLLOWED else None

    def _renewed(self, head: Head) -> Move | None:
        """Over a new connection, if this one is not for this server, says what has it."""
        if head.status != 421 or self._is_fresh:
            return None
        self._is_fresh = True
        self._request = replace(self._request, is_on_new_connection=True)
        return self.again()

    def _is_near(self, location: str) -> bool:
        """True if a redirect stays with the server."""
        try:
            return urls.redirect(self._request.target, location).origin == self._request.target.origin
        except urls.RedirectRefusedError:
            return False

    def chosen(self, choice: Choice, notes: Sequence[str]) -> Move:
        """How the target can be asked, in this order; None stands for a direct connection."""
        self._choices[self._request.target.url] = choice
        self.notes += [note for note in notes if note not in self.notes]
        return self._send(self._request.method, self._request.target)

    def tunnel_answered(self, head: Head) -> Move | None:
        """A proxy answered to the CONNECT of libcurl; None: what comes next will tell."""
        verdict = self._proofs.tunnel_answered(head, None)
        return None if verdict is None else self._after(verdict)

    def wanted_tunnel_answered(self, head: Head, local_port: int | None) -> Move:
        """A proxy answered to a request of ours for a tunnel; after a 2xx the connection is one."""
        verdict = self._proofs.tunnel_answered(head, local_port)
        if verdict is not None:
            return self._after(verdict)
        if is_tunnel(head):
            return self._go()
        words = f"the proxy answered {head.status} to CONNECT"
        return Broken(Breakage(hresult=codes.from_http_status(head.status), words=words), f"CONNECT {self.target.peer}")

    def again(self) -> Move:
        """The present request has to go out once more."""
        self._proofs.prepare(self._request)
        return self._go()

    def proved(self, prove: Prove, outcome: Said | MechanismError) -> Move:
        """What became of the work."""
        refused = prove.ladder.worked(outcome)
        return self._go() if refused is None else self._after(refused)

    def released(self, hold: Hold) -> Move:
        """The other transfer knows."""
        refused = hold.ladder.released()
        return self._go() if refused is None else self._after(refused)

    def abandon(self) -> None:
        """The way is left: nobody has to wait for it."""
        self._proofs.abandon()

    def broke(self, breakage: Breakage, step: str) -> Move:
        """The exchange broke. A new connection may be good, the next proxy may live."""
        verdict = self._proofs.broke(breakage)
        if verdict is not None:
            return self._after(verdict)
        if breakage.is_unclean and not self._request.is_on_new_connection:
            self._request = replace(self._request, is_on_new_connection=True)
            return self._go()  # with what it carried: an answer to a challenge may not be known to be right yet
        if breakage.is_unreached:
            self._unreached.add(self._request.proxy)
            if self._next_of(self._choices[self._request.target.url]) not in self._unreached:
                return self._send(self._request.method, self._request.target)
        return Broken(breakage, step)

    @property
    def dead_proxies(self) -> int:
        """How many proxies could not be reached."""
        return len(self._unreached - {None})

    def _send(self, method: str, target: Target) -> Move:
        """The one place where requests are made."""
        question = self._question if method == self._question.method else Ask(method)
        choice = self._choices.get(target.url)
        if choice is None:
            self._request = Request(method=method, target=target)
            return Choose(target)
        proxy = self._next_of(choice)
        is_large = question.body is not None and question.body.length > EXPECTING_BYTES
        self._request = Request(
            method=method,
            target=target,
            headers=(*self._own_fields(target), *question.fields),
            proxy=proxy,
            body=question.body,
            is_expecting=is_large and (target.origin, proxy) not in self._wordless,
            answer_seconds=question.answer_seconds,
        )
        return self.again()

    def _own_fields(self, target: Target) -> list[tuple[str, str]]:
        """The job's own fields, as far as they are for this server.

        Custom headers go along with each hop, but those that prove who asks go to the server alone that a client has
        named: scheme, host and port (OPEN-46); of those the ones of `proofs` are chosen there.
        """
        is_given = target.origin == self._given
        others = [(name, value) for name, value in self._custom if name.lower() not in CUSTOM]
        return [(name, value) for name, value in others if is_given or not _PROVING.search(name)]

    def _go(self) -> Move:
        """Send the present request, when it has all that it needs; or, before it, what opens the connection.

        A server that answers before the end of a body costs the connection, and with it what was agreed on there.
        """
        pending = self._proofs.pending()
        if pending is not None:
            return pending
        request, opening = self._request, self._question.opening
        self._is_opening = request.body is not None and opening is not None and self._proofs.is_shut
        if self._is_opening and opening is not None:
            headers = (*self._own_fields(request.target), *opening)
            request = replace(request, headers=headers, body=None, is_expecting=False, answer_seconds=None)
        dressed = self._proofs.dressed(request)
        self._is_expecting = dressed.is_expecting
        return Send(dressed)

    def _after(self, verdict: Refused | Again) -> Move:
        if isinstance(verdict, Refused):
            return failure(verdict.hresult, self._request.step, verdict.words)
        return self._go()

    def _next_of(self, choice: Choice) -> Proxy | None:
        """The first of the choice that is not known to be out of reach; if all of them are, the first."""
        return next((proxy for proxy in choice if proxy not in self._unreached), choice[0])

    def _follow(self, status: int, location: str) -> Move:
        may_downgrade = SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP in self._flags
        try:
            target = urls.redirect(self._request.target, location, may_downgrade=may_downgrade)
        except urls.RedirectRefusedError as error:
            return self._redirect_failed(str(error))
        if target.url in self._visited:
            return self._redirect_failed(f"the redirect leads back to {target.label}")
        if len(self._visited) > MAX_REDIRECTS:
            return self._redirect_failed(f"more than {MAX_REDIRECTS} redirects")
        self._visited.add(target.url)
        return self._send(_method_after(status, self._request.method), target)

    def _refused(self, head: Head, location: str) -> Fail:
        """REDIRECT_DISALLOW: the job has failed, and its remote name is where it would have been sent."""
        told = self._request.step
        words = f"the server answered {head.status_line}, and the job does not follow redirects (security_flags)"
        try:
            target = urls.redirect(self._request.target, location, may_downgrade=True)
            self.refused_to = target.url
        except urls.RedirectRefusedError as error:
            return failure(codes.from_http_status(head.status), told, f"{words}: {error}")
        return failure(codes.from_http_status(head.status), told, f"{words}: {target.label}")

    def _redirect_failed(self, words: str) -> Fail:
        return failure(codes.ERROR_WINHTTP_REDIRECT_FAILED, self._request.step, words)


def is_tunnel(head: Head) -> bool:
    """True of an answer to CONNECT after which the connection is a tunnel (RFC 9110 §9.3.6)."""
    return 200 <= head.status < 300


def _method_after(status: int, method: str) -> str:
    """What a redirected request asks with: 303 is answered by another resource, which is read (RFC 9110 §15.4)."""
    is_answered_elsewhere = status == 303 or (status in {301, 302} and method == "POST")
    return "GET" if is_answered_elsewhere and method != "HEAD" else method
