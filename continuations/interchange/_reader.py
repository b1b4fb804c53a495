"""Reading a continuation object: from the document to the loops in it, not yet committed."""

import datetime as dt
import secrets
from collections.abc import Iterable, Iterator
from typing import cast, get_args

from msgspec.structs import replace

from .._calls import Call, CallState, Choice, Gate, GateKind
from .._codec import TooDeep, encodable
from .._ids import MAX_NAME, CallId, Digest, LoopName, WorkerId, child_name
from .._json import from_json
from .._messages import Assistant, Function, Json, Message, Result, Text, ToolRequest, Value
from .._specs import AgentSpec, ToolSpec
from .._state import FORMAT, Continuation, Ending
from .._step import name_calls
from .._text import one_line
from .._validate import misfit
from ._document import (
    IMPORTABLE,
    SOURCE,
    Document,
    Item,
    Nested,
    bad,
    convert,
)


class Draft(Value, frozen=True, kw_only=True):
    """A loop read from a document and not yet committed; `edits` are arguments that are not those of the messages."""

    state: Continuation
    place: str
    children: dict[CallId, "Draft"]
    edits: dict[CallId, str]


class Chosen(Value, frozen=True, kw_only=True):
    """A decision read from a document: on which call or gate of which loop."""

    loop: LoopName
    call: CallId
    choice: Choice
    arguments: Digest
    tool: Digest
    edited: str | None


