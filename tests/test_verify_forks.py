"""Verification of forks with intent: it finds every forged departure from a source, and every forged rehearsal."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    Amended,
    Amendment,
    AnyEvent,
    CallId,
    CallState,
    CommitId,
    Continuation,
    Edited,
    MemoryStore,
    Missed,
    Overridden,
    Person,
    Recalled,
    Recording,
    Rehearsal,
    Rehearsed,
    Result,
    Reworded,
    Rewound,
    Told,
    ToolStarted,
    User,
    Variation,
    describe,
    loop_name,
    step,
)
from tests.strategies import ADA, EPOCH, GRACE, ROBOT, World
from tests.test_verify_law import faults, with_call

ORDER, LOOK = CallId("order-1"), CallId("look-1")
Forge = Callable[[Continuation], Continuation]


class Scene:
    """A loop that came to its end; ``live``, a fork of where it waited; and ``play``, a rehearsal of the whole of it,
    of which no call has been looked up."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        world = World(self.store, ["order", "look", ["order"]])
        started = world.saved().commit
        waiting = world.settle().commit
        world.end(lambda _: "approve")
        self.loops = world.loops
        self.until = world.saved().commit
        world.loops.fork(waiting, "live")
        world.loops.fork(started, "play", Variation(tools="recorded"), by=GRACE)
        self.play = World.resumed(self.store, "play")
        while not self.play.saved().state.calls:
            self.play.perform(next(self.play.due()))
        assert faults(self.store) == []

    def forge(
        self, loop: str, event: AnyEvent, change: Forge, further: tuple[CommitId, ...] = (), author: Person = GRACE
    ) -> list[str]:
        """What is found once a commit by hand claims that an event made of the head's state what `change` does."""
        saved = self.play.history.load(loop_name(loop))
        after = change(saved.state)
        children = tuple(child.commit for _, child in sorted(after.children.items()))
        commit = self.store.write(
            after,
            parents=(saved.commit, *children, *further),
            message=describe(saved.loop, saved.state, event, after).message,
            author=author,
            committer=ROBOT,
        )
        self.store.move(saved.loop, saved.commit, commit.id)
        return faults(self.store)


OTHER = User(content="Order gold.")
TOLD = Told(at=EPOCH, message=OTHER, by=ADA)
REWOUND = Rewound(at=EPOCH, kept=1, to=CommitId("c" * 40), calls=(), by=GRACE)
AMENDED = Amended(at=EPOCH, amendment=Amendment(instructions="Obey me."), by=GRACE)
REWORDED = Reworded(at=EPOCH, place=0, message=OTHER, by=GRACE)
EDITED = Edited(at=EPOCH, call=ORDER, arguments='{"item": 9}', by=GRACE)
OVERRIDDEN = Overridden(at=EPOCH, call=LOOK, content="nothing", by=GRACE)
ASKING = Rehearsed(at=EPOCH, rehearsal=Rehearsal(), by=GRACE)
ELSEWHERE = Rehearsal(record=Recording(until=CommitId("a" * 40), since=CommitId("b" * 40)))
RECALLED = Recalled(at=EPOCH, call=LOOK, ended="returned", content="gold", source=CommitId("a" * 40))
STARTED = ToolStarted(at=EPOCH, call=LOOK, worker=ROBOT.name)  # type: ignore[arg-type]


def messages(state: Continuation, place: int, content: str) -> Continuation:
    """The state with something else in one of its messages."""
    said = replace(state.messages[place], content=content)
    return replace(state, messages=(*state.messages[:place], said, *state.messages[place + 1 :]))


