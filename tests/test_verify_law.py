"""Verification as Caesura: it finds no fault with what the product makes, and finds every forgery."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    Assistant,
    Call,
    CallId,
    CallState,
    Cancelled,
    Child,
    ChildFailed,
    ChildFinished,
    ChildResumed,
    ChildSuspended,
    Compacted,
    ConflictError,
    Continuation,
    Decided,
    Decision,
    Ending,
    FilesChanged,
    Function,
    Gate,
    GitStore,
    InvalidAnswer,
    MemoryStore,
    Message,
    ModelReplied,
    NothingRecorded,
    Person,
    Preview,
    Proposal,
    Recalled,
    Rehearsed,
    Repaired,
    Reply,
    Result,
    Resumed,
    Rewound,
    Rule,
    Saved,
    Started,
    Store,
    Suspended,
    Told,
    ToolRequest,
    ToolStarted,
    Usage,
    User,
    Workspace,
    describe,
    loop_name,
    start,
    step,
)
from caesura.continuations._verify import CALL_MAY_CHANGE, MAY_CHANGE
from caesura.continuations.verify import verify
from tests.strategies import (
    ADA,
    EPOCH,
    FILES,
    GRACE,
    NESTED,
    PLANS,
    ROBOT,
    TREE_AGENT,
    WORKERS,
    Plan,
    World,
    events,
    variations,
)

HISTORIES = Path(__file__).parent / "histories"


def faults(store: Store) -> list[str]:
    return [f"{fault.loop} {fault.what}" for fault in verify(store).faults]


# What the product makes --------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(data=st.data(), plan=PLANS)
def test_no_history_that_the_product_makes_has_a_fault(data: st.DataObject, plan: Plan) -> None:
    store = MemoryStore()
    world = World(store, plan, files=data.draw(st.none() | st.just(FILES[0])), shares=data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(1, 40))):
        _something_happens(data, world)
    assert faults(store) == []


def _something_happens(data: st.DataObject, world: World) -> None:
    """A worker's next move, a decision, or anything else that may happen to any loop of the tree; or a fork."""
    loops = list(world.history.tree(world.saved()))
    chance = data.draw(st.integers(0, 19))
    try:
        if chance < 10:
            due = list(world.due())
            if due:
                world.perform(data.draw(st.sampled_from(due)))
        elif chance < 14:
            waiting = world.loops.pending(world.root)
            if waiting:
                world.decide(data.draw(st.sampled_from(waiting)), data.draw(st.sampled_from(["approve", "reject"])))
        elif chance < 18:
            saved = data.draw(st.sampled_from(loops))
            event = data.draw(events(saved.state))
            if isinstance(event, ChildFinished | ChildFailed | ChildSuspended | ChildResumed):
                return  # they are the child's to say
            if isinstance(event, Rewound | Rehearsed | Recalled):
                return  # they name commits: forks make them, below
            if isinstance(event, Decided):
                event = replace(event, seen=saved.commit)
            world.commit(saved, event)
        elif chance == 18:
            saved = data.draw(st.sampled_from(loops))
            world.commit(saved, Repaired(at=world.now(), reason="steps were lost", by=ADA))
        else:
            saved = data.draw(st.sampled_from(loops))
            fork = world.loops.fork(saved.commit, None, data.draw(variations(saved.state)), by=GRACE)
            if data.draw(st.booleans()):
                world.root = fork.loop  # it goes on there
    except (ConflictError, NothingRecorded, InvalidAnswer):
        return


def test_no_finished_tree_has_a_fault_however_it_was_decided() -> None:
    for root, choice in (("yes", "approve"), ("no", "reject")):
        store = MemoryStore()
        World(store, NESTED, root).end(lambda request: "approve" if request.loop.startswith("yes") else "reject")
        report = verify(store)
        assert (report.faults, report.loops) == ((), 3), choice
        assert report.commits > 15


def test_a_loop_that_was_paused_while_its_model_gave_the_last_reply_has_no_fault() -> None:
    store = MemoryStore()
    world = World(store, [])
    reply = next(world.due())
    world.commit(world.saved(), PAUSED)
    world.perform(reply)
    assert world.saved().state.status == "completed"
    assert faults(store) == []


@pytest.mark.parametrize("bundle", sorted(path.name for path in HISTORIES.glob("*.bundle")))
def test_no_recorded_history_has_a_fault(bundle: str, tmp_path: Path) -> None:
    clone = tmp_path / "recorded.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", HISTORIES / bundle, clone], check=True)
    report = verify(GitStore.open(clone))
    assert report.faults == ()
    assert report.commits > 30


