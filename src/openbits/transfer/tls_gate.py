"""Lets requests to servers out, after a look at their certificates where a job wants one (jobs.md §9.6, §9.8).

Without a flag about certificates and without a certificate callback nothing happens here: libcurl verifies in full.
With one, a handshake goes first, on a connection that says nothing else. What the server showed is judged by the flags,
looked up in revocation lists, shown to the callback; then requests go out on connections that must have the same key,
and of which libcurl checks everything that did not have to be ignored.

1. What is ignored is ignored for one server (host, port and proxy) and one job.
2. Found faults are kept for a while, a decision for one run of a file: revocation is looked up, and the callback asked,
   for each file. What a callback has accepted the manager knows (V4).
3. A connection that shows another key, or that libcurl refuses, makes us look again: servers behind one name may
   differ, and whoever is told of a refusal is told what is wrong.
4. A client certificate is for the scheme, host and port that the job names alone. libcurl verifies a server after it
   has shown it our certificate, so a look without it comes first.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from openbits.core import codes
from openbits.core.enums import ErrorContext, SecurityFlags
from openbits.core.proxies import Kind, Proxy
from openbits.transfer.decisions import Fail, failure
from openbits.transfer.flow import Then
from openbits.transfer.headers import Head
from openbits.transfer.loop import Loop
from openbits.transfer.request import Breakage, Request
from openbits.transfer.tls import CHECKS, Fault, Findings, Trust, described, judge
from openbits.transfer.tls_lists import FlowMaker, Lists, Revocation
from openbits.transfer.tls_messages import Handshake
from openbits.transfer.tls_verify import Verifier
from openbits.transfer.transport import Order, Settings
from openbits.transfer.urls import Origin

KEPT_SECONDS: Final = 300.0
"""How long what is known of a server saves a handshake for each file of a job."""

MAX_LOOKS: Final = 5
"""At one server in one run: as many keys may be behind one name."""

MAX_SHOWN_BYTES: Final = 40 * 1024
"""Of certificates in a question to the callback, which has to fit into a message of 64 KiB as base64."""

Peer = tuple[str, int, Proxy | None]
"""Host and port of a server, and the proxy that leads there."""


class Questioner(Protocol):
    """Has the certificate callback of the job asked."""

    def certificate(self, server: str, certificate: bytes, chain: list[bytes], then: Callable[[int], None]) -> None:
        """Call back with S_OK or the HRESULT of the refusal; certificates are DER."""


class Checks:
    """What all jobs of a worker share."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self.lists = Lists(loop)
        self.verifier = Verifier(settings.ca_file)