FORGERIES: dict[str, tuple[str, AnyEvent, Forge, str]] = {
    "a tail is removed to a commit of nobody's": (
        "live",
        REWOUND,
        lambda s: step(s, REWOUND),
        "it goes back to a commit that is none of its own history",
    ),
    "another agent than the one it was with what it says is other in it": (
        "live",
        AMENDED,
        lambda s: _with_definition(step(s, AMENDED), tools=s.definition.tools[1:]),
        "its definition is not the one that it had, amended",
    ),
    "another agent than what it says it was amended to": (
        "live",
        TOLD,
        lambda s: replace(step(s, TOLD), amended=Amendment(instructions="Obey me.")),
        "its agent's definition is not as a fork has amended it",
    ),
    "the model said something else": (
        "live",
        REWORDED,
        lambda s: messages(s, 1, "I obey."),
        "Reworded changed something else than one message that the loop was told",
    ),
    "two messages are reworded at once": (
        "live",
        REWORDED,
        lambda s: messages(messages(s, 0, "Obey."), 1, "I obey."),
        "Reworded changed something else",
    ),
    "an edited call goes by the old decision": (
        "live",
        EDITED,
        lambda s: with_call(s, ORDER, arguments=EDITED.arguments, state=CallState.APPROVED),
        "order-1 asks for something else, and goes by what was decided before",
    ),
    "a call that has run is asked for anew": (
        "live",
        replace(EDITED, call=LOOK),
        lambda s: with_call(s, LOOK, arguments=EDITED.arguments),
        "look-1 had begun when a fork changed what it asks for",
    ),
    "the result of another call is overridden": (
        "live",
        replace(OVERRIDDEN, call=ORDER),
        lambda s: with_call(messages(s, 2, "nothing"), ORDER, remark="x"),
        "Overridden changed something else than the result of the call that it names",
    ),
    "what its tools do changes in silence": (
        "play",
        TOLD,
        lambda s: replace(step(s, TOLD), rehearsal=None),
        "Told changed what its tools do",
    ),
    "a record that is no parent": (
        "live",
        replace(ASKING, rehearsal=ELSEWHERE),
        lambda s: step(replace(s, children={}), replace(ASKING, rehearsal=ELSEWHERE)),
        "the record that it is answered from is not one of its parents",
    ),
    "what is nested acts on": (
        "live",
        ASKING,
        lambda s: step(s, ASKING),
        "the child loop of team-1 does not rehearse as the loop does",
    ),
    "an answer that the record does not hold": (
        "play",
        RECALLED,
        lambda s: step(s, RECALLED),
        "look-1 was answered with what the record does not hold",
    ),
    "an answer that does not count as used": (
        "play",
        RECALLED,
        lambda s: replace(step(s, RECALLED), rehearsal=s.rehearsal),
        "the answers of the record that count as used are not those that were",
    ),
    "an answer to a call that was not looked up": (
        "live",
        replace(RECALLED, call=ORDER),
        lambda s: replace(
            with_call(s, ORDER, state=CallState.RETURNED),
            messages=(*s.messages, Result(tool_call_id="c0", content="gold")),
        ),
        "order-1 was not to be answered from a record",
    ),
    "a call goes on though the record has no answer": (
        "play",
        Missed(at=EPOCH, call=LOOK),
        lambda s: with_call(s, LOOK, state=CallState.APPROVED, remark="x"),
        "look-1 has a decision that nobody made for it",
    ),
    "a call fails though a person was to be asked": (
        "play",
        Missed(at=EPOCH, call=LOOK),
        lambda s: replace(
            with_call(s, LOOK, state=CallState.FAILED),
            messages=(*s.messages, Result(tool_call_id="c1", content="no")),
        ),
        "look-1 is failed, and the record had no answer",
    ),
    "a tool runs in a rehearsal that nobody has approved in it": (
        "play",
        STARTED,
        lambda s: with_call(s, LOOK, state=CallState.RUNNING, attempt=1, runner=s.worker),
        "look-1 was started in a rehearsal without a decision",
    ),
}


def _with_definition(state: Continuation, **changes: object) -> Continuation:
    definition = replace(state.definition, **changes)
    return replace(state, definition=definition, fingerprint=definition.fingerprint)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_fork_is_found(name: str) -> None:
    loop, event, change, expected = FORGERIES[name]
    scene = Scene()
    if isinstance(event, Recalled):
        event = replace(event, source=scene.until)
    found = scene.forge(loop, event, change)
    assert any(expected in fault for fault in found), found


def test_a_tail_removed_with_other_calls_than_there_were_is_found() -> None:
    scene = Scene()
    end = scene.loops.fork("ops", "end")
    fork = scene.loops.fork("ops", "cut", Variation(drop=1), by=GRACE)
    to = scene.store.read(fork.commit).parents[0]
    assert to == end.commit
    back = scene.store.read(end.commit).parents[0]
    state = scene.store.read(fork.commit).state
    calls = tuple(replace(call, remark="forged") for call in state.calls)
    event = Rewound(at=EPOCH, kept=len(state.messages), to=back, calls=calls, by=GRACE)
    found = scene.forge("end", event, lambda state: step(state, event))
    assert any(f"its calls are not those of {back[:12]}" in fault for fault in found), found


def test_a_rehearsal_that_begins_with_a_call_that_may_start_is_found() -> None:
    scene = Scene()
    world = World(scene.store, ["look"], "flat")
    world.perform(next(world.due()))
    saved = world.saved()
    found = scene.forge("flat", ASKING, lambda state: replace(state, rehearsal=Rehearsal()))
    assert any("look-1 may start on what was decided before the rehearsal" in fault for fault in found), found
    assert saved.state.calls[0].state is CallState.APPROVED
