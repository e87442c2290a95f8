"""T-13: who a job is for a web server and a proxy; the real KDC, Apache and squid, real users, the whole service."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.real.authentication import (
    BODY,
    PROGRAMS,
    PROXY,
    PROXY_UNAUTHORIZED,
    SERVER,
    UNAUTHORIZED,
    World,
    implicit,
    keep,
    world,
)
from tests.real.canaries import assert_hidden, canary
from tests.real.conftest import Person
from tests.real.kdc import MACHINE, REALM
from tests.real.squid_auth import AskingSquid
from tests.real.stories import cancel_all, create

import openbits
from openbits import AuthScheme

pytestmark = [pytest.mark.root, pytest.mark.real(*PROGRAMS)]

LOCAL_FILE, NETWORK = 1, 2
ROOT = Person(uid=0, gid=0)


@pytest.fixture(scope="module")
def whole() -> Iterator[World]:
    with world(has_keytab=True) as made:
        yield made


@pytest.fixture
def here(whole: World) -> Iterator[World]:
    """The world, without tickets and jobs of the test before."""
    whole.forget_tickets()
    whole.skip = len(whole.apache.asked())
    yield whole
    cancel_all(whole.service)


@pytest.fixture(scope="module")
def squid(whole: World) -> AskingSquid:
    return whole.squid("negotiate")


@pytest.fixture
def set_policy(here: World, eventually: Callable[..., object]) -> Iterator[Callable[[str, int], None]]:
    """`set_policy(name, value)`: in force when it returns, and no more when the test is over."""

    def rows() -> dict[str, Any]:
        with here.service.client() as client:
            return {row["name"]: row for row in client.policies()["policies"]}

    def set_(name: str, value: int) -> None:
        text = str(bool(value)).lower() if rows()[name]["kind"] == "boolean" else str(value)
        here.service.set_policies(f"{name} = {text}\n")
        eventually(lambda: rows()[name]["value"] == value)

    yield set_
    here.service.set_policies("")
    eventually(lambda: not any(row["origin"] for row in rows().values()))


def through(proxy: AskingSquid) -> dict[str, Any]:
    return {"proxy_usage": openbits.ProxyUsage.OVERRIDE, "proxy_list": proxy.name}


def users(here: World) -> set[str]:
    """Who the server took the job for in this test, where it let it in."""
    return {one.user for one in here.apache.asked()[here.skip :] if one.status < 300}


def schemes(here: World) -> list[str]:
    """With which schemes the server was told something in this test."""
    return [one.scheme for one in here.apache.asked()[here.skip :] if one.scheme]


class TestOwnIdentity:
    def test_the_tickets_of_the_owner_are_used(self, here: World) -> None:
        here.kdc.kinit(here.owner, here.password)
        job = here.job(here.apache.url("/negotiate/file"), implicit(SERVER))
        assert here.is_fetched(job)
        assert users(here) == {f"{here.owner.name}@{REALM}"}

    def test_also_over_tls(self, here: World) -> None:
        here.kdc.kinit(here.owner, here.password)
        assert here.is_fetched(here.job(here.apache.url("/negotiate/file", tls=True), implicit(SERVER)))
        assert users(here) == {f"{here.owner.name}@{REALM}"}

    def test_nothing_is_sent_unless_the_owner_has_said_so(self, here: World) -> None:
        here.kdc.kinit(here.owner, here.password)
        code, text = here.failure(here.job(here.apache.url("/negotiate/file")))
        assert code == UNAUTHORIZED
        assert "Negotiate" in text
        assert schemes(here) == []

    @pytest.mark.parametrize("value", [0, 1])
    def test_or_a_policy_has(self, here: World, value: int, set_policy: Callable[[str, int], None]) -> None:
        set_policy("UseLMCompat", value)
        here.kdc.kinit(here.owner, here.password)
        assert here.is_fetched(here.job(here.apache.url("/negotiate/file")))
        assert users(here) == {f"{here.owner.name}@{REALM}"}

    def test_the_tickets_of_somebody_else_do_nothing_for_the_owner(self, here: World) -> None:
        here.kdc.kinit(here.helper, here.password)
        code, text = here.failure(here.job(here.apache.url("/negotiate/file"), implicit(SERVER)))
        assert code == UNAUTHORIZED
        assert str(here.kdc.cache_of(here.owner)) in text
        assert "kinit" in text
        assert users(here) == set()

    def test_tickets_that_somebody_else_left_in_the_owners_place_are_not_taken(self, here: World) -> None:
        here.kdc.kinit(here.helper, here.password, cache=here.kdc.cache_of(here.owner))
        code, text = here.failure(here.job(here.apache.url("/negotiate/file"), implicit(SERVER)))
        assert code == UNAUTHORIZED
        assert f"uid {here.helper.uid}" in text
        assert users(here) == set()

    def test_expired_tickets_end_in_a_failure_that_says_so_and_new_ones_mend_it(
        self, here: World, eventually: Callable[..., object]
    ) -> None:
        cache = here.kdc.kinit(here.owner, here.password, life="1s")
        eventually(lambda: here.kdc.is_expired(cache))
        job = here.job(here.apache.url("/negotiate/file"), implicit(SERVER))
        code, text = here.failure(job)
        assert code == UNAUTHORIZED
        assert "expired" in text
        here.kdc.kinit(here.owner, here.password)
        job.resume()
        assert here.is_fetched(job)

    def test_root_is_the_machine(self, here: World) -> None:
        job = here.job(here.apache.url("/negotiate/file"), implicit(SERVER), user=ROOT)
        assert here.is_fetched(job)
        assert users(here) == {MACHINE}

    def test_ntlm_has_no_password_of_the_own_identity(self, here: World) -> None:
        code, text = here.failure(here.job(here.apache.url("/ntlm/file"), implicit(SERVER, AuthScheme.NTLM)))
        assert code == UNAUTHORIZED
        assert "NTLM" in text
        assert len(here.apache.asked()) - here.skip <= 3


class TestHelper:
    @pytest.mark.parametrize("flags", [LOCAL_FILE, NETWORK])
    def test_the_flags_say_whose_tickets_are_used_and_who_owns_the_file(self, here: World, flags: int) -> None:
        for user in (here.owner, here.helper):
            here.kdc.kinit(user, here.password)
        place = here.place(here.helper if flags & LOCAL_FILE else here.owner)
        job = here.empty_job()
        here.set_helper(job, flags)
        here.act(job, ("add_files", [(here.apache.url("/negotiate/file"), place)]), implicit(SERVER))
        job.resume()
        job.reaches("transferred")
        assert job.complete() == 0
        assert place.read_bytes() == BODY
        network, local = (here.helper, here.owner) if flags == NETWORK else (here.owner, here.helper)
        assert users(here) == {f"{network.name}@{REALM}"}
        assert place.stat().st_uid == local.uid

    def test_the_helper_is_who_server_and_proxy_see_while_the_owner_owns_the_file(
        self, here: World, squid: AskingSquid
    ) -> None:
        here.kdc.kinit(here.owner, here.password)
        here.kdc.kinit(here.helper, here.password)
        url = here.apache.url("/negotiate/file")
        job = here.job(url, implicit(SERVER), implicit(PROXY), is_resumed=False, **through(squid))
        here.set_helper(job, NETWORK)
        seen = len(squid.asked())
        job.resume()
        assert here.is_fetched(job)
        helper = f"{here.helper.name}@{REALM}"
        assert users(here) == {helper}
        assert {user for status, user, *_ in squid.asked()[seen:] if status < 300} == {helper}

    def test_without_tickets_of_the_helper_those_of_the_owner_do_not_step_in(self, here: World) -> None:
        here.kdc.kinit(here.owner, here.password)
        job = here.job(here.apache.url("/negotiate/file"), implicit(SERVER), is_resumed=False)
        here.set_helper(job, NETWORK)
        job.resume()
        code, text = here.failure(job)
        assert code == UNAUTHORIZED
        assert str(here.kdc.cache_of(here.helper)) in text
        assert users(here) == set()


class TestProxy:
    def test_a_proxy_that_asks_is_answered_and_the_server_then_too(self, here: World, squid: AskingSquid) -> None:
        """A42: implicit credentials for the proxy serve the server."""
        here.kdc.kinit(here.owner, here.password)
        job = here.job(here.apache.url("/negotiate/file"), implicit(PROXY), **through(squid))
        assert here.is_fetched(job)
        assert users(here) == {f"{here.owner.name}@{REALM}"}

    def test_but_not_if_the_server_has_explicit_ones(self, here: World, squid: AskingSquid) -> None:
        here.kdc.kinit(here.owner, here.password)
        explicit = ("set_credentials", SERVER, AuthScheme.BASIC, "anna", here.password)
        job = here.job(here.apache.url("/negotiate/file"), implicit(PROXY), explicit, **through(squid))
        assert here.failure(job)[0] == UNAUTHORIZED
        assert schemes(here) == []

    def test_a_tunnel_is_asked_for_as_the_owner(
        self, here: World, squid: AskingSquid, eventually: Callable[..., object]
    ) -> None:
        here.kdc.kinit(here.owner, here.password)
        seen = len(squid.asked())
        job = here.job(here.apache.url("/open/file", tls=True), implicit(PROXY), **through(squid))
        assert here.is_fetched(job)
        here.service.kill("worker")  # squid tells of a tunnel when it ends

        def let_in() -> set[tuple[str, str]]:
            asked = squid.asked()[seen:]
            return {(user, what.partition(" ")[0]) for status, user, what, _ in asked if status < 300}

        assert eventually(let_in) == {(f"{here.owner.name}@{REALM}", "CONNECT")}

    def test_without_credentials_it_fails_and_names_what_the_proxy_offers(
        self, here: World, squid: AskingSquid
    ) -> None:
        here.kdc.kinit(here.owner, here.password)
        code, text = here.failure(here.job(here.apache.url("/open/file"), **through(squid)))
        assert code == PROXY_UNAUTHORIZED
        assert "Negotiate" in text
        assert here.apache.asked()[here.skip :] == []

    @pytest.mark.parametrize("scheme", [AuthScheme.BASIC, AuthScheme.DIGEST])
    def test_user_and_password(self, here: World, scheme: AuthScheme) -> None:
        proxy = here.squid(scheme.name.lower())
        given = ("set_credentials", PROXY, scheme, "anna", here.password)
        assert here.is_fetched(here.job(here.apache.url("/open/file"), given, **through(proxy)))
        wrong = canary()
        given = ("set_credentials", PROXY, scheme, "anna", wrong)
        code, text = here.failure(here.job(here.apache.url("/open/file"), given, **through(proxy)))
        assert code == PROXY_UNAUTHORIZED
        assert_hidden(text)


class TestStoredProxyCredentials:
    """Property USE_STORED_CREDENTIALS."""

    def stored(self, here: World, host: str, port: int) -> str:
        table = {"host": host, "scheme": "basic", "user": "anna", "password": here.password}
        rows = [f'{key} = "{value}"' for key, value in table.items()]
        return "\n".join(["[[proxy]]", *rows, f"port = {port}", ""])

    def test_those_of_the_network_identity_answer_the_proxy(self, here: World) -> None:
        proxy = here.squid("basic")
        kept = keep(here.helper, "credentials.toml", self.stored(here, "localhost", proxy.port))
        settings = {**through(proxy), "use_stored_proxy_credentials": True}
        job = here.job(here.apache.url("/open/file"), is_resumed=False, **settings)
        here.set_helper(job, NETWORK)
        job.resume()
        assert here.is_fetched(job)
        job = here.job(here.apache.url("/open/file"), **settings)  # of the owner, who keeps none
        assert here.failure(job)[0] == PROXY_UNAUTHORIZED
        keep(here.owner, "credentials.toml", kept.read_text())
        job.resume()
        assert here.is_fetched(job)

    def test_they_are_for_their_proxy_alone(self, here: World) -> None:
        proxy = here.squid("basic")
        keep(here.owner, "credentials.toml", self.stored(here, "proxy.example", proxy.port))
        job = here.job(here.apache.url("/open/file"), **through(proxy), use_stored_proxy_credentials=True)
        assert here.failure(job)[0] == PROXY_UNAUTHORIZED
        assert all(sent != "Basic" for *_, sent in proxy.asked())

    def test_a_file_that_others_may_read_is_refused(self, here: World, squid: AskingSquid) -> None:
        path = keep(here.owner, "credentials.toml", self.stored(here, "localhost", squid.port), 0o644)
        job = here.job(here.apache.url("/open/file"), **through(squid), use_stored_proxy_credentials=True)
        code, text = here.failure(job)
        assert code == 0x80200040
        assert str(path) in text
        assert "chmod 600" in text
        assert_hidden(text)


class TestUserAndPassword:
    @pytest.mark.parametrize(
        ("scheme", "path", "user"),
        [
            (AuthScheme.BASIC, "/basic/file", "anna"),
            (AuthScheme.DIGEST, "/digest/file", "anna"),
            (AuthScheme.NTLM, "/ntlm/file", "OPENBITS\\anna"),
            (AuthScheme.NEGOTIATE, "/negotiate-ntlm/file", "OPENBITS\\anna"),
        ],
    )
    def test_the_right_password_is_let_in_and_a_wrong_one_fails_without_a_storm(
        self, here: World, scheme: AuthScheme, path: str, user: str
    ) -> None:
        good = here.job(here.apache.url(path), ("set_credentials", SERVER, scheme, user, here.password))
        assert here.is_fetched(good)
        asked = len(here.apache.asked())
        bad = here.job(here.apache.url(path), ("set_credentials", SERVER, scheme, user, canary()))
        code, text = here.failure(bad)
        assert code == UNAUTHORIZED
        assert_hidden(text)
        names = {AuthScheme.BASIC: "Basic", AuthScheme.DIGEST: "Digest", AuthScheme.NTLM: "NTLM"}
        assert names.get(scheme, "Negotiate") in text
        proofs = [one for one in here.apache.asked()[asked:] if one.scheme]
        rounds = {AuthScheme.NTLM: 2, AuthScheme.NEGOTIATE: 2}.get(scheme, 1)
        assert len(proofs) <= rounds  # whoever counts wrong passwords sees one

    @pytest.mark.parametrize("scheme", [AuthScheme.BASIC, AuthScheme.DIGEST, AuthScheme.NTLM])
    def test_many_files_at_a_time_are_one_wrong_password(self, here: World, scheme: AuthScheme) -> None:
        url = here.apache.url(f"/{scheme.name.lower()}/file")
        pairs = [(url, here.place(here.owner)) for _ in range(16)]
        job = create(here.service, here.owner, pairs, is_resumed=False, parallel_files=8)
        here.act(job, ("set_credentials", SERVER, scheme, "anna", canary()))
        job.resume()
        assert here.failure(job)[0] == UNAUTHORIZED
        proofs = [one for one in here.apache.asked()[here.skip :] if one.scheme]
        assert len(proofs) <= (2 if scheme is AuthScheme.NTLM else 1), proofs

    @pytest.mark.parametrize("scheme", [AuthScheme.DIGEST, AuthScheme.NTLM, AuthScheme.NEGOTIATE])
    def test_many_files_at_a_time_are_all_let_in(self, here: World, scheme: AuthScheme) -> None:
        """NTLM and Negotiate authenticate connections: each is the way of one file at a time."""
        here.kdc.kinit(here.owner, here.password)
        url = here.apache.url(f"/{scheme.name.lower()}/file")
        pairs = [(url, here.place(here.owner)) for _ in range(16)]
        job = create(here.service, here.owner, pairs, is_resumed=False, parallel_files=8)
        is_own = scheme is AuthScheme.NEGOTIATE
        here.act(job, implicit(SERVER) if is_own else ("set_credentials", SERVER, scheme, "anna", here.password))
        job.resume()
        job.reaches("transferred", "error", seconds=60)
        assert job.state == "transferred", job.error
        assert job.complete() == 0
        assert all(path.read_bytes() == BODY for _, path in pairs)

    def test_a_principal_of_the_realm_by_its_password(self, here: World) -> None:
        user = f"{here.helper.name}@{REALM}"
        given = ("set_credentials", SERVER, AuthScheme.NEGOTIATE, user, here.password)
        assert here.is_fetched(here.job(here.apache.url("/negotiate/file"), given))
        assert users(here) == {user}

    def test_what_was_part_of_the_url_is_used(self, here: World) -> None:
        url = here.apache.url("/basic/file").replace("//", f"//anna:{here.password}@")
        assert here.is_fetched(here.job(url))
        assert users(here) == {"anna"}

    def test_basic_over_http_can_be_forbidden(self, here: World, set_policy: Callable[[str, int], None]) -> None:
        set_policy("DisableBasicAuthOverHttp", 1)
        given = ("set_credentials", SERVER, AuthScheme.BASIC, "anna", here.password)
        code, text = here.failure(here.job(here.apache.url("/basic/file"), given))
        assert code == UNAUTHORIZED
        assert "policy" in text
        assert schemes(here) == []
        assert here.is_fetched(here.job(here.apache.url("/basic/file", tls=True), given))

    @pytest.mark.parametrize("scheme", [AuthScheme.BASIC, AuthScheme.DIGEST])
    def test_a_password_that_changes_in_between_costs_no_byte(self, here: World, scheme: AuthScheme) -> None:
        name, old, new = f"carl{scheme.name.lower()}", canary(), canary()
        here.apache.set_password(name, old)
        job = here.job(
            here.apache.url(f"/slow/{scheme.name.lower()}/file"), ("set_credentials", SERVER, scheme, name, old)
        )
        job.saves(200_000)
        job.suspend()
        kept = job.info()["bytes_transferred"]
        assert 200_000 <= kept < len(BODY)
        here.apache.set_password(name, new)
        job.resume()
        code, _ = here.failure(job)
        assert code == UNAUTHORIZED
        assert job.info()["bytes_transferred"] == kept
        here.act(job, ("set_credentials", SERVER, scheme, name, new))
        job.resume()
        job.reaches("transferred", seconds=60)
        assert here.content(job) == BODY
        answered = [one for one in here.apache.asked()[here.skip :] if one.method == "GET" and one.status < 300]
        assert sorted((one.status, one.range) for one in answered) == [(200, ""), (206, f"bytes={kept}-")]
