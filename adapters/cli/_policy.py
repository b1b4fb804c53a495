"""``[policy]`` of the settings: whose decisions count, and how many a tool needs."""

from pathlib import Path
from typing import Literal

import msgspec

from caesura.continuations import ApprovalRule, BadPolicy, Needs, Policy

from ._ages import seconds_in


class RuleTable(msgspec.Struct, forbid_unknown_fields=True):
    """One ``[[policy.rules]]``."""

    tools: str | list[str]
    agent: str = "*"
    approvals: int = 1
    by: list[str] = []
    expires: str | None = None
    on_expiry: Literal["reject", "ask"] = "reject"


class PolicyTable(msgspec.Struct, forbid_unknown_fields=True):
    """``[policy]``."""

    allowed_signers: str | None = None
    revoked_signers: str | None = None
    rules: list[RuleTable] = []


def policy_of(table: PolicyTable, folder: Path) -> Policy:
    """The policy that the settings in a folder describe; paths are relative to it.

    Raises:
        BadPolicy: it asks for something that cannot be.
    """

    def path(name: str | None) -> str | None:
        return None if name is None else str(folder / Path(name).expanduser())

    return Policy(
        rules=tuple(
            ApprovalRule(
                tools=(rule.tools,) if isinstance(rule.tools, str) else tuple(rule.tools),
                agent=rule.agent,
                needs=Needs(
                    approvals=rule.approvals,
                    by=tuple(rule.by),
                    expires=None if rule.expires is None else _seconds(rule.expires),
                    on_expiry=rule.on_expiry,
                ),
            )
            for rule in table.rules
        ),
        allowed_signers=path(table.allowed_signers),
        revoked_signers=path(table.revoked_signers),
    )


def _seconds(text: str) -> int:
    seconds = seconds_in(text)
    if seconds is None:
        raise BadPolicy(f"expires = {text!r} is no time.", hint="Write it like '30m', '2h' or '7d'.")
    return seconds
