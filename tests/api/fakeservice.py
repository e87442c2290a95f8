"""A service for client tests: a real Unix socket, varlink by hand, jobs in a dictionary.

It keeps the rules of docs/api.md that a client can see (handles, final jobs, tokens, notices, one stream a
subscription) and remembers every call. It transfers nothing: the test says what happens (`change`, `notice`).
"""

import array
import base64
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openbits.core import codes

Values = dict[str, Any]

INTERFACE = "io.openbits.Service"


class FailedError(Exception):
    """The error io.openbits.Service.Failed."""

    def __init__(self, hresult: int, message: str = "refused by the test") -> None:
        super().__init__(message)
        self.hresult = hresult


@dataclass
class Call:
    """One call as the service saw it."""

    method: str
    parameters: Values
    token: str | None
    """Name of the identity whose token came along, if one did."""


@dataclass(eq=False)
class Peer:
    """One connection."""

    sock: socket.socket
    level: int = 3
    handles: dict[int, str] = field(default_factory=dict)
    received: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Subscriber:
    """One Subscribe stream."""

    name: str
    peer: Peer
    job_ids: list[str] | None


class FakeService:
    """Listens on `path` until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Call] = []
        self.jobs: dict[str, Values] = {}
        self.files: dict[str, list[Values]] = {}
        self.targets: dict[str, str] = {}
        self.registrations = 0
        self.acknowledged: list[tuple[str, int]] = []
        self.certificate_targets: dict[str, str] = {}
        self.certificate_answers: list[tuple[int, int]] = []
        self.overrides: dict[str, Callable[[Values], Values]] = {}
        """Methods that answer something else: a function from parameters to answer, which may raise FailedError."""
        self.passwords = {"beth": "secret"}
        self._subscribers: list[Subscriber] = []
        self._peers: list[Peer] = []
        self._tokens: dict[int, str] = {}
        self._keep: list[int] = []
        self._lock = threading.RLock()
        self._seq = self._trimmed_seq = 0
        self._stored: list[Values] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._start(self._accept)

    # -- what a test says -----------------------------------------------------------------------------------------

    def change(self, job_id: object, kind: str = "state", **values: Any) -> None:
        """The job has new values; subscribers hear of it."""
        with self._lock:
            job = self.jobs[str(job_id)]
            job.update(values)
            self.emit({"kind": kind, "job_id": str(job_id), "job": job})

    def notice(self, job_id: object, notice: str, seq: int = 1) -> None:
        """A terminal notice goes to whoever registered for the job."""
        with self._lock:
            self.tell(job_id, notice, notice_seq=seq, job=self.jobs[str(job_id)])

    def tell(self, job_id: object, notice: str, **values: Any) -> None:
        """So does any other, with its values."""
        with self._lock:
            event = {"kind": "notice", "job_id": str(job_id), "notice": notice, **values}
            self.emit(event, only=self.targets[str(job_id)])

    def ask(self, job_id: object, number: int, server: str, certificate: bytes, chain: list[bytes]) -> None:
        """Whoever checks the certificates of the job is asked about one."""
        question = {"number": number, "file_index": 0, "server": server}
        question["certificate"] = base64.b64encode(certificate).decode()
        question["chain"] = [base64.b64encode(one).decode() for one in chain]
        with self._lock:
            event = {"kind": "certificate", "job_id": str(job_id), "question": question}
            self.emit(event, only=self.certificate_targets[str(job_id)])

    def emit(self, event: Values, only: str | None = None) -> None:
        """Send an event to the subscribers that asked for its job."""
        with self._lock:
            is_stored = event["kind"] not in {"progress", "notice", "overflow", "certificate"}
            self._seq += is_stored
            event = {"seq": self._seq, "at": time.time(), **event}
            if is_stored:
                self._stored.append(_as_stored(event))
            is_end = (event.get("job") or event).get("state") in {"acknowledged", "cancelled"}
            for one in self._subscribers:
                wanted = one.job_ids is None or event["job_id"] in one.job_ids or not event["job_id"]
                if only is None and is_end and self.targets.get(event["job_id"]) == one.name and not wanted:
                    self._reply(one.peer, {"event": _as_stored(event)}, continues=True)
                elif only == one.name or (only is None and wanted):
                    self._reply(one.peer, {"event": event}, continues=True)

    def methods(self) -> list[str]:
        """Names of the methods called so far, without Hello."""
        return [call.method for call in self.calls if call.method != "Hello"]

    def add_job(self, display_name: str, **values: Any) -> str:
        """A job that is in the queue already; its id."""
        job_id = str(uuid.uuid4())
        self.jobs[job_id] = {**new_job(job_id, display_name), **values}
        self.files[job_id] = []
        return job_id

    def disconnect(self) -> None:
        """End every connection, as a service does that dies."""
        with self._lock:
            for peer in self._peers:
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)

    def forget_events(self) -> None:
        """The stored events so far are not kept any more."""
        with self._lock:
            self._stored.clear()
            self._trimmed_seq = self._seq

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """End every connection; what happens within the block is stored and told to nobody."""
        with self._lock:
            self._subscribers.clear()
            self.disconnect()
            yield

    def close(self) -> None:
        """Stop; nobody listens any more, the socket file stays as after a crash."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.disconnect()
        for thread in self._threads:
            thread.join(10)
        for descriptor in self._keep:
            os.close(descriptor)
        self._keep.clear()

    # -- methods --------------------------------------------------------------------------------------------------

    def hello(self, peer: Peer, parameters: Values) -> Values:
        peer.level = parameters["level"]
        uid = os.geteuid()
        return {
            "version": "0",
            "mode": "machine",
            "uid": uid,
            "caller_uid": uid,
            "caller_name": "me",
            "process_ids": {"spawner": os.getpid()},
        }

    def get_policies(self, peer: Peer, parameters: Values) -> Values:
        return {"folder": "/etc/openbits/policy.d", "problem": "", "policies": []}

    def explain_proxy(self, peer: Peer, parameters: Values) -> Values:
        """Directly."""
        return {
            "url": parameters["url"],
            "uid": os.geteuid(),
            "identity": "me",
            "usage": "no-proxy",
            "source": "no configuration names a proxy",
            "why": "no proxy is set",
            "choice": ["direct"],
            "notes": [],
            "asked": None,
            "answer": "",
            "schemes": [],
            "problem": None,
        }

    def create_job(self, peer: Peer, parameters: Values) -> Values:
        job_id = self.add_job(parameters["display_name"], type=parameters["type"])
        return {"job_id": job_id, "handle": self._handle(peer, job_id)}

    def open_job(self, peer: Peer, parameters: Values) -> Values:
        job_id = parameters["job_id"]
        is_final = job_id in self.jobs and self.jobs[job_id]["state"] in {"acknowledged", "cancelled"}
        if job_id not in self.jobs or (is_final and peer.handles.get(parameters.get("handle", -1)) != job_id):
            raise FailedError(codes.BG_E_NOT_FOUND, f"there is no job {job_id}")
        return {"handle": self._handle(peer, job_id)}

    def release_job(self, peer: Peer, parameters: Values) -> Values:
        peer.handles.pop(parameters["handle"], None)
        return {}

    def list_jobs(self, peer: Peer, parameters: Values) -> Values:
        return {"jobs": [job for job in self.jobs.values() if job["state"] not in {"acknowledged", "cancelled"}]}

    def get_job(self, peer: Peer, parameters: Values) -> Values:
        return {"job": self._job(peer, parameters)}

    def list_files(self, peer: Peer, parameters: Values) -> Values:
        return {"files": self.files[self._job(peer, parameters)["job_id"]]}

    def add_files(self, peer: Peer, parameters: Values) -> Values:
        job = self._changeable(peer, parameters)
        for pair in parameters["files"]:
            if not pair["local_name"].startswith("/"):
                raise FailedError(codes.E_INVALIDARG, f"the local name {pair['local_name']} must be an absolute path")
            self.files[job["job_id"]].append(
                {
                    **pair,
                    "bytes_total": None,
                    "bytes_transferred": 0,
                    "is_transferred": False,
                    "is_published": False,
                    "is_valid": False,
                    "ranges": pair.get("ranges", []),
                    "temporary_name": None,
                    "note": "",
                }
            )
        job["files_total"] = len(self.files[job["job_id"]])
        return {}

    def set_properties(self, peer: Peer, parameters: Values) -> Values:
        self._changeable(peer, parameters)["properties"].update(parameters["values"])
        return {}

    def resume(self, peer: Peer, parameters: Values) -> Values:
        job = self._changeable(peer, parameters)
        if not job["files_total"]:
            raise FailedError(codes.BG_E_EMPTY)
        self.change(job["job_id"], state="queued")
        return {}

    def suspend(self, peer: Peer, parameters: Values) -> Values:
        self.change(self._changeable(peer, parameters)["job_id"], state="suspended")
        return {}

    def cancel(self, peer: Peer, parameters: Values) -> Values:
        self.change(self._changeable(peer, parameters)["job_id"], state="cancelled")
        return {"hresult": 0}

    def complete(self, peer: Peer, parameters: Values) -> Values:
        self.change(self._changeable(peer, parameters)["job_id"], state="acknowledged")
        return {"hresult": 0}

    def take_ownership(self, peer: Peer, parameters: Values) -> Values:
        self._changeable(peer, parameters).update(owner_uid=os.geteuid(), owner_name="me", helper_sid=None)
        return {}

    def set_helper_token(self, peer: Peer, parameters: Values) -> Values:
        who = self.calls[-1].token
        if peer.level < 3 and who is None:
            raise FailedError(codes.CO_E_FAILEDTOIMPERSONATE)
        self._changeable(peer, parameters).update(helper_sid=f"S-of-{who or 'me'}", helper_name=who or "me")
        return {}

    def clear_helper_token(self, peer: Peer, parameters: Values) -> Values:
        self._changeable(peer, parameters).update(helper_sid=None, helper_name=None)
        return {}

    def set_helper_token_flags(self, peer: Peer, parameters: Values) -> Values:
        self._changeable(peer, parameters)["helper_token_flags"] = parameters["flags"]
        return {}

    def logon_user(self, peer: Peer, parameters: Values) -> Values:
        if self.passwords.get(parameters["user"].rpartition("\\")[2]) != parameters["password"]:
            raise FailedError(codes.ERROR_LOGON_FAILURE, "the user name or the password is wrong")
        return self._token(peer, parameters["user"])

    def open_process_token(self, peer: Peer, parameters: Values) -> Values:
        return self._token(peer, self.calls[-1].token or "me")

    def get_token_info(self, peer: Peer, parameters: Values) -> Values:
        name = self.calls[-1].token
        if name is None:
            raise FailedError(codes.E_HANDLE)
        return {"uid": 7, "gid": 7, "groups": [7], "name": name, "sid": "S-1-22-1-7", "level": 3}

    def set_reply_file_name(self, peer: Peer, parameters: Values) -> Values:
        job = self._changeable(peer, parameters)
        if job["type"] != "upload_reply":
            raise FailedError(codes.E_NOTIMPL)
        job["reply"] = {"local_name": parameters.get("local_name"), "bytes_total": None, "bytes_transferred": 0}
        return {}

    def set_credentials(self, peer: Peer, parameters: Values) -> Values:
        self._changeable(peer, parameters)
        return {}

    def set_notify(self, peer: Peer, parameters: Values) -> Values:
        job_id = self._changeable(peer, parameters)["job_id"]
        if parameters.get("subscriber") is None:
            self.targets.pop(job_id, None)
        else:
            self.targets[job_id] = parameters["subscriber"]
        self.registrations += 1
        return {"registration": self.registrations}

    def set_certificate_callback(self, peer: Peer, parameters: Values) -> Values:
        job = self._changeable(peer, parameters)
        if job["state"] not in {"suspended", "error", "transferred"}:
            raise FailedError(codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE)
        if parameters.get("subscriber") is None:
            self.certificate_targets.pop(job["job_id"], None)
        else:
            self.certificate_targets[job["job_id"]] = parameters["subscriber"]
        return {}

    def answer_certificate(self, peer: Peer, parameters: Values) -> Values:
        self.certificate_answers.append((parameters["question"], parameters["hresult"]))
        return {}

    def acknowledge_notice(self, peer: Peer, parameters: Values) -> Values:
        self.acknowledged.append((parameters["job_id"], parameters["hresult"]))
        if self.jobs[parameters["job_id"]]["state"] in {"acknowledged", "cancelled"}:
            raise FailedError(codes.BG_E_NOT_FOUND)
        return {}

    # -- the wire -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock)
            with self._lock:
                self._peers.append(peer)
            self._start(lambda peer=peer: self._serve(peer))  # type: ignore[misc]  # one peer a thread

    def _serve(self, peer: Peer) -> None:
        buffer = b""
        with peer.sock:
            while True:
                try:
                    data, descriptors, _, _ = socket.recv_fds(peer.sock, 65536, 8)
                except OSError:
                    data, descriptors = b"", []
                peer.received += descriptors
                if not data:
                    break
                buffer += data
                *messages, buffer = buffer.split(b"\0")
                for message in messages:
                    self._handle_message(peer, json.loads(message))
            with self._lock:
                self._subscribers = [one for one in self._subscribers if one.peer is not peer]
                self._peers.remove(peer)

    def _handle_message(self, peer: Peer, message: Values) -> None:
        method = message["method"].removeprefix(f"{INTERFACE}.")
        parameters = message.get("parameters", {})
        descriptors, peer.received = peer.received, []
        token = None
        if "token" in parameters:
            token = self._tokens.get(os.fstat(descriptors[parameters["token"]]).st_ino)
        for descriptor in descriptors:
            os.close(descriptor)
        with self._lock:
            self.calls.append(Call(method, parameters, token))
            if method == "Subscribe":
                self._subscribe(peer, parameters)
                return
            try:
                self._reply(peer, self._answer(peer, method, parameters))
            except FailedError as error:
                failure = {"hresult": error.hresult, "symbol": "X", "message": str(error)}
                self.send_raw(
                    peer, json.dumps({"error": f"{INTERFACE}.Failed", "parameters": failure}).encode() + b"\0"
                )

    def _answer(self, peer: Peer, method: str, parameters: Values) -> Values:
        if peer.level == 1 and method != "Hello":
            raise FailedError(codes.E_ACCESSDENIED, "the connection is anonymous")
        override = self.overrides.get(method)
        if override is not None:
            return override(parameters)
        answer: Values = getattr(self, _snake(method))(peer, parameters)
        return answer

    def _subscribe(self, peer: Peer, parameters: Values) -> None:
        subscriber = Subscriber(uuid.uuid4().hex, peer, parameters.get("job_ids"))
        self._subscribers.append(subscriber)
        first = {"seq": self._seq, "at": 0.0, "kind": "subscribed", "job_id": "", "subscriber": subscriber.name}
        self._reply(peer, {"event": first}, continues=True)
        if parameters.get("from_seq") is not None:
            if parameters["from_seq"] < self._trimmed_seq:
                missed = {"seq": self._seq, "at": 0.0, "kind": "overflow", "job_id": ""}
                self._reply(peer, {"event": missed}, continues=True)
                return
            for event in self._stored:
                if event["seq"] > parameters["from_seq"]:
                    self._reply(peer, {"event": event}, continues=True)

    def _reply(self, peer: Peer, answer: Values, *, continues: bool = False) -> None:
        descriptors = answer.pop("descriptors", [])
        message: Values = {"parameters": answer}
        if continues:
            message["continues"] = True
        self.send_raw(peer, json.dumps(message).encode() + b"\0", descriptors)

    def send_raw(self, peer: Peer, data: bytes, descriptors: list[int] | None = None) -> None:
        """Bytes as they are; a peer that is gone is not our concern."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with contextlib.suppress(OSError):
            sent = peer.sock.sendmsg([data], rights)
            peer.sock.sendall(data[sent:])

    def _token(self, peer: Peer, name: str) -> Values:
        descriptor = os.memfd_create(f"token of {name}")
        self._keep.append(descriptor)
        self._tokens[os.fstat(descriptor).st_ino] = name
        return {"token": 0, "descriptors": [descriptor]}

    def _handle(self, peer: Peer, job_id: str) -> int:
        handle = len(self.calls)
        peer.handles[handle] = job_id
        return handle

    def _job(self, peer: Peer, parameters: Values) -> Values:
        try:
            return self.jobs[peer.handles[parameters["handle"]]]
        except KeyError:
            raise FailedError(codes.E_HANDLE) from None

    def _changeable(self, peer: Peer, parameters: Values) -> Values:
        job = self._job(peer, parameters)
        if job["state"] in {"acknowledged", "cancelled"}:
            raise FailedError(codes.BG_E_INVALID_STATE)
        return job

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()


def _snake(method: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method).lstrip("_")


def _as_stored(event: Values) -> Values:
    """What the store keeps of an event: the state at that time in place of the whole job."""
    job = event.get("job")
    kept = {name: value for name, value in event.items() if name != "job"}
    return kept if job is None else {**kept, "state": job["state"]}


def new_job(job_id: str, display_name: str) -> Values:
    """A fresh job with the defaults of jobs.md."""
    return {
        "job_id": job_id,
        "type": "download",
        "state": "suspended",
        "state_since": 1000.0,
        "properties": {
            "display_name": display_name,
            "description": "",
            "priority": "normal",
            "notify_flags": 3,
            "minimum_retry_delay_seconds": 600,
            "no_progress_timeout_seconds": 1_209_600,
            "proxy_usage": "preconfig",
            "proxy_list": "",
            "proxy_bypass_list": "",
            "maximum_download_seconds": None,
            "file_acl_flags": 0,
            "peer_caching_flags": 0,
            "security_flags": 0,
            "http_method": "",
            "cost_flags": None,
            "notification_clsid": "",
            "dynamic_content": False,
            "high_performance": False,
            "max_download_size_bytes": None,
            "use_stored_proxy_credentials": False,
            "minimum_notification_interval_ms": 500,
            "on_demand_mode": False,
            "parallel_files": 1,
            "maximum_rate_bytes_per_second": None,
            "segments": 1,
            "auto_complete": False,
        },
        "owner_uid": os.geteuid(),
        "owner_name": "me",
        "owner_sid": f"S-1-22-1-{os.geteuid()}",
        "owner_integrity_level": 0x2000,
        "owner_is_elevated": False,
        "bytes_total": 0,
        "bytes_transferred": 0,
        "files_total": 0,
        "files_transferred": 0,
        "created_at": 1000.0,
        "modified_at": 1000.0,
        "transferred_at": None,
        "error": None,
        "complete_error": None,
        "error_count": 0,
        "maximum_download_seconds": 7_776_000,
        "transfer_seconds": 0.0,
        "expires_at": time.time() + 90 * 86_400,
        "phase": "",
        "waiting": None,
        "notice": None,
        "helper_token_flags": 0,
        "helper_sid": None,
        "helper_name": None,
        "notify_command": None,
        "entrusted": [],
        "reply": None,
    }