def test_a_branch_made_renamed_or_moved_ahead_by_git_has_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "caesura"
    store = GitStore.open(folder, create=True)
    world = World(store, NESTED)
    world.settle()
    for words in (
        ["branch", "loops/plain", "loops/ops"],
        ["branch", "loops/older", "loops/ops~2"],
        ["branch", "loops/inner", "loops/ops.team-1"],
        ["branch", "-m", "loops/ops", "loops/renamed"],
    ):
        subprocess.run(["git", "-C", folder, *words], check=True)
    for name in ("plain", "older", "inner"):
        World.resumed(store, name).settle()
    report = verify(store)
    assert report.faults == ()
    assert any("ops.team-1 is nested in ops, which has no branch" in note for note in report.notes)


def test_every_part_of_a_state_and_of_a_call_has_a_rule() -> None:
    assert set(MAY_CHANGE) == set(Continuation.__struct_fields__), "say in _verify.py which events may change it"
    assert set(CALL_MAY_CHANGE) == set(Call.__struct_fields__), "say in _verify.py which events may change it"


def test_verifying_one_loop_looks_at_it_and_what_is_nested_in_it_alone() -> None:
    store = MemoryStore()
    World(store, NESTED).settle()
    World(store, ["order"], "other").settle()
    assert verify(store, [loop_name("other")]).loops == 1
    assert verify(store, [loop_name("ops")]).loops == 3
    assert verify(store).loops == 4


def test_the_files_of_nested_loops_are_those_that_they_were_given_and_brought_back() -> None:
    def scene() -> World:
        return World(MemoryStore(), [["look"]], files=FILES[0])

    def forged(world: World, kind: type[Started] | type[ChildFinished], **changes: object) -> list[str]:
        """What is found once the next event of a kind is another one."""
        while (due := next(world.due(), None)) is not None:
            wanted = isinstance(due.event, kind)
            world.perform(due._replace(event=replace(due.event, **changes)) if wanted else due)
        return faults(world.history.store)

    shared = World(MemoryStore(), [["look"]], files=FILES[0], shares=True)
    (fault,) = forged(shared, Started, copied=True)
    assert "crew-1 works on a copy, and its tool says otherwise" in fault
    assert forged(scene(), Started) == []
    (fault, *_) = forged(scene(), Started, workspace=None, copied=False)
    assert "team-1 works on no files, and its tool says otherwise" in fault
    (fault,) = forged(scene(), ChildFinished, workspace=FILES[1])
    assert "its files are not those that it had with those of team-1 merged into them" in fault
    world = scene()
    world.perform(next(world.due()))
    child = next(world.due()).event
    assert isinstance(child, Started)
    state = replace(start(child), copy_of=FILES[1].tree)
    store, name = world.history.store, loop_name("ops.team-1")
    message = describe(name, None, child, state).message
    store.move(name, None, store.write(state, parents=(), message=message, author=ROBOT, committer=ROBOT).id)
    assert any("not those that it says they are a copy of" in fault for fault in faults(store))


def test_the_files_of_a_folder_that_loops_share_are_those_that_one_of_them_committed_last() -> None:
    def scene() -> tuple[World, Saved]:
        world = World(MemoryStore(), [["order"]], files=FILES[0], shares=True)
        world.settle()
        child = world.history.load(loop_name("ops.crew-1"))
        child = world.commit(child, FilesChanged(at=EPOCH, workspace=FILES[1], by=ADA))
        assert child.state.workspace == replace(FILES[1], edition=1)
        return world, child

    def forged(event: Told | FilesChanged, files: Workspace) -> list[str]:
        """What is found once a commit of the parent, which nests what the child has, says that its files are others."""
        world, child = scene()
        before = world.saved()
        nested = {CallId("crew-1"): Child(commit=child.commit, state=child.state)}
        after = replace(step(replace(before.state, children=nested), event), workspace=files)
        commit = world.history.store.write(
            after,
            parents=(before.commit, child.commit),
            message=describe(before.loop, before.state, event, after).message,
            author=ADA,
            committer=ROBOT,
        )
        world.history.store.move(before.loop, before.commit, commit.id)
        return faults(world.history.store)

    world, child = scene()
    told = world.commit(world.saved(), TOLD)
    assert told.state.workspace == child.state.workspace
    assert faults(world.history.store) == []
    changed = FilesChanged(at=EPOCH, workspace=FILES[0], by=ADA)
    assert forged(TOLD, replace(FILES[1], edition=1)) == []
    assert forged(TOLD, FILES[0]) == ["ops Told changed its workspace"]
    assert forged(changed, replace(FILES[0], edition=2)) == []
    (fault,) = forged(changed, replace(FILES[0], edition=1))
    assert "its files are said to be edition 1, and those before them were edition 1" in fault


