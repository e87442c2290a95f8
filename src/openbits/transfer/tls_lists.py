"""Revocation lists for a chain: those of this machine if they are fresh, else those that certificates point to.

Lists are public, so what was fetched is kept for all jobs of the worker while it is fresh. They are fetched over plain
http, as RFC 5280 wants (they are signed, and a list behind TLS would need a list), through the proxies of the job and
without anything that was entrusted to it.
"""

import datetime as dt
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from cryptography import x509

from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.transfer import tls_revocation, urls
from openbits.transfer.decisions import Ask, Fail, failure
from openbits.transfer.flow import BREAK_OFF, Asker, Flow, Gate, Then
from openbits.transfer.headers import Head
from openbits.transfer.loop import Loop
from openbits.transfer.request import Breakage, Request
from openbits.transfer.route import Route
from openbits.transfer.tls import Fault, Findings, described
from openbits.transfer.tls_revocation import Standing

FlowMaker = Callable[[Route, Asker, Gate], Flow]
"""Makes flows through the proxies and over the connections of the job."""

MAX_LIST_BYTES: Final = 16 * 1024 * 1024

FETCH_SECONDS: Final = 10.0
"""For one list; a job that waits for more has an answer that can be shown instead."""

KEPT_BYTES: Final = 64 * 1024 * 1024


class Lists:
    """What was fetched, the oldest first."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._kept: dict[str, tuple[x509.CertificateRevocationList, int]] = {}

    def fresh(self, url: str, now: dt.datetime) -> x509.CertificateRevocationList | None:
        """The list of this URL, if it still holds."""
        crl, _ = self._kept.get(url, (None, 0))
        return crl if crl is not None and tls_revocation.is_fresh(crl, now) else None

    def keep(self, url: str, crl: x509.CertificateRevocationList, size: int) -> None:
        """It came from there."""
        self._kept.pop(url, None)
        self._kept[url] = (crl, size)
        while sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]


class Revocation:
    """The check of one chain: every certificate that has an issuer in it."""

    def __init__(self, lists: Lists, make_flow: FlowMaker, local: bytes) -> None:
        self._lists = lists
        self._make_flow = make_flow
        self._local = list(tls_revocation.read(local))
        self._pairs: list[tuple[x509.Certificate, x509.Certificate]] = []
        """What is left to check: certificates and their issuers."""
        self._tried: dict[str, str] = {}
        """Where lists for the first of them were looked for, and what went wrong."""
        self._fetch: Fetch | None = None
        self._then: Callable[[Fault | None], None] | None = None

    def check(self, findings: Findings, then: Callable[[Fault | None], None]) -> None:
        """Say what is wrong, or None. The anchor of the chain is nobody's to revoke, unless its issuer is not known."""
        self._then = then
        chain, top = findings.chain, findings.chain[-1]
        is_cut = any(fault.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA for fault in findings.faults)
        if is_cut and top.subject != top.issuer:
            self._say(_unknown(top, "its issuer is unknown, so that no list of it could be verified"))
        else:
            self._pairs = list(pairwise(chain))
            self._go_on()

    def cancel(self) -> None:
        """Say nothing more."""
        self._then = None
        if self._fetch is not None:
            self._fetch.cancel()

    def _go_on(self) -> None:
        """Up to the next list that has to be fetched, or to the verdict."""
        while self._pairs:
            certificate, issuer = self._pairs[0]
            places, now = tls_revocation.urls_of(certificate), dt.datetime.now(dt.UTC)
            fetched = [crl for url in places if (crl := self._lists.fresh(url, now)) is not None]
            standing = tls_revocation.standing(certificate, issuer, [*self._local, *fetched], now)
            if standing is Standing.UNKNOWN:
                self._look_for(certificate, [url for url in places if url not in self._tried])
                return
            if standing is Standing.REVOKED:
                words = f"a certificate was revoked by its issuer ({described(certificate)})"
                self._say(Fault(hresult=codes.ERROR_WINHTTP_SECURE_CERT_REVOKED, words=words))
                return
            self._pairs, self._tried = self._pairs[1:], {}
        self._say(None)

    def _look_for(self, certificate: x509.Certificate, places: list[str]) -> None:
        if not places:
            problems = [f"{url.partition('?')[0]}: {problem}" for url, problem in self._tried.items()]
            self._say(_unknown(certificate, "; ".join(problems) or "it names no list to fetch over http"))
            return
        self._fetch = Fetch(self._lists.loop, places[0], lambda found: self._fetched(places[0], found))
        self._fetch.begin(self._make_flow)

    def _fetched(self, url: str, found: bytes | str) -> None:
        self._fetch = None
        if isinstance(found, str):
            self._tried[url] = found
        elif (crl := next(tls_revocation.read(found), None)) is None:
            self._tried[url] = "what came is no revocation list"
        else:
            self._tried[url] = "the list is not one that counts now"
            self._lists.keep(url, crl, len(found))
        self._go_on()

    def _say(self, fault: Fault | None) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(fault)


