"""IBackgroundCopyJobHttpOptions to 3 (jobs.md §7.8): what the HTTP requests of a job are made with.

NULL where a value is required is RPC_X_NULL_REF_POINTER in these interfaces, not E_INVALIDARG (jobs.md §2.3).
"""

from typing import TypeVar

from openbits.com.callbacks import IBackgroundCopyServerCertificateValidationCallback, certificate_check
from openbits.com.constants import BG_CERT_STORE_LOCATION
from openbits.com.job import IBackgroundCopyJob, JobInterface
from openbits.com.structures import ClientCertificate
from openbits.com.unknown import COMError
from openbits.core import codes
from openbits.core.enums import CertStore, JobType
from openbits.core.property_rules import USUAL_METHODS

T = TypeVar("T")

SHA1_BYTES = 20


class IBackgroundCopyJobHttpOptions(JobInterface, iid="f1bd1079-9f01-4bdc-8036-f09b70095066"):
    """Since 2.5: client certificates, custom headers, security flags."""

    def SetClientCertificateByID(self, StoreLocation: int, StoreName: str, pCertHashBlob: bytes) -> int:
        """The certificate of the store with this SHA-1 (20 bytes); the owner alone.

        Raises E_NOTIMPL for a location but CURRENT_USER and LOCAL_MACHINE, ERROR_FILE_NOT_FOUND for a store and
        CRYPT_E_NOT_FOUND for a certificate that is not there, RPC_X_BAD_STUB_DATA, BG_E_STRING_TOO_LONG,
        E_ACCESSDENIED.
        """
        location, sha1 = _location(StoreLocation), _given(pCertHashBlob, "pCertHashBlob")
        if not isinstance(sha1, bytes | bytearray) or len(sha1) != SHA1_BYTES:
            text = f"pCertHashBlob is {sha1!r:.40}; give the {SHA1_BYTES} bytes of a SHA-1"
            raise COMError(codes.RPC_X_BAD_STUB_DATA, text)
        self.job.set_client_certificate(location, _given(StoreName, "StoreName"), sha1=bytes(sha1).hex())
        return codes.S_OK

    def SetClientCertificateByName(self, StoreLocation: int, StoreName: str, SubjectName: str) -> int:
        """The first certificate for clients whose subject ("name3, name2, name1") has this part; the owner alone.

        Raises as SetClientCertificateByID does, and E_INVALIDARG for an empty subject.
        """
        location, store = _location(StoreLocation), _given(StoreName, "StoreName")
        self.job.set_client_certificate(location, store, subject=_given(SubjectName, "SubjectName"))
        return codes.S_OK

    def RemoveClientCertificate(self) -> int:
        """Use none: S_OK, or S_FALSE if none was set."""
        return codes.S_OK if self.job.remove_client_certificate() else codes.S_FALSE

    def GetClientCertificate(self) -> ClientCertificate:
        """The chosen certificate; what it was not chosen by is NULL. Raises RPC_X_BAD_STUB_DATA if there is none."""
        chosen = self.job.client_certificate()
        return ClientCertificate(
            StoreLocation=BG_CERT_STORE_LOCATION(int(CertStore[chosen["location"].upper()])),
            StoreName=chosen["store"],
            CertHashBlob=bytes.fromhex(chosen["sha1"]) or None,
            SubjectName=chosen["subject"] or None,
        )

    def SetCustomHeaders(self, RequestHeaders: str | None) -> int:
        """Lines for every request of the job, each ended by CRLF; NULL takes them away. The owner alone.

        Raises BG_E_STRING_TOO_LONG above 16383 characters; E_INVALIDARG for lines that are no header, and for headers
        that the transfer itself decides about (OPEN-25).
        """
        self.job.set_custom_headers(RequestHeaders)
        return codes.S_OK

    def GetCustomHeaders(self) -> str | None:
        """The headers, NULL (with S_FALSE there) if there are none. Raises E_ACCESSDENIED: write-only, or no owner."""
        return self.job.custom_headers()

    def SetSecurityFlags(self, Flags: int) -> int:
        """Checks of certificates, and what to do with redirects. Raises E_NOTIMPL for undefined bits."""
        self.job.set(security_flags=_given(Flags, "Flags"))
        return codes.S_OK

    def GetSecurityFlags(self) -> int:
        """0 by default."""
        return self.job.info()["properties"]["security_flags"]


class IBackgroundCopyJobHttpOptions2(IBackgroundCopyJobHttpOptions, iid="b591a192-a405-4fc3-8323-4c5c542578fc"):
    """Since 10.2: HTTP method."""

    def SetHttpMethod(self, Method: str) -> int:
        """Another method than GET or BITS_POST, which forces foreground priority (jobs.md §9.9).

        Raises E_INVALIDARG, BG_E_READ_ONLY_PROPERTY_AFTER_RESUME, BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD.
        """
        if not _given(Method, "Method"):
            raise COMError(codes.E_INVALIDARG, "Method is empty; give an HTTP method")
        self.job.set(http_method=Method)
        return codes.S_OK

    def GetHttpMethod(self) -> str:
        """GET for downloads and BITS_POST for uploads unless another was set."""
        info = self.job.info()
        return info["properties"]["http_method"] or USUAL_METHODS[JobType[info["type"].upper()]]


class IBackgroundCopyJobHttpOptions3(IBackgroundCopyJobHttpOptions2, iid="8a9263d3-fd4c-4eda-9b28-30132a4d4e3c"):
    """Since 10.3: certificate callback, write-only headers."""

    def MakeCustomHeadersWriteOnly(self) -> int:
        """Let nobody read the custom headers any more, whatever they will be; nothing undoes it."""
        self.job.make_custom_headers_write_only()
        return codes.S_OK

    def SetServerCertificateValidationInterface(
        self, certValidationCallback: IBackgroundCopyServerCertificateValidationCallback | None
    ) -> int:
        """Who is asked about the certificates of servers; the last caller wins, NULL: nobody is (jobs.md §9.8).

        From then on the job talks to no TLS server unasked, also after the end of this process. Raises E_NOINTERFACE,
        BG_E_READ_ONLY_WHEN_JOB_ACTIVE unless the job is suspended, in ERROR or TRANSFERRED.
        """
        if certValidationCallback is None:
            self.job.set_certificate_callback(None)
        else:
            job = self.QueryInterface(IBackgroundCopyJob)
            self.job.set_certificate_callback(certificate_check(job, certValidationCallback))
        return codes.S_OK


def _location(value: int) -> CertStore:
    try:
        return CertStore(_given(value, "StoreLocation"))
    except ValueError as error:
        text = f"{value!r} is no store location; use CURRENT_USER (0) or LOCAL_MACHINE (1)"
        raise COMError(codes.E_NOTIMPL, text) from error


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise COMError(codes.RPC_X_NULL_REF_POINTER, f"{name} is NULL (None); give a value")
    return value
