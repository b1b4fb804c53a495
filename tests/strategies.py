"""Strategies: definitions, messages, events that may happen to a state, and whole trees of loops driven by chance."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    AgentSpec,
    Amended,
    Amendment,
    Answered,
    AnyEvent,
    Assistant,
    Budget,
    CaesuraError,
    Call,
    CallId,
    CallState,
    Cancelled,
    Change,
    Child,
    ChildFailed,
    ChildFinished,
    ChildResumed,
    ChildSuspended,
    Choice,
    CommitId,
    Compacted,
    CompactionFailed,
    CompactionSpec,
    Continuation,
    Decided,
    Digest,
    Edited,
    Expired,
    FileConflict,
    FileContent,
    FilesChanged,
    Function,
    Gate,
    History,
    Image,
    ImageUrl,
    LoopName,
    Loops,
    Message,
    Missed,
    ModelFailed,
    ModelReplied,
    ModelSpec,
    Needs,
    NoSuchLoop,
    Origin,
    Overridden,
    Person,
    Preview,
    Proposal,
    Question,
    Recalled,
    Recording,
    Records,
    Rehearsal,
    Rehearsed,
    Reply,
    Request,
    Result,
    Resumed,
    Reworded,
    Rewound,
    Saved,
    Started,
    Status,
    Stop,
    Store,
    Suspended,
    Text,
    Told,
    ToolAsked,
    ToolFailed,
    ToolRequest,
    ToolReturned,
    ToolSpec,
    ToolStarted,
    TreeId,
    Usage,
    User,
    Variation,
    Voided,
    Woke,
    WorkerId,
    Workspace,
    as_lines,
    child_name,
    differences,
    file_patch,
    loop_name,
    messages_digest,
    start,
    step,
    with_decisions,
    without_results,
)

EPOCH = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ADA = Person(name="Ada Lovelace", email="ada@example.com")
GRACE = Person(name="Grace Hopper", email="grace@example.com")
EDITH = Person(name="Edith Clarke", email="edith@example.com")
ROBOT = Person(name="worker", email="worker@localhost")
WORKERS = tuple(WorkerId(f"worker-{number}") for number in range(3))

EMPTY_TREE = TreeId("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
FILES = (Workspace(tree=EMPTY_TREE), Workspace(tree=TreeId("f" * 40), left_out=(".env", "a\nb")))
"""Files that a loop may have: none at all, and some that only a store in memory does not look for."""

workspaces = st.sampled_from([replace(one, edition=edition) for one in FILES for edition in range(6)])
"""Files that a loop may say it has."""

ORIGIN = Origin(repository="/projects/tea", commit=CommitId("b" * 40), held_back=("conf/token",))
"""Where a loop's files may come from."""

# Values ------------------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "\x1b[2J", "line\r\nline\n", "\ud7ff\ue000", "\U0010ffff", "﷽" * 3, "Loop: forged\n"]),
    st.sampled_from(["long " * 4000, "word\n" * 300]),
)
"""Any text that can be encoded: unicode with NUL, the edges of the surrogates, empty, long."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)

names = st.sampled_from(
    ["order", "order", "look", "it", "ask", "nap", "lösch alles", "a.b", "a-b", "gate", "", "x" * 90]
)
"""Tools' names: ordinary ones, and some that cannot stand in a branch as they are."""


def _tool(name: str, **fields: Any) -> ToolSpec:
    return ToolSpec(name=name, description=f"It does {name}.", parameters={"type": "object"}, **fields)


TOOLS = (
    _tool("order", approval="always"),
    _tool("look", idempotent=True),
    _tool("it", kind="agent", agent="it", approval="predicate"),
    _tool("ask", kind="question", answer={"type": "string"}, approval="predicate"),
    _tool("nap", kind="sleep"),
    _tool("lösch alles", approval="always"),
    _tool("a.b"),
    _tool("a-b", approval="predicate"),
    _tool("gate"),
)
AGENT = AgentSpec(name="ops", instructions="Be brief.", model=ModelSpec(name="scripted"), tools=TOOLS)

COMPACTING = replace(AGENT, compaction=CompactionSpec(at=300, how="by chance"))


def _name_of(tool: ToolSpec) -> str:
    return tool.name


