"""The way out of every transfer over HTTP: through which connections and proxies requests go, and as whom.

What is asked is known by who asks: for a file as a whole (`http`), in parts (`lanes`), to upload one (`upload_http`).
"""

from dataclasses import dataclass, replace

from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.transfer import urls
from openbits.transfer.backstage import Backstage
from openbits.transfer.choosing import Chooser
from openbits.transfer.curl import Engine
from openbits.transfer.decisions import Fail
from openbits.transfer.flow import Asker, Flow, Gate
from openbits.transfer.ladder import Logins
from openbits.transfer.route import Route
from openbits.transfer.tls_gate import Known, TlsGate
from openbits.transfer.transport import News, Order, Settings
from openbits.transfer.urls import Origin, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What was ordered, and with what it is done."""

    order: Order
    origin: Target
    news: News
    engine: Engine
    backstage: Backstage
    logins: Logins
    chooser: Chooser
    settings: Settings
    known: Known
    note: str = ""
    """What people should know of how it is done."""

    def route(self, origin: Target | None = None, given: Origin | None = None) -> Route:
        """A way from the origin, or from another one; one for each flow.

        `given`: whose server the one is that what proves who asks is for, if it is not that of the order.
        """
        order = self.order
        return Route(origin or self.origin, order.headers, order.security_flags, given or self.given, self.logins)

    @property
    def given(self) -> Origin:
        """Whose server the one is that what proves who asks is for."""
        return urls.parse(self.order.given_url).origin if self.order.given_url else self.origin.origin

    def flow(self, route: Route, asker: Asker) -> Flow:
        """A flow along this way."""
        return self._flow(route, asker, TlsGate(self.order, route.given, self.known, self.news, self._flow))

    def _flow(self, route: Route, asker: Asker, gate: Gate) -> Flow:
        return Flow(
            route,
            self.engine,
            self.settings.limits,
            asker,
            gate,
            chooser=self.chooser,
            proxies=self.order.proxies,
            backstage=self.backstage,
        )

    def tell_accepted(self, route: Route, validators: Validators, offset: int, note: str) -> None:
        """An answer was accepted that came this way."""
        dead = route.dead_proxies
        lost = [f"{dead} of the proxies could not be reached"] if dead else []
        said = [self.note, *route.notes, note, *lost]
        self.news.went(route.peer, route.redirected_to)
        self.news.connected(validators, offset, "; ".join(filter(None, said)))

    def placed(self, route: Route, fail: Fail) -> Fail:
        """With where it failed, unless that is not on this way."""
        if fail.context is ErrorContext.SERVER_CERTIFICATE_CALLBACK:
            return fail
        return replace(fail, detail=f"{route.place}: {fail.detail}")
