"""Changed agents: what a drive does about code that is not what a loop knows, as the worker's settings say."""

import datetime as dt
from collections.abc import Callable

from caesura.continuations import (
    AgentChanged,
    AgentSpec,
    CallId,
    Change,
    Changes,
    Difference,
    Person,
    Saved,
    SavedStateError,
    Suspended,
    Treatment,
    as_lines,
    count,
    differences,
)


class ChangedAgent(SavedStateError):
    """The agent's code is not what the loop knows, and the worker's settings refuse to go on with it."""


class VanishedTool(SavedStateError):
    """A call is open for a tool that the agent no longer has."""


def judge(
    saved: Saved, definition: AgentSpec, changes: Changes, *, adopt: Person | None, now: Callable[[], dt.datetime]
) -> AgentChanged | Suspended | None:
    """What has to be committed before a loop goes on with an agent as its code defines it now, if anything has.

    `adopt` is the person who has said that whatever has changed be adopted; what a person refused stays refused all
    the same. None is also the answer while a gate has to be lifted first.

    Raises:
        ChangedAgent, VanishedTool: the settings refuse it.
    """
    state, gate = saved.state, saved.state.gate
    standing = None if gate is None else gate.change
    if state.ending is not None:
        return None
    ends = tuple(call.id for call in state.open_calls if definition.tool(call.tool) is None)
    if not ends and (state.definition is definition or state.fingerprint == definition.fingerprint):
        moot = standing is not None or state.accepted is not None
        return AgentChanged(at=now(), definition=definition) if moot else None
    if gate is not None and gate.decision is not None and _covers(standing, definition, ends):
        return None
    found = differences(state.definition, definition)
    treatment = "adopt" if adopt is not None else _treatment(saved, found, changes, ends)
    if treatment == "adopt" or _covers(state.accepted, definition, ends):
        return AgentChanged(at=now(), definition=definition, ends=ends, by=adopt)
    if gate is not None and (standing is None or _covers(standing, definition, ends)):
        return None
    what = "; ".join([*(one.what for one in found), *(f"{call} would end: its tool is gone" for call in ends)])
    change = Change(fingerprint=definition.fingerprint, lines=as_lines(found), ends=ends)
    return Suspended(at=now(), kind="change", reason=f"the agent's code has changed: {what}", change=change)


def _covers(change: Change | None, definition: AgentSpec, ends: tuple[CallId, ...]) -> bool:
    """Whether what a person was shown is this very definition, and nothing ends that they were not told of."""
    return change is not None and change.fingerprint == definition.fingerprint and set(ends) <= set(change.ends)


def _treatment(saved: Saved, found: tuple[Difference, ...], changes: Changes, ends: tuple[CallId, ...]) -> Treatment:
    """The strictest treatment that applies, unless that is to refuse.

    Raises:
        ChangedAgent, VanishedTool: it is.
    """
    loop, agent = saved.loop, saved.state.agent
    adopt = f"'caesura resume {loop.partition('.')[0]} --adopt'"
    for call in saved.state.open_calls if changes.vanished == "refuse" else ():
        if call.id in ends:
            raise VanishedTool(
                f"{loop}.{call.id} is {call.state}, but agent {agent} has no tool {call.tool!r} any more.",
                hint=f"Bring the tool back, or let {count(len(ends), 'call')} end as failed: {adopt}.",
            )
    treatments = {"guidance": changes.guidance, "contract": changes.contract}
    applying = {treatments[one.severity] for one in found}
    if "refuse" in applying:
        refused = "; ".join(one.what for one in found if treatments[one.severity] == "refuse")
        raise ChangedAgent(
            f"The code of agent {agent} is not what {loop} knows: {refused}.",
            hint=f"Bring the old code back, or adopt the new: {adopt}.",
        )
    return "ask" if ends or "ask" in applying else "adopt"
