"""PRECONFIG: whose configuration names the proxy, in which order, and what `bits proxy explain` says (OPEN-48)."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import canaries
from tests.real.conftest import Service, Site, run_as
from tests.real.socks import Socks
from tests.real.squid_auth import AskingSquid
from tests.real.stories import Job, create, real_user, running_service
from tests.transfer.faultserver import FaultServer, whole
from tests.transfer.forwardproxy import ForwardProxy

import openbits

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(20_000)
SECRET = canaries.canary()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture
def proxies() -> Iterator[list[ForwardProxy]]:
    made = [ForwardProxy(), ForwardProxy()]
    yield made
    for proxy in made:
        proxy.close()


@pytest.fixture
def proxy(proxies: list[ForwardProxy]) -> ForwardProxy:
    return proxies[0]


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: User) -> Path:
    return private_folder(owner)


@pytest.fixture(autouse=True)
def nothing_is_left(owner: User) -> Iterator[None]:
    yield
    subprocess.run(["rm", "-rf", owner.home / ".config"], check=True)


def configure(user: User, name: str, text: str, mode: int = 0o644) -> Path:
    """A file below ~/.config of the user, made as that user would."""
    path = user.home / ".config" / name

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    run_as(user, write)
    return path


def override(proxy: ForwardProxy, bypass: str = "") -> str:
    return f'[proxy]\nusage = "override"\nlist = "{proxy.name}"\nbypass = "{bypass}"\n'


def explain(service: Service, user: User, url: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON, and standard error of `bits proxy explain`."""

    def run() -> tuple[int, str, str]:
        command = [sys.executable, "-I", "-m", "openbits.cli.main", "proxy", "explain", url, "--json", *arguments]
        environ = {"PATH": os.environ["PATH"], "OPENBITS_SOCKET": str(service.socket)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60, cwd="/")
        return done.returncode, done.stdout, done.stderr

    code, out, err = run_as(user, run)
    return code, json.loads(out) if out else {}, err


def moved(service: Service, user: User, url: str, folder: Path, **properties: Any) -> Job:
    job = create(service, user, [(url, folder / secrets.token_hex(4))], **properties)
    job.reaches("transferred")
    return job


# Whose configuration


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_the_configuration_of_the_network_identity_counts(
    service: Service,
    site: Site,
    proxies: list[ForwardProxy],
    owner: User,
    throwaway_user: Callable[..., User],
    flags: int,
) -> None:
    """identity.md §4, row "per-user proxy settings": the helper's with the flag NETWORK, else the owner's."""
    helper = throwaway_user()
    configure(owner, "openbits/proxy.toml", override(proxies[0]), 0o600)
    configure(helper, "openbits/proxy.toml", override(proxies[1]), 0o600)
    shared = service.base / f"shared{flags}"
    shared.mkdir()
    shared.chmod(0o777)
    with service.client() as client:
        token = client.logon_user(helper.name, None)
    job = create(service, owner, [(site.put("/file", BODY), shared / "file")], is_resumed=False)

    def with_token() -> openbits.api.wire.ProxyExplanation:
        with service.client() as client:
            own = client.job(job.id)
            with token.impersonate():
                own.set_helper_token()
            own.set_helper_token_flags(openbits.TokenFlags(flags))
            explanation = own.explain_proxy(site.url + "/file")
            own.resume()
            return explanation

    with token:
        explanation = run_as(owner, with_token)
        job.reaches("transferred")
        assert job.complete() == 0
    used, network = (1, helper) if flags & openbits.TokenFlags.NETWORK else (0, owner)
    assert [proxy.uids() for proxy in proxies] == [set(), {network.uid}] if used else [{network.uid}, set()]
    assert (explanation["uid"], explanation["choice"]) == (network.uid, [proxies[used].name])
    assert explanation["source"] == f"{network.home}/.config/openbits/proxy.toml"