definitions = st.builds(
    AgentSpec,
    name=st.sampled_from(["ops", "it", "ops team"]),
    instructions=texts,
    model=st.builds(ModelSpec, name=texts, api=texts, settings=st.dictionaries(texts, json_values, max_size=2)),
    tools=st.lists(
        st.builds(
            replace,
            st.sampled_from(TOOLS),
            description=texts,
            approval=st.sampled_from(["never", "always", "predicate"]),
            idempotent=st.booleans(),
            answer=json_values,
        ),
        max_size=6,
        unique_by=_name_of,
    ).map(tuple),
    result=json_values,
    suspensions=st.lists(texts, max_size=2).map(tuple),
    budget=st.builds(Budget, steps=st.none() | st.integers(1, 9), tokens=st.none() | st.integers(1, 99)),
    compaction=st.none() | st.builds(CompactionSpec, at=st.integers(1, 999), how=texts),
)
"""Any definition of an agent."""

_parts = st.builds(Text, text=texts) | st.builds(
    Image, image_url=st.builds(ImageUrl, url=texts, detail=st.sampled_from(["auto", "low", "high"]))
)
users = st.builds(User, content=texts | st.lists(_parts, max_size=3).map(tuple))
requested = st.builds(
    ToolRequest,
    # Empty and duplicate ids happen; so does one that looks like an id of ours.
    id=st.sampled_from(["", "c1", "c1", "c2", "c3", "order-2", "look-1", "nul\x00"]),
    function=st.builds(
        Function, name=names, arguments=st.sampled_from(['{"item": "tea"}', "{}", "", "{not json", "[]"])
    ),
)
assistants = st.builds(
    Assistant,
    content=st.none() | texts,
    refusal=st.none() | texts,
    tool_calls=st.lists(requested, max_size=3).map(tuple),
    native=st.dictionaries(texts, json_values, max_size=2),
)
messages: st.SearchStrategy[Message] = st.one_of(
    users, assistants, st.builds(Result, tool_call_id=texts, content=texts)
)
"""Any message."""

_CUT: tuple[Stop, ...] = ("length", "filter", "refusal")
_rarely = st.sampled_from([False] * 11 + [True])
needs = st.sampled_from(
    [
        Needs(),
        Needs(approvals=2),
        Needs(approvals=2, by=(ADA.email, EDITH.email), expires=90),
        Needs(approvals=2, requesters=(GRACE.email,), expires=90, on_expiry="ask"),
        Needs(approvals=3),
    ]
)
"""What policies ask for."""

previews = st.sampled_from(
    [
        None,
        Preview(failed="it took too long"),
        Preview(files=(file_patch("a\nb", None, FileContent(b"\x1b[2J")), file_patch("c", FileContent(b"\0"), None))),
    ]
)
"""What tools say that calls would change."""

_usages = st.builds(Usage, input=st.integers(0, 500), output=st.integers(0, 500))


# Events ------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One event, the state before it, and the state after it or the error that refused it."""

    before: Continuation
    event: AnyEvent
    after: Continuation | None
    error: CaesuraError | None


def proposal_for(state: Continuation, request: ToolRequest, nonce: str, *, ask: bool, at: dt.datetime) -> Proposal:
    """What an agent's code would say of a requested call."""
    tool = state.definition.tool(request.function.name)
    if tool is None:
        return Proposal(nonce=nonce, error=f"there is no tool {request.function.name!r}.")
    return Proposal(
        nonce=nonce,
        needs_approval=tool.approval == "always" or (tool.approval == "predicate" and ask),
        question=Question(text="Well?", answer=tool.answer) if tool.kind == "question" else None,
        wake_at=at + dt.timedelta(minutes=5) if tool.kind == "sleep" else None,
    )


@st.composite
def replies(draw: st.DrawFn, state: Continuation, at: dt.datetime) -> ModelReplied:
    """A model's reply to a state, mostly a usable one."""
    message = draw(assistants)
    if not message.tool_calls and draw(st.sampled_from([True, True, True, False])):
        message = replace(message, tool_calls=tuple(draw(st.lists(requested, min_size=1, max_size=4))))
    proposals = tuple(
        replace(
            proposal_for(state, request, f"nonce-{len(state.messages)}-{place}", ask=draw(st.booleans()), at=at),
            remark=draw(st.sampled_from(["", "more than usual"])),
            needs=draw(needs) if draw(st.sampled_from([True, False, False])) else None,
            preview=draw(previews),
        )
        for place, request in enumerate(message.tool_calls)
    )
    return ModelReplied(
        at=at,
        reply=Reply(
            message=message,
            stop=draw(st.sampled_from(_CUT)) if draw(_rarely) else "end",
            usage=draw(_usages),
            model="scripted-1",
        ),
        shown=len(state.messages),
        compactions=state.context.times,
        proposals=proposals,
        misfit=draw(st.sampled_from(["", "", "", "no number"])) if not message.tool_calls else "",
        memory=draw(st.dictionaries(st.sampled_from(["count"]), st.integers(0, 3), max_size=1)),
    )


