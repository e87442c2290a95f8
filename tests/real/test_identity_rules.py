"""Who may do what, through the real API with real users and groups (identity.md §1 to §3, §8; test T-2)."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import openbits
from openbits import BitsError, TokenFlags

pytestmark = pytest.mark.root

S_OK = 0
E_ACCESSDENIED = 0x80070005
E_HANDLE = 0x80070006
BG_E_NOT_FOUND = 0x80200001

UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"

SECRET_NAME, SECRET_FILE = "merger with Initech", "layoffs.pdf"


@pytest.fixture
def people(throwaway_user: Callable[..., Any], root: Any) -> dict[str, Any]:
    """Ordinary people, one who may use sudo, one who administrates the service, and root."""
    return {
        "alice": throwaway_user(),
        "bob": throwaway_user(),
        "sudoer": throwaway_user(groups=("sudo",)),
        "admin": throwaway_user(),
        "root": root,
    }


@pytest.fixture
def service(make_service: Callable[..., Any], people: dict[str, Any]) -> Any:
    """A service that is administrated by members of the group of `admin`."""
    service = make_service()
    service.configure(f'[identity]\nadministrators = ["{people["admin"].name}"]\n')
    service.start()
    return service


@pytest.fixture
def tokens(service: Any, people: dict[str, Any]) -> Iterator[dict[str, openbits.Token]]:
    """A token of everybody; root needs no passwords for that."""
    with service.client() as client:
        made = {name: client.logon_user(getattr(person, "name", "root"), None) for name, person in people.items()}
    yield made
    for token in made.values():
        token.close()


def create(service: Any) -> str:
    with service.client() as client:
        return str(client.create_job(SECRET_NAME).id)


def code_of(call: Callable[[], object]) -> tuple[int, str]:
    """HRESULT and text of a call; S_OK and no text if it succeeds."""
    try:
        call()
    except BitsError as error:
        return error.hresult, str(error)
    return S_OK, ""


def query_and_set(service: Any, job_id: str, token: openbits.Token) -> tuple[int, str]:
    """QueryInterface as oneself, then SetHelperToken while impersonating."""

    def call() -> None:
        with service.client() as client:
            options = client.job(job_id)
            with token.impersonate():
                options.set_helper_token()

    return code_of(call)


def helper_sid(service: Any, job_id: str) -> str | None:
    with service.client() as client:
        sid: str | None = client.job(job_id).info()["helper_sid"]
        return sid


def sid(person: Any) -> str:
    return f"S-1-22-1-{person.uid}"


# -- T-2: who sets whose token --------------------------------------------------------------------------------------

ORDINARY_HELPERS = ("bob",)
ADMIN_HELPERS = ("sudoer", "admin", "root")

# relation of the caller to the job, is the caller an administrator, is the helper one: the result (A24, A25, §3)
OUTCOMES = {
    ("owner", False, False): S_OK,
    ("owner", False, True): E_ACCESSDENIED,
    ("owner", True, False): S_OK,
    ("owner", True, True): S_OK,
    ("other", False, False): E_ACCESSDENIED,
    ("other", False, True): E_ACCESSDENIED,
    ("other", True, False): S_OK,
    ("other", True, True): S_OK,
}
CALLERS = {
    ("owner", False): [("alice", "alice")],  # (owner of the job, caller)
    ("owner", True): [("root", "root"), ("admin", "admin")],
    ("other", False): [("alice", "bob"), ("alice", "sudoer")],
    ("other", True): [("alice", "root"), ("alice", "admin")],
}


def test_t2_the_eight_outcomes(
    service: Any, people: dict[str, Any], tokens: dict[str, openbits.Token], as_user: Callable[..., Any]
) -> None:
    got: dict[tuple[str, bool, bool], set[int]] = {}
    for (relation, is_admin), pairs in CALLERS.items():
        for (owner, caller), helper in itertools.product(pairs, (*ORDINARY_HELPERS, *ADMIN_HELPERS)):
            if helper == owner:
                continue  # the exemption has a test of its own
            job_id = as_user(people[owner], create, service)
            code, text = as_user(people[caller], query_and_set, service, job_id, tokens[helper])
            got.setdefault((relation, is_admin, helper in ADMIN_HELPERS), set()).add(code)
            assert helper_sid(service, job_id) == (sid(people[helper]) if code == S_OK else None), (
                owner,
                caller,
                helper,
            )
            assert SECRET_NAME not in text
    assert got == {case: {code} for case, code in OUTCOMES.items()}


@pytest.mark.parametrize(
    ("helper", "why"), [("sudoer", "is in the privileged group sudo"), ("root", "is the superuser")]
)
def test_the_refusal_of_a_privileged_helper_says_who_why_and_what_to_do(
    helper: str,
    why: str,
    service: Any,
    people: dict[str, Any],
    tokens: dict[str, openbits.Token],
    as_user: Callable[..., Any],
) -> None:
    alice = people["alice"]
    job_id = as_user(alice, create, service)
    _, text = as_user(alice, query_and_set, service, job_id, tokens[helper])
    name = f"{getattr(people[helper], 'name', 'root')} (uid {people[helper].uid})"
    assert f"cannot set {name} as helper token" in text
    assert f"{name} {why}" in text
    assert f"{alice.name} (uid {alice.uid}) is no administrator" in text
    assert "use a helper without these rights, or have an administrator make the call" in text


def test_the_owners_own_token_is_no_privileged_helper(
    service: Any, people: dict[str, Any], tokens: dict[str, openbits.Token], as_user: Callable[..., Any]
) -> None:
    """Exempt: helper uid = owner uid (identity.md §8)."""
    sudoer = people["sudoer"]
    job_id = as_user(sudoer, create, service)
    assert as_user(sudoer, query_and_set, service, job_id, tokens["sudoer"]) == (S_OK, "")


def test_flags_cannot_be_changed_by_the_owner_while_a_privileged_token_is_set(
    service: Any, people: dict[str, Any], tokens: dict[str, openbits.Token], as_user: Callable[..., Any]
) -> None:
    """identity.md §3 row 2; clearing the token needs only the caller rule (row 4), and then the flags are free."""

    def flags_then_clear() -> list[int]:
        with service.client() as client:
            job = client.job(job_id)
            return [
                code_of(lambda: job.set_helper_token_flags(TokenFlags.NETWORK))[0],
                code_of(job.clear_helper_token)[0],
                code_of(lambda: job.set_helper_token_flags(TokenFlags.NETWORK))[0],
                job.info()["helper_token_flags"],
            ]

    job_id = as_user(people["alice"], create, service)
    assert as_user(people["root"], query_and_set, service, job_id, tokens["sudoer"])[0] == S_OK
    assert as_user(people["alice"], flags_then_clear) == [E_ACCESSDENIED, S_OK, S_OK, 2]


# -- the handle: access is checked once, when the interface is obtained (A20, jobs.md §6.1) --------------------------


def test_a_handle_keeps_the_identity_that_obtained_it(
    service: Any,
    people: dict[str, Any],
    tokens: dict[str, openbits.Token],
    as_user: Callable[..., Any],
    open_tmp_path: Path,
) -> None:
    """While impersonating bob, alice's handle works for everything, and nothing of alice's can be obtained anew."""
    shared = open_tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    def story() -> tuple[int, int, str, list[str]]:
        with service.client() as client:
            job = client.create_job(SECRET_NAME)
            with tokens["bob"].impersonate():
                job.set_helper_token()
                job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
                job.add_file("http://127.0.0.1:1/x", shared / "x")
                job.set(description="changed")
                job.suspend()
                foreign = code_of(lambda: client.job(job.id))
                bobs = client.create_job("of bob")
                listed = [info["job_id"] for info in client.job_infos()]
                assert listed == [str(bobs.id)]
            job.clear_helper_token()
            return (
                foreign[0],
                bobs.info()["owner_uid"],
                job.info()["owner_sid"],
                job.info()["properties"]["description"],
            )

    denied, owner_of_bobs, owner_sid, description = as_user(people["alice"], story)
    assert (denied, owner_of_bobs) == (E_ACCESSDENIED, people["bob"].uid)
    assert (owner_sid, description) == (sid(people["alice"]), "changed")


@pytest.mark.attack(19)
def test_a_handle_is_worth_nothing_on_another_connection(
    service: Any, people: dict[str, Any], as_user: Callable[..., Any]
) -> None:
    """Also of the same user: a handle is an interface pointer, not a name."""

    def story(handle: int) -> tuple[int, str]:
        with service.client() as client:
            return code_of(lambda: client.call("GetJob", {"handle": handle}))

    with service.client() as client:
        handle = client.call("CreateJob", {"display_name": "x", "type": "download", "umask": 0o22})["handle"]
        for person in (people["root"], people["alice"]):
            code, text = as_user(person, story, handle)
            assert code == E_HANDLE
            assert "open the job first" in text


# -- foreign jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", ["bob", "sudoer"])
@pytest.mark.attack(19)
def test_a_foreign_job_is_denied_and_nothing_of_it_disclosed(
    stranger: str, service: Any, people: dict[str, Any], as_user: Callable[..., Any], open_tmp_path: Path
) -> None:
    alice = people["alice"]
    open_tmp_path.chmod(0o777)

    def make() -> str:
        with service.client() as client:
            job = client.create_job(SECRET_NAME)
            job.add_file("http://127.0.0.1:1/hidden", open_tmp_path / SECRET_FILE)
            return str(job.id)

    def look() -> tuple[tuple[int, str], tuple[int, str], tuple[int, str], list[str]]:
        with service.client() as client:
            foreign = code_of(lambda: client.job(job_id))
            unknown = code_of(lambda: client.job(UNKNOWN_JOB))
            everybody = code_of(lambda: client.job_infos(all_users=True))
            return foreign, unknown, everybody, [info["job_id"] for info in client.job_infos()]

    job_id = as_user(alice, make)
    foreign, unknown, everybody, own = as_user(people[stranger], look)
    who = f"{people[stranger].name} (uid {people[stranger].uid})"
    assert foreign[0] == E_ACCESSDENIED
    assert f"cannot open job {job_id}" in foreign[1]
    assert who in foreign[1]
    assert "ask its owner or an administrator" in foreign[1]
    for secret in (SECRET_NAME, SECRET_FILE, alice.name, str(alice.uid), "127.0.0.1"):
        assert secret not in foreign[1]
    assert unknown[0] == BG_E_NOT_FOUND
    assert UNKNOWN_JOB in unknown[1]
    assert everybody[0] == E_ACCESSDENIED
    assert who in everybody[1]
    assert "cannot see the jobs of all users" in everybody[1]
    assert own == []


@pytest.mark.parametrize("administrator", ["root", "admin"])
def test_administrators_see_and_change_every_job_without_owning_it(
    administrator: str, service: Any, people: dict[str, Any], as_user: Callable[..., Any]
) -> None:
    """A2, A3."""

    def look() -> tuple[list[str], str, int]:
        with service.client() as client:
            listed = [info["job_id"] for info in client.job_infos(all_users=True)]
            job = client.job(job_id)
            job.set(description="looked at")
            info = job.info()
            return listed, info["properties"]["description"], info["owner_uid"]

    job_id = as_user(people["alice"], create, service)
    assert as_user(people[administrator], look) == ([job_id], "looked at", people["alice"].uid)


def test_root_adds_files_to_the_job_of_another_and_completes_it_under_the_owners_identity(
    service: Any,
    site: Any,
    people: dict[str, Any],
    as_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    """A2, A10 as decided in P8: whoever helps, files are the owner's."""
    alice = people["alice"]
    url, target = site.put("/data", b"x" * 1000), private_folder(alice) / "data"
    job_id = as_user(alice, create, service)
    with service.client() as client:
        job = client.job(job_id)
        job.add_file(url, target)
        job.resume()
        assert job.wait(60) is openbits.Outcome.TRANSFERRED, job.error
        assert job.complete() == S_OK
    assert (target.stat().st_uid, site.uids("/data")) == (alice.uid, {alice.uid})