def test_an_owner_who_is_not_there_is_read_for_all_the_same(
    service: Service, site: Site, proxies: list[ForwardProxy], owner: User, folder: Path
) -> None:
    """The service was started anew: the broker has nothing but the record of who was let in, and sees the new file."""
    configure(owner, "openbits/proxy.toml", override(proxies[0]))
    url = site.put("/file", BODY)
    gate = site.gate("/file", 5_000)
    job = create(service, owner, [(url, folder / "file")])
    job.receives(5_000)
    assert [len(proxy.lines) > 0 for proxy in proxies] == [True, False]
    configure(owner, "openbits/proxy.toml", override(proxies[1]))
    service.kill("spawner")
    service.start()
    gate.set()
    job.reaches("transferred")
    assert [len(proxy.lines) > 0 for proxy in proxies] == [True, True]
    assert proxies[1].uids() == {owner.uid}
    assert job.complete() == 0


def test_a_file_that_is_new_counts_from_the_next_attempt_on(
    service: Service, site: Site, proxy: ForwardProxy, owner: User, folder: Path
) -> None:
    url = site.put("/new", BODY)
    moved(service, owner, url, folder).cancel()
    assert proxy.lines == []
    configure(owner, "openbits/proxy.toml", override(proxy))
    moved(service, owner, url, folder).cancel()
    assert len(proxy.lines) > 0


def test_root_has_no_settings_of_its_own(service: Service, site: Site, proxy: ForwardProxy) -> None:
    """A55: system accounts; the file below root's home would be read by nobody."""
    with service.client() as client:
        explanation = client.explain_proxy(site.url)
        job = client.create_job("root's")
        job.set(proxy_usage=openbits.ProxyUsage.OVERRIDE, proxy_list=proxy.name)
        of_job = job.explain_proxy(site.url)
        job.cancel()
    assert (explanation["choice"], explanation["source"]) == (["direct"], "no configuration names a proxy")
    assert (of_job["choice"], of_job["source"]) == ([proxy.name], "the job")


# In which order


def test_the_first_source_that_says_something_counts(make_service: Callable[..., Service], owner: User) -> None:
    """The user's file, the user's environment, the settings of the service; each says who it is."""
    service = make_service()
    service.configure('[proxy]\nusage = "override"\nlist = "service.example:1"\n')
    service.start()
    url = "http://files.example/set"
    of_service = "the settings of the service"

    def said() -> tuple[list[str], str]:
        _, explanation, _ = explain(service, owner, url)
        return explanation["choice"], explanation["source"]

    assert said() == (["service.example:1"], of_service)
    configure(owner, "environment.d/10-proxy.conf", "http_proxy=http://environment.example:2\n")
    folder_of_user = f"{owner.home}/.config/environment.d/*.conf"
    assert said() == (["environment.example:2"], folder_of_user)
    configure(owner, "environment.d/20-late.conf", "http_proxy=http://late.example:3\n")
    configure(owner, "environment.d/30-none.txt", "http_proxy=http://none.example:3\n")
    assert said() == (["late.example:3"], folder_of_user)
    file = configure(owner, "openbits/proxy.toml", '[proxy]\nusage = "environment"\n')
    assert said() == (["late.example:3"], folder_of_user)
    configure(owner, "openbits/proxy.toml", '[proxy]\nusage = "no-proxy"\n')
    assert said() == (["direct"], str(file))


def test_the_environment_of_the_machine_comes_last(
    make_service: Callable[..., Service], owner: User, tmp_path: Path
) -> None:
    """/etc/environment, seen by a service in a mount namespace of its own."""
    environment = tmp_path / "environment"
    environment.write_text('PATH="/bin"\nhttps_proxy="http://machine.example:3128"\nno_proxy="localhost,.internal"\n')
    script = 'touch /etc/environment && mount --bind "$1" /etc/environment && shift && exec "$@"'
    spawner = (sys.executable, "-I", "-m", "openbits.identity.spawner")
    service = make_service(command=("unshare", "--mount", "sh", "-c", script, "sh", str(environment), *spawner))
    service.start()
    for url, choice, why in (
        ("https://files.example/", ["machine.example:3128"], "the list of proxies"),
        ("http://files.example/", ["direct"], "the list has no proxy for http"),
        ("https://a.internal/", ["direct"], "a.internal is an exception (.internal)"),
    ):
        _, explanation, _ = explain(service, owner, url)
        assert (explanation["choice"], explanation["why"]) == (choice, why)
        assert explanation["source"] == "/etc/environment"