# Forgeries ---------------------------------------------------------------------------------------------------------

Forge = Callable[[Continuation], Continuation]


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Puts one text in the place of another."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


class Scene:
    """A tree of loops that waits, has run and goes on, for forged commits to be put on top of."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.world = World(self.store, ["order", "look", ["order"]])
        self.world.settle()

    def head(self, loop: str = "ops") -> Saved:
        return self.world.history.load(loop_name(loop))

    def forge(
        self,
        event: object,
        change: Forge,
        *,
        loop: str = "ops",
        author: Person = ROBOT,
        message: Callable[[str], str] = lambda text: text,
        keep_children: bool = True,
    ) -> list[str]:
        """What is found once a commit by hand claims that an event made of the head's state what `change` does."""
        saved = self.head(loop)
        after = change(saved.state)
        text = message(describe(saved.loop, saved.state, event, after).message)  # type: ignore[arg-type]
        further = [child.commit for _, child in sorted(after.children.items())] if keep_children else []
        commit = self.store.write(after, parents=(saved.commit, *further), message=text, author=author, committer=ROBOT)
        self.store.move(saved.loop, saved.commit, commit.id)
        return faults(self.store)


def with_call(loop: Continuation, call_id: str, **changes: object) -> Continuation:
    calls = tuple(replace(call, **changes) if call.id == call_id else call for call in loop.calls)
    assert calls != loop.calls
    return replace(loop, calls=calls)


TOLD = Told(at=EPOCH, message=User(content="Hurry."), by=ADA)
PAUSED = Suspended(at=EPOCH, kind="pause", reason="lunch", by=ADA)
GATE = Gate(id="gate-1", kind="pause", reason="lunch", since=EPOCH)  # type: ignore[arg-type]
RESUMED = Resumed(at=EPOCH, worker=WORKERS[2])
STARTED = ToolStarted(at=EPOCH, call="order-1", worker=WORKERS[0])  # type: ignore[arg-type]
CANCELLED = Cancelled(at=EPOCH, reason="enough")
CHANGED = AgentChanged(at=EPOCH, definition=TREE_AGENT)
RUN = CallState.RUNNING


def _told(state: Continuation) -> Continuation:
    return replace(state, told=(*state.told, TOLD.message))


