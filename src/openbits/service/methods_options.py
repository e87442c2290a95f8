"""The part of the varlink interface about what is entrusted to jobs: credentials, headers, certificates (docs/api.md).

Only the owner entrusts something to a job: who obtained the handle, and who makes the call. What is entrusted is sealed
here, before anything else has it (`service.vault`); nothing of it is answered but custom headers, to their owner.
"""

import json

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.api.wire import CertificateInfo
from openbits.core import access, codes, events, lifecycle, secrets
from openbits.core.access import Verb
from openbits.core.errors import BitsError
from openbits.core.wording import label, name_of
from openbits.service.answers import answered
from openbits.service.connections import Call, Handle
from openbits.service.methods import Methods, check_may_act
from openbits.service.record import Record


class OptionMethods(Methods):
    """Credentials, custom headers and client certificates of jobs."""

    @varlinkmethod
    @answered
    async def SetCredentials(
        self,
        *,
        handle: int,
        target: str,
        scheme: str,
        user: str | None = None,
        password: str | None = None,
        token: FileDescriptor | None = None,
    ) -> None:
        """Give the job credentials for a server or proxy; neither user nor password: those of its own identity."""
        opened = self._handle(handle)
        slot = secrets.slot(target, scheme)
        secrets.check_credentials(scheme, user, password)
        with self._call(token) as call:
            self._check_owner(opened, call)
        await self._keep(opened.record, slot, json.dumps([user, password], ensure_ascii=False))

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def RemoveCredentials(self, *, handle: int, target: str, scheme: str) -> int:
        """Take the credentials for this target and scheme away; S_FALSE: there were none."""
        return await self._remove(self._handle(handle).record, secrets.slot(target, scheme))

    @varlinkmethod
    @answered
    async def SetCustomHeaders(
        self, *, handle: int, headers: str | None = None, token: FileDescriptor | None = None
    ) -> None:
        """Lines to send with every request of the job; null takes them away."""
        opened = self._handle(handle)
        if headers is not None:
            secrets.check_headers(headers)
        with self._call(token) as call:
            self._check_owner(opened, call)
        if headers:
            await self._keep(opened.record, secrets.HEADERS, headers)
        else:
            await self._remove(opened.record, secrets.HEADERS)

    @varlinkmethod(return_parameter="headers")
    @answered
    async def GetCustomHeaders(self, *, handle: int, token: FileDescriptor | None = None) -> str | None:
        """The custom headers, to the owner, unless they were made write-only."""
        opened = self._handle(handle)
        with self._call(token) as call:
            self._check_owner(opened, call)
        job = opened.record.job
        if job.has_write_only_headers:
            text = f"cannot read the custom headers of job {job.job_id}: they were made write-only, for good"
            text += "; set others if need be"
            raise BitsError(codes.E_ACCESSDENIED, text)
        return self._context.vault.headers(job)

    @varlinkmethod
    @answered
    async def MakeCustomHeadersWriteOnly(self, *, handle: int) -> None:
        """Let nobody read custom headers of this job any more."""
        await self._engine.apply(self._handle(handle).record, events.MakeHeadersWriteOnly())

    @varlinkmethod
    @answered
    async def SetClientCertificate(
        self,
        *,
        handle: int,
        location: str,
        store: str,
        sha1: str | None = None,
        subject: str | None = None,
        token: FileDescriptor | None = None,
    ) -> None:
        """Choose a certificate of a store, by its SHA-1 or a part of its subject; it has to be there."""
        opened = self._handle(handle)
        certificate = secrets.certificate_reference(location, store, sha1 or "", subject or "")
        with self._call(token) as call:
            self._check_owner(opened, call)
            lifecycle.check_not_final(opened.record.job, events.SetCertificate)
            await self._context.certificates.check(certificate, opened.record.job.owner, call.cookie)
            self._check_owner(self._handle(handle), call)  # the job may have changed hands meanwhile
        await self._engine.apply(opened.record, events.SetCertificate(certificate=certificate))

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def RemoveClientCertificate(self, *, handle: int) -> int:
        """Take the reference to a certificate away; S_FALSE: there was none."""
        record = self._handle(handle).record
        had_one = record.job.certificate is not None
        await self._engine.apply(record, events.SetCertificate(certificate=None))
        return codes.S_OK if had_one else codes.S_FALSE

    @varlinkmethod(return_parameter="certificate")
    @answered
    async def GetClientCertificate(self, *, handle: int, token: FileDescriptor | None = None) -> CertificateInfo:
        """The reference to the certificate, to the owner."""
        opened = self._handle(handle)
        certificate = opened.record.job.certificate
        with self._call(token) as call:
            is_owner = self._is_owner(opened, call)
        if certificate is None or not is_owner:
            text = f"job {opened.record.job.job_id} has no client certificate that you may see; set one as its owner"
            raise BitsError(codes.RPC_X_BAD_STUB_DATA, text)
        return {
            "location": certificate.location.name.lower(),
            "store": certificate.store,
            "sha1": certificate.sha1,
            "subject": certificate.subject,
        }

    def _is_owner(self, opened: Handle, call: Call) -> bool:
        owner_uid = opened.record.job.owner.uid
        return all(
            access.may(identity, Verb.SET_CREDENTIALS, owner_uid, self._context.access)
            for identity in (opened.opened_by, call.identity)
        )

    def _check_owner(self, opened: Handle, call: Call) -> None:
        check_may_act(call.token, call.identity, f"use secrets of {name_of(opened.record.job)}")
        if not self._is_owner(opened, call):
            owner = opened.record.job.owner
            text = f"only {label(owner)}, its owner, may entrust secrets to job {opened.record.job.job_id}, not "
            who = opened.opened_by if opened.opened_by.uid != owner.uid else call.identity
            raise BitsError(codes.E_ACCESSDENIED, f"{text}{label(who)}; obtain the job and call as its owner")

    async def _keep(self, record: Record, slot: str, clear: str) -> None:
        job = record.job
        secret = self._context.vault.seal(job.job_id, job.owner.uid, slot, clear)
        await self._engine.apply(record, events.SetSecret(secret=secret))

    async def _remove(self, record: Record, slot: str) -> int:
        is_there = secrets.found(record.job, slot) is not None
        await self._engine.apply(record, events.RemoveSecret(slot=slot))
        return codes.S_OK if is_there else codes.S_FALSE
