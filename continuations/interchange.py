"""Interchange: loops to and from the JSON continuation object of SnapLogic's agent-continuations.

The object, nested to any depth::

    {"continuation": {"messages": [...],
                      "resume_request": [tool call, with a "continuation" of its own where it called an agent],
                      "processed": [{"id": ..., "approved": false}]},
     "approval_info": [{"paths": [...], "path_ids": [...], "tool_call": {...}, "approved": null}],
     "end_reason": "approval_required"}

Decisions come from ``approval_info`` and from nowhere else: an item that says ``true`` approves, one that says
``false`` rejects; an item that is left out, or says ``null`` or nothing, leaves its call undecided. What ``processed``
says decides nothing. So an export writes every request into ``approval_info`` as a form to fill in, with ``null`` where
nobody has decided. An export of agent-continuations itself fills its form with ``false``: nothing in it tells an
untouched form from a refusal of everything. Read as it stands it rejects, because a call that did not run can be asked
for again, and one that ran cannot be called back; `import_loop` takes ``decide=False`` for a form nobody has touched.

For whoever resumes an export over there: that framework runs a call of the root agent whenever ``approval_info`` lists
it, whatever ``approved`` says, and counts a call that is not listed as rejected. So take out what is not to run; or
export without the form, and nothing runs.

Two keys are ours; the other side ignores both. ``suspend_list`` may also stand in a nested continuation, and says that
the loop has that gate, or, if empty, none: a continuation with neither it nor a ``resume_request`` stands behind a
gate. ``told`` is what a person has said that the model has not heard yet. What the object has no place for is left out:
standing decisions, what was spent, memory, who decided and why, and what only one model API understands.
"""

import datetime as dt
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, cast, get_args

import msgspec
from msgspec.structs import replace

from ._calls import Call, CallState, Choice, Gate, GateKind, Person
from ._describe import describe
from ._errors import CallerError
from ._events import Decided, Imported
from ._ids import MAX_NAME, CallId, CommitId, Digest, LoopName, WorkerId, child_name, loop_name, root_name
from ._messages import Assistant, Function, Json, Message, Result, Text, ToolRequest, User, Value, plain_text
from ._specs import AgentSpec, ToolSpec
from ._state import FORMAT, Child, Continuation, Ending
from ._step import name_calls
from ._text import one_line
from ._validate import misfit
from .history import History, LoopExists, Saved, saved_from

SOURCE: Literal["agent-continuations"] = "agent-continuations"
"""Where the format comes from; also the key of what a model's message held that has no place of its own here."""

MAX_DEPTH = 400
"""How deep the JSON of a document may nest: more than the longest name of a loop allows."""


class BadDocument(CallerError):
    """A document is not a continuation object, or not one that can go on here. Nothing was written."""


class NotExportable(CallerError):
    """The loop is in a state for which the format has no form."""


# Writing ---------------------------------------------------------------------------------------------------------


def export_loop(history: History, revision: str, *, form: bool = True) -> dict[str, Json]:
    """A loop as a continuation object: its newest state, or the state in any commit.

    With `form`, ``approval_info`` lists every request: ``true`` where it is approved, ``null`` where nobody has
    decided. Without, it is empty: the object decides nothing, here or there.

    Raises:
        NoSuchRevision, NotALoop: there is no continuation there.
        NotExportable: something in it runs, asks, sleeps, is of unknown outcome, failed or was cancelled.
    """
    saved, children = _find(history, revision)
    ending = saved.state.ending
    if ending is not None:
        if ending.status != "completed":
            raise NotExportable(
                f"{revision} has {ending.status}, for which the format has no form.",
                hint="Export an earlier commit of it.",
            )
        return {"result": ending.text, "messages": _messages(saved.state), "end_reason": "completed"}
    items: list[dict[str, Json]] = []
    continuation = _continuation(saved, children, (), items)
    gates: list[str] = continuation.pop("suspend_list")
    if "resume_request" not in continuation:
        return {"continuation": continuation, "suspend_list": gates, "end_reason": "suspended"}
    document: dict[str, Json] = {"continuation": continuation, "approval_info": items if form else []}
    if gates:
        document["suspend_list"] = gates
    return {**document, "end_reason": "approval_required"}


