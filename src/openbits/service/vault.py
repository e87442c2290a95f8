"""The vault: seals what is entrusted to jobs, under keys that only the manager has (identity.md §14, S1 and S2).

A secret is sealed where the call that brings it is answered; engine, store and events see the sealed form alone. The
text that AES-GCM binds it to names job, slot, owner and key: a secret that was moved to another job, slot or owner
does not open.

Keys are lines, each the base64 of 32 bytes; the last one seals, all of them open, so a line appended is a rotation.
They come from `bits-master` in the store's directory, made at the first start, and from the credential of systemd that
the spawner passes, whose lines come last. Without a usable key the service works, but takes and uses no secrets.
"""

import base64
import binascii
import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from openbits.core import secrets
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobId, Secret
from openbits.core.wording import name_of

log = logging.getLogger("openbits.manager")

FILE_NAME = "bits-master"
KEY_BYTES = 32
NONCE_BYTES = 12
MAX_FILE_BYTES = 64 * 1024

UNREADABLE = 0x80071771
"""HRESULT_FROM_WIN32(ERROR_DECRYPTION_FAILED); transient by rule E8, since the key may come back."""


class Vault:
    """The keys by their ids; the last of them seals."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = {_id_of(key): AESGCM(key) for key in keys}
        self.newest = next(reversed(self._keys), "")
        """Id of the key that seals; empty if there is none."""

    def seal(self, job_id: JobId, owner_uid: int, slot: str, clear: str) -> Secret:
        """What is put into this slot of the job. Raises BitsError if there is no key."""
        if not self.newest:
            text = f"cannot keep secrets of job {job_id}: the service has no master key, its log says why"
            raise BitsError(UNREADABLE, text, context=ErrorContext.GENERAL_QUEUE_MANAGER)
        nonce = os.urandom(NONCE_BYTES)
        data = bytearray(clear.encode())
        try:
            sealed = self._keys[self.newest].encrypt(nonce, data, _bound_to(job_id, slot, owner_uid, self.newest))
        finally:
            data[:] = bytes(len(data))
        return Secret(slot=slot, key_id=self.newest, sealed=base64.b64encode(nonce + sealed).decode())

    def open(self, job: Job, secret: Secret) -> str:
        """What was sealed for this job, slot and owner. Raises BitsError UNREADABLE; the sealed form stays."""
        key = self._keys.get(secret.key_id)
        if key is None:
            step = f"master key {secret.key_id} is missing; bring it back and start the service again, or set it anew"
            raise _unreadable(job, secret, step)
        data = base64.b64decode(secret.sealed)
        bound_to = _bound_to(job.job_id, secret.slot, job.owner.uid, secret.key_id)
        try:
            return key.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to).decode()
        except (InvalidTag, ValueError):
            raise _unreadable(job, secret, "what is stored was not sealed for this job; set it anew") from None

    def headers(self, job: Job) -> str | None:
        """The custom headers of a job, None if there are none. Raises BitsError UNREADABLE."""
        secret = secrets.found(job, secrets.HEADERS)
        return None if secret is None else self.open(job, secret)

    def resealed(self, job: Job) -> tuple[Secret, ...]:
        """The secrets of a job under the newest key; those that cannot be opened as they are."""
        return tuple(self._resealed(job, secret) for secret in job.secrets)

    def _resealed(self, job: Job, secret: Secret) -> Secret:
        if secret.key_id == self.newest:
            return secret
        try:
            return self.seal(job.job_id, job.owner.uid, secret.slot, self.open(job, secret))
        except BitsError as error:
            log.warning("secret_unreadable %s", error)
            return secret


def load(directory: Path, credentials: Sequence[int]) -> Vault:
    """The vault of the store in this directory; `credentials` are descriptors to read keys from, closed here."""
    keys = _keys_of_file(directory / FILE_NAME, is_made=not credentials)
    for descriptor in credentials:
        with os.fdopen(descriptor, "rb") as file:
            keys += _parsed(file.read(MAX_FILE_BYTES), f"the credential {FILE_NAME}")
    return Vault(keys)


def _keys_of_file(path: Path, *, is_made: bool) -> list[bytes]:
    """The keys of the store's own file, which is made if it is missing and `is_made`."""
    try:
        if is_made and not path.exists():
            _make(path)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                log.error("master_key_refused path=%s why=chown it to uid %d, chmod 0400", path, os.geteuid())
                return []
            return _parsed(file.read(MAX_FILE_BYTES), str(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        log.error("master_key_unusable path=%s why=%s", path, error.strerror)  # noqa: TRY400  # the text says it all
        return []


def _make(path: Path) -> None:
    """A new key, whole on the disk under its name or not at all."""
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()  # of a start that was cut off
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parsed(data: bytes, place: str) -> list[bytes]:
    keys = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                key = base64.b64decode(line.strip(), validate=True)
            except binascii.Error:
                key = b""
            if len(key) == KEY_BYTES:
                keys.append(key)
            else:
                log.error("master_key_malformed place=%s line=%d rule=base64 of %d bytes", place, number, KEY_BYTES)
    return keys


def _id_of(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


def _bound_to(job_id: JobId, slot: str, owner_uid: int, key_id: str) -> bytes:
    return f"{job_id}|{slot}|{owner_uid}|{key_id}".encode()


def _unreadable(job: Job, secret: Secret, step: str) -> BitsError:
    text = f"cannot open {secret.slot} of {name_of(job)}: {step}"
    return BitsError(UNREADABLE, text, context=ErrorContext.GENERAL_QUEUE_MANAGER)
