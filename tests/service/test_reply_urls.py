"""Where uploads and replies are asked for, and who may know us there (upload-protocol.md §8.3, §12; D5, D20, D27)."""

import uuid

import pytest

from openbits.core.enums import JobType
from openbits.core.model import Directory, File, Identity, Job, ReplyFile, UploadSession
from openbits.service import orders, reply_urls

HERE = Directory(path="/srv", dev=1, ino=2)
OVER = "files.example.net/inbox/x?y=1"


def a_job(reply_url: str, *, scheme: str = "https", host: str = "") -> Job:
    session = UploadSession(session_id="{1}", host=host, is_received=True, reply_url=reply_url)
    upload = File(
        remote_name=f"{scheme}://{OVER}", local_name="/srv/a", directory=HERE, name="a", is_upload=True, session=session
    )
    return Job(
        job_id=uuid.uuid4(),
        type=JobType.UPLOAD_REPLY,
        owner=Identity(uid=1000, gid=1000),
        created_at=0.0,
        modified_at=0.0,
        state_since=0.0,
        files=(upload,),
        reply=ReplyFile(local_name="/srv/r", directory=HERE, name="r", remote_name=reply_url),
    )


@pytest.mark.parametrize(
    ("scheme", "host", "url", "is_known"),
    [
        ("https", "", "https://files.example.net/r", True),
        ("https", "", "https://FILES.example.net:443/r", True),
        ("https", "", "https://files.example.net:8443/r", False),
        ("https", "", "https://evil.example/r", False),
        ("http", "", "https://files.example.net/r", False),
        ("https", "node3.example.org", "https://node3.example.org/r", True),
        ("https", "node3.example.org", "https://node4.example.org/r", False),
        ("https", "node3.example.org:8443", "https://node3.example.org:8443/r", True),
        ("https", "node3.example.org:8443", "https://node3.example.org/r", False),
        ("http", "node3.files.example.net", "http://node3.files.example.net/r", True),
        ("http", "node3.elsewhere.example", "http://node3.elsewhere.example/r", False),
    ],
)
def test_d27_what_proves_who_asks_goes_to_the_server_of_the_upload_and_its_host_id(
    scheme: str, host: str, url: str, *, is_known: bool
) -> None:
    """The given name decides: what proves who asks is for its server alone (docs/processes.md)."""
    job = a_job(url, scheme=scheme, host=host)
    assert job.reply is not None
    assert reply_urls.given_name(job, job.reply) == (url if is_known else f"{scheme}://{OVER}")
    assert reply_urls.given_name(job, job.files[0]) == f"{scheme}://{OVER}"


@pytest.mark.parametrize(
    ("host", "url", "then"),
    [
        ("node3.example.org", "https://node3.example.org/a/r?q=1", "https://files.example.net/a/r?q=1"),
        ("node3.example.org:8443", "https://node3.example.org:8443/r", "https://files.example.net/r"),
        ("node3.example.org", "https://static.example/r", ""),
        ("node3.example.org", "https://files.example.net/r", ""),
        ("", "https://files.example.net/r", ""),
        ("files.example.net", "https://files.example.net/r", ""),
    ],
)
def test_d20_what_is_not_at_the_host_id_is_looked_for_once_at_the_origin(host: str, url: str, then: str) -> None:
    job = a_job(url, host=host)
    assert reply_urls.elsewhere(job) == then
    if then:
        assert reply_urls.elsewhere(a_job(then, host=host)) == "", "there is no third place"


def test_an_upload_is_the_business_of_the_host_of_its_session() -> None:
    """§12: the client replaces the host part of the URL for all later packets of this session."""
    job = a_job("", host="node3.example.org:8443")
    upload = job.files[0]
    assert orders.peer(job, upload) == "https://node3.example.org:8443"
    job = a_job("https://static.example/r")
    assert orders.peer(job, job.files[0]) == "https://files.example.net:443"
    assert job.reply is not None
    assert orders.peer(job, job.reply) == "https://static.example:443"
