"""Servers that want to be left alone: by whom, and for how long (reliability.md §5 rows 55 and 56, P9)."""

import pytest

from openbits.core import codes
from openbits.service.hosts import MOST_PEERS, HeldBackError, Hosts

SERVER = "https://a.example:443"
OTHER = "https://b.example:443"
ALICE, BOB = 1000, 1001
BUSY, TOO_MANY = codes.BG_E_HTTP_ERROR_503, codes.HTTP_STATUS_429
UNREACHED = codes.ERROR_WINHTTP_CANNOT_CONNECT


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> Hosts:
    return Hosts(clock)


def wait(hosts: Hosts, uid: int = ALICE, peer: str = SERVER) -> float:
    """Seconds for which the server is left alone; 0: it may be asked."""
    try:
        hosts.check(peer, uid)
    except HeldBackError as error:
        return error.wait_seconds
    return 0.0


def test_a_server_that_nothing_is_known_of_may_be_asked(hosts: Hosts) -> None:
    assert wait(hosts) == 0


def test_the_time_that_a_server_asks_for_holds_for_all_jobs_of_the_identity(hosts: Hosts, clock: Clock) -> None:
    hosts.failed(SERVER, ALICE, TOO_MANY, 30.0)
    assert wait(hosts) == 30
    assert wait(hosts, peer=OTHER) == 0
    clock.now += 29.5
    assert wait(hosts) == 0.5
    clock.now += 0.5
    assert wait(hosts) == 0


@pytest.mark.parametrize(("hresult", "seconds"), [(BUSY, 86_400.0), (TOO_MANY, None), (UNREACHED, None)])
def test_nobody_keeps_a_server_from_others_or_sees_that_they_asked_it(
    hosts: Hosts, hresult: int, seconds: float | None
) -> None:
    """P9; and what Bob hears of it ends nothing for Alice."""
    for _ in range(8):
        hosts.failed(SERVER, ALICE, hresult, seconds)
    held = wait(hosts, ALICE)
    assert held > 0
    assert wait(hosts, BOB) == 0
    hosts.answered(SERVER, BOB)
    assert wait(hosts, ALICE) == held


def test_a_server_that_names_no_time_is_asked_ever_less_often(hosts: Hosts, clock: Clock) -> None:
    waits = []
    for _ in range(12):
        hosts.failed(SERVER, ALICE, TOO_MANY, None)
        waits.append(wait(hosts))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_file_that_is_not_available_holds_others_up_only_if_that_goes_on(hosts: Hosts) -> None:
    waits = []
    for _ in range(7):
        hosts.failed(SERVER, ALICE, BUSY, None)
        waits.append(wait(hosts))
    assert waits == [0, 0, 0, 0, 1, 2, 4]
    hosts.failed(SERVER, ALICE, BUSY, 60.0)
    assert wait(hosts) == 60, "a time that it names counts at once"


def test_an_answer_ends_it(hosts: Hosts) -> None:
    hosts.failed(SERVER, ALICE, TOO_MANY, 30.0)
    hosts.answered(SERVER, ALICE)
    assert wait(hosts) == 0
    hosts.failed(SERVER, ALICE, TOO_MANY, None)
    assert wait(hosts) == 1, "failures are counted anew"


def test_a_server_that_cannot_be_reached_again_and_again_is_left_alone(hosts: Hosts) -> None:
    waits = []
    for _ in range(7):
        hosts.failed(SERVER, ALICE, UNREACHED, None)
        waits.append(wait(hosts, ALICE))
    assert waits == [0, 0, 0, 0, 1, 2, 4]


@pytest.mark.parametrize(
    "hresult",
    [
        codes.BG_E_HTTP_ERROR_500,
        codes.BG_E_HTTP_ERROR_404,
        codes.ERROR_WINHTTP_TIMEOUT,
        codes.ERROR_WINHTTP_CONNECTION_ERROR,
    ],
)
def test_a_failure_of_one_file_says_nothing_about_the_server(hosts: Hosts, hresult: int) -> None:
    for _ in range(20):
        hosts.failed(SERVER, ALICE, hresult, 60.0)
    assert wait(hosts) == 0


def test_what_came_through_a_proxy_is_no_word_of_the_server(hosts: Hosts) -> None:
    hosts.failed("", ALICE, TOO_MANY, 60.0)
    assert wait(hosts) == 0
    assert wait(hosts, peer="") == 0


def test_the_words_say_why(hosts: Hosts) -> None:
    hosts.failed(SERVER, ALICE, TOO_MANY, 30.0)
    with pytest.raises(HeldBackError) as held:
        hosts.check(SERVER, ALICE)
    assert held.value.hresult == TOO_MANY
    assert held.value.text.startswith("it was not asked now, because it asked for time; ")


def test_memory_is_bounded_and_nobody_fills_that_of_others(hosts: Hosts) -> None:
    hosts.failed(SERVER, BOB, TOO_MANY, 30.0)
    for number in range(MOST_PEERS + 1):
        hosts.failed(f"https://{number}.example:443", ALICE, TOO_MANY, 30.0)
    assert wait(hosts, peer="https://0.example:443") == 0
    assert wait(hosts, peer=f"https://{MOST_PEERS}.example:443") == 30
    assert wait(hosts, BOB) == 30
