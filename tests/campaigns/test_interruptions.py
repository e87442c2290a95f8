"""The short run of the campaign of interrupted uploads: each kind of interruption, and some of them twice.

`OPENBITS_UPLOAD_SEED=… make test ARGS="-k interrupted_upload"` runs a failing seed again; `make campaign-upload` is the
long run.
"""

import os
import secrets

import pytest
from tests.campaigns import interruptions

pytestmark = pytest.mark.root

COUNT = 12
SIZE_BYTES = 64 * interruptions.MEBIBYTE
SEED = int(os.environ.get("OPENBITS_UPLOAD_SEED", str(secrets.randbelow(10**9))))


def test_an_interrupted_upload_arrives_once_and_whole() -> None:
    with interruptions.running(SEED, SIZE_BYTES) as campaign:
        campaign.run(COUNT)
        campaign.check()
