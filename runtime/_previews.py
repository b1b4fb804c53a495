"""Previews: what proposed calls would change in the files, asked of their tools before a person is asked to approve.

A preview is for the person alone: whatever becomes of it, the call is asked about.
"""

from functools import partial

import trio
from msgspec.structs import replace

from caesura.continuations import (
    Continuation,
    Preview,
    Proposal,
    Reply,
    Saved,
    name_calls,
    one_line,
    preview_of,
)

from ._agent import Agent
from ._proposed import ProposedCall
from ._services import Services
from ._tools import AnyTool, described

SECONDS = 10.0
"""How long the calls of one reply may take to say what they would write, all of them together."""

MOST_LINES = 1000
"""Lines of patches that are kept of one call's preview."""

MOST_CHARACTERS = 200_000
"""Characters of patches that are kept of one reply's previews: they are a part of each commit as long as it counts."""


async def with_previews(
    services: Services, agent: Agent, saved: Saved, reply: Reply, proposals: tuple[Proposal, ...]
) -> tuple[Proposal, ...]:
    """The proposals of a reply's calls, each that a person may be asked about with its preview, if its tool has any."""
    state, requests = saved.state, reply.message.tool_calls
    if state.workspace is None:
        return proposals
    deadline = trio.current_time() + SECONDS
    room = MOST_CHARACTERS
    made: list[Proposal] = []
    for call, request, proposal in zip(name_calls(state, requests)[0], requests, proposals, strict=True):
        tool = agent.tool(request.function.name)
        if tool is not None and tool.writes is not None and _asks(state, proposal):
            proposed = tool.proposed(request.function.arguments, saved.loop, call)
            look = partial(_look, services, saved, tool, proposed, room)
            preview = Preview(failed=f"it was not known within {SECONDS:g} seconds")
            # Shielded: the reply was paid for. The limiter is of its own: one that never ends holds nobody up.
            with trio.CancelScope(deadline=deadline, shield=True):
                preview = await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
            room -= sum(len(file.text) for file in preview.files)
            proposal = replace(proposal, preview=preview)
        made.append(proposal)
    return tuple(made)


def _asks(state: Continuation, proposal: Proposal) -> bool:
    """Whether a person may be asked about a call."""
    asks = proposal.needs_approval or proposal.needs is not None or state.rehearsal is not None
    return asks and not proposal.error


def _look(services: Services, saved: Saved, tool: AnyTool, proposed: ProposedCall, room: int) -> Preview:
    try:
        folder = services.files.folder(saved)
        would = {} if tool.writes is None else tool.writes(proposed, folder)
        return preview_of(folder, would, services.history.redaction, lines=MOST_LINES, characters=room)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the call is asked about
        return Preview(failed=one_line(described(error), 500))
