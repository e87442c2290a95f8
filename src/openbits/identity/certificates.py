"""The certificates of a store: what a file broker reads of a folder for SetClientCertificateBy* (identity.md §13).

A store is a folder of PEM files. Only certificates leave this process: a private key beside one, in the same file or
in another, is not part of the answer. Names are not opened that the folder does not have, and nothing is waited for.
"""

# ruff: noqa: PTH208  # paths are bytes, which pathlib does not carry

import errno
import os
import re
import stat

from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PATH_BYTES, failing, failure

MAX_FILES = 256
MAX_FILE_BYTES = 64 * 1024
MAX_BYTES = 1 << 20

_SUFFIXES = (b".pem", b".crt", b".cer")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


def read_store(path: bytes, opener: Opener) -> int:
    """Descriptor of a memory file with the certificates of the folder, in the order of their files' names.

    Raises PathError with step `directory`: ENOENT if there is no such store, EACCES if this identity may not read it.
    """
    if len(path) > PATH_BYTES:
        raise failure(errno.ENAMETOOLONG, "directory", path)
    with failing("directory", path):
        folder = opener(path, os.O_RDONLY | os.O_DIRECTORY, follow=True)
    try:
        with failing("directory", path):
            names = sorted(name for name in os.listdir(folder) if os.fsencode(name).endswith(_SUFFIXES))
            memory = os.memfd_create("certificates", os.MFD_CLOEXEC)
        left = MAX_BYTES
        for name in names[:MAX_FILES]:
            for certificate in _CERTIFICATE.findall(_content(folder, os.fsencode(name), opener)):
                left -= len(certificate)
                if left >= 0:
                    os.write(memory, certificate)
    finally:
        os.close(folder)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


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
