"""The part of Job about what it is given: notice command, reply file, credentials, headers, certificates."""

from typing import TYPE_CHECKING, cast

from openbits.api import calls
from openbits.api.framing import Parameters
from openbits.api.wire import CertificateInfo
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore

if TYPE_CHECKING:
    from openbits.api.client import Client, Job
    from openbits.api.notifications import CertificateCheck


class JobOptions:
    """Methods of Job."""

    client: "Client"

    def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    def set_notify_command_line(self, program: str | None, parameters: str | None = None) -> None:
        """Run a program as the caller when the job is TRANSFERRED or in ERROR, if no callback takes the notice.

        `program`: absolute path; `parameters`: one text in the quoting of Windows, of which the first word is the name
        of the program (`openbits.commandline.join` makes it of words). Nothing is expanded, and no shell has it. Exit
        code 0 takes the notice, after any other it is run again after the minimum retry delay. None, None: no more.
        Raises BG_E_STRING_TOO_LONG above 260 and 4000 characters, E_INVALIDARG, BG_E_INVALID_STATE.
        """
        self._call("SetNotifyCmdLine", **calls.given(program=program, parameters=parameters))

    def notify_command_line(self) -> tuple[str, str]:
        """Program and parameters; two empty texts if there is none."""
        answer = self._call("GetNotifyCmdLine")
        return str(answer["program"]), str(answer["parameters"])

    def set_credentials(self, target: AuthTarget, scheme: AuthScheme, user: str | None, password: str | None) -> None:
        """Credentials for a server or proxy, in place of earlier ones for this target and scheme (the owner alone).

        Without user and password (both None; NTLM and NEGOTIATE): those of the job's own identity. They are encrypted
        with the job and nobody can read them back. Raises E_INVALIDARG, BG_E_INVALID_AUTH_TARGET,
        BG_E_INVALID_AUTH_SCHEME, BG_E_USERNAME_TOO_LARGE, BG_E_PASSWORD_TOO_LARGE, E_ACCESSDENIED.
        """
        self._call("SetCredentials", **calls.credentials(target, scheme), **calls.given(user=user, password=password))

    def remove_credentials(self, target: AuthTarget, scheme: AuthScheme) -> bool:
        """Take them away; False if there were none."""
        return int(self._call("RemoveCredentials", **calls.credentials(target, scheme))["hresult"]) == codes.S_OK

    def set_custom_headers(self, headers: str | None) -> None:
        """Lines `Name: value`, ended by CRLF, for every request of the job (the owner alone); None takes them away.

        They count from the next request on. Raises E_INVALIDARG for lines that are none and for headers that the
        transfer decides about, BG_E_STRING_TOO_LONG, E_ACCESSDENIED.
        """
        self._call("SetCustomHeaders", **calls.given(headers=headers))

    def custom_headers(self) -> str | None:
        """The custom headers; None: there are none. Raises E_ACCESSDENIED unless the owner asks, and if write-only."""
        return cast("str | None", self._call("GetCustomHeaders").get("headers"))

    def make_custom_headers_write_only(self) -> None:
        """Let nobody read custom headers of this job any more; nothing undoes it."""
        self._call("MakeCustomHeadersWriteOnly")

    def set_client_certificate(self, location: CertStore, store: str, *, sha1: str = "", subject: str = "") -> None:
        """Choose the certificate by its SHA-1 (40 hexadecimal digits) or by a part of its subject (the owner alone).

        Stores are folders of PEM files: `~/.config/openbits/certs/<store>`, or `/etc/openbits/certs/<store>`. Raises
        E_NOTIMPL for another location, ERROR_FILE_NOT_FOUND for a store and CRYPT_E_NOT_FOUND for a certificate that
        is not there, RPC_X_BAD_STUB_DATA, BG_E_STRING_TOO_LONG, E_ACCESSDENIED.
        """
        parameters = calls.given(sha1=sha1 or None, subject=subject or None)
        self._call("SetClientCertificate", location=location.name.lower(), store=store, **parameters)

    def remove_client_certificate(self) -> bool:
        """Use no certificate; False if none was set."""
        return int(self._call("RemoveClientCertificate")["hresult"]) == codes.S_OK

    def set_certificate_callback(self, callback: "CertificateCheck | None") -> None:
        """Have `callback(certificate)` asked, on a library thread, before the job sends a request to a TLS server.

        It accepts by returning; an exception refuses, and the job waits in TRANSIENT_ERROR with its code. From then on
        no server is talked to unasked, also after the end of this process, until a callback is set again and the job
        resumed, or None takes callback and need back. Raises BG_E_READ_ONLY_WHEN_JOB_ACTIVE unless the job is
        suspended, in ERROR or TRANSFERRED.
        """
        job = cast("Job", self)
        if callback is None:
            self.client.notifier.forget_certificates(job)
        else:
            self.client.notifier.check_certificates(job, callback)

    def client_certificate(self) -> CertificateInfo:
        """Which certificate was chosen. Raises RPC_X_BAD_STUB_DATA if there is none, or not the owner asks."""
        return cast("CertificateInfo", self._call("GetClientCertificate")["certificate"])
