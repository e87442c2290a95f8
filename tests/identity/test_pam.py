"""The results of PAM arrive as they are, each made by PAM's own pam_debug module; what they mean: tests/service."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from openbits import channel
from openbits.identity import logon, pam

UseService = Callable[[str], None]

ORDINARY_NAME = "bits-anybody"


@pytest.fixture
def use_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseService:
    """Make these lines the PAM service `openbits` of this test, whatever is installed."""
    for folder in (tmp_path, tmp_path / "system-auth"):
        folder.mkdir(exist_ok=True)
    monkeypatch.setattr(pam, "_INSTALLED", ())
    monkeypatch.setattr(pam, "_PACKAGED", tmp_path)

    def write(lines: str) -> None:
        for folder in (tmp_path, tmp_path / "system-auth"):
            (folder / "openbits").write_text(lines)

    return write


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ("auth=auth_err", 7),
        ("auth=user_unknown", 10),
        ("auth=authinfo_unavail", 9),
        ("auth=cred_insufficient", 8),
        ("acct=acct_expired", 13),
        ("acct=new_authtok_reqd", 12),
        ("auth=maxtries", 11),
        ("acct=perm_denied", 6),
        ("auth=system_err", 4),
        ("cred=cred_err", 17),
    ],
)
def test_each_pam_result_is_told(use_service: UseService, result: str, code: int) -> None:
    use_service(f"auth required pam_debug.so {result}\naccount required pam_debug.so {result}\n")
    here, spawner = channel.pair()
    secret = bytearray(b"canary")
    with here, spawner, pytest.raises(pam.PamError) as failure:
        logon._log_on(spawner, ORDINARY_NAME, secret)

    assert failure.value.code == code
    assert str(failure.value)
    assert secret == bytes(6), "the password must be wiped on every way out"


def test_the_kernel_ends_a_helper_that_pam_keeps_too_long(use_service: UseService) -> None:
    use_service("auth required pam_exec.so /usr/bin/sleep 60\naccount required pam_permit.so\n")
    near, far = channel.pair()
    here, spawner = channel.pair()
    channel.send(near, {"user": ORDINARY_NAME, "password": "x"})
    with near, far, here, spawner:
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(1)
                logon._serve(far, spawner, 1000)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGALRM


def test_a_missing_service_is_a_refusal(use_service: UseService) -> None:
    use_service("auth include /nonexistent\naccount include /nonexistent\n")

    with pytest.raises(pam.PamError), pam.Transaction(ORDINARY_NAME, bytearray(b"x")) as transaction:
        transaction.log_on()


def test_a_stack_that_asks_for_the_password_gets_it_unchanged(use_service: UseService, tmp_path: Path) -> None:
    typed = tmp_path / "typed"
    use_service(
        f"auth required pam_exec.so quiet expose_authtok /usr/bin/tee {typed}\n"
        "auth required pam_permit.so\n"
        "account required pam_permit.so\n"
    )
    with pam.Transaction(ORDINARY_NAME, bytearray("p ä%s'".encode())) as transaction:
        assert transaction.log_on() == (ORDINARY_NAME, None)

    assert typed.read_bytes().rstrip(b"\0") == "p ä%s'".encode()


def test_a_ticket_cache_made_by_the_stack_is_told(use_service: UseService, tmp_path: Path) -> None:
    environment = tmp_path / "pam_env.conf"
    environment.write_text("KRB5CCNAME DEFAULT=FILE:/run/ticket-cache\n")
    use_service(
        f"auth required pam_permit.so\nauth required pam_env.so readenv=0 conffile={environment}\n"
        "account required pam_permit.so\n"
    )
    with pam.Transaction(ORDINARY_NAME, bytearray(b"x")) as transaction:
        assert transaction.log_on() == (ORDINARY_NAME, "FILE:/run/ticket-cache")


def test_the_name_is_what_the_stack_made_of_it(use_service: UseService) -> None:
    """pam_permit names a user without a name `nobody`."""
    use_service("auth required pam_permit.so\naccount required pam_permit.so\n")
    with pam.Transaction("", bytearray(b"x")) as transaction:
        assert transaction.log_on()[0] == "nobody"
