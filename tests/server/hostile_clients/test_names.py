"""Names that lead elsewhere and sessions of others, against a real `bits-server` (upload-protocol.md §5.1, §13)."""

import shutil
from typing import Final

import pytest
from tests.server.hostile_clients.client import Client, Piece, request
from tests.server.hostile_clients.site import BODY, CA, CL, MALFORMED, OTHER, SIZE, UNKNOWN, C, F, Site

from openbits.core.packets import Header

BAD_TARGETS: Final = (
    "/inbox/../escaped",
    "/inbox/../../outside/escaped",
    "/inbox/%2e%2e/escaped",
    "/inbox/%2E%2E/%2E%2E/outside/escaped",
    "/inbox/.%2e/escaped",
    "/inbox/%252e%252e/escaped",
    "/inbox/..%2fescaped",
    "/inbox/..\\escaped",
    "/inbox/..%5cescaped",
    "/inbox/%5c..%5c..%5cescaped",
    "/inbox/a%5cb",
    "/inbox/%c0%ae%c0%ae/escaped",
    "/inbox/%ff%fe",
    "/inbox/a%00b",
    "/inbox/a%0d%0aX-Evil:%20b",
    "/inbox/a%7fb",
    "/inbox/./a",
    "/inbox//a",
    "//inbox/a",
    "/inbox/" + "x" * 256,
    "/inbox/" + "%C3%A9" * 128,
    "/inbox/",
    "/inbox",
    "/inbox/missing/a",
    "/missing/a",
    "/closed/a",
    "/etc/passwd",
    "/inbox/BITS-Sessions/a",
    "/inbox/bits-sessions/Requests/a",
    "/inbox/%42ITS-Sessions/Replies/a",
    "*",
    "http://evil.example/../outside/escaped",
    "http://evil.example/inbox/../escaped",
    "file:///outside/escaped",
)


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_13_a_name_that_leads_elsewhere_creates_nothing(site: Site, target: str) -> None:
    reply = site.client.say(request(C, target))
    assert reply is not None
    assert reply.status in {400, 403, 404, 501}, reply
    assert Header.SESSION_ID.lower() not in reply.headers


def test_13_names_are_decoded_once(site: Site) -> None:
    site.client.upload("/inbox/..%252f%2525", BODY)
    site.published["inbox/..%2f%25"] = BODY


@pytest.mark.parametrize("name", ["../../outside/escaped", "/etc/passwd", "a\\b", "C:\\x", "..", "x" * 261])
def test_13_content_name_is_never_a_path(site: Site, name: str) -> None:
    path = site.new()
    field = (Header.CONTENT_NAME, name)
    created = site.client.ask(C, path, field)
    if created.status == 400:  # §3.2 does not allow the name; it may also be ignored
        created = site.client.ask(C, path)
    session_id = created.session_id
    site.client.fragment(path, session_id, Piece(0, SIZE - 1, SIZE), BODY)
    assert site.client.close(path, session_id).status == 200


def test_13_a_link_to_a_file_is_not_followed(site: Site) -> None:
    for folder in ("inbox", "over"):
        path = site.unpublished("link", folder)
        link = site.server.root / path[1:]
        link.symlink_to(site.server.base / "outside" / "secret")
        site.links.add(path[1:])
        reply = site.client.ask(C, path)
        if reply.status == 200:  # /over/ may replace the link itself
            done = site.client.fragment(path, reply.session_id, Piece(0, SIZE - 1, SIZE), BODY)
            assert folder == "over" or done.status == 403
        link.unlink()
        site.links.remove(path[1:])


def test_13_a_link_to_a_folder_is_not_followed(site: Site) -> None:
    link = site.server.inbox / "linked"
    link.symlink_to(site.server.base / "outside" / "folder")
    site.links.add("inbox/linked")
    assert site.client.ask(C, "/inbox/linked/escaped").status in {403, 404}
    link.unlink()
    site.links.remove("inbox/linked")