def _unknown(certificate: x509.Certificate, why: str) -> Fault:
    words = (
        f"nobody can say whether a certificate was revoked ({described(certificate)}): {why};"
        " put a list of its issuer into the folder crls of the settings, or clear the flag ENABLE_CRL_CHECK"
    )
    return Fault(hresult=codes.ERROR_WINHTTP_SECURE_CERT_REV_FAILED, words=words)


class OnlyPlain:
    """The gate of a fetch: redirects to https are not followed."""

    step = ""

    def admit(self, request: Request, then: Then) -> None:
        """See Gate."""
        words = "the list is behind TLS, where lists may not be"
        is_plain = request.target.scheme == "http"
        then(request if is_plain else failure(codes.ERROR_WINHTTP_REDIRECT_FAILED, request.step, words))

    def learnt(self, _sent: Request, _breakage: Breakage | None) -> bool:
        """See Gate."""
        return False

    def doubts(self, _sent: Request, _head: Head) -> bool:
        """See Gate."""
        return False

    def cancel(self) -> None:
        """See Gate."""


class Fetch:
    """One list on its way."""

    def __init__(self, loop: Loop, url: str, then: Callable[[bytes | str], None]) -> None:
        self._url = url
        self._then: Callable[[bytes | str], None] | None = then
        self._content = bytearray()
        self._problem = ""
        self._flow: Flow | None = None
        words = f"not there within {FETCH_SECONDS:g} s"
        self._timer = loop.call_at(loop.now() + FETCH_SECONDS, lambda: self._end(words))

    def begin(self, make_flow: FlowMaker) -> None:
        """Ask for it."""
        try:
            target = urls.parse(self._url)
        except urls.BadUrlError as error:
            self._end(str(error))
            return
        self._flow = make_flow(Route(target, (), SecurityFlags(0)), self, OnlyPlain())
        self._flow.ask(Ask("GET"))

    def cancel(self) -> None:
        """Say nothing more."""
        self._then = None
        self._timer.cancel()
        if self._flow is not None:
            self._flow.cancel()

    def _end(self, found: bytes | str) -> None:
        then = self._then
        self.cancel()
        if then is not None:
            then(found)

    # -- the answer, told by the flow -----------------------------------------------------------------------------

    def responded(self, head: Head) -> None:
        """See Asker."""

    def answered(self, head: Head) -> int | None:
        """See Asker."""
        if head.status != 200:
            self._problem = f"the server answered {head.status_line}"
        return BREAK_OFF if self._problem else None

    def body(self, data: bytes) -> int | None:
        """See Asker."""
        self._content += data
        if len(self._content) > MAX_LIST_BYTES:
            self._problem = f"the list has more than {MAX_LIST_BYTES >> 20} MiB"
        return BREAK_OFF if self._problem else None

    def ended(self) -> None:
        """See Asker."""
        self._end(self._problem or bytes(self._content))

    def broke(self, breakage: Breakage, step: str) -> None:
        """See Asker."""
        self._end(self._problem or f"{step}: {breakage.words}")

    def failed(self, fail: Fail) -> None:
        """See Asker."""
        self._end(fail.detail)
