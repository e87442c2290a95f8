"""What both clients send for credentials, headers and certificates, and what they make of the answers."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits import AsyncClient, BitsError, Client
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore

CHOSEN = {"location": "local_machine", "store": "MY", "sha1": "", "subject": "alice"}
PROXY = (AuthTarget.PROXY, AuthScheme.NEGOTIATE)
PAIR = {"target": "proxy", "scheme": "negotiate"}

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, Values, Values, Any]] = [
    # method, arguments, keywords → wire method, parameters, answer → result
    (
        "set_credentials",
        (AuthTarget.SERVER, AuthScheme.BASIC, "alice", ""),
        {},
        "SetCredentials",
        {"target": "server", "scheme": "basic", "user": "alice", "password": ""},
        {},
        None,
    ),
    ("set_credentials", (*PROXY, None, None), {}, "SetCredentials", PAIR, {}, None),
    ("remove_credentials", PROXY, {}, "RemoveCredentials", PAIR, {"hresult": 0}, True),
    ("remove_credentials", PROXY, {}, "RemoveCredentials", PAIR, {"hresult": 1}, False),
    ("set_custom_headers", ("X: 1\r\n",), {}, "SetCustomHeaders", {"headers": "X: 1\r\n"}, {}, None),
    ("set_custom_headers", ("",), {}, "SetCustomHeaders", {"headers": ""}, {}, None),
    ("set_custom_headers", (None,), {}, "SetCustomHeaders", {}, {}, None),
    ("custom_headers", (), {}, "GetCustomHeaders", {}, {"headers": "X: 1\r\n"}, "X: 1\r\n"),
    ("custom_headers", (), {}, "GetCustomHeaders", {}, {}, None),
    ("make_custom_headers_write_only", (), {}, "MakeCustomHeadersWriteOnly", {}, {}, None),
    (
        "set_client_certificate",
        (CertStore.CURRENT_USER, "MY"),
        {"sha1": "ab" * 20},
        "SetClientCertificate",
        {"location": "current_user", "store": "MY", "sha1": "ab" * 20},
        {},
        None,
    ),
    (
        "set_client_certificate",
        (CertStore.USERS, "MY"),
        {"subject": "alice"},
        "SetClientCertificate",
        {"location": "users", "store": "MY", "subject": "alice"},
        {},
        None,
    ),
    ("remove_client_certificate", (), {}, "RemoveClientCertificate", {}, {"hresult": 1}, False),
    ("client_certificate", (), {}, "GetClientCertificate", {}, {"certificate": CHOSEN}, CHOSEN),
]

CLOAKED = {"SetCredentials", "SetCustomHeaders", "GetCustomHeaders", "SetClientCertificate", "GetClientCertificate"}

ASKS = pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])


def ask(
    service: FakeService, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], *, is_async: bool
) -> Any:
    """The method of a job, by the blocking or the asyncio client."""
    service.add_job("x")
    (job_id,) = service.jobs

    async def story() -> Any:
        async with AsyncClient(socket=str(service.path)) as client:
            result = getattr(await client.job(job_id), name)(*arguments, **keywords)
            assert inspect.isawaitable(result)
            return await result

    if is_async:
        return asyncio.run(story())
    with Client(socket=str(service.path)) as client:
        return getattr(client.job(job_id), name)(*arguments, **keywords)


@ASKS
@pytest.mark.parametrize(("name", "arguments", "keywords", "method", "sent", "answer", "result"), CALLS)
def test_each_method_says_what_it_means(
    service: FakeService,
    name: str,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    method: str,
    sent: Values,
    answer: Values,
    result: Any,
    is_async: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    heard: list[Values] = []

    def hear(parameters: Values) -> Values:
        heard.append({key: value for key, value in parameters.items() if key != "handle"})
        return answer

    service.overrides[method] = hear
    assert ask(service, name, arguments, keywords, is_async=is_async) == result
    assert heard == [sent]


@ASKS
def test_a_refusal_has_the_code_and_shows_no_secret(service: FakeService, is_async: bool) -> None:  # noqa: FBT001
    def refuse(_: Values) -> Values:
        raise FailedError(codes.BG_E_INVALID_AUTH_SCHEME)

    service.overrides["SetCredentials"] = refuse
    arguments = (AuthTarget.SERVER, AuthScheme.BASIC, "alice", "Canary5ecret")
    with pytest.raises(BitsError) as caught:
        ask(service, "set_credentials", arguments, {}, is_async=is_async)
    assert caught.value.hresult == codes.BG_E_INVALID_AUTH_SCHEME
    assert "Canary5ecret" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize(
    "call",
    [
        lambda job: job.set_credentials(AuthTarget.SERVER, AuthScheme.BASIC, "a", "b"),
        lambda job: job.set_custom_headers(None),
        lambda job: job.custom_headers(),
        lambda job: job.set_client_certificate(CertStore.CURRENT_USER, "MY", subject="a"),
        lambda job: job.client_certificate(),
    ],
)
def test_the_impersonated_identity_goes_along(service: FakeService, call: Callable[[Any], object]) -> None:
    for method in ("SetCredentials", "SetCustomHeaders", "SetClientCertificate"):
        service.overrides[method] = lambda _: {}
    service.overrides["GetCustomHeaders"] = lambda _: {"headers": None}
    service.overrides["GetClientCertificate"] = lambda _: {"certificate": CHOSEN}
    service.add_job("x")
    (job_id,) = service.jobs
    with Client(socket=str(service.path)) as client:
        job = client.job(job_id)
        with client.logon_user("beth", "secret") as token, token.impersonate():
            call(job)
    assert [made.token for made in service.calls if made.method in CLOAKED] == ["beth"]