_Children = Callable[[Saved], Mapping[CallId, Saved]]


def _find(history: History, revision: str) -> tuple[Saved, _Children]:
    """What a revision names, and how to find the children: the newest ones of a loop, those nested in a commit."""
    try:
        return history.load(loop_name(revision)), history.children
    except CallerError:
        commit = history.store.read(history.store.resolve(revision))
    return saved_from(LoopName(revision), commit), _nested


def _nested(saved: Saved) -> Mapping[CallId, Saved]:
    return {
        call: Saved(loop=child_name(saved.loop, call), commit=child.commit, message="", state=child.state)
        for call, child in saved.state.children.items()
    }


def _continuation(
    saved: Saved, children: _Children, above: tuple[Call, ...], items: list[dict[str, Json]]
) -> dict[str, Json]:
    """One loop's part of the object; adds its requests, and those below it, to the items."""
    state, live = saved.state, children(saved)
    written: dict[str, Json] = {"messages": _messages(state)}
    requests: list[Json] = []
    processed: list[Json] = []
    for call in state.open_calls:
        request: dict[str, Json] = {
            "id": call.key,
            "type": "function",
            "function": {"name": call.tool, "arguments": call.arguments},
        }
        path = (*above, call)
        child = live.get(call.id)
        approved: bool | None = None
        if child is not None:
            if child.state.ending is not None:
                raise NotExportable(f"{child.loop} has ended, and its parent has not heard.", hint="Resume it first.")
            request["continuation"] = _continuation(child, children, path, items)
            if "resume_request" not in request["continuation"]:
                items.append(_item(path, approved=None if child.state.gate else True))
        else:
            approved = _approval(saved.loop, call)
            items.append(_item(path, approved=approved, tool_call=request))
        requests.append(request)
        processed.append({"id": call.key, "approved": approved is True})
    if requests:
        written |= {"resume_request": requests, "processed": processed}
    if state.told:
        written["told"] = [msgspec.to_builtins(message) for message in state.told]
    gate = state.gate
    named = [] if gate is None else [gate.name or gate.kind]
    if named or not above or not requests:
        written["suspend_list"] = named
    return written


def _item(path: tuple[Call, ...], *, approved: bool | None, tool_call: Json = None) -> dict[str, Json]:
    item: dict[str, Json] = {"paths": [call.tool for call in path], "path_ids": [call.key for call in path]}
    if tool_call is not None:
        item["tool_call"] = tool_call
    return {**item, "approved": approved}


def _approval(loop: LoopName, call: Call) -> bool | None:
    """Whether a call is approved; None if nobody has decided."""
    if call.state is CallState.AWAITING and call.kind in _IMPORTABLE:
        return None
    if call.state is CallState.APPROVED or (call.state is CallState.DELEGATED and call.kind == "agent"):
        return True
    what = f"{call.kind} that is {call.state}"
    raise NotExportable(
        f"{loop}.{call.id} is a {what}: the format knows approvals only.",
        hint="Let it end, answer it, or decide what became of it; then export the loop.",
    )


_IMPORTABLE = ("function", "agent")


def _messages(state: Continuation) -> list[Json]:
    """The messages as Chat Completions has them, after the instructions."""
    written: list[Json] = [{"role": "developer", "content": state.definition.instructions}]
    for message in state.messages:
        if not isinstance(message, Assistant):
            written.append(msgspec.to_builtins(message))
            continue
        plain: dict[str, Json] = msgspec.to_builtins(replace(message, native={}))
        kept = message.native.get(SOURCE)
        written.append({"content": None, **(kept if isinstance(kept, dict) else {}), **plain})
    return written


