"""The certificates of a store: what a file broker reads of a folder for client certificates (identity.md §13).

A store is a folder of PEM files. When somebody looks for a certificate only certificates leave this process; the
private key of one goes along when a transfer needs it. Names are not opened that the folder does not have, and nothing
is waited for.
"""

# ruff: noqa: PTH118, PTH122, PTH208  # paths are bytes, which pathlib does not carry

import base64
import binascii
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PATH_BYTES, failing, failure

MAX_FILES = 256
MAX_FILE_BYTES = 64 * 1024
MAX_BYTES = 1 << 20

_SUFFIXES = (b".pem", b".crt", b".cer")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----\n")
_KEY = re.compile(rb"-----BEGIN ((?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----\n.+?-----END \1-----\n?", re.DOTALL)
_KEY_SUFFIX = b".key"


def read_store(path: bytes, opener: Opener) -> int:
    """Descriptor of a memory file with the certificates of the folder, in the order of their files' names.

    Raises PathError with step `directory`: ENOENT if there is no such store, EACCES if this identity may not read it.
    """
    left = MAX_BYTES
    with _store(path, opener) as (folder, names):
        memory = os.memfd_create("certificates", os.MFD_CLOEXEC)
        for name in names:
            for found in _CERTIFICATE.finditer(_content(folder, name, opener)):
                left -= len(found[0])
                if left >= 0:
                    os.write(memory, found[0])
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def read_key_pair(path: bytes, sha1: str, opener: Opener) -> int:
    """Descriptor of a memory file with the certificate of this SHA-1, the others of its file, and its private key.

    The key is in the same file or in one beside it, `client.key` for `client.pem`. Raises PathError as `read_store`,
    and with step `read`: ENOENT if the certificate is not there, ENOKEY if there is no key for it, EACCES if this
    identity may not read the key, EKEYREJECTED if it has a passphrase.
    """
    with _store(path, opener) as (folder, names):
        for name in names:
            content = _content(folder, name, opener)
            certificates = sorted(_CERTIFICATE.finditer(content), key=lambda found: _sha1_of(found[1]) != sha1)
            if certificates and _sha1_of(certificates[0][1]) == sha1:
                key = _KEY.search(content) or _key_beside(path, folder, os.path.splitext(name)[0] + _KEY_SUFFIX, opener)
                if b"ENCRYPTED" in key[0]:
                    text = "its private key has a passphrase, which nobody could type; store the key without one"
                    raise failure(errno.EKEYREJECTED, "read", os.path.join(path, name), text)
                memory = os.memfd_create("key-pair", os.MFD_CLOEXEC)
                os.write(memory, b"".join([*(found[0] for found in certificates), key[0]]))
                os.lseek(memory, 0, os.SEEK_SET)
                return memory
    raise failure(errno.ENOENT, "read", path, f"no certificate with SHA-1 {sha1} is there; put it there as a PEM file")


def _key_beside(path: bytes, folder: int, name: bytes, opener: Opener) -> re.Match[bytes]:
    """The private key of this file. Raises PathError: ENOKEY, EACCES."""
    shown = name.decode("utf-8", "backslashreplace")
    key = _KEY.search(_content(folder, name, opener))
    if key is not None:
        return key
    try:
        os.close(opener(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder))
    except PermissionError:
        text = f"its private key in {shown} may not be read; make it readable for this user, and for nobody else"
        raise failure(errno.EACCES, "read", os.path.join(path, name), text) from None
    except OSError:
        pass
    text = f"no private key for it is there, nor in {shown} beside it; put it there, mode 0600"
    raise failure(errno.ENOKEY, "read", os.path.join(path, name), text)


@contextmanager
def _store(path: bytes, opener: Opener) -> Iterator[tuple[int, list[bytes]]]:
    """Descriptor of the folder, and the names of its PEM files."""
    if len(path) > PATH_BYTES:
        raise failure(errno.ENAMETOOLONG, "directory", path)
    with failing("directory", path):
        folder = opener(path, os.O_RDONLY | os.O_DIRECTORY, follow=True)
    try:
        with failing("directory", path):
            names = sorted(os.fsencode(name) for name in os.listdir(folder))
        yield folder, [name for name in names if name.endswith(_SUFFIXES)][:MAX_FILES]
    finally:
        os.close(folder)


def _sha1_of(encoded: bytes) -> str:
    """Of the certificate itself; empty for what is none."""
    try:
        return hashlib.sha1(base64.b64decode(encoded)).hexdigest()  # noqa: S324  # a name, not a proof
    except binascii.Error:
        return ""


def _content(folder: int, name: bytes, opener: Opener) -> bytes:
    """What a regular file begins with, lines ended by LF; empty for what cannot be read, as in any store of files."""
    try:
        descriptor = opener(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
    except OSError:
        return b""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.pread(descriptor, MAX_FILE_BYTES, 0).replace(b"\r\n", b"\n") if is_file else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