def test_13_a_folder_that_becomes_a_link_during_the_upload_is_not_followed(site: Site) -> None:
    folder = site.server.inbox / "swapped"
    folder.mkdir()
    path = "/inbox/swapped/escaped"
    session_id = site.client.create(path)
    site.client.fragment(path, session_id, Piece(0, 9, SIZE), BODY)
    folder.rmdir()
    folder.symlink_to(site.server.base / "outside" / "folder")
    site.links.add("inbox/swapped")
    reply = site.client.fragment(path, session_id, Piece(10, SIZE - 1, SIZE), BODY)
    assert reply.status >= 400
    folder.unlink()
    folder.mkdir()
    assert site.client.fragment(path, session_id, Piece(10, SIZE - 1, SIZE), BODY).status in {200, 403, 404, 500}
    shutil.rmtree(folder)
    site.links.remove("inbox/swapped")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"])
@pytest.mark.parametrize("path", ["/inbox/BITS-Sessions/Requests/{}/requestfile.bin", "/inbox/BITS-Sessions/"])
def test_13_what_is_in_the_spool_is_never_served(site: Site, method: str, path: str) -> None:
    target = site.unpublished()
    session_id = site.client.create(target)
    site.client.fragment(target, session_id, Piece(0, 99, SIZE), BODY)
    data = f"{method} {path.format(session_id)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reply = site.client.say(data.encode())
    assert reply is None or reply.status >= 400


def test_13_bytes_of_a_path_are_no_uploads_spool(site: Site) -> None:
    """A file that is half there can be read nowhere."""
    path = site.unpublished()
    session_id = site.client.create(path)
    site.client.fragment(path, session_id, Piece(0, SIZE - 2, SIZE), BODY)
    reply = site.client.say(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert reply is not None
    assert reply.status in {401, 403, 404}


# -- §5.1 step 10: sessions of others ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [F, CL, CA])
def test_d8_a_session_is_of_its_url_its_folder_and_its_user(site: Site, kind: str) -> None:
    anna = Client(site.server.port, "anna", "anna-secret")
    boris = Client(site.server.port, "boris", "boris-secret")
    path = site.new(folder="users")
    session_id = anna.create(path)
    anna.fragment(path, session_id, Piece(0, 9, SIZE), BODY)
    piece = {"span": Piece(10, 19, SIZE), "body": OTHER[10:20]} if kind == F else {}
    tries = (
        (boris, path),
        (anna, site.unpublished(folder="users")),
        (site.client, path.replace("users", "inbox")),
        (anna, path.replace("users", "over")),
    )
    for client, url in tries:
        assert client.ask(kind, url, session_id=session_id, **piece).refusal == UNKNOWN
    assert site.client.ask(kind, path, session_id=session_id, **piece).status == 401
    for wrong in ("{" + "0" * 8 + session_id[9:], session_id[1:-1], "x", "../../x", "x" * 101, "%00"):
        assert anna.ask(kind, path, session_id=wrong, **piece).refusal in {UNKNOWN, MALFORMED}
    assert anna.fragment(path, session_id, Piece(10, SIZE - 1, SIZE), BODY).received == SIZE
    assert anna.close(path, session_id).status == 200


@pytest.mark.parametrize(
    ("user", "password"), [("anna", "wrong"), ("nobody", "x"), ("", "x"), ("anna\0", "anna-secret"), ("x" * 3000, "")]
)
def test_5_1_step_4_who_cannot_prove_it_is_asked_to(site: Site, user: str, password: str) -> None:
    reply = Client(site.server.port, user or " ", password).ask(C, "/users/x")
    assert reply.status in {400, 401}
    assert reply.status == 400 or "www-authenticate" in reply.headers


def test_13_a_link_inside_the_root_is_not_followed_either(site: Site) -> None:
    link = site.server.inbox / "linked"
    link.symlink_to("../over")
    site.links.add("inbox/linked")
    assert site.client.ask(C, "/inbox/linked/escaped").status in {403, 404}
    link.unlink()
    site.links.remove("inbox/linked")


@pytest.mark.parametrize("name", ["BITS-Sessions", "bits-sessions"])
def test_13_nothing_is_uploaded_where_replies_are_served(site: Site, name: str) -> None:
    folder = site.server.inbox / name
    folder.mkdir()
    assert site.client.ask(C, f"/inbox/{name}/escaped").status == 403
    folder.rmdir()