def _digests(draw: st.DrawFn, state: Continuation, call: Call) -> tuple[Digest, Digest]:
    tool = state.tool(call)
    if tool is None or draw(_rarely):
        return Digest("0" * 16), Digest("f" * 16)
    return call.arguments_digest, tool.digest


def _decision(draw: st.DrawFn, state: Continuation, call: Call, at: dt.datetime) -> AnyEvent:
    arguments, tool = _digests(draw, state, call)
    choice: Choice = draw(st.sampled_from(["approve", "approve", "reject"]))
    edited = draw(st.sampled_from([None, None, '{"item": "decaf"}'])) if choice == "approve" else None
    return Decided(
        at=at,
        call=call.id,
        choice=choice,
        by=draw(st.sampled_from([ADA, GRACE, EDITH])),
        seen=CommitId("c" * 40),
        arguments=arguments,
        tool=tool,
        attempt=draw(st.just(call.attempt) | st.integers(0, 2)) if draw(_rarely) else call.attempt,
        note=draw(st.sampled_from(["", "too dear", "two\nlines"])),
        edited=edited,
        scope="call" if edited else draw(st.sampled_from(["call", "call", "arguments", "tool"])),
    )


conflicts = st.just(()) | st.lists(
    st.builds(FileConflict, path=texts, why=st.just("both changed it"), shown=texts), max_size=3
).map(tuple)
_kept = st.sampled_from([None, CommitId("e" * 40)])

_Make = Callable[[], AnyEvent]
"""Draws for an event only once it is chosen: much cheaper than drawing for all of them."""


def is_looked_up(state: Continuation, call: Call) -> bool:
    """Whether a call's rehearsal is to answer it."""
    return state.rehearsal is not None and call.state is CallState.APPROVED and not call.granted


def _call_event(draw: st.DrawFn, state: Continuation, call: Call, at: dt.datetime) -> AnyEvent:
    """Something that happens to one call, most often something that its state lets happen."""
    attempt = call.attempt + draw(_rarely)
    question = Question(text="Sure?", answer={"type": "string"})
    later = at + dt.timedelta(hours=1)

    def files() -> Workspace | None:
        given = state.workspace is not None or draw(_rarely)
        return draw(st.none() | workspaces) if given else None

    ended: list[_Make] = [
        lambda: ToolReturned(at=at, call=call.id, attempt=attempt, content=draw(texts), workspace=files()),
        lambda: ToolFailed(at=at, call=call.id, attempt=attempt, error=draw(texts), workspace=files()),
        lambda: ToolFailed(at=at, call=call.id, attempt=attempt, error="try later", retry_at=later),
        lambda: ToolAsked(at=at, call=call.id, attempt=attempt, question=question),
        lambda: ToolAsked(at=at, call=call.id, attempt=attempt, wake_at=later, workspace=files()),
    ]
    record: list[_Make] = [
        lambda: Recalled(
            at=at,
            call=call.id,
            ended=draw(st.sampled_from(["returned", "failed", "rejected"])),
            content=draw(texts),
            source=CommitId("d" * 40),
        ),
        lambda: Missed(at=at, call=call.id),
    ]
    child: list[_Make] = [
        lambda: ChildFinished(
            at=at, call=call.id, text=draw(texts), workspace=files(), conflicts=draw(conflicts), kept_in=draw(_kept)
        ),
        lambda: ChildFailed(at=at, call=call.id, error="it failed", workspace=files(), kept_in=draw(_kept)),
        lambda: ChildSuspended(at=at, call=call.id),
        lambda: ChildResumed(at=at, call=call.id),
    ]
    people: list[_Make] = [
        lambda: _decision(draw, state, call, at),
        lambda: Answered(at=at, call=call.id, value=draw(texts), attempt=call.attempt, by=ADA),
    ]
    clock: list[_Make] = [lambda: Woke(at=at if draw(_rarely) else call.not_before or at, call=call.id)]
    start: list[_Make] = [
        lambda: ToolStarted(
            at=at, call=call.id, worker=draw(st.sampled_from(WORKERS)) if draw(_rarely) else state.worker
        )
    ]
    policy: list[_Make] = [
        lambda: Expired(at=call.expires or at, call=call.id),
        lambda: Voided(
            at=at,
            call=call.id,
            people=draw(st.sampled_from([(), (ADA.email,), (ADA.email, GRACE.email, EDITH.email)])),
            needs=draw(needs),
            reason="it is none",
        ),
    ]
    likely = {
        CallState.AWAITING: [*people[:1] * 6, policy[0]],
        CallState.APPROVED: [*record, *start] if is_looked_up(state, call) else [*start * 6, *policy],
        CallState.RUNNING: ended,
        CallState.UNKNOWN: [*people, *ended],
        CallState.DELEGATED: child,
        CallState.WAITING: child if call.kind == "agent" else [*people, *clock],
    }
    anything = [*ended, *child, *people, *clock, *start, *policy, *record]
    options = anything if draw(_rarely) else likely.get(call.state, anything)
    return draw(st.sampled_from(options))()