class Known:
    """What is known of servers, for one job."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self._findings: dict[Peer, tuple[Findings, float]] = {}

    def find(self, peer: Peer) -> Findings | None:
        """What was found, unless that is too long ago."""
        findings, until = self._findings.get(peer, (None, 0.0))
        return findings if time.monotonic() < until else None

    def add(self, peer: Peer, findings: Findings) -> None:
        """The server has shown this."""
        self._findings[peer] = (findings, time.monotonic() + KEPT_SECONDS)

    def forget(self, peer: Peer) -> None:
        """Look again."""
        self._findings.pop(peer, None)


class TlsGate:
    """The gate of one flow."""

    def __init__(self, order: Order, given: Origin, known: Known, questioner: Questioner, make_flow: FlowMaker) -> None:
        self._order = order
        self._given = given
        self._make_flow = make_flow
        self._known = known
        self._questioner = questioner
        self._looks: Counter[Peer] = Counter()
        self._trusts: dict[Peer, Trust] = {}
        self._open: set[Peer] = set()
        self._suspects: set[Peer] = set()
        self._barred: set[Peer] = set()
        """They want to see a client certificate, and there is none for them."""
        self._doubted: dict[Peer, str] = {}
        """They gave an answer that may mean the same, this one."""
        self._revocation: Revocation | None = None
        self._then: Then | None = None
        self.step = ""

    def admit(self, request: Request, then: Then) -> None:
        """See Gate."""
        refusal = self._order.tls_refusal
        peer = _peer_of(request)
        if request.target.scheme != "https":
            then(request)
        elif refusal is not None:
            then(_refused(refusal.hresult, refusal.detail))
        elif peer in self._open or not self._is_checked(request, peer):
            then(self._dressed(request))
        elif (findings := self._known.find(peer)) is None:
            is_double = request.proxy is not None and request.proxy.kind is Kind.HTTPS
            then(replace(request, handshake=Handshake(2 if is_double else 1)))
        else:
            self._then = then
            self._look(request, peer, findings)

    def learnt(self, sent: Request, breakage: Breakage | None) -> bool:
        """See Gate."""
        peer = _peer_of(sent)
        if sent.handshake is not None:
            return self._watched(sent, peer, sent.handshake, breakage)
        if peer in self._doubted and peer not in self._suspects:
            self._look_again(peer)
            return True
        if breakage is None or not breakage.needs_look or self._looks[peer] >= MAX_LOOKS:
            return False
        self._look_again(peer)
        return True

    def doubts(self, sent: Request, head: Head) -> bool:
        """See Gate. nginx lets everybody in, and says 400 to who has not shown the certificate that it asked for."""
        peer = _peer_of(sent)
        is_possible = sent.target.scheme == "https" and head.status == 400 and self._certificate_for(sent) is None
        if not is_possible or peer in self._suspects:
            return False
        self._doubted[peer] = head.status_line
        return True

    def _look_again(self, peer: Peer) -> None:
        self._suspects.add(peer)
        self._open.discard(peer)
        self._known.forget(peer)

    def _watched(self, sent: Request, peer: Peer, shaken: Handshake, breakage: Breakage | None) -> bool:
        """True if the server has shown who it is, whatever came of it: we show nothing while we only watch."""
        if not shaken.chain:
            return False
        self._looks[peer] += 1
        self._known.add(peer, self._known.checks.verifier.examine(shaken.chain, sent.target.host, shaken.version))
        is_refused = breakage is not None or peer in self._doubted
        if is_refused and shaken.is_client_asked and self._certificate_for(sent) is None:
            self._barred.add(peer)
        return True

    def cancel(self) -> None:
        """See Gate."""
        self._then = None
        if self._revocation is not None:
            self._revocation.cancel()
            self._revocation = None

    def _is_checked(self, request: Request, peer: Peer) -> bool:
        """Whether to look first. libcurl verifies a server only when it has shown it our certificate."""
        order = self._order
        is_asked_for = bool(order.security_flags & CHECKS) or order.has_certificate_callback
        return is_asked_for or peer in self._suspects or self._certificate_for(request) is not None

    def _look(self, request: Request, peer: Peer, findings: Findings) -> None:
        verdict = judge(findings, self._order.security_flags)
        if isinstance(verdict, Fault):
            self._fail(request, peer, findings, verdict)
        elif peer in self._barred:
            said = f"answered {self._doubted[peer]}, and " if peer in self._doubted else ""
            words = f"the server {said}wants to see a client certificate, and the job has none for it"
            fault = Fault(hresult=codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED, words=words)
            self._fail(request, peer, findings, fault)
        elif SecurityFlags.ENABLE_CRL_CHECK not in self._order.security_flags:
            self._ask(request, peer, findings, verdict)
        else:
            self.step = f"checking whether certificates of {request.target.peer} are revoked"
            checks = self._known.checks
            self._revocation = Revocation(checks.lists, self._make_flow, self._order.revocation_lists)
            self._revocation.check(findings, lambda fault: self._looked_up(request, peer, findings, verdict, fault))

    def _looked_up(self, request: Request, peer: Peer, findings: Findings, trust: Trust, fault: Fault | None) -> None:
        self._revocation = None
        if fault is not None:
            self._fail(request, peer, findings, fault)
        else:
            self._ask(request, peer, findings, trust)

    def _ask(self, request: Request, peer: Peer, findings: Findings, trust: Trust) -> None:
        """V1: who passed all checks is shown to the callback before anything is said to it."""
        if not self._order.has_certificate_callback:
            self._accept(request, peer, trust)
            return
        target = request.target
        self.step = f"waiting for the program that checks the certificate of {target.peer}"
        leaf, *others = [one.public_bytes(Encoding.DER) for one in findings.chain]
        left = MAX_SHOWN_BYTES - len(leaf)
        if left < 0:
            words = f"the certificate has {len(leaf)} bytes, too many to be shown to the certificate callback"
            self._fail(request, peer, findings, Fault(hresult=codes.ERROR_WINHTTP_SECURE_INVALID_CERT, words=words))
            return
        shown = []
        for one in others:
            left -= len(one)
            shown += [one] if left >= 0 else []
        asked = self._then

        def answered(hresult: int) -> None:
            if self._then is not asked or asked is None:  # cancelled meanwhile
                return
            if hresult == codes.S_OK:
                self._accept(request, peer, trust)
            else:
                self._say(_refused(hresult, _words_of_refusal(hresult, target.peer, findings)))

        self._questioner.certificate(f"{target.host}:{target.port}", leaf, shown, answered)

    def _accept(self, request: Request, peer: Peer, trust: Trust) -> None:
        before = self._trusts.get(peer)
        self._trusts[peer] = trust if before is None else before.joined(trust)
        self._open.add(peer)
        self._say(self._dressed(request))

    def _dressed(self, request: Request) -> Request:
        """With what is known of the server, and what it may see of us."""
        trust, certificate = self._trusts.get(_peer_of(request)), self._certificate_for(request)
        if trust is None and certificate is None:
            return request
        return replace(request, trust=trust, client_certificate=certificate)

    def _certificate_for(self, request: Request) -> str | None:
        return self._order.client_certificate if request.target.origin == self._given else None

    def _fail(self, request: Request, peer: Peer, findings: Findings, fault: Fault) -> None:
        """A later attempt looks anew."""
        self._known.forget(peer)
        step = f"{findings.version or 'TLS'} handshake with {request.target.peer}"
        self._say(failure(fault.hresult, step, fault.words))

    def _say(self, verdict: Request | Fail) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(verdict)


def _peer_of(request: Request) -> Peer:
    return request.target.host.lower(), request.target.port, request.proxy


def _refused(hresult: int, detail: str) -> Fail:
    return Fail(hresult=hresult, context=ErrorContext.SERVER_CERTIFICATE_CALLBACK, detail=detail)


def _words_of_refusal(hresult: int, server: str, findings: Findings) -> str:
    whose = f"the certificate of {server} ({described(findings.chain[0])})"
    if hresult == codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED:
        return f"nobody answers for the job whether {whose} is right; set the certificate callback again, then resume"
    return f"the certificate callback of the job refused {whose}"
