"""The running service of the real tests."""

from tests.real.conftest import make_service, service

__all__ = ["make_service", "service"]
