"""A logon helper without PAM: the password says what to do."""

import json
import os
import signal
import socket
import sys

from openbits import channel

with socket.socket(fileno=0) as requests, socket.socket(fileno=3) as spawner:
    request, _ = channel.receive(requests)
    if request["password"] == "hang":
        signal.alarm(1)  # as the real one does
        signal.pause()
    if request["password"] == "die":
        sys.exit(1)
    uid = int(request["user"])
    descriptors = []
    for descriptor in range(256):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        descriptors.append(descriptor)
    found = {"arguments": sys.argv[1:], "environ": sorted(os.environ), "descriptors": descriptors}
    if request["password"] == "good":
        answer = {"ok": True, "uid": uid, "gid": uid, "groups": [uid], "name": json.dumps(found), "ccache": None}
    else:
        answer = {"ok": False, "pam": 7, "text": "Authentication failure"}
    channel.send(spawner, answer)
    spawner.recv(1)