class Reader:
    """Reads one document; every error names the place in it."""

    def __init__(self, root: LoopName, agent: AgentSpec, agents: Iterable[AgentSpec], now: dt.datetime) -> None:
        self._root = root
        self._agent = agent
        self._agents = {one.name: one for one in (agent, *agents)}
        self._worker = WorkerId(f"import-{secrets.token_hex(8)}")
        self._now = now

    def document(self, value: Json) -> tuple[Draft, list[Chosen]]:
        """The root loop, and what is decided, from a document that is `clean`."""
        document = convert(value, Document, "")
        if document.continuation is None:
            return self._completed(document), []
        if document.messages is not None or document.result is not None or document.end_reason == "completed":
            raise bad("continuation", "a completed loop has none")
        continuation = document.continuation
        if document.suspend_list is not None:
            continuation = replace(continuation, suspend_list=document.suspend_list)
        draft = self._loop(self._root, continuation, self._agent, secrets.token_hex(8), "continuation")
        choices = list(self._choices(draft, document.approval_info))
        self._all_edits_approved(self._root, draft, {(one.loop, one.call) for one in choices if one.edited is not None})
        return draft, choices

    def _completed(self, document: Document) -> Draft:
        if document.messages is None or document.result is None or document.approval_info:
            raise bad("the document", "it has neither a continuation nor a result with its messages")
        continuation = Nested(messages=document.messages, suspend_list=())
        draft = self._loop(self._root, continuation, self._agent, secrets.token_hex(8), "the document")
        ending = Ending(status="completed", text=document.result)
        return replace(draft, state=replace(draft.state, ending=ending))

    def _loop(self, name: LoopName, source: Nested, agent: AgentSpec, nonce: str, place: str) -> Draft:
        if len(name) > MAX_NAME:
            raise bad(place, f"agents are nested too deep: its loop would be called {one_line(name)}")
        first = source.messages[0] if source.messages else {}
        rest = source.messages
        if first.get("role") in ("system", "developer"):
            agent, rest = replace(agent, instructions=_flat(first, f"{place}.messages[0]")), source.messages[1:]
        offset = len(source.messages) - len(rest)
        messages = tuple(_message(one, f"{place}.messages[{index}]") for index, one in enumerate(rest, offset))
        if not messages:
            raise bad(f"{place}.messages", "nothing was said yet")
        state = Continuation(
            format=FORMAT,
            agent=agent.name,
            fingerprint=agent.fingerprint,
            nonce=nonce,
            worker=self._worker,
            at=self._now,
            working_since=self._now,
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
                    raise bad(where, f"no call {message.tool_call_id!r} waits for a result")
                keys.discard(message.tool_call_id)
                calls = tuple(
                    replace(call, state=CallState.RETURNED) if call.key == message.tool_call_id else call
                    for call in state.calls
                )
                state = replace(state, calls=calls)
                continue
            if keys:
                raise bad(where, f"call {min(keys)!r} has no result before it")
            if not isinstance(message, Assistant):
                continue
            ids, counters = name_calls(state, message.tool_calls)
            calls = tuple(
                self._call(state, call, request) for call, request in zip(ids, message.tool_calls, strict=True)
            )
            keys = {call.key for call in calls}
            if len(keys) != len(calls) or "" in keys:
                raise bad(where, "its calls do not each have an id of their own")
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

    def _gated(self, state: Continuation, source: Nested) -> Continuation:
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

    def _requested(self, name: LoopName, state: Continuation, source: Nested, open_keys: set[str], place: str) -> Draft:
        """Match the requests with the calls that have no result."""
        waiting = {call.key: call for call in state.calls if call.key in open_keys and call.open}
        children: dict[CallId, Draft] = {}
        edits: dict[CallId, str] = {}
        for index, request in enumerate(source.resume_request):
            where = f"{place}.resume_request[{index}]"
            call = waiting.pop(request.id, None)
            if call is None:
                raise bad(where, f"the messages have no call {request.id!r} that waits for a result")
            tool = state.tool(call)
            if request.function.name != call.tool:
                raise bad(where, f"the messages ask for {call.tool!r}, not for {request.function.name!r}")
            if tool is None:
                raise bad(where, f"agent {state.agent} has no tool {call.tool!r}")
            if tool.kind not in IMPORTABLE:
                raise bad(where, f"{call.tool!r} is a {tool.kind}, for which the format has no form")
            if request.continuation is not None:
                agent = self._started_by(tool, where)
                below = child_name(name, call.id)
                children[call.id] = self._loop(below, request.continuation, agent, call.nonce, f"{where}.continuation")
                call = replace(call, state=CallState.WAITING)
                state = replace(state, calls=tuple(call if old.id == call.id else old for old in state.calls))
            if request.function.arguments != call.arguments:
                if request.continuation is not None:
                    raise bad(where, "its arguments are not those of the messages")
                edits[call.id] = _fitting(request.function.arguments, tool, where)
        if waiting:
            raise bad(f"{place}.resume_request", f"call {min(waiting)!r} has no result, and is not requested")
        for index, one in enumerate(source.processed):
            if one.id not in {request.id for request in source.resume_request}:
                raise bad(f"{place}.processed[{index}]", f"no call {one.id!r} is requested")
        return Draft(state=state, place=place, children=children, edits=edits)

    def _started_by(self, tool: ToolSpec, place: str) -> AgentSpec:
        if tool.kind != "agent":
            raise bad(place, f"{tool.name!r} is no agent, and has a continuation")
        agent = self._agents.get(tool.agent)
        if agent is None:
            raise bad(place, f"the definition of agent {tool.agent!r} was not given")
        return agent

    def _all_edits_approved(self, loop: LoopName, draft: Draft, approved: set[tuple[LoopName, CallId]]) -> None:
        for call in draft.edits:
            if (loop, call) not in approved:
                raise bad(
                    f"{draft.place}.resume_request",
                    f"the arguments of {call} are not those of the messages, and nobody approved them",
                )
        for call, below in draft.children.items():
            self._all_edits_approved(child_name(loop, call), below, approved)

    # Decisions ---------------------------------------------------------------------------------------------------

    def _choices(self, root: Draft, items: tuple[Item, ...]) -> Iterator[Chosen]:
        seen: set[tuple[str, ...]] = set()
        for index, item in enumerate(items):
            place = f"approval_info[{index}]"
            if item.path_ids in seen:
                raise bad(place, "an item before it has the same path_ids")
            seen.add(item.path_ids)
            choice = self._chosen(root, item, place)
            if choice is not None:
                yield choice

    def _chosen(self, root: Draft, item: Item, place: str) -> Chosen | None:
        loop, draft, path = self._root, root, list[Call]()
        for key in item.path_ids:
            if path:
                above = path[-1]
                if above.id not in draft.children:
                    raise bad(f"{place}.path_ids", f"{above.key!r} has no continuation")
                loop, draft = child_name(loop, above.id), draft.children[above.id]
            call = next((call for call in draft.state.open_calls if call.key == key), None)
            if call is None:
                raise bad(f"{place}.path_ids", f"nothing is requested at {key!r}")
            path.append(call)
        if not path:
            raise bad(f"{place}.path_ids", "it is empty")
        if item.paths is not None and item.paths != tuple(call.tool for call in path):
            raise bad(f"{place}.paths", "these are not the tools of its path_ids")
        call = path[-1]
        self._as_shown(item, draft, call, place)
        if call.id in draft.children:
            return self._gate_chosen(child_name(loop, call.id), draft.children[call.id], item, place)
        if item.approved is None:
            return None
        tool = draft.state.tool(call)
        return Chosen(
            loop=loop,
            call=call.id,
            choice="approve" if item.approved else "reject",
            arguments=call.arguments_digest,
            tool=tool.digest if tool is not None else Digest(""),
            edited=draft.edits.get(call.id) if item.approved else None,
        )

    def _as_shown(self, item: Item, draft: Draft, call: Call, place: str) -> None:
        """Check that the decision was made on the call that is requested."""
        shown = item.tool_call
        if shown is None:
            return
        arguments = draft.edits.get(call.id, call.arguments)
        if shown.id != call.key or shown.function != Function(name=call.tool, arguments=arguments):
            raise bad(f"{place}.tool_call", "it is not the call that is requested at its path_ids")

    def _gate_chosen(self, loop: LoopName, draft: Draft, item: Item, place: str) -> Chosen | None:
        """A decision on the gate of a nested loop, if that is all it waits for."""
        gate = draft.state.gate
        if draft.state.open_calls or (gate is None and item.approved is False):
            raise bad(f"{place}.path_ids", "there is nothing to decide, but there is below it")
        if gate is None or item.approved is None:
            return None
        choice: Choice = "approve" if item.approved else "reject"
        return Chosen(loop=loop, call=gate.id, choice=choice, arguments=Digest(""), tool=Digest(""), edited=None)


def _fitting(arguments: str, tool: ToolSpec, place: str) -> str:
    """Edited arguments, if they fit the tool."""
    try:
        problem = misfit(from_json(arguments), tool.parameters)
    except ValueError:
        problem = "they are not JSON"
    if problem is not None:
        raise bad(place, f"its arguments are not those of the messages, and do not fit {tool.name!r}: {problem}")
    return arguments


def _message(source: dict[str, Json], place: str) -> Message:
    """One message. What a model's message holds beside the usual is kept under `SOURCE`."""
    role = source.get("role")
    if role not in ("user", "assistant", "tool"):
        raise bad(place, f"a message of role {role!r} has no place there")
    plain = dict(source)
    if role == "assistant":
        known = ("role", "content", "refusal", "tool_calls")
        extra = {key: value for key, value in plain.items() if key not in known and value not in ([], {}, "")}
        plain = {key: value for key, value in plain.items() if key in known}
        if extra:
            plain["native"] = {SOURCE: extra}
    if role != "user" and "content" in plain:
        plain["content"] = _flat(plain, place)
    message: Message = convert(plain, Message, place)
    try:
        return encodable(message)
    except TooDeep as error:
        raise bad(place, str(error).rstrip(".")) from error


def _flat(source: dict[str, Json], place: str) -> str:
    """The content of a message that can be text only."""
    content = source.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(part.text for part in convert(content, tuple[Text, ...], f"{place}.content"))
