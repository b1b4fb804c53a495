"""Making a loop of a continuation object."""

import datetime as dt
from collections.abc import Iterable

from msgspec.structs import replace

from .._calls import Person
from .._describe import describe
from .._events import Decided, Imported
from .._ids import CallId, CommitId, LoopName, child_name, root_name
from .._messages import Json
from .._specs import AgentSpec
from .._state import Child, Continuation
from ..history import History, LoopExists, Saved
from ._document import SOURCE, clean
from ._reader import Draft, Reader


def import_loop(
    history: History,
    name: str,
    document: Json,
    *,
    agent: AgentSpec,
    agents: Iterable[AgentSpec] = (),
    by: Person,
    now: dt.datetime,
    decide: bool = True,
) -> Saved:
    """Make a root loop of a continuation object, and decide what its ``approval_info`` decides.

    `agent` defines the root loop's agent, `agents` those that its tools start, by the names that the tools give. The
    first commit holds the continuation as it came, its instructions included: a worker whose agent has others adopts
    those in a commit of its own. Each decision is a commit by `by`, on the branch of the loop that it is about. With
    `decide` false, ``approval_info`` is checked and then left alone: for an export that nobody has filled in.

    Raises:
        BadDocument: the object is not one that can go on here; the message names the place. Nothing was written.
        BadName, SecretName: the loop cannot have that name.
        LoopExists: there is a loop of that name, or a branch of one nested in it.
    """
    root = root_name(name)
    known = [history.storable(one) for one in (agent, *agents)]
    # Before it is read: the decisions in it are bound to what will be stored.
    storable = history.redaction.json(clean(document, "the document", 0))
    draft = Reader(root, known[0], known[1:], now).document(storable)
    choices = draft[1]
    taken = root if history.store.head(root) is not None else next(iter(history.store.heads(root)), None)
    if taken is not None:
        raise LoopExists(f"There is a loop {taken!r} already.", hint="Choose another name for the imported one.")
    event = Imported(at=now, source=SOURCE, by=by)
    seen: dict[LoopName, CommitId] = {}
    state = _written(history, root, draft[0], event, seen)
    saved = history.bring(root, state, event, by)
    seen[root] = saved.commit
    for choice in choices if decide else ():
        decided = Decided(
            at=now,
            call=choice.call,
            choice=choice.choice,
            by=by,
            seen=seen[choice.loop],
            arguments=choice.arguments,
            tool=choice.tool,
            edited=choice.edited,
        )
        history.apply(history.load(choice.loop), decided, by)
    return history.load(root)


def _written(
    history: History, loop: LoopName, draft: Draft, event: Imported, seen: dict[LoopName, CommitId]
) -> Continuation:
    """A loop's state with its children in it, which are committed; only its own commit is still to be made."""
    children: dict[CallId, Child] = {}
    for call, below in draft.children.items():
        name = child_name(loop, call)
        state = _written(history, name, below, event, seen)
        # No branch yet: the root's, made last, publishes all of it at once.
        commit = history.store.write(
            state,
            parents=tuple(child.commit for _, child in sorted(state.children.items())),
            message=describe(name, None, event, state).message,
            author=history.storable(event.by),
            committer=history.storable(event.by),
        )
        seen[name] = commit.id
        children[call] = Child(commit=commit.id, state=state)
    return replace(draft.state, children=children)
