"""The varlink interface `io.openbits.Service` (docs/api.md): one instance a connection.

Each method checks who calls, finds the job behind the handle and applies one request to the engine; nothing here
decides about states. Answers follow the commit.
"""

from asyncvarlink import VarlinkInterface

from openbits.api.wire import INTERFACE
from openbits.service.answers import Failed
from openbits.service.methods_commands import CommandMethods
from openbits.service.methods_events import EventMethods
from openbits.service.methods_files import FileMethods
from openbits.service.methods_jobs import JobMethods
from openbits.service.methods_options import OptionMethods
from openbits.service.methods_policies import PolicyMethods
from openbits.service.methods_proxies import ProxyMethods
from openbits.service.methods_replies import ReplyMethods
from openbits.service.methods_tokens import TokenMethods


class ServiceInterface(
    JobMethods,
    FileMethods,
    OptionMethods,
    ReplyMethods,
    CommandMethods,
    TokenMethods,
    EventMethods,
    PolicyMethods,
    ProxyMethods,
    VarlinkInterface,
    name=INTERFACE,
):
    """Jobs of the Background Intelligent Transfer Service."""

    errors = (Failed,)
