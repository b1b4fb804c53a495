"""Trajectories: what a loop said, called, got and was decided, read from its states one after another. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from ._calls import Call, CallState, Person
from ._ids import CallId, CommitId
from ._json import canonical
from ._messages import Assistant, Message, Result, Usage, User, Value, text_of
from ._state import Continuation

EntryKind = Literal[
    "told",
    "said",
    "called",
    "edited",
    "decided",
    "got",
    "open",
    "gate",
    "lifted",
    "refused",
    "changed",
    "compacted",
    "dropped",
    "ended",
]
"""What an entry tells: a person's or a caller's words; the model's; a call; the other arguments that a fork asks for; a
decision on it; its result; that it is open still; a gate; that it was lifted; that a person refused what it asks, and
it stands; a change of the agent; messages compacted, or taken away; an end by hand."""


class Entry(Value, frozen=True, kw_only=True):
    """One thing that happened in a loop, in the step `commit`.

    `by` is the person who caused it, if one did. `outcome` says which: ``approve`` or ``reject``, the call's state, the
    gate's kind, the loop's ending. `tool` and `arguments` are a call's; `nonce` names the call itself, `child` is the
    last commit of the loop that it started. `standing` is a decision made on an earlier call. `tokens` are what the
    reply cost that begins with this entry.
    """

    kind: EntryKind
    commit: CommitId
    text: str = ""
    by: str = ""
    outcome: str = ""
    tool: str = ""
    arguments: str = ""
    call: CallId = CallId("")
    nonce: str = ""
    child: CommitId | None = None
    standing: bool = False
    tokens: Usage | None = None

    @property
    def meaning(self) -> tuple[str, ...]:
        """What makes two entries the same: not when, in which commit, under which id or at what cost."""
        who = self.by if self.kind in ("decided", "refused", "ended") else ""
        return (self.kind, self.text, who, self.outcome, self.tool, canonical(self.arguments))


class Reader:
    """Reads a loop's states in their order, and keeps what happened.

    The entries of a call stand together, in the order in which the model asked: loops that do the same in parallel
    read the same, whichever call was faster. Given the state `since`, the calls open in it are there, and nothing else
    that came before.
    """

    def __init__(self, since: Continuation | None, commit: CommitId | None) -> None:
        self._before = since
        self._blocks: list[list[Entry]] = []
        self._calls: dict[str, list[Entry]] = {}
        self._asked: dict[str, list[Entry]] = {}
        self.steps = 0
        self.tools_run = 0
        if since is not None and commit is not None:
            for call in since.open_calls:
                self._begin(commit, call.tool, call.arguments, call.key, call)

    def step(self, commit: CommitId, after: Continuation, author: Person) -> None:
        """Take in the next state, and who made it."""
        before, self._before = self._before, after
        by = "" if author.name == after.agent else author.name
        self.steps += 1
        self.tools_run += sum(call.attempt - _attempt(before, call) for call in after.calls)
        self._definition(commit, before, after)
        results = self._messages(commit, before, after, by)
        for call in after.calls:
            self._edit(commit, call, _known(before, call), by)
            self._decision(commit, call, _known(before, call))
        for result in results:
            self._result(commit, result, before, after, by)
        self._standing(commit, before, after, by)

    def entries(self, children: Mapping[str, CommitId], commit: CommitId) -> tuple[Entry, ...]:
        """Everything that happened up to the state in `commit`; `children` are last commits, by the calls' nonces."""
        state = self._before
        for call in () if state is None else state.open_calls:
            if call.nonce in self._calls:
                entry = Entry(kind="open", commit=commit, outcome=call.state.value, tool=call.tool, call=call.id)
                self._calls[call.nonce].append(entry)
        return tuple(
            _with_child(entry, children.get(entry.nonce)) if entry.kind == "called" else entry
            for block in self._blocks
            for entry in block
        )

    def _add(self, entry: Entry) -> list[Entry]:
        self._blocks.append([entry])
        return self._blocks[-1]

    def _begin(
        self, commit: CommitId, tool: str, arguments: str, key: str, call: Call | None, tokens: Usage | None = None
    ) -> None:
        """A call's own block."""
        nonce, call_id = ("", CallId("")) if call is None else (call.nonce, call.id)
        block = self._add(
            Entry(
                kind="called",
                commit=commit,
                tool=tool,
                arguments=arguments,
                call=call_id,
                nonce=nonce,
                tokens=tokens,
            )
        )
        self._asked[key] = block
        if nonce:
            self._calls[nonce] = block

    def _definition(self, commit: CommitId, before: Continuation | None, after: Continuation) -> None:
        old, new = after.definition if before is None else before.definition, after.definition
        parts = [name for name in new.__struct_fields__ if getattr(old, name) != getattr(new, name)]
        if parts:
            self._add(Entry(kind="changed", commit=commit, text=", ".join(parts)))

    def _messages(self, commit: CommitId, before: Continuation | None, after: Continuation, by: str) -> list[Result]:
        """Take in what was added to the messages; the results of calls, for later."""
        old, told = ((), ()) if before is None else (before.messages, before.told)
        if before is not None and after.context.times > before.context.times:
            # What is left of it happened before; nothing happens anew.
            text = f"{len(old)} to {len(after.messages)}"
            self._add(Entry(kind="compacted", commit=commit, text=text, by=by, tokens=_cost(before, after)))
            return []
        start, end = _kept(old, after.messages)
        if gone := len(old) - start - end:
            self._add(Entry(kind="dropped", commit=commit, text=str(gone), by=by))
        results: list[Result] = []
        for message in after.messages[start : len(after.messages) - end]:
            match message:
                case User() if message not in told:
                    self._add(Entry(kind="told", commit=commit, text=text_of(message.content), by=by))
                case Assistant():
                    self._reply(commit, message, before, after)
                case Result():
                    results.append(message)
                case _:
                    pass
        if before is not None and after.messages == old and after.spent.steps > before.spent.steps:
            # A summary that was asked for, and not taken.
            self._add(Entry(kind="compacted", commit=commit, outcome="failed", tokens=_cost(before, after)))
        for message in after.told[len(told) :]:
            self._add(Entry(kind="told", commit=commit, text=text_of(message.content), by=by))
        return results

    def _reply(self, commit: CommitId, message: Assistant, before: Continuation | None, after: Continuation) -> None:
        tokens = _cost(before, after)
        text = message.content or message.refusal or ""
        if text or not message.tool_calls:
            self._add(Entry(kind="said", commit=commit, text=text, tokens=tokens))
        calls = {call.key: call for call in after.calls}
        for place, request in enumerate(message.tool_calls):
            cost = tokens if place == 0 and not text else None
            function = request.function
            self._begin(commit, function.name, function.arguments, request.id, calls.get(request.id), cost)

    def _edit(self, commit: CommitId, call: Call, before: Call | None, by: str) -> None:
        """Arguments that nobody has approved: a fork asks for them."""
        if before is None or before.arguments == call.arguments or call.decision is not None or call.approvals:
            return
        entry = Entry(kind="edited", commit=commit, by=by, tool=call.tool, arguments=call.arguments, call=call.id)
        self._calls.get(call.nonce, []).append(entry)

    def _decision(self, commit: CommitId, call: Call, before: Call | None) -> None:
        decision = call.decision
        if decision is None or (before is not None and before.decision == decision):
            return
        entry = Entry(
            kind="decided",
            commit=commit,
            text=decision.note,
            by=decision.by.name,
            outcome=decision.choice,
            tool=call.tool,
            arguments=call.arguments if decision.edited else "",
            call=call.id,
            standing=decision.standing,
        )
        if call.nonce in self._calls:
            self._calls[call.nonce].append(entry)
        else:
            self._add(entry)

    def _result(
        self, commit: CommitId, result: Result, before: Continuation | None, after: Continuation, by: str
    ) -> None:
        call = next((call for call in after.calls if call.key == result.tool_call_id), None)
        known = None if call is None else _known(before, call)
        answered = known is not None and (known.question is not None or known.state is CallState.UNKNOWN)
        block = self._asked.get(result.tool_call_id)
        entry = Entry(
            kind="got",
            commit=commit,
            text=result.content,
            by=by if answered else "",
            outcome="returned" if call is None else call.state.value,
            tool=block[0].tool if block else "",
            call=CallId("") if call is None else call.id,
        )
        if block is None:
            self._add(entry)
        else:
            block.append(entry)

    def _standing(self, commit: CommitId, before: Continuation | None, after: Continuation, by: str) -> None:
        """Gates and ends."""
        old = None if before is None else before.gate
        gate, ending = after.gate, after.ending
        if old is not None and (gate is None or gate.id != old.id) and ending is None:
            self._add(Entry(kind="lifted", commit=commit, text=old.reason, by=by, outcome=old.kind))
        if gate is not None and (old is None or gate.id != old.id):
            self._add(Entry(kind="gate", commit=commit, text=gate.reason, by=by, outcome=gate.kind))
        decision = None if gate is None else gate.decision
        if gate is not None and decision is not None and (old is None or old.decision is None):
            # A changed agent that a person refused: the gate stands until the code is another one.
            who = decision.by.name
            self._add(Entry(kind="refused", commit=commit, text=decision.note, by=who, outcome=gate.kind))
        if ending is not None and ending.status != "completed" and (before is None or before.ending is None):
            self._add(Entry(kind="ended", commit=commit, text=ending.text, by=by, outcome=ending.status))


def _known(state: Continuation | None, call: Call) -> Call | None:
    """The same call in another state."""
    return next((one for one in (() if state is None else state.calls) if one.nonce == call.nonce), None)


def _attempt(state: Continuation | None, call: Call) -> int:
    known = _known(state, call)
    return 0 if known is None else known.attempt


def _kept(old: Sequence[Message], new: Sequence[Message]) -> tuple[int, int]:
    """How many messages at the start and at the end are the same: usually all of the old ones, at the start."""
    if new[: len(old)] == old:
        return len(old), 0
    most = min(len(old), len(new))
    start = next((place for place in range(most) if old[place] != new[place]), most)
    most -= start
    end = next((place for place in range(most) if old[-1 - place] != new[-1 - place]), most)
    return start, end


def _cost(before: Continuation | None, after: Continuation) -> Usage:
    """What a step took of the model."""
    return after.spent.usage if before is None else after.spent.usage - before.spent.usage


def _with_child(entry: Entry, child: CommitId | None) -> Entry:
    return entry if child is None else replace(entry, child=child)
