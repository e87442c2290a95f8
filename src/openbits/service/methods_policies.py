"""The part of the varlink interface that shows the policies of the machine (docs/api.md)."""

from asyncvarlink import varlinkmethod

from openbits.api.wire import PoliciesInfo
from openbits.service.answers import answered
from openbits.service.methods import Methods


class PolicyMethods(Methods):
    """Policies, which files of the administrator set and nobody else."""

    @varlinkmethod
    @answered
    async def GetPolicies(self) -> PoliciesInfo:
        """Every policy: its value, where that comes from, and what is wrong with the files."""
        self._call(None).close()
        return self._context.policies.info()
