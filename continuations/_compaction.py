"""Compaction: a shorter array of messages in the place of a long one, when it is due, what must survive it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from ._codec import encode_message
from ._events import Compacted, CompactionFailed, ModelReplied
from ._ids import Digest, digest
from ._messages import Assistant, Image, Message, Result, User, text_of
from ._moves import NotApplicable, unfinished
from ._specs import AgentSpec
from ._state import Context, Continuation, Spent

DECISIONS = "What people decided about calls that are no longer shown, word for word:"
"""How the message begins that keeps what the model was told of decisions."""

_BYTES = 4
"""Bytes of text in a token, roughly."""
_IMAGE = 1000 * _BYTES
_AGAIN = 4
"""After a compaction, the messages must grow by the fourth part of the threshold before the next one."""


# When --------------------------------------------------------------------------------------------------------------


def estimate_tokens(messages: Sequence[Message]) -> int:
    """The tokens that messages take, roughly: a quarter of their bytes, and a thousand for an image."""
    return sum(map(_bytes, messages)) // _BYTES


def _bytes(message: Message) -> int:
    match message:
        case User(content=str(content)) | Result(content=content):
            return 16 + len(content.encode())
        case User():
            images = sum(isinstance(part, Image) for part in message.content)
            return 16 + images * _IMAGE + len(text_of(message.content).encode())
        case Assistant():
            return 16 + len(msgspec.json.encode(message))


def context_size(state: Continuation) -> int:
    """The tokens that the model's next request takes: what its last reply told, and an estimate of what came since."""
    known = state.context
    return known.tokens + estimate_tokens(state.messages[known.messages :])


def due(state: Continuation) -> bool:
    """Whether the messages are to be compacted before the model is called.

    They are if they have reached the agent's threshold, or the model has refused them as too long; and not again before
    they have grown by a fourth part of it: a compaction that did not get below it is not followed by another at once.
    """
    policy, known = state.definition.compaction, state.context
    if policy is None or last_round(state.messages) < 2:
        return False  # between the prompt and the model's last reply there is nothing
    again = known.left + policy.at // _AGAIN if known.left else 0
    return known.overflow == "told" or context_size(state) >= max(policy.at, again)


def filled(state: Continuation, event: ModelReplied) -> Context:
    """What a reply tells of the messages' size: those that it was shown, and itself without its reasoning."""
    known, usage = state.context, event.reply.usage
    if known.overflow:
        known = replace(known, overflow="")
    if state.definition.compaction is None or not usage.total:
        return replace(known, tokens=0, messages=0) if known.tokens else known  # as it was, or it would be written
    since = estimate_tokens(state.messages[event.shown :])
    tokens = usage.total - usage.reasoning + since
    return replace(known, tokens=tokens, messages=len(state.messages) + 1)


# What ----------------------------------------------------------------------------------------------------------------


def last_round(messages: Sequence[Message]) -> int:
    """The place of the model's last reply. From there on everything stays: open calls, and what it has not read yet."""
    places = range(len(messages) - 1, -1, -1)
    return next((place for place in places if isinstance(messages[place], Assistant)), 0)


def compaction_fault(before: Sequence[Message], after: Sequence[Message]) -> str | None:
    """Why messages cannot stand in the place of others, or None if they can.

    The prompt stays first; the model's last reply stays last, with all that follows it; before it each reply is
    followed by exactly the results of its calls; what the model was told of people's decisions stands somewhere; and
    it is less.
    """
    last = last_round(before)
    rest = tuple(before[last:])
    head = tuple(after[: max(0, len(after) - len(rest))])
    if last == 0:
        return "the model has not replied yet, so there is nothing to leave out"
    if tuple(after[len(head) :]) != rest:
        return "they do not end with the model's last reply and what follows it, as it was"
    if head[:1] != tuple(before[:1]):
        return "they do not begin with the prompt, as it was"
    unpaired = _unpaired(head)
    if unpaired is not None:
        return unpaired
    lost = lost_decisions(before, after)
    if lost:
        return f"what the model was told of a decision is gone: {lost[0]}"
    if estimate_tokens(after) >= estimate_tokens(before):
        return "they are not shorter"
    return None


def _unpaired(messages: Sequence[Message]) -> str | None:
    """How calls and results do not belong together; None if each reply is followed by its calls' results at once."""
    owed: set[str] = set()
    for message in messages:
        if isinstance(message, Result) and message.tool_call_id in owed:
            owed.remove(message.tool_call_id)
            continue
        if isinstance(message, Result):
            return f"there is a result of {message.tool_call_id!r}, which no reply before it asks for"
        if owed:
            break
        if isinstance(message, Assistant):
            keys = [request.id for request in message.tool_calls]
            owed = set(keys)
            if len(owed) < len(keys):
                return "a reply asks for two calls of one id"
    return f"the call {min(owed)!r} has no result right after the reply that asks for it" if owed else None


# Decisions -----------------------------------------------------------------------------------------------------------


def lost_decisions(before: Sequence[Message], after: Sequence[Message]) -> tuple[str, ...]:
    """What the model was told of people's decisions and would no longer read: calls, each with what was said of it."""
    shown = set(map(_heard, after))
    whole = "\0".join(shown)
    lost = ((call, word) for call, word in _decisions(before) if word not in shown and word not in whole)
    return tuple(dict.fromkeys(f"{call}: {word}" if call else word for call, word in lost))


