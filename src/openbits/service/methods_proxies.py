"""The part of the varlink interface that explains proxies (docs/api.md)."""

import uuid

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.api.wire import ProxyExplanation, ProxyProblem
from openbits.channel import Message
from openbits.core import codes
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.names import check_url
from openbits.core.properties import Properties
from openbits.core.proxies import Settings
from openbits.core.wording import label, public_url
from openbits.service import proxy_settings
from openbits.service.answers import answered
from openbits.service.child import ChildLostError
from openbits.service.connections import Call
from openbits.service.failures import CHILD_ENDED
from openbits.service.identities import Source, source_for
from openbits.service.methods import Methods, check_may_act
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError


class ProxyMethods(Methods):
    """Proxies, which settings, the network and the proxy itself have a say about."""

    @varlinkmethod
    @answered
    async def ExplainProxy(
        self, *, url: str, handle: int | None = None, token: FileDescriptor | None = None
    ) -> ProxyExplanation:
        """How the caller, or a job, would ask for a URL; the proxy is asked once, without credentials."""
        check_url(url)
        if url.partition(":")[0].lower() not in {"http", "https"}:
            text = f"no proxy has to do with {public_url(url)}: only http and https go through proxies"
            raise BitsError(codes.E_INVALIDARG, text)
        if handle is not None:
            record = self._handle(handle).record
            identity = source_for(record, Use.PROXY_USER_SETTINGS, ErrorContext.GENERAL_TRANSPORT)
            return await self._explained(url, identity, record)
        with self._call(token) as call:
            check_may_act(call.token, call.identity, "look for proxies")
            return await self._explained(url, _caller(call), None)

    async def _explained(self, url: str, identity: Source, record: Record | None) -> ProxyExplanation:
        lookup, children = self._context.proxies, self._context.children
        settings, told = Settings(), _nothing()
        try:
            properties = Properties() if record is None else record.job.properties
            settings = (await lookup.of_job(properties, identity)).settings
            worker = await children.worker(identity.uid, identity.by)
            told = await worker.explain(f"explain-{uuid.uuid4()}", url, proxy_settings.message_of(settings))
        except BitsError as error:  # of the settings: that is the explanation
            told = {**_nothing(), "problem": {"hresult": error.hresult, "text": error.text}}
        except RefusedError as error:
            raise BitsError(error.hresult, f"cannot ask as {identity.label}: {error}") from error
        except ChildLostError as error:
            raise BitsError(CHILD_ENDED, f"cannot ask as {identity.label}: {error}") from error
        problem = told["problem"]
        return {
            "url": public_url(url),
            "uid": identity.uid,
            "identity": identity.label,
            "usage": settings.usage,
            "source": settings.source,
            "why": str(told["why"]),
            "choice": ["direct" if proxy is None else str(proxy) for proxy in told["choice"]],
            "notes": [str(note) for note in told["notes"]],
            "asked": None if told["asked"] is None else str(told["asked"]),
            "answer": str(told["answer"]),
            "schemes": [str(scheme) for scheme in told["schemes"]],
            "problem": None if problem is None else _problem(problem),
        }


def _caller(call: Call) -> Source:
    return Source(uid=call.identity.uid, by=call.cookie, label=label(call.identity))


def _nothing() -> Message:
    return {"why": "", "choice": [], "notes": [], "asked": None, "answer": "", "schemes": [], "problem": None}


def _problem(told: Message) -> ProxyProblem:
    return {"hresult": int(told["hresult"]), "text": str(told["text"])}