FORGERIES: dict[str, tuple[object, Forge, str]] = {
    "a call that nobody approved runs": (
        STARTED,
        lambda s: with_call(s, "order-1", state=RUN, attempt=1, runner=s.worker),
        "ToolStarted made order-1 running, which was awaiting",
    ),
    "an event moves a call that it does not name": (
        TOLD,
        lambda s: with_call(_told(s), "order-1", state=CallState.APPROVED),
        "Told changed order-1, which it does not name",
    ),
    "a call's arguments change without a decision": (
        TOLD,
        lambda s: with_call(_told(s), "order-1", arguments='{"item": 99}'),
        "Told changed order-1, which it does not name",
    ),
    "calls vanish": (TOLD, lambda s: replace(_told(s), calls=s.calls[1:]), "Told changed which calls there are"),
    "a message is rewritten": (
        TOLD,
        lambda s: replace(_told(s), messages=(User(content="Order gold."), *s.messages[1:])),
        "messages that were there are gone or changed",
    ),
    "a message is taken away": (
        TOLD,
        lambda s: replace(_told(s), messages=s.messages[:-1]),
        "messages that were there are gone or changed",
    ),
    "the model said something more": (
        TOLD,
        lambda s: replace(_told(s), messages=(*s.messages, s.messages[1])),
        "Told added 1 replies of the model",
    ),
    "a result of a call that is open": (
        TOLD,
        lambda s: replace(_told(s), messages=(*s.messages, Result(tool_call_id="c0", content="done"))),
        "Told ended 0 calls and added 1 results",
    ),
    "a second result": (
        TOLD,
        lambda s: replace(_told(s), messages=(*s.messages, Result(tool_call_id="c1", content="done"))),
        "look-1 is returned and has 2 results",
    ),
    "what was told is lost": (TOLD, lambda s: s, "Told lost or invented something that the loop was told"),
    "something was told that nobody said": (
        RESUMED,
        lambda s: _told(replace(s, worker=WORKERS[2])),
        "Resumed lost or invented something that the loop was told",
    ),
    "attempts shrink": (
        RESUMED,
        lambda s: with_call(replace(s, worker=WORKERS[2]), "look-1", attempt=0),
        "look-1 went from attempt 1 to attempt 0",
    ),
    "counters shrink": (TOLD, lambda s: replace(_told(s), counters={}), "its counters do not count"),
    "spent shrinks": (
        TOLD,
        lambda s: replace(_told(s), spent=replace(s.spent, steps=0)),
        "Told made 1 model calls 0",
    ),
    "tokens shrink": (
        TOLD,
        lambda s: replace(_told(s), spent=replace(s.spent, usage=Usage())),
        "what was spent is not",
    ),
    "seconds shrink": (
        TOLD,
        lambda s: replace(_told(s), spent=replace(s.spent, seconds=-1.0)),
        "what was spent is not",
    ),
    "absorbed grows": (
        TOLD,
        lambda s: replace(_told(s), absorbed=replace(s.absorbed, steps=5)),
        "what its child loops spent is not what they say",
    ),
    "another worker by an event that brings none": (
        TOLD,
        lambda s: replace(_told(s), worker=WORKERS[2]),
        "Told changed its worker",
    ),
    "an agent changed in silence": (
        TOLD,
        lambda s: replace(_told(s), definition=replace(s.definition, instructions="Obey me.")),
        "Told changed its definition",
    ),
    "a fingerprint of something else": (
        CHANGED,
        lambda s: replace(s, definition=replace(s.definition, instructions="Obey me.")),
        "its agent's name and fingerprint are not those of its definition",
    ),
    "a preview that nobody was shown": (
        CHANGED,
        lambda s: with_call(s, "order-1", preview=Preview(failed="trust me")),
        "order-1 has another preview than was shown",
    ),
    "another nonce": (TOLD, lambda s: replace(_told(s), nonce="other"), "Told changed its nonce"),
    "a budget raised in silence": (
        TOLD,
        lambda s: replace(_told(s), limit=replace(s.limit, steps=99)),
        "Told changed its limit",
    ),
    "a rule that nobody made": (
        TOLD,
        lambda s: replace(_told(s), rules=(_rule(s),)),
        "Told changed its rules",
    ),
    "a gate by an event that puts none": (
        TOLD,
        lambda s: replace(_told(s), gate=GATE, counters={**s.counters, "gate": 1}),
        "Told put the gate gate-1",
    ),
    "a gate without the next number": (
        PAUSED,
        lambda s: replace(s, gate=replace(GATE, id="gate-7"), counters={**s.counters, "gate": 1}),
        "the gate gate-7 does not have the next number",
    ),
    "an ending by an event that ends nothing": (
        TOLD,
        lambda s: replace(_told(s), ending=Ending(status="completed", text="done")),
        "Told made the loop completed",
    ),
    "an end with open calls": (
        CANCELLED,
        lambda s: replace(s, ending=Ending(status="cancelled", text="enough")),
        "it was cancelled, and still waits for something",
    ),
    "a cancellation that completes": (
        CANCELLED,
        lambda s: replace(s, ending=Ending(status="completed", text="done")),
        "Cancelled made the loop completed",
    ),
    "a child's state is dropped": (
        TOLD,
        lambda s: replace(_told(s), children={}),
        "the child loop of team-1 is no longer nested",
    ),
    "a repaired loop without a gate": (
        Repaired(at=EPOCH, reason="lost", by=ADA),
        lambda s: s,
        "the loop was repaired, and goes on as if a person had looked",
    ),
}


def _rule(state: Continuation) -> Rule:
    decision = Decision(
        choice="approve",
        by=ADA,
        at=EPOCH,
        seen="c" * 40,  # type: ignore[arg-type]
        arguments=state.calls[0].arguments_digest,
        tool=state.definition.tools[0].digest,
    )
    return Rule(tool="order", decision=decision)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_step_is_found(name: str) -> None:
    event, change, expected = FORGERIES[name]
    scene = Scene()
    assert faults(scene.store) == []
    assert any(expected in fault for fault in scene.forge(event, change)), faults(scene.store)


def test_a_message_that_tells_something_else_than_the_state_is_found() -> None:
    for old, new, expected in (
        ("Event: Told", "Event: Resumed", "Resumed lost or invented"),
        ("Event: Told", "Event: Forged", "Forged"),
        ("Event: Told\n", "", "names 0 events"),
        ("Event: Told", "Event: Told\nEvent: Told", "names 2 events"),
        ("Status: suspended", "Status: completed", "its message says Status completed"),
        ("Agent: ops", "Agent: boss", "its message says Agent boss"),
        ("Loop: ops\n", "", "does not name its loop"),
        ("Event: Told", "Event: Started", "the loop begins with more than its prompt"),
        ("Event: Told", "Event: Imported", "it has"),
    ):
        found = Scene().forge(TOLD, _told, message=replaced(old, new))
        assert any(expected in fault for fault in found), (new, found)