def _heard(message: Message) -> str:
    """What a message tells the model that others said."""
    match message:
        case User(content=content):
            return text_of(content)
        case Result(content=text):
            return text
        case Assistant():
            return ""


def _decisions(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """Each call that was rejected, or whose arguments a person changed, and the words that say so."""
    calls: dict[str, str] = {}
    for message in messages:
        match message:
            case Assistant():
                calls = {one.id: f"{one.function.name} {one.function.arguments}" for one in message.tool_calls}
            case Result():
                word = decision_in(message.content)
                if word:
                    yield calls.get(message.tool_call_id, ""), word
            case User():
                text = text_of(message.content)
                if text.startswith(DECISIONS):
                    yield "", text


def decision_in(result: str) -> str:
    """What a result says of a person's decision: all of a rejection, the first line of an edit; else nothing."""
    if result.startswith("Rejected by ") and result.endswith("The call did not run."):
        return result
    name, changed, rest = result.partition(_CHANGED)
    if not changed or not name.startswith("[") or "\n" in name:
        return ""
    try:
        _, end = _decoder.raw_decode(rest)
    except (ValueError, RecursionError):
        return ""
    return f"{name}{changed}{rest[:end]}]" if rest[end : end + 1] == "]" else ""


_CHANGED = " changed the arguments to "
_decoder = json.JSONDecoder()


def with_decisions(before: Sequence[Message], after: Sequence[Message]) -> tuple[Message, ...]:
    """The messages `after`, with more before the model's last reply if otherwise people's decisions were lost."""
    lost = lost_decisions(before, after)
    texts = [word for word in lost if word.startswith(DECISIONS)]  # such a message itself
    lines = [f"- {word}" for word in lost if not word.startswith(DECISIONS)]
    if lines:
        texts.append("\n".join((DECISIONS, *lines)))
    place = max(0, len(after) - (len(before) - last_round(before)))
    return (*after[:place], *(User(content=text) for text in texts), *after[place:])


# Leaving results out -------------------------------------------------------------------------------------------------


def without_results(definition: AgentSpec, messages: Sequence[Message], keep: int) -> tuple[Message, ...]:
    """The messages with the contents of old results left out: of all but the newest `keep`.

    Those of the model's last reply stay, and what people decided or answered. What would not become shorter stays, too.
    """
    last = last_round(messages)
    places = [place for place, message in enumerate(messages) if isinstance(message, Result)]
    old = {place for place in places[: max(0, len(places) - keep)] if place < last}
    made: list[Message] = []
    tools: Mapping[str, str] = {}
    for place, message in enumerate(messages):
        if isinstance(message, Assistant):
            tools = {one.id: one.function.name for one in message.tool_calls}
        if isinstance(message, Result) and place in old:
            tool = definition.tool(tools.get(message.tool_call_id, ""))
            if tool is None or tool.kind != "question":
                message = _left_out(message)
        made.append(message)
    return tuple(made)


_NOTE = re.compile(r"\[[0-9,]+ characters, left out to save room\]")


def _left_out(result: Result) -> Result:
    word = decision_in(result.content)
    if word == result.content:
        return result
    if _NOTE.fullmatch(result.content[len(word) :].strip()):
        return result  # it was left out before, and its length is known
    rest = len(result.content) - len(word)
    text = (f"{word}\n" if word else "") + f"[{rest:,} characters, left out to save room]"
    return replace(result, content=text) if len(text) < len(result.content) else result


# The step ------------------------------------------------------------------------------------------------------------


def messages_digest(messages: Sequence[Message]) -> Digest:
    """Names an array of messages by its content: a compaction is bound to what it was made of."""
    return digest(b"".join(map(encode_message, messages)))


def compacted(state: Continuation, event: Compacted) -> Continuation:
    """Put shorter messages in the place of those that the compaction was made of; what came since follows them."""
    unfinished(state, event)
    if messages_digest(state.messages[: event.shown]) != event.replaces:
        raise NotApplicable(
            "The messages are no longer those that were compacted.", hint="Load the loop again: it has moved on."
        )
    messages = (*event.messages, *state.messages[event.shown :])
    fault = compaction_fault(state.messages, messages)
    if fault is not None:
        raise NotApplicable(f"The messages cannot be compacted so: {fault}.", hint="The loop goes on as it was.")
    known, was, now = state.context, estimate_tokens(state.messages), estimate_tokens(messages)
    context = Context(times=known.times + 1)
    if known.tokens:
        size = context_size(state)
        # Instructions and tools stay; and an estimate may be off by as much again.
        context = replace(context, tokens=max(size - was + now, size * now // was), messages=len(messages))
    return _tried(replace(state, messages=messages, context=context), event, overflow=known.overflow)


def compaction_failed(state: Continuation, event: CompactionFailed) -> Continuation:
    """Go on as it was; it is tried again once the messages have grown."""
    unfinished(state, event)
    return _tried(state, event, overflow=state.context.overflow)


def _tried(state: Continuation, event: Compacted | CompactionFailed, overflow: str) -> Continuation:
    context = replace(state.context, left=context_size(state), overflow="tried" if overflow else "")
    spent = state.spent
    if event.usage is not None:
        spent = Spent(steps=spent.steps + 1, usage=spent.usage + event.usage, seconds=spent.seconds)
    return replace(state, context=context, spent=spent)
