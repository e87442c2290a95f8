"""What the server counts, for Prometheus; served by a listener of its own, away from clients."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from openbits.server.log import Entry
from openbits.server.sessions import Sessions
from openbits.server.settings import Address

_SECONDS = (0.005, 0.025, 0.1, 0.5, 2, 10, 60, 300)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "openbits_server_requests", "Requests by type and status.", ["type", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "openbits_server_request_seconds",
            "How long requests took.",
            ["type"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._bytes = Counter(
            "openbits_server_bytes", "Bytes of bodies, by type of request.", ["type"], registry=self._registry
        )

    def watch(self, sessions: Sessions) -> None:
        """Show the figures of the sessions."""
        facts = {
            "openbits_server_sessions": ("Sessions that there are.", lambda: sessions.count),
            "openbits_server_sessions_in_use": ("Sessions that requests are about.", lambda: sessions.in_use),
            "openbits_server_sessions_created": ("Sessions since the start.", lambda: sessions.counters.created),
            "openbits_server_sessions_ended": ("Sessions clients ended.", lambda: sessions.counters.ended),
            "openbits_server_uploads_published": ("Files since the start.", lambda: sessions.counters.published),
            "openbits_server_notifications": ("Calls of applications.", lambda: sessions.counters.notified),
            "openbits_server_sessions_expired": ("Sessions a clean-up ended.", lambda: sessions.counters.expired),
        }
        for name, (words, value) in facts.items():
            Gauge(name, words, registry=self._registry).set_function(value)

    def count(self, entry: Entry) -> None:
        """One more request."""
        kind = entry.kind if entry.kind in _KINDS else "other"
        self._requests.labels(kind, str(entry.status or "gone")).inc()
        self._seconds.labels(kind).observe(entry.seconds)
        self._bytes.labels(kind).inc(entry.body_bytes)

    def listen(self, address: Address) -> None:
        """Serve them from a thread that ends with the process. Raises OSError."""
        start_http_server(address.port, address.host, self._registry)


_KINDS = frozenset(
    {"Create-Session", "Ping", "Fragment", "Close-Session", "Cancel-Session", "GET", "HEAD", "BITS_POST"}
)
"""Types that are told apart; clients cannot make up others."""