def test_an_administrator_without_root_cannot_lead_the_service_into_new_directories_of_another(
    service: Any, people: dict[str, Any], as_user: Callable[..., Any], private_folder: Callable[[Any], Path]
) -> None:
    """design.md §2: to the spawner an administrator by configuration is an ordinary user."""
    alice, admin = people["alice"], people["admin"]
    target = private_folder(alice) / "data"

    def add() -> tuple[int, str]:
        with service.client() as client:
            job = client.job(job_id)
            return code_of(lambda: job.add_file("http://127.0.0.1/x", target))

    job_id = as_user(alice, create, service)
    code, text = as_user(admin, add)
    assert code == E_ACCESSDENIED
    assert f"cannot use {target} as {alice.name} (uid {alice.uid})" in text
    assert f"uid {admin.uid} cannot act for uid {alice.uid}; only that uid itself and root can" in text


@pytest.mark.attack(19)
def test_events_of_foreign_jobs_are_not_told(service: Any, people: dict[str, Any], as_user: Callable[..., Any]) -> None:
    def listen() -> tuple[int, list[str]]:
        with service.client() as client:
            denied = code_of(lambda: client.events(all_users=True).next(1))[0]
            with client.events(from_seq=0, job_ids=None) as stream:
                own = str(client.create_job("own").id)
                seen = []
                while (event := stream.next(10)) is not None and event["job_id"] != own:
                    seen.append(event["job_id"])
                return denied, [job_id for job_id in seen if job_id]

    as_user(people["alice"], create, service)
    assert as_user(people["bob"], listen) == (E_ACCESSDENIED, [])
