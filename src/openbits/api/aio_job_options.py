"""The part of AsyncJob about what it is given: notice command, reply file, credentials, headers, certificates."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from openbits.api import calls
from openbits.api.framing import Parameters
from openbits.api.wire import CertificateInfo
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore

if TYPE_CHECKING:
    from openbits.api.aio import AsyncClient
    from openbits.api.notifications import ServerCertificate


class AsyncJobOptions:
    """Methods of AsyncJob."""

    client: "AsyncClient"
    id: uuid.UUID

    async def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    async def set_notify_command_line(self, program: str | None, parameters: str | None = None) -> None:
        """Run a program as the caller when the job is TRANSFERRED or in ERROR, if no callback takes the notice.

        `program`: absolute path; `parameters`: one text in the quoting of Windows, of which the first word is the name
        of the program (`openbits.commandline.join` makes it of words). Nothing is expanded, and no shell has it. Exit
        code 0 takes the notice, after any other it is run again after the minimum retry delay. None, None: no more.
        Raises BG_E_STRING_TOO_LONG above 260 and 4000 characters, E_INVALIDARG, BG_E_INVALID_STATE.
        """
        await self._call("SetNotifyCmdLine", **calls.given(program=program, parameters=parameters))

    async def notify_command_line(self) -> tuple[str, str]:
        """Program and parameters; two empty texts if there is none."""
        answer = await self._call("GetNotifyCmdLine")
        return str(answer["program"]), str(answer["parameters"])

    async def set_credentials(
        self, target: AuthTarget, scheme: AuthScheme, user: str | None, password: str | None
    ) -> None:
        """Credentials for a server or proxy, in place of earlier ones, as `Job.set_credentials`."""
        await self._call(
            "SetCredentials", **calls.credentials(target, scheme), **calls.given(user=user, password=password)
        )

    async def remove_credentials(self, target: AuthTarget, scheme: AuthScheme) -> bool:
        """Take them away; False if there were none."""
        return (
            int((await self._call("RemoveCredentials", **calls.credentials(target, scheme)))["hresult"]) == codes.S_OK
        )

    async def set_custom_headers(self, headers: str | None) -> None:
        """Lines for every request of the job; None takes them away; as `Job.set_custom_headers`."""
        await self._call("SetCustomHeaders", **calls.given(headers=headers))

    async def custom_headers(self) -> str | None:
        """The custom headers; None: there are none. Raises E_ACCESSDENIED unless the owner asks, and if write-only."""
        return cast("str | None", (await self._call("GetCustomHeaders")).get("headers"))

    async def make_custom_headers_write_only(self) -> None:
        """Let nobody read custom headers of this job any more; nothing undoes it."""
        await self._call("MakeCustomHeadersWriteOnly")

    async def set_client_certificate(
        self, location: CertStore, store: str, *, sha1: str = "", subject: str = ""
    ) -> None:
        """Choose the certificate by its SHA-1 or by a part of its subject, as `Job.set_client_certificate`."""
        parameters = calls.given(sha1=sha1 or None, subject=subject or None)
        await self._call("SetClientCertificate", location=location.name.lower(), store=store, **parameters)

    async def remove_client_certificate(self) -> bool:
        """Use no certificate; False if none was set."""
        return int((await self._call("RemoveClientCertificate"))["hresult"]) == codes.S_OK

    async def set_certificate_callback(self, callback: Callable[["ServerCertificate"], Awaitable[None]] | None) -> None:
        """Have a coroutine function asked, on this loop, about TLS servers; as `Job.set_certificate_callback`."""
        client = await self.client.callbacks()
        twin = await asyncio.to_thread(client.job, self.id)
        if callback is None:
            await asyncio.to_thread(twin.set_certificate_callback, None)
            return
        called, loop = callback, asyncio.get_running_loop()

        async def ask(certificate: "ServerCertificate") -> None:
            await called(certificate)

        def hand_over(certificate: "ServerCertificate") -> None:
            asyncio.run_coroutine_threadsafe(ask(certificate), loop).result()

        await asyncio.to_thread(twin.set_certificate_callback, hand_over)

    async def client_certificate(self) -> CertificateInfo:
        """Which certificate was chosen. Raises RPC_X_BAD_STUB_DATA if there is none, or not the owner asks."""
        return cast("CertificateInfo", (await self._call("GetClientCertificate"))["certificate"])