def _loop_event(draw: st.DrawFn, state: Continuation, at: dt.datetime) -> AnyEvent:
    """Something that happens to the loop as a whole."""
    gate, length = state.gate, len(state.messages)
    options: list[_Make] = [
        lambda: Told(at=at, message=draw(users), by=ADA),
        lambda: Resumed(at=at, worker=draw(st.sampled_from(WORKERS)), by_hand=draw(st.booleans())),
        lambda: Resumed(at=at, worker=draw(st.sampled_from(WORKERS))),
        lambda: Suspended(at=at, kind="pause", reason="lunch", by=ADA),
        lambda: Suspended(at=at, kind="budget", reason="it is spent", memory={"count": 1}),
        lambda: ModelFailed(at=at, error="no route", shown=length, compactions=state.context.times),
        lambda: ModelFailed(at=at, error="too long", shown=length, compactions=state.context.times, too_long=True),
        lambda: compaction(draw, state, at),
        lambda: CompactionFailed(at=at, error="no summary", usage=draw(st.none() | _usages), model="scripted-1"),
        lambda: ModelFailed(at=at, error="no route", shown=length),
        *([] if state.workspace is None else [lambda: FilesChanged(at=at, workspace=draw(workspaces), by=ADA)]),
        lambda: AgentChanged(at=at, definition=_changed(draw, state.definition)),
        lambda: _tools_gone(draw, state, at),
        lambda: Suspended(at=at, kind="change", reason="its code has changed", change=_asked_about(draw, state)),
        lambda: draw(st.sampled_from(_departures(draw, state, at)))(),
    ]
    if gate is not None:
        choice: Choice = "reject" if draw(_rarely) or (gate.change is not None and draw(st.booleans())) else "approve"
        shown = _fingerprint(gate)
        decided = Decided(at=at, call=gate.id, choice=choice, by=GRACE, seen=CommitId("c" * 40), fingerprint=shown)
        options += [lambda: decided] * 6
    if draw(_rarely) and draw(st.booleans()):
        return Cancelled(at=at, reason="enough", by=ADA)
    return draw(st.sampled_from(options))()


def compaction(draw: st.DrawFn, state: Continuation, at: dt.datetime) -> Compacted:
    """A compaction of a state's messages; now and then one that takes away what must stay."""
    messages = state.messages
    if draw(st.booleans()):
        made = without_results(state.definition, messages, draw(st.integers(0, 2)))
    else:
        rounds = [place for place, one in enumerate(messages) if isinstance(one, Assistant)]
        cut = draw(st.sampled_from(rounds)) if rounds and not draw(_rarely) else draw(st.integers(0, len(messages)))
        summary = () if draw(st.booleans()) else (User(content=draw(texts)),)
        made = (*messages[:1], *summary, *messages[max(1, cut) :])
    if not draw(_rarely):
        made = with_decisions(messages, made)
    if draw(_rarely) and made:
        gone = draw(st.integers(0, len(made) - 1))
        made = (*made[:gone], *made[gone + 1 :])
    return Compacted(
        at=at,
        messages=made,
        shown=len(messages),
        replaces=Digest("0" * 16) if draw(_rarely) else messages_digest(messages),
        how="by chance",
        usage=draw(st.none() | _usages),
        by=draw(st.none() | st.just(ADA)),
    )


rehearsals = st.sampled_from(
    [
        None,
        Rehearsal(),
        Rehearsal(record=Recording(until=CommitId("a" * 40), since=CommitId("b" * 40))),
        Rehearsal(record=Recording(until=CommitId("a" * 40), since=CommitId("b" * 40), on_miss="fail")),
    ]
)
"""What tools do in a fork."""