# Compactions -------------------------------------------------------------------------------------------------------


class Talk(Scene):
    """A loop that has read two results, had a call rejected, and has a result that its model has not read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.world = World(self.store, ["look", "order"])
        self.world.settle()
        self.world.decide(self.world.loops.pending()[0], "reject")
        state = self.head().state
        asked = Assistant(tool_calls=(ToolRequest(id="c9", function=Function(name="look", arguments="{}")),))
        reply = Reply(message=asked, usage=Usage(input=10, output=5))
        proposals = (Proposal(nonce="later"),)
        self.world.commit(
            self.head(), ModelReplied(at=EPOCH, reply=reply, shown=len(state.messages), proposals=proposals)
        )
        for _ in range(2):
            self.world.perform(next(self.world.due()))


COMPACTED = Compacted(at=EPOCH, messages=(), shown=0, replaces="0" * 16, how="by hand")  # type: ignore[arg-type]


def _compacted(*messages: Message, head: int = 1, tail: int = 2, **context: Any) -> Forge:
    """The first `head` messages, these, and the last `tail` of a state in the place of all of them."""

    def change(state: Continuation) -> Continuation:
        kept = (*state.messages[:head], *messages, *state.messages[len(state.messages) - tail :])
        return replace(state, messages=kept, context=replace(state.context, **{"times": 1, "left": 50} | context))

    return change


WORD = User(content="Rejected by Ada Lovelace. The call did not run.")
TAKEN: dict[str, tuple[object, Forge, str]] = {
    "the prompt": (COMPACTED, _compacted(WORD, head=0), "the compaction took the prompt away"),
    "a result that was not read": (COMPACTED, _compacted(WORD, tail=1), "changed the model's last reply"),
    "a decision": (COMPACTED, _compacted(), "what the model was told of a decision: order"),
    "a result": (COMPACTED, _compacted(WORD, head=3), "left 'c1' without its result"),
    "a reply": (
        COMPACTED,
        _compacted(Result(tool_call_id="c0", content="read"), WORD),
        "left a result of 'c0', which nothing asks for",
    ),
    "the count": (COMPACTED, _compacted(WORD, times=0), "Compacted made 0 compactions 0"),
    "all, by another event": (TOLD, _compacted(WORD), "messages that were there are gone or changed"),
    "what it left, by another event": (
        TOLD,
        lambda s: replace(_told(s), context=replace(s.context, left=9)),
        "Told changed its context",
    ),
    "a cost that is not told": (
        COMPACTED,
        lambda s: replace(_compacted(WORD)(s), spent=replace(s.spent, steps=9)),
        "Compacted made 2 model calls 9",
    ),
    "what was told": (
        COMPACTED,
        lambda s: _told(_compacted(WORD)(s)),
        "the compaction lost or invented something that the loop was told",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_compaction_that_takes_what_must_stay_is_found(name: str) -> None:
    event, change, expected = TAKEN[name]
    scene = Talk()
    assert faults(scene.store) == []
    assert any(expected in fault for fault in scene.forge(event, change)), faults(scene.store)


def test_an_honest_compaction_has_no_fault() -> None:
    scene = Talk()
    assert scene.forge(COMPACTED, _compacted(WORD)) == []
    scene.world.settle()
    assert faults(scene.store) == []


# Decisions ---------------------------------------------------------------------------------------------------------


def approval(scene: Scene, loop: str = "ops", **changes: object) -> Decided:
    """An honest approval of what waits in a loop, or one that is changed."""
    saved = scene.head(loop)
    call = saved.state.call("order-1")  # type: ignore[arg-type]
    assert call is not None
    tool = saved.state.tool(call)
    assert tool is not None
    honest = Decided(
        at=EPOCH,
        call=call.id,
        choice="approve",
        by=ADA,
        seen=saved.commit,
        arguments=call.arguments_digest,
        tool=tool.digest,
    )
    return replace(honest, **changes)


def approved(event: Decided, **changes: object) -> Forge:
    """What an approval makes of a state, or something that is no approval."""

    def change(state: Continuation) -> Continuation:
        decision = Decision(
            choice=event.choice, by=event.by, at=event.at, seen=event.seen, arguments=event.arguments, tool=event.tool
        )
        return with_call(state, event.call, **{"state": CallState.APPROVED, "decision": decision, **changes})

    return change


def test_an_honest_approval_made_by_the_same_means_has_no_fault() -> None:
    scene = Scene()
    event = approval(scene)
    assert scene.forge(event, approved(event), author=ADA) == []


def test_a_decision_by_somebody_else_than_its_author_is_found() -> None:
    scene = Scene()
    event = approval(scene)
    (fault,) = scene.forge(event, approved(event), author=GRACE)
    assert "is Ada Lovelace's, and its commit's author is Grace Hopper" in fault


def test_a_decision_that_saw_another_commit_is_found() -> None:
    for revision in ("no commit", "other", "before it was asked"):
        scene = Scene()
        other = World(scene.store, ["order"], "other").settle()
        first = scene.head().commit
        while parents := scene.store.read(first).parents:
            first = parents[0]
        seen = {"other": other.commit, "before it was asked": first}.get(revision, "c" * 40)
        event = approval(scene, seen=seen)
        found = scene.forge(event, approved(event), author=ADA)
        assert "ops what the decision on order-1 says it saw did not wait there" in found, revision


def test_a_decision_that_saw_the_same_call_in_another_history_is_found() -> None:
    scene = Scene()
    scene.world.loops.fork("ops", "a-fork")
    elsewhere = scene.world.loops.tell("a-fork", "Hurry.", by=ADA).commit
    event = approval(scene, seen=elsewhere)
    found = scene.forge(event, approved(event), author=ADA)
    assert "ops what the decision on order-1 says it saw did not wait there" in found


def test_a_decision_that_saw_the_call_before_it_waited_is_found() -> None:
    scene = Scene()
    scene.world.decide("ops.order-1", "approve")
    running = scene.world.commit(scene.head(), STARTED)
    scene.world.commit(scene.head(), RESUMED)
    event = approval(scene, seen=running.commit)
    found = scene.forge(event, approved(event, remark=""), author=ADA)
    assert found == ["ops what the decision on order-1 says it saw did not wait there"]


def test_a_decision_on_other_arguments_or_another_tool_is_found() -> None:
    scene = Scene()
    event = approval(scene)
    found = scene.forge(event, approved(event, arguments='{"item": 99}'), author=ADA)
    assert "ops the decision on order-1 is about other arguments" in found
    scene = Scene()
    event = approval(scene, arguments="0" * 16)
    assert any("tells another decision" in fault for fault in scene.forge(event, approved(event), author=ADA))
    scene = Scene()
    event = approval(scene, tool="0" * 16)
    assert "ops the decision on order-1 is about another tool" in scene.forge(event, approved(event), author=ADA)


def test_a_decision_whose_call_went_elsewhere_is_found() -> None:
    scene = Scene()
    event = approval(scene, choice="reject")
    found = scene.forge(event, approved(event), author=ADA)
    assert "ops order-1 is approved, and the decision was to reject it" in found
    scene = Scene()
    found = scene.forge(approval(scene), lambda s: with_call(s, "order-1", state=CallState.APPROVED), author=ADA)
    assert "ops it decides nothing that is there" in found


def test_a_decision_that_reaches_further_than_it_says_is_found() -> None:
    scene = Scene()
    event = approval(scene)

    def change(state: Continuation) -> Continuation:
        after = approved(event)(state)
        decided = after.call(event.call)
        assert decided is not None
        assert decided.decision is not None
        return replace(after, rules=(Rule(tool="order", decision=decided.decision),))

    found = scene.forge(event, change, author=ADA)
    assert "ops the decision on order-1 does not reach as far as its state says" in found


def test_a_gate_lifted_by_a_decision_that_did_not_see_it_is_found() -> None:
    scene = Scene()
    before = scene.head().commit
    scene.world.loops.pause("ops", by=ADA)
    gate = scene.head().state.gate
    assert gate is not None
    event = Decided(at=EPOCH, call=gate.id, choice="approve", by=ADA, seen=before)
    found = scene.forge(event, lambda s: replace(s, gate=None), author=ADA)
    assert "ops the gate gate-1 did not stand in the commit that the decision on it says it saw" in found


def test_a_gate_that_nobody_lifted_is_found() -> None:
    scene = Scene()
    scene.world.commit(scene.head(), Suspended(at=EPOCH, kind="budget", reason="it is spent"))
    resumed = Resumed(at=EPOCH, worker=WORKERS[0], by_hand=True)
    assert "ops Resumed lifted the gate gate-1" in scene.forge(resumed, lambda s: replace(s, gate=None))


def _claimed(state: Continuation) -> Continuation:
    return with_call(state, "order-1", state=RUN, attempt=1, runner=WORKERS[0])


def test_a_start_behind_a_gate_or_for_a_replaced_worker_is_found() -> None:
    scene = Scene()
    scene.world.decide("ops.order-1", "approve")
    scene.world.loops.pause("ops", by=ADA)
    assert "ops order-1 started while the loop stood still: paused by hand" in scene.forge(STARTED, _claimed)
    scene = Scene()
    scene.world.decide("ops.order-1", "approve")
    scene.world.commit(scene.head(), RESUMED)
    message = "ops order-1 was started by a worker that does not drive the loop"
    assert message in scene.forge(STARTED, _claimed)


def test_a_start_of_something_else_than_was_approved_is_found() -> None:
    scene = Scene()
    scene.world.decide("ops.order-1", "approve")
    changed = replace(TREE_AGENT, tools=(replace(TREE_AGENT.tools[0], description="Changed."), *TREE_AGENT.tools[1:]))
    # The change of the agent puts the call back; this one does not.
    scene.forge(
        AgentChanged(at=EPOCH, definition=changed),
        lambda s: replace(s, definition=changed, fingerprint=changed.fingerprint),
    )
    assert "ops order-1 was started, and is not what was approved" in scene.forge(STARTED, _claimed)


def test_a_call_let_through_without_a_decision_is_found() -> None:
    store = MemoryStore()
    world = World(store, ["order"])
    saved = world.saved()
    reply = next(iter(world.due())).event
    waiting = world.history.append(saved, reply, ROBOT).state
    for changes in ({"state": CallState.APPROVED, "decision": _rule(waiting).decision}, {"state": CallState.APPROVED}):
        after = with_call(waiting, "order-1", **changes)
        message = describe(saved.loop, saved.state, reply, after).message
        commit = store.write(after, parents=(saved.commit,), message=message, author=ROBOT, committer=ROBOT)
        store.move(saved.loop, store.head(saved.loop), commit.id)
        expected = "has a decision that nobody made for it" if "decision" in changes else "through without a decision"
        assert any(expected in fault for fault in faults(store))
    world.perform(next(iter(world.due())))
    assert "ops order-1 was started without a decision" in faults(store)


def test_calls_that_are_not_those_that_the_model_asked_for_are_found() -> None:
    for changes, expected in (
        ({"arguments": '{"item": 99}'}, "order-1 is not what the model asked for"),
        ({"attempt": 1}, "order-1 has attempts before it could start"),
        ({"state": RUN}, "order-1 was running as soon as it was asked for"),
        ({"id": "order-2"}, "the calls are not those that the model asked for"),
    ):
        store = MemoryStore()
        world = World(store, ["order"])
        saved = world.saved()
        reply = next(iter(world.due())).event
        after = with_call(world.history.append(saved, reply, ROBOT).state, "order-1", **changes)
        message = describe(saved.loop, saved.state, reply, after).message
        commit = store.write(after, parents=(saved.commit,), message=message, author=ROBOT, committer=ROBOT)
        store.move(saved.loop, store.head(saved.loop), commit.id)
        assert any(expected in fault for fault in faults(store)), faults(store)


def test_tokens_that_the_message_does_not_tell_are_found() -> None:
    store = MemoryStore()
    world = World(store, ["look"])
    saved = world.saved()
    reply = next(iter(world.due())).event
    after = world.history.append(saved, reply, ROBOT).state
    message = describe(saved.loop, saved.state, reply, after).message.replace("10 in", "1 in")
    commit = store.write(after, parents=(saved.commit,), message=message, author=ROBOT, committer=ROBOT)
    store.move(saved.loop, store.head(saved.loop), commit.id)
    assert faults(store) == ["ops the tokens that its message tells are not those that its state adds"]


def test_a_model_that_replied_beside_open_calls_is_found() -> None:
    scene = Scene()
    reply = next(iter(World(MemoryStore(), ["look"]).due())).event
    saved = scene.head()
    spoken = saved.state.messages[1]
    after = replace(saved.state, messages=(*saved.state.messages, spoken), spent=replace(saved.state.spent, steps=2))
    message = describe(saved.loop, saved.state, reply, after).message
    commit = scene.store.write(after, parents=(saved.commit,), message=message, author=ROBOT, committer=ROBOT)
    scene.store.move(saved.loop, saved.commit, commit.id)
    assert any("the model replied while order-1 had no result" in fault for fault in faults(scene.store))


# Children ----------------------------------------------------------------------------------------------------------


def absorb(scene: Scene, text: str) -> Forge:
    """What the end of the child makes of its parent, whatever the child says."""

    def change(state: Continuation) -> Continuation:
        call = state.call("team-1")  # type: ignore[arg-type]
        assert call is not None
        after = with_call(state, "team-1", state=CallState.RETURNED)
        result = Result(tool_call_id=call.key, content=text)
        return replace(
            after,
            messages=(*after.messages, result),
            children={},
            absorbed=after.absorbed.with_nested(scene.head("ops.team-1").state.total),
        )

    return change


def forge_end(scene: Scene, change: Forge, parents: tuple[str, ...]) -> list[str]:
    saved = scene.head()
    event = ChildFinished(at=EPOCH, call="team-1", text="done")  # type: ignore[arg-type]
    after = change(saved.state)
    commit = scene.store.write(
        after,
        parents=(saved.commit, *parents),  # type: ignore[arg-type]
        message=describe(saved.loop, saved.state, event, after).message,
        author=ROBOT,
        committer=ROBOT,
    )
    scene.store.move(saved.loop, saved.commit, commit.id)
    return faults(scene.store)


def test_a_child_heard_before_its_end_or_not_at_all_is_found() -> None:
    scene = Scene()
    child = scene.head("ops.team-1").commit
    found = forge_end(scene, absorb(scene, "done"), (child,))
    assert "ops team-1 ended as ChildFinished, and its child loop is suspended" in found
    scene = Scene()
    found = forge_end(scene, absorb(scene, "done"), ())
    assert "ops team-1 ended, and its child loop's last commit is not a parent" in found


def test_a_result_that_is_not_the_childs_is_found() -> None:
    scene = Scene()
    for request in scene.world.loops.pending("ops.team-1"):
        scene.world.decide(request, "reject")
    while (due := next((one for one in scene.world.due() if one.loop == "ops.team-1"), None)) is not None:
        scene.world.perform(due)
    child = scene.head("ops.team-1")
    assert child.state.ending is not None
    assert forge_end(scene, absorb(scene, child.state.ending.text), (child.commit,)) == []
    scene.store.move(loop_name("ops"), scene.head().commit, scene.store.resolve("ops~1"))
    found = forge_end(scene, absorb(scene, "Something else."), (child.commit,))
    assert "ops the result of team-1 is not its child loop's" in found


def test_a_child_that_is_taken_back_or_anothers_is_found() -> None:
    scene = Scene()
    old = scene.store.resolve("ops.team-1~1")

    def taken_back(state: Continuation) -> Continuation:
        child = replace(state.children["team-1"], commit=old, state=scene.store.read(old).state)  # type: ignore[index]
        return replace(_told(state), children={"team-1": child})

    assert "ops the child loop of team-1 does not go on from where it was" in scene.forge(TOLD, taken_back)
    scene = Scene()
    other = World(scene.store, ["order"], "other").saved()

    def anothers(state: Continuation) -> Continuation:
        child = replace(state.children["team-1"], commit=other.commit, state=other.state)  # type: ignore[index]
        return replace(_told(state), children={"team-1": child})

    found = scene.forge(TOLD, anothers)
    assert "ops the child loop of team-1 was started by another call" in found
    assert "ops the child loop of team-1 does not go on from where it was" in found


def test_a_parent_that_is_no_child_is_found() -> None:
    scene = Scene()
    other = World(scene.store, ["order"], "other").saved()
    saved = scene.head()
    after = _told(saved.state)
    commit = scene.store.write(
        after,
        parents=(saved.commit, saved.state.children["team-1"].commit, other.commit),  # type: ignore[index]
        message=describe(saved.loop, saved.state, TOLD, after).message,
        author=ADA,
        committer=ROBOT,
    )
    scene.store.move(saved.loop, saved.commit, commit.id)
    assert faults(scene.store) == [f"ops it has {other.commit} as a parent, which is no child loop of its own"]


def test_a_nested_branch_that_went_back_or_is_anothers_is_found() -> None:
    scene = Scene()
    child = scene.head("ops.team-1").commit
    scene.store.move(loop_name("ops.team-1"), child, scene.store.resolve("ops.team-1~1"))
    (fault,) = verify(scene.store).faults
    assert "its branch does not go on from" in fault.what
    assert fault.hint == f"Put it there: git branch -f loops/ops.team-1 {child}"
    other = World(scene.store, ["order"], "other").saved()
    scene.store.move(loop_name("ops.team-1"), scene.store.resolve("ops.team-1"), other.commit)
    (fault,) = verify(scene.store).faults
    assert "its branch belongs to another history of ops" in fault.what
