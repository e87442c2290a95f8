"""Packets and their answers against a real `bits-server`: upload-protocol.md §2, §3.1, §5.1, §10.1, row by row."""

import base64
from pathlib import Path

import pytest
from tests.server.conftest import StartServer
from tests.server.hostile_clients.client import Client, Piece, Reply, request
from tests.server.process import ServerProcess

from openbits.core import codes
from openbits.core.packets import PROTOCOL, Header, PacketType
from openbits.server import users

C, P, F, CL, CA = (
    PacketType.CREATE_SESSION,
    PacketType.PING,
    PacketType.FRAGMENT,
    PacketType.CLOSE_SESSION,
    PacketType.CANCEL_SESSION,
)

DIRECTORIES = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
BITSHostId = "node3.example.net"
[directories."/plain/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
method_override = true
[directories."/off/"]
allow_anonymous = true
[directories."/users/"]
BITSUploadEnabled = true
[directories."/users/ops/"]
BITSUploadEnabled = true
allow_groups = ["ops"]
[directories."/users/alice/"]
BITSUploadEnabled = true
allow_users = ["alice"]
[directories."/drop/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
readable = false
[directories."/pub/"]
allow_anonymous_reading = true
[directories."/faulty/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
BITSServerNotificationType = 1
"""


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> ServerProcess:
    file = tmp_path / "users"
    for name, groups in (("alice", ()), ("bob", ("ops",))):
        users.add(file, users.Entry(name=name, password=users.hashed(f"of {name}"), groups=frozenset(groups)))
    one = start_server(DIRECTORIES, server=f'users_file = "{file}"\nplain_passwords = true\n')
    for name in ("plain", "users", "users/ops", "users/alice", "drop", "pub", "off", "faulty"):
        (one.root / name).mkdir()
    return one


@pytest.fixture
def client(server: ServerProcess) -> Client:
    return Client(server.port)


def basic(name: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_h3_h7_the_ack_of_create_has_the_fields_of_3_1(client: Client) -> None:
    ack = client.ask(C, "/inbox/a")
    assert ack.status == 200
    assert ack.headers["bits-packet-type"] == "Ack"
    assert ack.headers["content-length"] == "0"  # H3
    assert ack.headers["pragma"] == "no-cache"  # H7
    assert ack.headers["bits-protocol"] == PROTOCOL
    assert ack.headers["accept-encoding"] == "identity"
    assert ack.headers["bits-host-id"] == "node3.example.net"
    assert ack.headers["bits-host-id-fallback-timeout"] == "86400"
    assert not {name for name in ack.headers if name.startswith("bits-error")}


def test_without_a_host_id_none_is_sent(client: Client) -> None:
    ack = client.ask(C, "/plain/a")
    assert "bits-host-id" not in ack.headers
    assert "bits-host-id-fallback-timeout" not in ack.headers


def test_4_1_ping_is_answered_also_where_nothing_is(client: Client, server: ServerProcess) -> None:
    for path in ("/inbox/", "/inbox/nothing/deeper", "/inbox/a?q=1"):
        ack = client.ask(P, path)
        assert (ack.status, ack.headers["bits-packet-type"]) == (200, "Ack")
    assert list(server.inbox.iterdir()) == []


def test_d3_a_session_id_on_ping_is_ignored(client: Client) -> None:
    assert client.ask(P, "/inbox/a", session_id="{nobody knows it}".replace(" ", "-")).status == 200


@pytest.mark.parametrize("kind", ["ping", "PING", "pInG"])
def test_3_2_packet_types_are_compared_without_case(client: Client, kind: str) -> None:
    assert client.ask(kind, "/inbox/a").status == 200


@pytest.mark.parametrize(
    "offered",
    [
        PROTOCOL.upper(),
        PROTOCOL.strip("{}"),
        f"{{11111111-2222-3333-4444-555555555555}} {PROTOCOL}",
        f"{{11111111-2222-3333-4444-555555555555}},{PROTOCOL}",
        f"{{11111111-2222-3333-4444-555555555555}} ,  {PROTOCOL.upper()}",
    ],
)
def test_3_2_protocols_come_in_many_spellings_and_are_echoed_in_one(client: Client, offered: str) -> None:
    assert client.ask(C, "/inbox/a", (Header.SUPPORTED_PROTOCOLS, offered)).headers["bits-protocol"] == PROTOCOL


ORDER = [
    # what is wrong first, request, status, code
    ("1 version", request(P, "/nowhere/a", version="HTTP/1.0"), 400, codes.E_INVALIDARG),
    ("1 header size", request(P, "/nowhere/a", ("X-Long", "x" * 4097)), 400, codes.E_INVALIDARG),
    ("1 fragment id in the target", request(P, "/nowhere/a#b"), 400, codes.E_INVALIDARG),
    ("1 fragment id in the query", request(P, "/nowhere/a?b#c"), 400, codes.E_INVALIDARG),
    ("2 directory", request(P, "/nowhere/a", length=None), 404, 0),
    ("3 enabled", request(P, "/off/../a", length=None), 501, codes.E_ACCESSDENIED),
    ("4 authentication", request("Nonsense", "/users/alice/a", length=None), 401, 0),
    ("4 wrong password", request("Nonsense", "/users/a", basic("alice", "wrong"), length=None), 401, 0),
    ("4 unknown user", request("Nonsense", "/users/a", basic("mallory", ""), length=None), 401, 0),
    ("5 user", request("Nonsense", "/users/alice/a", basic("bob", "of bob"), length=None), 403, codes.E_ACCESSDENIED),
    (
        "5 group",
        request("Nonsense", "/users/ops/a", basic("alice", "of alice"), length=None),
        403,
        codes.E_ACCESSDENIED,
    ),
    ("5 path", request("Nonsense", "/inbox/../a", length=None), 403, codes.E_ACCESSDENIED),
    ("7 length", request("Nonsense", "/inbox/a", length=None), 411, codes.E_INVALIDARG),
    ("8 type", request("Nonsense", "/inbox/a", session_id="{x}"), 400, codes.E_INVALIDARG),
    ("9 protocols", request(C, "/inbox/a", (Header.SUPPORTED_PROTOCOLS, "")), 400, codes.E_INVALIDARG),
    ("9 session id", request(F, "/inbox/a", span=Piece(0, 0, 1), body=b"x"), 400, codes.E_INVALIDARG),
    ("9 range", request(F, "/inbox/a", session_id="{x}", body=b"x"), 400, codes.E_INVALIDARG),
    ("9 session id of spaces", request(CL, "/inbox/a", (Header.SESSION_ID, "a b")), 400, codes.E_INVALIDARG),
    ("9 session id too long", request(CL, "/inbox/a", session_id="x" * 101), 400, codes.E_INVALIDARG),
    ("10 session", request(F, "/inbox/a", session_id="{x}", span=Piece(0, 0, 1), body=b"x"), 500, 0x8020001F),
    ("10 session of Close", request(CL, "/inbox/a", session_id="{x}"), 500, 0x8020001F),
]


@pytest.mark.parametrize(("data", "status", "code"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_5_1_d6_the_first_thing_wrong_decides(client: Client, data: bytes, status: int, code: int) -> None:
    reply = client.say(data)
    assert reply is not None
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["bits-packet-type"] == "Ack"
    if code:  # D6: both spellings; §10.1: found by the server
        assert reply.headers["bits-error"] == reply.headers["bits-error-code"] == f"0x{code:08X}"
        assert reply.headers["bits-error-context"] == "0x5"


@pytest.mark.parametrize("host", ["[", "[:::]", "a b", "a/b/", "a?b", "a#b", "a@b", "h:port", "\xff"])
def test_h10_a_host_that_cannot_be_one_is_refused_before_it_becomes_a_part_of_urls(
    client: Client, server: ServerProcess, host: str
) -> None:
    for packet in (request(C, "/inbox/a", ("Host", host)), request(C, "http://user@files.example.net/inbox/a")):
        reply = client.say(packet)
        assert reply is not None
        assert reply.refusal == (400, codes.E_INVALIDARG)
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("host", ["h", "files.example.net.", "a_b:8008", "[2001:db8::1]", "[::1]:443", "192.0.2.1"])
def test_h10_hosts(client: Client, host: str) -> None:
    reply = client.say(request(C, "/inbox/a", ("Host", host)))
    assert reply is not None
    assert reply.status == 200


def test_step_4_asks_who_it_is(client: Client) -> None:
    assert client.ask(P, "/users/a").headers["www-authenticate"].startswith('Basic realm="BITS"')


def test_step_5_lets_those_in_who_are_allowed(client: Client) -> None:
    alice, bob = basic("alice", "of alice"), basic("bob", "of bob")
    assert client.ask(C, "/users/alice/a", alice).status == 200
    assert client.ask(C, "/users/ops/a", bob).status == 200
    assert client.ask(C, "/users/a", alice).status == client.ask(C, "/users/a", bob).status == 200


def test_step_10_the_session_of_another_user_is_unknown(client: Client) -> None:
    session_id = client.ask(C, "/users/a", basic("alice", "of alice")).session_id
    piece = {"session_id": session_id, "span": Piece(0, 0, 2), "body": b"x"}
    assert client.ask(F, "/users/a", basic("bob", "of bob"), **piece).refusal == (500, codes.BG_E_SESSION_NOT_FOUND)
    assert client.ask(F, "/users/b", basic("alice", "of alice"), **piece).refusal == (500, 0x8020001F)  # D8
    assert client.ask(F, "/users/a", basic("alice", "of alice"), **piece).status == 200


def test_d4_every_ack_of_a_session_names_it(client: Client) -> None:
    for last in (CL, CA):
        session_id = client.create(f"/inbox/{last}")
        told = [
            client.ask(F, f"/inbox/{last}", session_id=session_id, span=Piece(0, 0, 2), body=b"x"),
            client.ask(F, f"/inbox/{last}", session_id=session_id, span=Piece(0, 0, 3), body=b"x"),  # refused (F2)
            client.ask(F, f"/inbox/{last}", session_id=session_id, span=Piece(1, 1, 2), body=b"x"),
            client.ask(last, f"/inbox/{last}", session_id=session_id),
        ]
        assert [ack.status for ack in told] == [200, 400, 200, 200]
        assert {ack.session_id for ack in told} == {session_id}


def test_f1_an_encoded_fragment_is_refused_and_identity_is_none(client: Client) -> None:
    session_id = client.create("/inbox/a")
    piece = {"session_id": session_id, "span": Piece(0, 0, 2), "body": b"x"}
    assert client.ask(F, "/inbox/a", ("Content-Encoding", "gzip"), **piece).refusal == (400, codes.E_INVALIDARG)
    assert client.ask(F, "/inbox/a", ("Content-Encoding", "identity"), **piece).status == 200


def test_f8_416_has_the_code_zero(client: Client) -> None:
    session_id = client.create("/inbox/a")
    reply = client.ask(F, "/inbox/a", session_id=session_id, span=Piece(5, 5, 9), body=b"x")
    assert (reply.status, reply.received, reply.headers["bits-error-code"]) == (416, 0, "0x0")
    assert reply.headers["bits-error-context"] == "0x5"
    assert reply.session_id == session_id


@pytest.mark.parametrize("path", ["/inbox/", "/inbox/folder", "/inbox/folder/"])
def test_5_4_a_directory_is_no_destination(client: Client, server: ServerProcess, path: str) -> None:
    (server.inbox / "folder").mkdir()
    assert client.ask(C, path).refusal == (400, codes.E_INVALIDARG)


def test_5_4_a_slash_does_not_belong_to_the_name_of_a_file(client: Client) -> None:
    session_id = client.create("/inbox/a")
    reply = client.ask(F, "/inbox/a/", session_id=session_id, span=Piece(0, 0, 1), body=b"x")
    assert reply.refusal == (400, codes.E_INVALIDARG)


def test_9_2_a_directory_that_could_not_notify_refuses_sessions(client: Client, server: ServerProcess) -> None:
    assert client.ask(C, "/faulty/a").refusal == (500, codes.E_INVALIDARG)
    assert "uploads_refused directory=/faulty/" in server.log()


def test_h10_a_target_in_absolute_form_is_the_same_target(client: Client, server: ServerProcess) -> None:
    client.upload("/inbox/a", b"0123456789")
    session_id = client.ask(C, f"http://127.0.0.1:{server.port}/inbox/b").session_id
    piece = Piece(0, 1, 2)
    assert client.ask(F, "/inbox/b", session_id=session_id, span=piece, body=b"ab").status == 200
    assert (server.inbox / "b").read_bytes() == b"ab"


def test_h10_a_request_without_a_host_is_refused(client: Client) -> None:
    for fields in ("", "Host:\r\n"):
        reply = client.say(
            f"BITS_POST /inbox/a HTTP/1.1\r\nBITS-Packet-Type: Ping\r\n{fields}Content-Length: 0\r\n\r\n".encode()
        )
        assert reply is not None
        assert (reply.refusal, reply.headers["bits-packet-type"]) == ((400, codes.E_INVALIDARG), "Ack")


def test_h12_d2_a_post_is_a_packet_where_the_directory_says_so(client: Client, server: ServerProcess) -> None:
    override = ("X-HTTP-Method-Override", "BITS_POST")
    created = client.ask(C, "/plain/a", override, method="POST")
    assert created.status == 201
    reply = client.ask(
        F, "/plain/a", override, method="POST", session_id=created.session_id, span="bytes 0-1/2", body=b"ab"
    )
    assert reply.status == 200
    assert (server.root / "plain" / "a").read_bytes() == b"ab"
    assert client.ask(C, "/plain/b", method="POST").status == 405
    assert client.ask(C, "/inbox/a", override, method="POST").status == 405
    assert client.ask(C, "/plain/b").status == 200


def test_h5_unknown_fields_are_ignored(client: Client) -> None:
    assert client.ask(P, "/inbox/a", ("X-Unknown", "1"), ("BITS-Unknown", "2"), ("Upgrade", "h2c")).status == 200


def get(client: Client, path: str, *fields: tuple[str, str], method: str = "GET") -> Reply:
    own = (("Host", "files.example.net"), *fields)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own), "", ""]
    reply = client.say("\r\n".join(lines).encode())
    assert reply is not None
    return reply


def test_what_was_uploaded_can_be_downloaded(client: Client) -> None:
    body = bytes(range(256)) * 4000
    client.upload("/inbox/a%20b", body)
    reply = get(client, "/inbox/a%20b")
    assert (reply.status, reply.body) == (200, body)
    part = get(client, "/inbox/a%20b", ("Range", "bytes=1000-600000"))
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 1000-600000/{len(body)}")
    assert part.body == body[1000:600_001]


def test_reading_has_rules_of_its_own(client: Client, server: ServerProcess) -> None:
    for name in ("pub", "drop", "users", "off"):
        (server.root / name / "a").write_text(name)
    assert get(client, "/pub/a").body == b"pub"
    assert get(client, "/drop/a").status == 403
    assert get(client, "/users/a").status == 401
    assert get(client, "/users/a", basic("alice", "of alice")).body == b"users"
    assert get(client, "/off/a").body == b"off"
    assert get(client, "/nowhere/a").status == 404


def test_there_are_no_listings_no_links_and_no_other_things(
    client: Client, server: ServerProcess, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    pub = server.root / "pub"
    (pub / "link").symlink_to(secret)
    (pub / "folder").symlink_to(tmp_path)
    (pub / "inside").mkdir()
    for path in ("/pub/", "/pub/inside", "/pub/inside/", "/pub/link", "/pub/folder/secret", "/pub/nothing"):
        assert get(client, path).status == 404, path
    for path in ("/pub/../../secret", "/pub/%2e%2e/%2e%2e/secret", "/pub/BITS-Sessions/Requests/x/requestfile.bin"):
        assert get(client, path).status == 403, path
    assert get(client, "/pub/BITS-Sessions/Replies/%7Bx%7D/responsefile.bin").status in {401, 404}


def test_other_methods_are_not_allowed(client: Client) -> None:
    for method in ("PUT", "DELETE", "POST", "OPTIONS", "PROPFIND"):
        reply = get(client, "/inbox/a", method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, BITS_POST")


def test_an_upload_is_no_page_of_the_server(client: Client) -> None:
    client.upload("/inbox/a.html", b"<script>alert(1)</script>")
    reply = get(client, "/inbox/a.html")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_log_has_a_line_for_each_packet_and_no_secrets(client: Client, server: ServerProcess) -> None:
    ack = client.ask(C, "/users/a?token=canary", basic("alice", "of alice"))
    client.ask(CL, "/users/a?token=canary", basic("alice", "of alice"), session_id=ack.session_id)
    client.ask(P, "/users/%0Arequest_answered%20user=root", basic("alice", "of alice"))
    log = server.log()
    line = next(line for line in log.splitlines() if "type=Close-Session" in line)
    assert "status=200" in line
    assert "user=alice" in line
    assert "directory=/users/" in line
    assert f"session={ack.session_id[:9]} " in line
    assert ack.session_id not in log
    for secret in ("canary", "of alice", basic("alice", "of alice")[1]):
        assert secret not in log
    assert "\nrequest_answered user=root" not in log


def test_passwords_are_not_taken_without_tls_unless_a_setting_says_so(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    users.add(file, users.Entry(name="alice", password=users.hashed("right")))
    server = start_server('[directories."/inbox/"]\nBITSUploadEnabled = true\n', server=f'users_file = "{file}"')
    client = Client(server.port)
    assert client.ask(P, "/inbox/a", basic("alice", "right")).refusal == (403, codes.E_ACCESSDENIED)
    assert "www-authenticate" not in client.ask(P, "/inbox/a").headers


def test_trusted_proxies_say_what_was_tls(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "users"
    users.add(file, users.Entry(name="alice", password=users.hashed("right")))
    table = '[directories."/inbox/"]\nBITSUploadEnabled = true\n'
    forwarded = ("X-Forwarded-Proto", "https")
    for trusted, status in (('"127.0.0.1"', 200), ('"192.0.2.1"', 403), ("", 403)):
        server = start_server(table, server=f'users_file = "{file}"\ntrusted_proxies = [{trusted}]')
        assert Client(server.port).ask(P, "/inbox/a", basic("alice", "right"), forwarded).status == status