def _departures(draw: st.DrawFn, state: Continuation, at: dt.datetime) -> list[_Make]:
    """What a fork may do that no other loop does."""
    model = ModelSpec(name="other", settings={"temperature": 1})
    call = draw(st.sampled_from(state.calls)).id if state.calls else CallId("order-1")
    return [
        lambda: Rewound(at=at, kept=draw(st.integers(0, 2)), to=CommitId("c" * 40), calls=(), by=ADA),
        lambda: Amended(at=at, amendment=draw(st.sampled_from([Amendment(model=model), Amendment()])), by=ADA),
        lambda: Amended(at=at, amendment=Amendment(instructions=draw(texts)), by=ADA),
        lambda: Reworded(at=at, place=draw(st.integers(-1, len(state.messages))), message=draw(users), by=ADA),
        lambda: Edited(at=at, call=call, arguments='{"item": "coffee"}', by=ADA),
        lambda: Overridden(at=at, call=call, content=draw(texts), by=ADA),
        lambda: Rehearsed(at=at, rehearsal=draw(rehearsals), by=ADA),
        lambda: Rehearsed(at=at, rehearsal=draw(rehearsals), by=ADA),
    ]


@st.composite
def variations(draw: st.DrawFn, state: Continuation) -> Variation:
    """What may be asked of a fork of a state, mostly something that can be done."""
    calls: dict[str, Any] = {call.id: {"item": 7} for call in state.open_calls if call.tool == "order"}
    closed: dict[str, str] = {call.id: "something else" for call in state.calls if not call.open}
    return Variation(
        drop=draw(st.sampled_from([0, 0, 0, 1, 2, len(state.messages) - 1])),
        model=draw(st.sampled_from(["", "", "other"])),
        settings=draw(st.sampled_from([None, None, {"temperature": 1}])),
        instructions=draw(st.sampled_from([None, None, "Hurry."])),
        reword=draw(st.sampled_from([{}, {}, {1: "[]"}])),
        arguments=draw(st.sampled_from([{}, calls])),
        results=draw(st.sampled_from([{}, closed])),
        tools=draw(st.sampled_from([None, "live", "ask", "recorded", "recorded"])),
        on_miss=draw(st.sampled_from(["suspend", "fail"])),
        tell=draw(st.sampled_from([None, "Mind the price."])),
    )


def _fingerprint(gate: Gate) -> Digest:
    return Digest("") if gate.change is None else gate.change.fingerprint


def _tools_gone(draw: st.DrawFn, state: Continuation, at: dt.datetime) -> AgentChanged:
    """The agent without the tools of some open calls, which end with it."""
    gone = draw(st.sets(st.sampled_from(names_of(state) or ["order"])))
    definition = replace(state.definition, tools=tuple(one for one in state.definition.tools if one.name not in gone))
    ends = tuple(call.id for call in state.open_calls if definition.tool(call.tool) is None)
    return AgentChanged(at=at, definition=definition, ends=ends[draw(_rarely) :])


def names_of(state: Continuation) -> list[str]:
    """The tools that calls are open for."""
    return sorted({call.tool for call in state.open_calls})


def _asked_about(draw: st.DrawFn, state: Continuation) -> Change:
    changed = _changed(draw, state.definition)
    return Change(fingerprint=changed.fingerprint, lines=as_lines(differences(state.definition, changed)))


def _changed(draw: st.DrawFn, definition: AgentSpec) -> AgentSpec:
    """The same agent with other code: tools changed, gone or come."""
    known = TOOLS[:4] if draw(_rarely) else definition.tools
    odd = draw(st.sets(st.integers(0, 8), max_size=4))
    tools = [replace(tool, description="It changed.") if place in odd else tool for place, tool in enumerate(known)]
    return replace(definition, instructions=draw(st.sampled_from(["Be brief.", "Be long."])), tools=tuple(tools))


@st.composite
def events(draw: st.DrawFn, state: Continuation) -> AnyEvent:
    """Something that may happen to a state, most often something that it lets happen."""
    at = state.at + dt.timedelta(seconds=draw(st.sampled_from([0.001, 1, 60, -30])))
    calls = state.calls if draw(_rarely) else state.open_calls
    if state.ending is not None and not draw(_rarely):
        return Told(at=at, message=draw(users), by=ADA)
    if state.gate is not None and draw(st.booleans()):
        return _loop_event(draw, state, at)
    if calls and draw(st.sampled_from([True] * 5 + [False])):
        return _call_event(draw, state, draw(st.sampled_from(calls)), at)
    if not calls and draw(st.sampled_from([True] * 3 + [False])):
        return draw(replies(state, at))
    return _loop_event(draw, state, at)