# What goes wrong


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("openbits/proxy.toml", f'[proxy]\nusage = "override"\nlist = "ftp={SECRET}:1"\n', 3),
        ("openbits/proxy.toml", f"[proxy]\nusage = {SECRET}\n", 2),
        ("environment.d/a.conf", f"X=1\nhttp_proxy=http://me:{SECRET}@p:99999\n", 2),
    ],
)
def test_a_mistake_is_the_jobs_error_by_file_and_line_and_not_by_content(
    service: Service, site: Site, owner: User, folder: Path, name: str, text: str, line: int
) -> None:
    path = configure(owner, name, text)
    job = create(service, owner, [(site.put("/file", BODY), folder / "file")])
    error = job.reaches("error")["error"]
    assert error is not None
    assert (error["hresult"], error["context"]) == (0x8020003F, "general_transport")
    assert f"{path}: line {line}: " in error["message"]
    assert owner.name in error["message"]
    assert SECRET not in json.dumps(error)
    code, explanation, err = explain(service, owner, site.url, "--job", job.id)
    assert (code, explanation["choice"]) == (1, [])
    assert explanation["problem"]["hresult"] == 0x8020003F
    assert f"line {line}" in err
    assert SECRET not in json.dumps(explanation) + err
    configure(owner, name, "")
    job.resume()
    job.reaches("transferred")


def test_what_cannot_be_read_is_no_way_past_the_proxies(
    service: Service, site: Site, owner: User, folder: Path
) -> None:
    path = configure(owner, "openbits/proxy.toml", "", 0o000)
    job = create(service, owner, [(site.put("/closed", BODY), folder / "file")])
    error = job.reaches("error")["error"]
    assert error is not None
    assert error["hresult"] == 0x80070005
    assert f"cannot read {path} as {owner.name}" in error["message"]
    assert site.uids("/closed") == set()
    job.cancel()


def test_a_fifo_in_place_of_the_file_holds_nobody_up(service: Service, site: Site, owner: User, folder: Path) -> None:
    path = configure(owner, "openbits/proxy.toml", "")

    def replace() -> None:
        path.unlink()
        os.mkfifo(path)

    run_as(owner, replace)
    job = create(service, owner, [(site.put("/fifo", BODY), folder / "file")])
    error = job.reaches("error", "transient_error")["error"]
    assert error is not None
    assert str(path) in error["message"]
    assert site.uids("/fifo") == set()
    job.cancel()


# Passwords, scripts, the network


