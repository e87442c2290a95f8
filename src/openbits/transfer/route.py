"""The way from a question to its answer: which server, through which proxy, along which redirects.

Values in, values out: no socket, clock or libcurl in here. A `Route` lives as long as one run of a transfer. It is
asked a question, says which request to send, is told what came back, and says the next request, or that this is the
answer. What the answer means for the file is not known here (`download`).

1. Every question begins at the origin and follows its own redirects, each hop a fresh request (jobs.md §9.4); a signed
   target may be good for one method only, so where an earlier question ended is not used.
2. The fields of a request are chosen hop by hop from an allow-list; what proves who asks goes to the server alone that
   a client has named.
3. Proxies are chosen for each hop, by somebody else (`choosing`). What cannot be reached is followed by the next one of
   the choice, and never by the target itself unless the choice says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes
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
        self.refused_to = ""
        """Where a redirect leads that the job does not follow: its remote name from now on (jobs.md §9.4)."""

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

    def answered(self, head: Head, local_port: int | None = None) -> Move:
        """A final response head arrived, over the connection with this port here. Raises BadResponseError."""
        verdict = self._proofs.answered(head, local_port)
        if verdict is not None:
            return self._after(verdict)
        location = head.value("location")
        if location is not None and self._flags & SecurityFlags.REDIRECT_DISALLOW and head.status in _DISALLOWED:
            return self._refused(head, location)
        if location is not None and head.status in _FOLLOWED:
            return self._follow(head.status, location)
        if head.status == 421 and not self._is_fresh:  # not for this server, says what has the connection
            self._is_fresh = True
            self._request = replace(self._request, is_on_new_connection=True)
            return self.again()
        if is_login_page(head, self._request.target, asked_for=self._origin):
            page = f"a web page of {self._request.target.peer} came in place of the file"
            return failure(codes.HTTP_STATUS_511, self._request.step, page)
        return Answer(head)

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
            return self.again()
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
        """The one place where the fields of a request are chosen.

        Custom headers go along with each hop, but those that prove who asks go to the server alone that a client has
        named: scheme, host and port (OPEN-46); of those the ones of `proofs` are chosen there.
        """
        is_given = target.origin == self._given
        others = [(name, value) for name, value in self._custom if name.lower() not in CUSTOM]
        fields = [(name, value) for name, value in others if is_given or not _PROVING.search(name)]
        asked = self._question.fields if method == self._question.method else ()
        headers = (*fields, *asked)
        choice = self._choices.get(target.url)
        if choice is None:
            self._request = Request(method=method, target=target)
            return Choose(target)
        self._request = Request(method=method, target=target, headers=headers, proxy=self._next_of(choice))
        return self.again()

    def _go(self) -> Move:
        """Send the present request, when it has all that it needs."""
        return self._proofs.pending() or Send(self._proofs.dressed(self._request))

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