started = st.builds(
    Started,
    at=st.just(EPOCH),
    definition=st.sampled_from([AGENT] * 5 + [COMPACTING] * 2 + [None]).flatmap(
        lambda usual: definitions if usual is None else st.just(usual)
    ),
    prompt=st.just(User(content="Order tea.")) | users,
    nonce=st.just("root"),
    worker=st.sampled_from(WORKERS),
    budget=st.builds(Budget, steps=st.none() | st.integers(1, 5), seconds=st.none() | st.just(9.5)),
    workspace=st.none() | workspaces,
    copied=st.booleans(),
).flatmap(lambda event: st.sampled_from([event] if event.workspace is None else [event, replace(event, origin=ORIGIN)]))
"""How a loop begins."""


@st.composite
def sequences(draw: st.DrawFn, length: int = 14, *, rehearsing: bool = False) -> list[Step]:
    """A loop's life so far: up to so many events, with what each did; a refused one leaves the state as it was."""
    state = start(draw(started))
    steps: list[Step] = []
    if rehearsing:
        begun = Rehearsed(at=state.at, rehearsal=draw(rehearsals) or Rehearsal(), by=ADA)
        steps.append(Step(state, begun, step(state, begun), None))
        state = last(steps)
    for _ in range(draw(st.integers(1, length))):
        event = draw(events(state))
        try:
            after = step(state, event)
        except CaesuraError as error:
            steps.append(Step(state, event, None, error))
            continue
        steps.append(Step(state, event, after, None))
        state = after
    return steps


def last(steps: list[Step]) -> Continuation:
    """The state after a sequence."""
    return steps[-1].after or steps[-1].before


def finish(state: Continuation, choose: Callable[[Call], Choice] = lambda call: "approve") -> Iterator[Step]:
    """Drive a state to its end as a worker and obliging people would: everything is decided, answered and performed."""
    for _ in range(200):
        if state.ending is not None:
            return
        event = _way_on(state, choose)
        after = step(state, event)
        yield Step(state, event, after, None)
        state = after
    raise AssertionError(f"the loop never ends: {state.status}, {[call.state for call in state.open_calls]}")


def _way_on(state: Continuation, choose: Callable[[Call], Choice]) -> AnyEvent:
    at = state.at + dt.timedelta(seconds=1)
    seen = CommitId("c" * 40)
    if state.accepted is not None or (state.gate is not None and state.gate.decision is not None):
        return AgentChanged(at=at, definition=state.definition)
    if state.gate is not None:
        shown = _fingerprint(state.gate)
        return Decided(at=at, call=state.gate.id, choice="approve", by=ADA, seen=seen, fingerprint=shown)
    for call in state.open_calls:
        tool = state.tool(call)
        if call.expires is not None and at >= call.expires and call.id not in state.children:
            return Expired(at=at, call=call.id)
        match call.state:
            case CallState.APPROVED if is_looked_up(state, call):
                return Missed(at=at, call=call.id)
            case CallState.APPROVED:
                return ToolStarted(at=at, call=call.id, worker=state.worker)
            case CallState.RUNNING:
                return ToolReturned(at=at, call=call.id, attempt=call.attempt, content="done")
            case CallState.DELEGATED:
                return ChildFinished(at=at, call=call.id, text="done")
            case CallState.WAITING if call.kind == "agent" and call.question is None and call.not_before is None:
                return ChildFinished(at=at, call=call.id, text="done")
            case CallState.WAITING if call.question is not None:
                return Answered(at=at, call=call.id, value="yes", attempt=call.attempt, by=ADA)
            case CallState.WAITING:
                return Woke(at=max(at, call.not_before or at), call=call.id)
            case _ if tool is None:
                return Cancelled(at=at, reason="the tool is gone")
            case _:
                return Decided(
                    at=at,
                    call=call.id,
                    choice=choose(call),
                    by=who_may(call),
                    seen=seen,
                    arguments=call.arguments_digest,
                    tool=tool.digest,
                    attempt=call.attempt,
                )
    reply = Reply(message=Assistant(content="All done."))
    return ModelReplied(at=at, reply=reply, shown=len(state.messages), compactions=state.context.times)


def who_may(call: Call) -> Person:
    """Somebody whose decision counts, and who has not decided yet."""
    needs, made = call.needs or Needs(), [one.by for one in call.approvals]
    return next(who for who in (ADA, EDITH, GRACE) if who not in made and needs.may_decide(who, "approve"))


# Trees of loops ----------------------------------------------------------------------------------------------------

