"""Stands in for `python -I -m openbits.identity.spawner …`: takes the lock, serves Hello, or fails as told.

FAKE_SPAWNER in the environment: `serve`, `slow` (ready only after a while), or a text: the reason for failing.
Each start is noted in the state directory.
"""

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

LIFETIME_SECONDS = 30.0


def main() -> int:
    """Serve until the lifetime is over."""
    options = dict(zip(sys.argv[4::2], sys.argv[5::2], strict=True))
    state, path, order = Path(options["--state-dir"]), options["--socket"], os.environ["FAKE_SPAWNER"]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "starts").open("a") as starts:
        starts.write(json.dumps({"argv": sys.argv[1:]}) + "\n")
    if order not in {"serve", "slow"}:
        sys.stderr.write(order)
        return 1
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"cannot start: {state} is in use by bitsd (pid 1)")
        return 1
    if order == "slow":
        time.sleep(0.5)
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    listener.settimeout(LIFETIME_SECONDS)
    (state / "pid").write_text(str(os.getpid()))
    serve(listener)
    return 0


def serve(listener: socket.socket) -> None:
    """Answer the first call of each connection, which is Hello."""
    hello = {"version": "0", "mode": "user", "uid": 0, "caller_uid": 0, "caller_name": "", "process_ids": {}}
    open_ones = []
    while True:
        sock, _ = listener.accept()
        sock.recv(4096)
        sock.sendall(json.dumps({"parameters": hello}).encode() + b"\0")
        open_ones.append(sock)


if __name__ == "__main__":
    sys.exit(main())
