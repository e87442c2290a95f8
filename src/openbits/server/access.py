"""Who asks, and whether he may: steps 4 and 5 of upload-protocol.md §5.1."""

import base64
import binascii
import functools
import hashlib
import logging

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from openbits.core import codes
from openbits.server.model import Directory, RefusedError, User
from openbits.server.request import Request
from openbits.server.users import Users, UsersError

log = logging.getLogger("openbits.server")

ANYBODY = "*"
"""In allow_users and allow_groups."""

CHALLENGE = 'Basic realm="BITS", charset="UTF-8"'


class Access:
    """Tells users from requests. `takes_plain_passwords`: also without TLS; `trusts_common_names`: of certificates.

    `is_local`: see Settings.
    """

    def __init__(self, users: Users, *, takes_plain_passwords: bool, trusts_common_names: bool, is_local: bool) -> None:
        self._users = users
        self._takes_plain_passwords = takes_plain_passwords
        self._trusts_common_names = trusts_common_names
        self._is_local = is_local

    async def user(self, request: Request) -> User:
        """Whoever has proved who he is; nobody in particular without a proof. Raises RefusedError."""
        try:
            self._users.refresh()
        except UsersError as error:
            log.warning("users_refused reason=%s", error)
        if request.get("authorization"):
            return await self._with_password(request)
        if request.certificate:
            fingerprint, common_name = certificate_names(request.certificate)
            user = self._users.with_certificate(fingerprint, common_name if self._trusts_common_names else "")
            if user is not None:
                return user
        return User()

    async def _with_password(self, request: Request) -> User:
        scheme, _, value = request.get("authorization").partition(" ")
        if scheme.lower() != "basic":
            raise RefusedError(401, None, "the scheme of the authorisation is not Basic")
        if not self._may_send_password(request):
            raise RefusedError(403, codes.E_ACCESSDENIED, "a password came without TLS; see plain_passwords")
        try:
            name, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise RefusedError(401, None, "the authorisation is no Basic one") from None
        user = await self._users.with_password(name, password, request.client) if colon else None
        if user is None:
            raise RefusedError(401, None, "wrong name or password")
        return user

    def _may_send_password(self, request: Request) -> bool:
        return request.is_secure or self._takes_plain_passwords

    def check(self, request: Request, user: User, directory: Directory, *, allows_anonymous: bool) -> None:
        """Ask an unknown user who he is; a known one has to be allowed. Raises RefusedError."""
        if not user.name:
            if allows_anonymous:
                if self._is_local and not request.is_for_this_machine:
                    raise RefusedError(403, codes.E_ACCESSDENIED, "nobody in particular asks for a name of somewhere")
                return
            if self._may_send_password(request):
                raise RefusedError(401, None, "nobody in particular asks")
            raise RefusedError(403, codes.E_ACCESSDENIED, "nobody in particular asks, and without TLS nobody can say")
        is_named = bool({ANYBODY, user.name} & directory.allow_users)
        has_group = ANYBODY in directory.allow_groups or bool(user.groups & directory.allow_groups)
        if not (is_named and has_group):
            raise RefusedError(403, codes.E_ACCESSDENIED, "not among allow_users and allow_groups")


@functools.lru_cache(maxsize=1024)
def certificate_names(pem: str) -> tuple[str, str]:
    """SHA-256 of a certificate in hex, and the common name of its subject, empty if it has not exactly one."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    common_name = str(names[0].value) if len(names) == 1 else ""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(), common_name
