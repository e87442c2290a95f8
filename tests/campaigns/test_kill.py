"""The short run of the kill campaign: a tour that passes every failpoint, then some rounds.

`OPENBITS_KILL_SEED=… make test ARGS="-k whatever_is_killed"` runs a failing seed again, `OPENBITS_KILL_ROUNDS` more of
them; `make campaign-kill` is the long run.
"""

import os
import secrets
from collections.abc import Iterator

import pytest
from tests.campaigns import kill

pytestmark = pytest.mark.root

ROUNDS = int(os.environ.get("OPENBITS_KILL_ROUNDS", "8"))
SEED = int(os.environ.get("OPENBITS_KILL_SEED", str(secrets.randbelow(10**9))))


@pytest.fixture(scope="module")
def campaign() -> Iterator[kill.Campaign]:
    with kill.running(SEED) as made:
        yield made


def test_every_failpoint_is_passed_by_a_tour(campaign: kill.Campaign) -> None:
    campaign.tour()
    assert not campaign.board.never_passed()


def test_nothing_is_lost_mixed_or_left_behind_whatever_is_killed(campaign: kill.Campaign) -> None:
    for _ in range(ROUNDS):
        campaign.round()
    campaign.finish()