# Reading ---------------------------------------------------------------------------------------------------------


class _Processed(Value, frozen=True, kw_only=True):
    id: str
    approved: bool = False


class _Request(Value, frozen=True, kw_only=True):
    id: str
    function: Function
    type: Literal["function"] = "function"
    continuation: "_Continuation | None" = None


class _Continuation(Value, frozen=True, kw_only=True):
    messages: tuple[dict[str, Json], ...]
    resume_request: tuple[_Request, ...] = ()
    processed: tuple[_Processed, ...] = ()
    suspend_list: tuple[str, ...] | None = None
    told: tuple[User, ...] = ()


class _Item(Value, frozen=True, kw_only=True):
    path_ids: tuple[str, ...]
    paths: tuple[str, ...] | None = None
    tool_call: _Request | None = None
    approved: bool | None = None


class _Document(Value, frozen=True, kw_only=True):
    continuation: _Continuation | None = None
    approval_info: tuple[_Item, ...] = ()
    suspend_list: tuple[str, ...] | None = None
    end_reason: Literal["approval_required", "suspended", "completed"] | None = None
    result: str | None = None
    messages: tuple[dict[str, Json], ...] | None = None


class _Draft(Value, frozen=True, kw_only=True):
    """A loop read from a document and not yet committed; `edits` are arguments that are not those of the messages."""

    state: Continuation
    place: str
    children: dict[CallId, "_Draft"]
    edits: dict[CallId, str]