def test_user_and_password_of_a_variable_are_for_that_proxy(
    service: Service, site: Site, owner: User, folder: Path
) -> None:
    proxy = ForwardProxy("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"')
    try:
        configure(owner, "environment.d/p.conf", f"http_proxy=http://me:{SECRET}@{proxy.name}\n", 0o600)
        job = create(service, owner, [(site.put("/407", BODY), folder / "file")])
        assert job.reaches("error")["error"]["hresult"] == 0x80190197  # type: ignore[index]  # there is one
        code, explanation, _ = explain(service, owner, site.url + "/407?signed=1")
    finally:
        proxy.close()
    sent = [passed.head for passed in proxy.passed if "proxy-authorization: basic " in passed.head]
    assert len(sent) == 1
    assert (code, explanation["schemes"], explanation["asked"]) == (0, ["basic"], proxy.name)
    assert explanation["answer"] == "HTTP/1.1 407 Proxy Authentication Required"
    assert explanation["url"] == site.url + "/407"
    assert SECRET not in json.dumps(explanation)
    job.cancel()


def test_a_proxy_script_of_the_user_decides(
    service: Service, site: Site, proxy: ForwardProxy, owner: User, folder: Path
) -> None:
    """And is fetched and run under the user's identity."""
    scripts = FaultServer()
    try:
        code = f"function FindProxyForURL(url, host) {{ return /far/.test(url) ? 'PROXY {proxy.name}' : 'DIRECT'; }}"
        scripts.answer("GET", whole(code.encode()))
        script_url = scripts.url("/proxy.pac")
        configure(owner, "openbits/proxy.toml", f'[proxy]\nusage = "script"\nurl = "{script_url}"\n')
        moved(service, owner, site.put("/near", BODY), folder).cancel()
        assert proxy.lines == []
        moved(service, owner, site.put("/far", BODY), folder).cancel()
        assert proxy.uids() == {owner.uid}
        _, explanation, _ = explain(service, owner, site.url + "/far")
    finally:
        scripts.close()
    assert (explanation["usage"], explanation["choice"]) == ("script", [proxy.name])
    assert explanation["why"] == f"the proxy script of 127.0.0.1:{scripts.port}/proxy.pac"


def test_without_a_network_script_autodetect_is_direct_and_says_so(
    service: Service, site: Site, owner: User, folder: Path
) -> None:
    """0x80072F94: then direct. In the network of the tests nobody is called wpad."""
    job = moved(service, owner, site.put("/auto", BODY), folder, proxy_usage=openbits.ProxyUsage.AUTODETECT)
    assert "no proxy script was found" in job.files()[0]["note"]
    assert "connected directly" in job.files()[0]["note"]
    job.cancel()


def test_the_command_tells_in_words_and_refuses_what_has_no_proxy(service: Service, owner: User) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-I", "-m", "openbits.cli.main", "proxy", "explain", *arguments]
        environ = {"PATH": os.environ["PATH"], "OPENBITS_SOCKET": str(service.socket)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60, cwd="/")
        return done.returncode, done.stdout, done.stderr

    configure(owner, "openbits/proxy.toml", '[proxy]\nusage = "override"\nlist = "127.0.0.1:1"\n')
    code, out, err = run_as(owner, run, "http://files.example/set?secret=1")
    assert code == 1
    for words in (f"{owner.name} (uid {owner.uid})", "proxy.toml", "127.0.0.1:1", "the list of proxies"):
        assert words in out
    assert "secret" not in out + err
    assert "0x80072EFD" in err
    assert run_as(owner, run, "file:///etc/passwd")[0] == 2
    assert run_as(owner, run, "http://h/", "--job", "no such job")[0] != 0


@pytest.mark.real("squid")
@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_a_real_proxy_takes_user_and_password_of_a_variable(
    service: Service, site: Site, owner: User, folder: Path, open_tmp_path: Path, scheme: str
) -> None:
    squid = AskingSquid(open_tmp_path, scheme, user="me", password=SECRET)
    try:
        configure(owner, "environment.d/p.conf", f"http_proxy=http://me:{SECRET}@{squid.name}/\n", 0o600)
        moved(service, owner, site.put(f"/{scheme}", BODY), folder).cancel()
        assert {(status, user) for status, user, _, _ in squid.asked()} >= {(200, "me")}
        _, explanation, _ = explain(service, owner, f"{site.url}/{scheme}")
    finally:
        squid.close()
    assert explanation["schemes"] == [scheme]


@pytest.mark.real("microsocks")
def test_a_real_socks_proxy_takes_user_and_password_of_a_variable(
    service: Service, site: Site, owner: User, folder: Path, tmp_path: Path
) -> None:
    socks = Socks(tmp_path, user="me", password=SECRET)
    try:
        configure(owner, "environment.d/p.conf", f"all_proxy=socks5h://me:{SECRET}@{socks.name}\n", 0o600)
        moved(service, owner, site.put("/socks", BODY), folder).cancel()
        assert len(socks.targets()) > 0
    finally:
        socks.close()
