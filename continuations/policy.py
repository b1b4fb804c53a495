"""Policies: which tools need how many approvals, from whom, for how long; and whose signatures count.

A policy is the worker's own configuration. Nothing of it is read from a loop, so no loop can loosen it.
"""

from fnmatch import fnmatchcase

from msgspec.structs import replace

from ._calls import Needs
from ._errors import CallerError
from ._messages import Value


class BadPolicy(CallerError, ValueError):
    """A policy asks for something that cannot be."""


class ApprovalRule(Value, frozen=True, kw_only=True):
    """What calls of some tools need: `tools` and `agent` are names, in which ``*`` stands for anything.

    So many distinct people must approve; if `by` names addresses, only theirs count. A request that is not decided
    within `expires` seconds, or an approval that is not used within as long, comes to what `on_expiry` says.

    Raises:
        BadPolicy: no tool is named; nobody, or more people than are named, would have to approve; the time is none.
    """

    tools: tuple[str, ...]
    agent: str = "*"
    needs: Needs = Needs()

    def __post_init__(self) -> None:
        needs, among = self.needs, {email.casefold() for email in self.needs.by}
        names = ", ".join(self.tools)
        if not self.tools or not all(self.tools):
            raise BadPolicy("A rule names no tools.", hint="Write tools = ['deploy'], or '*' for every tool.")
        if needs.approvals < 1:
            raise BadPolicy(f"{needs.approvals} approvals are none ({names}).", hint="Ask for 1 or more.")
        if among and needs.approvals > len(among):
            raise BadPolicy(
                f"{needs.approvals} of {len(among)} people can never approve ({names}).",
                hint="Name as many addresses in 'by' as there must be approvals.",
            )
        if needs.expires is not None and needs.expires < 1:
            raise BadPolicy(f"A request cannot expire after {needs.expires} seconds ({names}).", hint="Give it longer.")


class Policy(Value, frozen=True, kw_only=True):
    """Whose decisions a worker accepts; with the same one, people's tools sign what they decide.

    The first rule that names a call's tool and agent holds for it. A tool without a rule is asked about as its agent's
    code says, and then one approval is enough. Nobody approves the request of a worker that they run.

    `allowed_signers` is a file in OpenSSH's format: decisions must be signed by a key that it lists for their author.
    `revoked_signers` is a file of keys that are good no more.
    """

    rules: tuple[ApprovalRule, ...] = ()
    allowed_signers: str | None = None
    revoked_signers: str | None = None

    def needs(self, agent: str, tool: str, requesters: tuple[str, ...]) -> Needs | None:
        """What calls of an agent's tool need, if a rule names it; `requesters` are the worker's addresses."""
        for rule in self.rules:
            if fnmatchcase(agent, rule.agent) and any(fnmatchcase(tool, name) for name in rule.tools):
                return replace(rule.needs, requesters=requesters)
        return None