class _Choice(Value, frozen=True, kw_only=True):
    """A decision read from a document: on which call or gate of which loop."""

    loop: LoopName
    call: CallId
    choice: Choice
    arguments: Digest
    tool: Digest
    edited: str | None


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
        BadName: the loop cannot have that name.
        LoopExists: there is a loop of that name, or a branch of one nested in it.
    """
    root = root_name(name)
    draft = _Reader(root, agent, agents, now).document(document)
    choices = draft[1]
    taken = next((head for head in history.store.heads() if head.partition(".")[0] == root), None)
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
    history: History, loop: LoopName, draft: _Draft, event: Imported, seen: dict[LoopName, CommitId]
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
            author=event.by,
            committer=event.by,
        )
        seen[name] = commit.id
        children[call] = Child(commit=commit.id, state=state)
    return replace(draft.state, children=children)


class _Reader:
    """Reads one document; every error names the place in it."""

    def __init__(self, root: LoopName, agent: AgentSpec, agents: Iterable[AgentSpec], now: dt.datetime) -> None:
        self._root = root
        self._agent = agent
        self._agents = {one.name: one for one in (agent, *agents)}
        self._worker = WorkerId(f"import-{secrets.token_hex(8)}")
        self._now = now

    def document(self, value: Json) -> tuple[_Draft, list[_Choice]]:
        """The root loop, and what is decided."""
        document = _convert(_clean(value, "the document", 0), _Document, "")
        if document.continuation is None:
            return self._completed(document), []
        if document.messages is not None or document.result is not None or document.end_reason == "completed":
            raise _bad("continuation", "a completed loop has none")
        continuation = document.continuation
        if document.suspend_list is not None:
            continuation = replace(continuation, suspend_list=document.suspend_list)
        draft = self._loop(self._root, continuation, self._agent, secrets.token_hex(8), "continuation")
        choices = list(self._choices(draft, document.approval_info))
        self._all_edits_approved(self._root, draft, {(one.loop, one.call) for one in choices if one.edited is not None})
        return draft, choices

    def _completed(self, document: _Document) -> _Draft:
        if document.messages is None or document.result is None or document.approval_info:
            raise _bad("the document", "it has neither a continuation nor a result with its messages")
        continuation = _Continuation(messages=document.messages, suspend_list=())
        draft = self._loop(self._root, continuation, self._agent, secrets.token_hex(8), "the document")
        ending = Ending(status="completed", text=document.result)
        return replace(draft, state=replace(draft.state, ending=ending))

    def _loop(self, name: LoopName, source: _Continuation, agent: AgentSpec, nonce: str, place: str) -> _Draft:
        if len(name) > MAX_NAME:
            raise _bad(place, f"agents are nested too deep: its loop would be called {one_line(name)}")
        first = source.messages[0] if source.messages else {}
        rest = source.messages
        if first.get("role") in ("system", "developer"):
            agent, rest = replace(agent, instructions=_flat(first, f"{place}.messages[0]")), source.messages[1:]
        offset = len(source.messages) - len(rest)
        messages = tuple(_message(one, f"{place}.messages[{index}]") for index, one in enumerate(rest, offset))
        if not messages:
            raise _bad(f"{place}.messages", "nothing was said yet")
        state = Continuation(
            format=FORMAT,
            agent=agent.name,
            fingerprint=agent.fingerprint,
            nonce=nonce,
            worker=self._worker,
            at=self._now,
            definition=agent,
            messages=messages,
            budget=agent.budget,
            limit=agent.budget,
            told=source.told,
        )
        state, open_keys = self._rounds(state, f"{place}.messages", offset)
        state = self._gated(state, source)
        return self._requested(name, state, source, open_keys, place)

    def _rounds(self, state: Continuation, place: str, offset: int) -> tuple[Continuation, set[str]]:
        """The last round's calls, the counters, and the keys of the calls that have no result."""
        keys: set[str] = set()
        for index, message in enumerate(state.messages, offset):
            where = f"{place}[{index}]"
            if isinstance(message, Result):
                if message.tool_call_id not in keys:
                    raise _bad(where, f"no call {message.tool_call_id!r} waits for a result")
                keys.discard(message.tool_call_id)
                calls = tuple(
                    replace(call, state=CallState.RETURNED) if call.key == message.tool_call_id else call
                    for call in state.calls
                )
                state = replace(state, calls=calls)
                continue
            if keys:
                raise _bad(where, f"call {min(keys)!r} has no result before it")
            if not isinstance(message, Assistant):
                continue
            ids, counters = name_calls(state, message.tool_calls)
            calls = tuple(
                self._call(state, call, request) for call, request in zip(ids, message.tool_calls, strict=True)
            )
            keys = {call.key for call in calls}
            if len(keys) != len(calls) or "" in keys:
                raise _bad(where, "its calls do not each have an id of their own")
            state = replace(state, calls=calls, counters=counters)
        return state, keys

    def _call(self, state: Continuation, call: CallId, request: ToolRequest) -> Call:
        tool = state.definition.tool(request.function.name)
        return Call(
            id=call,
            key=request.id,
            tool=request.function.name,
            kind=tool.kind if tool is not None else "function",
            arguments=request.function.arguments,
            state=CallState.AWAITING,
            nonce=secrets.token_hex(8),
            since=self._now,
        )

    def _gated(self, state: Continuation, source: _Continuation) -> Continuation:
        names = source.suspend_list
        if names is None:
            names = () if source.resume_request else ("",)
        if not names:
            return state
        name = names[0]
        same = name in get_args(GateKind) and name not in state.definition.suspensions
        kind: GateKind = cast("GateKind", name) if same else "condition"
        reason = "it was suspended where it came from" + (f": {', '.join(names)}" if name else "")
        number = state.counters.get("gate", 0) + 1
        gate = Gate(
            id=CallId(f"gate-{number}"),
            kind=kind,
            reason=reason,
            since=self._now,
            name="" if name == kind else name,
        )
        return replace(state, gate=gate, counters={**state.counters, "gate": number})

    def _requested(
        self, name: LoopName, state: Continuation, source: _Continuation, open_keys: set[str], place: str
    ) -> _Draft:
        """Match the requests with the calls that have no result."""
        waiting = {call.key: call for call in state.calls if call.key in open_keys and call.open}
        children: dict[CallId, _Draft] = {}
        edits: dict[CallId, str] = {}
        for index, request in enumerate(source.resume_request):
            where = f"{place}.resume_request[{index}]"
            call = waiting.pop(request.id, None)
            if call is None:
                raise _bad(where, f"the messages have no call {request.id!r} that waits for a result")
            tool = state.tool(call)
            if request.function.name != call.tool:
                raise _bad(where, f"the messages ask for {call.tool!r}, not for {request.function.name!r}")
            if tool is None:
                raise _bad(where, f"agent {state.agent} has no tool {call.tool!r}")
            if tool.kind not in _IMPORTABLE:
                raise _bad(where, f"{call.tool!r} is a {tool.kind}, for which the format has no form")
            if request.continuation is not None:
                agent = self._started_by(tool, where)
                below = child_name(name, call.id)
                children[call.id] = self._loop(below, request.continuation, agent, call.nonce, f"{where}.continuation")
                call = replace(call, state=CallState.WAITING)
                state = replace(state, calls=tuple(call if old.id == call.id else old for old in state.calls))
            if request.function.arguments != call.arguments:
                if request.continuation is not None:
                    raise _bad(where, "its arguments are not those of the messages")
                edits[call.id] = _fitting(request.function.arguments, tool, where)
        if waiting:
            raise _bad(f"{place}.resume_request", f"call {min(waiting)!r} has no result, and is not requested")
        for index, one in enumerate(source.processed):
            if one.id not in {request.id for request in source.resume_request}:
                raise _bad(f"{place}.processed[{index}]", f"no call {one.id!r} is requested")
        return _Draft(state=state, place=place, children=children, edits=edits)

    def _started_by(self, tool: ToolSpec, place: str) -> AgentSpec:
        if tool.kind != "agent":
            raise _bad(place, f"{tool.name!r} is no agent, and has a continuation")
        agent = self._agents.get(tool.agent)
        if agent is None:
            raise _bad(place, f"the definition of agent {tool.agent!r} was not given")
        return agent

    def _all_edits_approved(self, loop: LoopName, draft: _Draft, approved: set[tuple[LoopName, CallId]]) -> None:
        for call in draft.edits:
            if (loop, call) not in approved:
                raise _bad(
                    f"{draft.place}.resume_request",
                    f"the arguments of {call} are not those of the messages, and nobody approved them",
                )
        for call, below in draft.children.items():
            self._all_edits_approved(child_name(loop, call), below, approved)

    # Decisions ---------------------------------------------------------------------------------------------------

    def _choices(self, root: _Draft, items: tuple[_Item, ...]) -> Iterator[_Choice]:
        seen: set[tuple[str, ...]] = set()
        for index, item in enumerate(items):
            place = f"approval_info[{index}]"
            if item.path_ids in seen:
                raise _bad(place, "an item before it has the same path_ids")
            seen.add(item.path_ids)
            choice = self._chosen(root, item, place)
            if choice is not None:
                yield choice

    def _chosen(self, root: _Draft, item: _Item, place: str) -> _Choice | None:
        loop, draft, path = self._root, root, list[Call]()
        for key in item.path_ids:
            if path:
                above = path[-1]
                if above.id not in draft.children:
                    raise _bad(f"{place}.path_ids", f"{above.key!r} has no continuation")
                loop, draft = child_name(loop, above.id), draft.children[above.id]
            call = next((call for call in draft.state.open_calls if call.key == key), None)
            if call is None:
                raise _bad(f"{place}.path_ids", f"nothing is requested at {key!r}")
            path.append(call)
        if not path:
            raise _bad(f"{place}.path_ids", "it is empty")
        if item.paths is not None and item.paths != tuple(call.tool for call in path):
            raise _bad(f"{place}.paths", "these are not the tools of its path_ids")
        call = path[-1]
        self._as_shown(item, draft, call, place)
        if call.id in draft.children:
            return self._gate_chosen(child_name(loop, call.id), draft.children[call.id], item, place)
        if item.approved is None:
            return None
        tool = draft.state.tool(call)
        return _Choice(
            loop=loop,
            call=call.id,
            choice="approve" if item.approved else "reject",
            arguments=call.arguments_digest,
            tool=tool.digest if tool is not None else Digest(""),
            edited=draft.edits.get(call.id) if item.approved else None,
        )

    def _as_shown(self, item: _Item, draft: _Draft, call: Call, place: str) -> None:
        """Check that the decision was made on the call that is requested."""
        shown = item.tool_call
        if shown is None:
            return
        arguments = draft.edits.get(call.id, call.arguments)
        if shown.id != call.key or shown.function != Function(name=call.tool, arguments=arguments):
            raise _bad(f"{place}.tool_call", "it is not the call that is requested at its path_ids")

    def _gate_chosen(self, loop: LoopName, draft: _Draft, item: _Item, place: str) -> _Choice | None:
        """A decision on the gate of a nested loop, if that is all it waits for."""
        gate = draft.state.gate
        if draft.state.open_calls or (gate is None and item.approved is False):
            raise _bad(f"{place}.path_ids", "there is nothing to decide, but there is below it")
        if gate is None or item.approved is None:
            return None
        choice: Choice = "approve" if item.approved else "reject"
        return _Choice(loop=loop, call=gate.id, choice=choice, arguments=Digest(""), tool=Digest(""), edited=None)