PLANS = st.recursive(
    st.sampled_from(["order", "order", "look"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=6,
).map(lambda plan: plan if isinstance(plan, list) else [plan])
"""What the agents of a tree call in their one round: a tool, or an agent with a plan of its own."""

Plan = list[Any]
NESTED: Plan = ["order", ["order", ["order", "look"]], "order"]
"""A plan with guarded calls on three levels."""

ROOT = loop_name("ops")
TREE_AGENT = AgentSpec(
    name="ops",
    instructions="Do as the plan says.",
    model=ModelSpec(name="scripted"),
    tools=(
        _tool("order", approval="always"),
        _tool("look", idempotent=True),
        ToolSpec(name="team", kind="agent", agent="ops", parameters={"type": "object"}),
        ToolSpec(name="crew", kind="agent", agent="ops", parameters={"type": "object"}, workspace="share"),
    ),
)


class Due(NamedTuple):
    """Something to do: the event it leads to in a loop, which for a child's start is not there yet."""

    loop: LoopName
    saved: Saved | None
    event: AnyEvent


class World:
    """A root loop and all nested in it, driven by a simulated worker on a store, step by step.

    `runs` counts the times that each call's side effect ran, by its address and nonce. If it shares, every second agent
    that is called works in its caller's folder.
    """

    def __init__(
        self, store: Store, plan: Plan, root: str = ROOT, files: Workspace | None = None, *, shares: bool = False
    ) -> None:
        self.history = History(store)
        self.records = Records(self.history)
        self.root = loop_name(root)
        self.worker = WORKERS[0]
        self.runs: dict[str, int] = {}
        self.shares = shares
        self._at = EPOCH
        self.loops = Loops(store, now=self.now)
        prompt = User(content=json.dumps(plan))
        event = Started(
            at=self.now(), definition=TREE_AGENT, prompt=prompt, nonce="root", worker=self.worker, workspace=files
        )
        self.history.begin(self.root, event, ROBOT, GRACE)

    @classmethod
    def resumed(cls, store: Store, root: str) -> "World":
        """Take up a loop that is there already."""
        world = cls.__new__(cls)
        world.history = History(store)
        world.records = Records(world.history)
        world.root = loop_name(root)
        world.worker = WORKERS[1]
        world.runs = {}
        world.shares = False
        world._at = EPOCH + dt.timedelta(days=1)
        world.loops = Loops(store, now=world.now)
        return world

    def now(self) -> dt.datetime:
        """A clock that moves a second each time it is read."""
        self._at += dt.timedelta(seconds=1)
        return self._at

    def saved(self) -> Saved:
        """The root loop as it is now."""
        return self.history.load(self.root)

    def commit(self, saved: Saved, event: AnyEvent) -> Saved:
        """Commit one event's step."""
        return self.history.apply(saved, event, ROBOT)

    def due(self) -> Iterator[Due]:
        """Everything that a worker could do now, each as the event that it leads to."""
        for saved in self.history.tree(self.saved()):
            yield from self._due(saved)

    def _due(self, saved: Saved) -> Iterator[Due]:
        state = saved.state
        if state.ending is not None or state.gate is not None:
            return
        if state.worker != self.worker and state.status is Status.ACTIVE:
            yield Due(saved.loop, saved, Resumed(at=self.now(), worker=self.worker))
            return
        if not state.open_calls:
            yield Due(saved.loop, saved, self._reply(state))
        children = self.history.children(saved)
        for call in state.open_calls:
            if call.kind == "agent" and call.state in (CallState.DELEGATED, CallState.WAITING):
                yield from self._child_due(saved, call, children.get(call.id))
            elif is_looked_up(state, call):
                yield Due(saved.loop, saved, self.records.look_up(saved, call.id, self.now()))
            elif call.state is CallState.APPROVED:
                yield Due(saved.loop, saved, ToolStarted(at=self.now(), call=call.id, worker=self.worker))
            elif call.state is CallState.RUNNING:
                content = f"{call.id} is done"
                returned = ToolReturned(at=self.now(), call=call.id, attempt=call.attempt, content=content)
                yield Due(saved.loop, saved, returned)

    def _child_due(self, saved: Saved, call: Call, child: Saved | None) -> Iterator[Due]:
        at, tool = self.now(), saved.state.tool(call)
        if child is None:
            prompt = User(content=json.dumps(json.loads(call.arguments)["plan"]))
            rehearsal = None if saved.state.rehearsal is None else saved.state.rehearsal.begun
            event = Started(
                at=at,
                definition=TREE_AGENT,
                prompt=prompt,
                nonce=call.nonce,
                worker=self.worker,
                rehearsal=rehearsal,
                workspace=saved.state.workspace,
                copied=saved.state.workspace is not None and (tool is None or tool.workspace == "copy"),
            )
            yield Due(child_name(saved.loop, call.id), None, event)
            return
        ending = child.state.ending
        suspended = child.state.status is Status.SUSPENDED
        if ending is not None and ending.status == "completed":
            files = returned_files(self._with_children(saved).files, child)
            yield Due(saved.loop, saved, replace(files, at=at, call=call.id, text=ending.text))
        elif ending is not None:
            copy_of = child.state.copy_of
            changed = copy_of is not None and child.state.workspace not in (None, Workspace(tree=copy_of))
            kept = child.commit if changed else None
            yield Due(saved.loop, saved, ChildFailed(at=at, call=call.id, error=ending.text, kept_in=kept))
        elif suspended and call.state is CallState.DELEGATED:
            yield Due(saved.loop, saved, ChildSuspended(at=at, call=call.id))
        elif not suspended and call.state is CallState.WAITING:
            yield Due(saved.loop, saved, ChildResumed(at=at, call=call.id))

    def _with_children(self, saved: Saved) -> Continuation:
        """A loop's state, with the newest one of each live child."""
        children = self.history.children(saved)
        return replace(
            saved.state, children={call: Child(commit=one.commit, state=one.state) for call, one in children.items()}
        )

    def perform(self, due: Due) -> None:
        """Do one thing that is due."""
        if due.saved is None:
            assert isinstance(due.event, Started)
            self.history.begin(due.loop, due.event, ROBOT, ROBOT)
            return
        self.commit(due.saved, due.event)
        if isinstance(due.event, ToolStarted):
            key = f"{due.loop}.{due.event.call}"
            self.runs[key] = self.runs.get(key, 0) + 1

    def settle(self) -> Saved:
        """Go on until there is nothing to do but wait for somebody."""
        while (due := next(self.due(), None)) is not None:
            self.perform(due)
        return self.saved()

    def end(self, choose: Callable[[Request], Choice]) -> Saved:
        """Go on to the end; every request is decided as `choose` says, whenever the work has come to rest."""
        for _ in range(100):
            saved = self.settle()
            if saved.state.ending is not None:
                return saved
            for request in self.loops.pending(self.root):
                self.decide(request, choose(request))
        raise AssertionError("the tree never ends")

    def decide(self, request: Request | str, choice: Choice) -> Saved:
        """Decide one request."""
        decide = self.loops.approve if choice == "approve" else self.loops.reject
        return decide(request, by=ADA)

    def _reply(self, state: Continuation) -> ModelReplied:
        prompt = state.messages[0]
        assert isinstance(prompt, User)
        assert isinstance(prompt.content, str)
        asked = any(isinstance(message, Assistant) for message in state.messages)
        requests = () if asked else tuple(_planned(json.loads(prompt.content), shares=self.shares))
        said = Assistant(content="All done." if asked else "Here is the plan.", tool_calls=requests)
        at = self.now()
        return ModelReplied(
            at=at,
            reply=Reply(message=said, usage=Usage(input=10, output=5)),
            shown=len(state.messages),
            compactions=state.context.times,
            proposals=tuple(
                proposal_for(state, request, f"{self.root} {request.id} {at.timestamp():.0f}", ask=False, at=at)
                for request in requests
            ),
        )


def returned_files(ours: Workspace | None, child: Saved) -> ChildFinished:
    """The end of a child loop, with what a merge makes of its files if every file that both have changed clashes."""
    event = ChildFinished(at=child.state.at, call=CallId("x-1"), text="")
    theirs, base = child.state.workspace, child.state.copy_of
    if ours is None or theirs is None or base is None or theirs.tree in (base, ours.tree):
        return event
    if ours.tree == base:
        return replace(event, workspace=replace(ours, tree=theirs.tree))
    return replace(event, conflicts=(FileConflict(path="a", why="both changed it"),), kept_in=child.commit)


def _planned(plan: Plan, *, shares: bool) -> Iterator[ToolRequest]:
    for place, item in enumerate(plan):
        name = item if isinstance(item, str) else "crew" if shares and place % 2 == 0 else "team"
        arguments = {"item": place} if isinstance(item, str) else {"plan": item}
        yield ToolRequest(id=f"c{place}", function=Function(name=name, arguments=json.dumps(arguments)))


def no_such_loop(history: History, name: str) -> bool:
    """Whether a loop is gone."""
    try:
        history.load(loop_name(name))
    except NoSuchLoop:
        return True
    return False
