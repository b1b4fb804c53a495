"""The step of a loop that went back to an earlier commit, because those after it are damaged."""

from msgspec.structs import replace

from ._calls import CallState
from ._events import Repaired
from ._moves import gated, moved
from ._state import Continuation

_MAYBE = "steps after this were lost in a repair: it may have run in one of them"


def repaired(state: Continuation, event: Repaired) -> Continuation:
    """Make sure that what may have happened in the lost steps does not happen again before a person has looked.

    What may have started becomes `unknown`, its attempt counted, so that the late result of a worker that was only
    slow is still taken. What waits for an approval says that it may have been approved before. A gate stands before
    all the rest; one that stood there already gives way to it, as its reason, if it still holds, will put it again.
    """
    if state.ending is not None:
        return state
    for call in state.open_calls:
        tool = state.tool(call)
        again = tool is not None and tool.idempotent
        if call.state is CallState.RUNNING:
            target = CallState.APPROVED if again else CallState.UNKNOWN
            state = moved(state, event, call, target, approvals=call.approvals if again else (), remark=_MAYBE)
        elif call.state is CallState.APPROVED and not again:
            # To run it again is decided anew, by as many.
            state = moved(
                state,
                event,
                call,
                CallState.UNKNOWN,
                attempt=call.attempt + 1,
                approvals=(),
                expires=None,
                remark=_MAYBE,
            )
        elif call.state is CallState.AWAITING:
            shown = replace(call, remark=_MAYBE)
            state = replace(state, calls=tuple(shown if one.id == call.id else one for one in state.calls))
    return gated(replace(state, gate=None), "repaired", event.reason, by=event.by)
