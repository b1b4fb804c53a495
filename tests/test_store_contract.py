"""One contract for every store: in memory, in a bare repository of its own, and in a user's project."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    Commit,
    CommitId,
    Continuation,
    GitStore,
    History,
    LoopName,
    MemoryStore,
    Message,
    Move,
    Moved,
    NoSuchRevision,
    NotALoop,
    Person,
    Saved,
    SigningFailed,
    Started,
    Store,
    Torn,
    User,
    loop_name,
    outstanding,
    split_signature,
    start,
)
from tests.strategies import ADA, AGENT, EPOCH, GRACE, NESTED, PLANS, ROBOT, WORKERS, Plan, World, messages

STARTED = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
STATE = start(STARTED)
X, Y = loop_name("x"), loop_name("y")


def project(folder: Path) -> Path:
    """A user's own repository, with a commit and branches that are no loops."""
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / "main.py").write_text("print('hello')\n")
    subprocess.run(["git", "add", "main.py"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "The project"], cwd=folder, check=True)
    for branch in ("feature", "loops/odd+name", "loops/mine/too", "loopsy"):
        subprocess.run(["git", "branch", branch], cwd=folder, check=True)
    subprocess.run(["git", "tag", "x"], cwd=folder, check=True)
    return folder


@pytest.fixture(params=["memory", "bare", "project", "sealed", "sealed project"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    else:
        path = project(tmp_path / "project") if "project" in request.param else tmp_path / "caesura"
        made = GitStore.open(path, create=True, visibility="sealed" if "sealed" in request.param else "step")
    yield made
    made.close()


def written(store: Store, state: Continuation = STATE, *parents: CommitId, message: str = "A step.\n") -> Commit:
    """One more commit."""
    return store.write(state, parents=parents, message=message, author=ADA, committer=ROBOT)


def line(store: Store, length: int, loop: LoopName = X) -> list[Commit]:
    """A loop with so many commits, oldest first."""
    commits: list[Commit] = []
    for number in range(length):
        state = replace(STATE, messages=(*STATE.messages, *[User(content=str(each)) for each in range(number)]))
        commits.append(written(store, state, *(commit.id for commit in commits[-1:])))
    store.move(loop, None, commits[-1].id)
    return commits


# Signatures --------------------------------------------------------------------------------------------------------


def test_commits_whose_messages_differ_anywhere_differ(store: Store) -> None:
    def said(*texts: str) -> Continuation:
        return replace(STATE, messages=tuple(User(content=text) for text in texts))

    first = written(store, said("a", "b"))
    others = [("a", "c"), ("b", "b"), ("a",), (), ("a", "b", "c"), ("a", "c", "c"), ("ab",), ("a", "b")]
    after = [written(store, said(*texts), first.id) for texts in others]
    assert len({commit.id for commit in after}) == len(others)
    assert [store.read(commit.id).state.messages for commit in after] == [said(*texts).messages for texts in others]


def test_a_signature_is_made_of_a_commits_bytes_and_is_a_part_of_it(store: Store) -> None:
    given: list[bytes] = []

    def sign(content: bytes) -> str:
        given.append(content)
        return "-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----"

    plain = written(store)
    signed = store.write(STATE, parents=(), message="A step.\n", author=ADA, committer=ROBOT, sign=sign)
    assert signed.id != plain.id
    assert given == [store.raw(plain.id)]
    assert split_signature(store.raw(signed.id)) == (given[0], f"{sign(b'')}\n")
    assert split_signature(store.raw(plain.id)) == (given[0], "")
    assert store.read(signed.id).state == STATE
    with pytest.raises(Torn):
        store.raw(CommitId("0" * 40))
    with pytest.raises(NotALoop):
        store.raw(CommitId("-x"))


def test_a_step_whose_signature_fails_is_not_made(store: Store) -> None:
    history = History(store, sign=refuse)
    with pytest.raises(SigningFailed):
        history.begin(X, STARTED, ROBOT, ADA)
    assert store.head(X) is None


def refuse(content: bytes, person: Person) -> str:
    raise SigningFailed("no", hint="none")


def test_a_setting_is_never_the_repositorys_own(store: Store) -> None:
    if isinstance(store, GitStore):
        subprocess.run(["git", "-C", store.location, "config", "user.signingkey", "theirs"], check=True)
        assert store.setting("user.email") == "grace@example.com"
    assert store.setting("user.signingkey") is None


# Refs --------------------------------------------------------------------------------------------------------------


def test_a_branch_moves_only_from_where_it_was_read(store: Store) -> None:
    first, second, third = line(store, 3)
    with pytest.raises(Moved):
        store.move(X, first.id, second.id)
    with pytest.raises(Moved):
        store.move(X, None, second.id)
    with pytest.raises(Moved):
        store.move(Y, first.id, second.id)
    assert store.head(X) == third.id
    assert store.head(Y) is None
    store.move(X, third.id, first.id)
    assert store.head(X) == first.id


def test_several_moves_are_made_together_or_not_at_all(store: Store) -> None:
    first, second, third = line(store, 3)
    store.move(Y, None, first.id)
    with pytest.raises(Moved):
        store.move_all([Move(loop=X, old=third.id, new=second.id), Move(loop=Y, old=third.id, new=None)], "why")
    with pytest.raises(Moved):
        store.move_all([Move(loop=Y, old=None, new=first.id, archived=True), Move(loop=X, old=None, new=None)], "why")
    assert store.heads() == {X: third.id, Y: first.id}
    assert store.heads(archived=True) == {}
    store.move_all(
        [
            Move(loop=X, old=third.id, new=second.id),
            Move(loop=Y, old=first.id, new=None),
            Move(loop=Y, old=None, new=first.id, archived=True),
        ],
        "why",
    )
    assert store.heads() == {X: second.id}
    assert store.heads(archived=True) == {Y: first.id}
    assert (store.head(Y), store.head(Y, archived=True)) == (None, first.id)
    assert store.resolve("y") == first.id
    store.move(X, second.id, third.id)
    assert store.head(X) == third.id
    store.move_all([], "why")


def test_the_heads_are_the_loops_in_the_order_of_their_names_and_no_other_branches(store: Store) -> None:
    commit = written(store)
    for name in ("b", "a.it-1", "a", "c_1"):
        store.move(loop_name(name), None, commit.id)
    assert list(store.heads()) == ["a", "a.it-1", "b", "c_1"]
    assert set(store.heads().values()) == {commit.id}


def test_a_loop_that_is_not_there_has_no_head(store: Store) -> None:
    assert store.head(X) is None
    assert store.head(loop_name("x.it-1")) is None
    assert not store.heads()


def test_a_revision_names_a_loop_a_hash_or_an_older_commit(store: Store) -> None:
    first, second, third = line(store, 3)
    store.move(loop_name("x.it-1"), None, second.id)
    assert store.resolve("x") == third.id
    assert store.resolve("x~1") == store.resolve("x^") == store.resolve("x^1") == second.id
    assert store.resolve("x~2") == store.resolve("x~1~1") == store.resolve("x^^") == first.id
    assert store.resolve("x~0") == third.id
    assert store.resolve("x.it-1~1") == first.id
    assert store.resolve(second.id) == second.id
    assert store.resolve(second.id[:12]) == second.id
    assert store.resolve(f"{third.id}~2") == first.id


NOTHING = ("", "nonsense", "x~3", "x^2", "x~-1", "--all", "-n1", "x y", "x\x00", "..", "x..x", "@{", "~", "x:", "\n")
NOT_A_COMMIT = ("f" * 40, "x^{tree}", "x:agent.json", "é", "\ud800", "x" * 5000)


@pytest.mark.parametrize("revision", [*NOTHING, *NOT_A_COMMIT])
def test_a_revision_that_names_nothing_is_refused(store: Store, revision: str) -> None:
    line(store, 3)
    with pytest.raises(NoSuchRevision) as refused:
        store.resolve(revision)
    assert refused.value.hint


def test_what_names_no_commit_is_refused(store: Store) -> None:
    for odd in ("nonsense", "", "x~1", "\x00", "F" * 40):
        with pytest.raises(NotALoop):
            store.read(CommitId(odd))
        with pytest.raises(NotALoop):
            store.check(CommitId(odd))


def test_a_check_tells_the_commits_of_loops_from_others(store: Store) -> None:
    world = World(store, NESTED)
    head = world.settle().commit
    fresh = reopened(store)
    for commit, _ in store.line(head):
        fresh.check(commit)
    with pytest.raises(Torn):
        fresh.check(CommitId("0" * 40))
    for revision in ("feature",) if "project" in store.location else ():
        with pytest.raises(NotALoop):
            fresh.check(store.resolve(revision))


def test_a_line_is_the_commits_of_the_first_parents_newest_first(store: Store) -> None:
    world = World(store, NESTED)
    saved = world.end(lambda _: "approve")
    line = list(store.line(saved.commit))
    assert line[0] == (saved.commit, saved.message)
    for (one, _), (before, message) in itertools.pairwise(line):
        assert store.read(one).parents[0] == before
        assert store.read(before).message == message
    assert store.read(line[-1][0]).parents == ()


def test_a_commit_that_is_not_there_is_torn_and_not_taken_for_something_else(store: Store) -> None:
    for odd in ("f" * 40, "0" * 40):
        with pytest.raises(Torn, match=odd):
            store.read(CommitId(odd))


def test_a_lease_changes_hands_only_from_who_was_read(store: Store) -> None:
    assert store.lease(X) is None
    mine = store.move_lease(X, None, b"mine")
    assert mine is not None
    assert store.lease(X) == mine
    assert mine.data == b"mine"
    with pytest.raises(Moved):
        store.move_lease(X, None, b"yours")
    yours = store.move_lease(X, mine, b"yours\x00\xff")
    with pytest.raises(Moved):
        store.move_lease(X, mine, None)
    assert store.lease(X) == yours
    assert store.move_lease(X, yours, None) is None
    assert store.lease(X) is None
    assert not store.heads(), "a lease was listed as a loop"


# Commits -----------------------------------------------------------------------------------------------------------


def test_a_commit_is_read_back_with_who_made_it_and_after_what(store: Store) -> None:
    first = written(store)
    second = store.write(
        STATE, parents=(first.id,), message="Subject\n\nBody.\n\nLoop: x\n", author=ADA, committer=ROBOT
    )
    read = reopened(store).read(second.id)
    assert read == second
    assert read.author == ADA
    assert read.parents == (first.id,)
    assert read.message == "Subject\n\nBody.\n\nLoop: x\n"


def reopened(store: Store) -> Store:
    """The same store, with nothing remembered."""
    store.seal()
    return GitStore.open(store.location) if isinstance(store, GitStore) else store


@given(st.lists(st.lists(messages, max_size=3), min_size=1, max_size=4))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_are_read_back_the_same_however_they_grew(store: Store, batches: list[list[Message]]) -> None:
    state = replace(STATE, messages=())
    parents: tuple[CommitId, ...] = ()
    states: dict[CommitId, Continuation] = {}
    for batch in batches:
        state = replace(state, messages=(*state.messages, *batch))
        commit = store.write(state, parents=parents, message="m", author=ADA, committer=ROBOT)
        states[commit.id], parents = state, (commit.id,)
    fresh = reopened(store)
    assert {commit: fresh.read(commit).state for commit in states} == states


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 4095, 4096, 4097])
def test_any_number_of_messages_is_read_back_in_order(store: Store, count: int) -> None:
    state = replace(STATE, messages=tuple(User(content=str(number)) for number in range(count)))
    first = written(store, state)
    longer = replace(state, messages=(*state.messages, User(content="one more"), User(content="and another")))
    second = written(store, longer, first.id)
    fresh = reopened(store)
    assert fresh.read(second.id).state == longer
    assert fresh.read(first.id).state == state


