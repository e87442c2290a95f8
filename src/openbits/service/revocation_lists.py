"""The revocation lists that the administrator keeps for the workers: files in a folder of the settings (jobs.md §9.6).

PEM or DER, whatever their names; read anew for each file that is transferred with the check, so that a list counts
from the moment when it is put there. Whether it is fresh, and of whom, the worker finds out.
"""

import base64
import logging
import re
from pathlib import Path
from typing import Final

log = logging.getLogger("openbits.manager")

MAX_FILES: Final = 256
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all of them together; what goes beyond is left out."""

_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def read(folder: Path) -> str:
    """The lists as PEM text, in the order of the names of their files; empty without a folder."""
    found: list[bytes] = []
    left = MAX_BYTES
    for path in _files(folder):
        try:
            if path.stat().st_size > left:
                log.warning("revocation_list_left_out path=%s why=more than %d MiB", path, MAX_BYTES >> 20)
                continue
            content = path.read_bytes()
        except OSError as error:
            log.warning("revocation_list_unreadable path=%s why=%s", path, error.strerror)
            continue
        left -= len(content)
        found += _blocks(content)
    return b"\n".join(found).decode("ascii", "replace")


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_file()][:MAX_FILES]
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("revocation_lists_unreadable folder=%s why=%s", folder, error.strerror)
        return []


def _blocks(content: bytes) -> list[bytes]:
    if b"-----BEGIN" in content:
        return _PEM.findall(content)
    return [b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(content) + b"-----END X509 CRL-----"]