def _fitting(arguments: str, tool: ToolSpec, place: str) -> str:
    """Edited arguments, if they fit the tool."""
    try:
        problem = misfit(json.loads(arguments), tool.parameters)
    except (ValueError, RecursionError):
        problem = "they are not JSON"
    if problem is not None:
        raise _bad(place, f"its arguments are not those of the messages, and do not fit {tool.name!r}: {problem}")
    return arguments


def _message(source: dict[str, Json], place: str) -> Message:
    """One message. What a model's message holds beside the usual is kept under `SOURCE`."""
    role = source.get("role")
    if role not in ("user", "assistant", "tool"):
        raise _bad(place, f"a message of role {role!r} has no place there")
    plain = dict(source)
    if role == "assistant":
        known = ("role", "content", "refusal", "tool_calls")
        extra = {key: value for key, value in plain.items() if key not in known and value not in ([], {}, "")}
        plain = {key: value for key, value in plain.items() if key in known}
        if extra:
            plain["native"] = {SOURCE: extra}
    if role != "user" and "content" in plain:
        plain["content"] = _flat(plain, place)
    message: Message = _convert(plain, Message, place)
    return message


def _flat(source: dict[str, Json], place: str) -> str:
    """The content of a message that can be text only."""
    content = source.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(part.text for part in _convert(content, tuple[Text, ...], f"{place}.content"))


def _convert(value: Json, kind: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        what, _, where = str(error).partition(" - at `$")
        path = place + where.rstrip("`")
        raise _bad(path.lstrip(".") or "the document", what[:1].lower() + what[1:]) from error


def _clean(value: Json, place: str, depth: int) -> Json:
    """A copy in which null stands in no object and every text can be written, of nothing but JSON."""
    if depth > MAX_DEPTH:
        raise _bad(one_line(place, 60), f"it nests more than {MAX_DEPTH} deep, or contains itself")
    match value:
        case str():
            return plain_text(value)
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if value == value and abs(value) != float("inf"):
            return value
        case list() | tuple():
            return [_clean(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        case dict():
            if any(not isinstance(key, str) for key in value):
                raise _bad(place, "the keys of an object are texts")
            return {
                plain_text(key): _clean(item, f"{place}.{key}".removeprefix("the document."), depth + 1)
                for key, item in value.items()
                if item is not None
            }
        case _:
            raise _bad(place, f"a value of type {type(value).__name__} is not JSON, or too large")


def _bad(place: str, what: str) -> BadDocument:
    return BadDocument(f"{place}: {what}.", hint="Nothing was imported; mend the document, or the agent's code.")