@given(PLANS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tree_of_loops_is_read_back_whole_at_every_step(store: Store, plan: Plan) -> None:
    name = f"ops-{len(store.heads())}"
    world = World(store, plan, name)
    states = {saved.commit: saved.state for saved in steps(world)}
    fresh = reopened(store)
    for commit, state in states.items():
        read = fresh.read(commit).state
        assert read == state
        assert outstanding(read) == outstanding(state)
        assert [child.state for child in read.children.values()] == [
            fresh.read(child.commit).state for child in read.children.values()
        ]


def steps(world: World) -> Iterator[Saved]:
    """Drive a world to its end, with every head on the way; requests are approved as they come."""
    while True:
        yield from world.history.tree(world.saved())
        due = next(world.due(), None)
        if due is not None:
            world.perform(due)
            continue
        pending = world.loops.pending(world.root)
        if not pending:
            return
        world.decide(pending[0], "approve")


def test_a_child_stands_in_its_parents_commit_and_has_its_own_as_a_further_parent(store: Store) -> None:
    world = World(store, NESTED)
    saved = world.settle()
    commit = reopened(store).read(saved.commit)
    live = {call: child.commit for call, child in world.history.children(saved).items()}
    assert {call: child.commit for call, child in commit.state.children.items()} == live
    assert commit.parents[1:] == tuple(child for _, child in sorted(live.items()))


def test_two_children_of_one_round_are_told_apart(store: Store) -> None:
    world = World(store, [["order"], ["order"], ["order"]])
    world.settle()
    pending = world.loops.pending("ops")
    assert [request.id for request in pending] == [f"ops.team-{number}.order-1" for number in (1, 2, 3)]
    world.decide(pending[1], "reject")
    world.settle()
    assert [one.id for one in world.loops.pending("ops")] == ["ops.team-1.order-1", "ops.team-3.order-1"]
    state = reopened(store).read(world.saved().commit).state
    assert sorted(state.children) == ["team-1", "team-3"]


def test_an_absorbed_child_stays_within_reach_of_its_parent(store: Store) -> None:
    world = World(store, [["order"]])
    world.end(lambda _: "approve")
    commit: Commit | None = store.read(world.saved().commit)
    found: list[tuple[CommitId, ...]] = []
    while commit is not None:
        found.append(commit.parents)
        commit = store.read(commit.parents[0]) if commit.parents else None
    last_of_child = store.head(loop_name("ops.team-1"))
    assert any(last_of_child in parents[1:] for parents in found)


def test_the_same_commit_may_be_the_head_of_many_loops(store: Store) -> None:
    world = World(store, NESTED)
    commit = world.settle().commit
    history = History(store)
    history.branch(X, commit)
    assert history.load(X).state == history.load(world.root).state
    child = history.load(loop_name("ops.team-1"))
    assert history.load(loop_name("x.team-1")).commit == child.commit
    history.branch(Y, child.commit)
    assert history.load(Y).state == child.state


@pytest.mark.parametrize(
    "person",
    [
        Person(name="", email=""),
        Person(name="A <b> c\n", email="<x>\n"),
        Person(name="\x00\x1b[2J", email="\x00"),
        Person(name="Ünï 字 \U0001f600", email="u@ä.example"),
        Person(name="x" * 5000, email="y" * 5000),
        Person(name=".,:;<>\"'", email=" . "),
        Person(name="\ud800", email="\udfff"),
    ],
)
def test_anybodys_name_can_be_written(store: Store, person: Person) -> None:
    commit = store.write(STATE, parents=(), message="m\n", author=person, committer=person)
    assert reopened(store).read(commit.id).state == STATE


SAID = ("\x00", "\x1b]0;x\x07", "a\rb", "\u202etxt", "x" * 300_000, "\n\nLoop: y\n", "\ud800")


@pytest.mark.parametrize("content", SAID)
def test_whatever_is_said_stands_in_the_messages_and_cannot_forge_a_trailer(store: Store, content: str) -> None:
    history = History(store)
    prompt = User(content=content)
    begun = Started(at=EPOCH, definition=AGENT, prompt=prompt, nonce="n", worker=WORKERS[0], by=GRACE)
    saved = history.begin(X, begun, ROBOT, GRACE)
    read = reopened(store).read(saved.commit)
    assert read.state.messages == (User(content=content.replace("\ud800", "\ufffd")),)
    subject, *rest = read.message.split("\n")
    assert len(subject) <= 72
    assert rest[0] == ""
    trailers = read.message.rstrip("\n").split("\n\n")[-1].split("\n")
    assert [one for one in trailers if one.startswith("Loop:")] == ["Loop: x"]
    assert all(": " in one for one in trailers)
    assert not set("\x00\x1b\x07\r\u202e") & set(read.message)
