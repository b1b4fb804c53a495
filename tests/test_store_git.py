"""The store in git, beside git itself: fsck, trees, times, races between processes, and repositories that are not."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pygit2
import pytest
from msgspec.structs import replace

from caesura.continuations import (
    AgentSpec,
    CaesuraError,
    CommitId,
    Continuation,
    GitStore,
    History,
    Locked,
    ModelSpec,
    Moved,
    NewerFormat,
    NoPerson,
    NotALoop,
    Person,
    Started,
    Told,
    Unavailable,
    Unreadable,
    User,
    loop_name,
)
from caesura.continuations._state import FORMAT
from caesura.continuations.store import _refs
from caesura.continuations.store._exclusive import MARK
from tests.repositories import STATE, X, git
from tests.strategies import ADA, AGENT, EPOCH, GRACE, NESTED, ROBOT, WORKERS, World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caesura"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True)
    yield made
    made.close()


def begun(store: GitStore, name: str = "x", text: str = "Go.") -> CommitId:
    """A loop with one commit."""
    event = Started(at=EPOCH, definition=AGENT, prompt=User(content=text), nonce="n", worker=WORKERS[0])
    return History(store).begin(loop_name(name), event, ROBOT, GRACE).commit


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process has open")
def test_a_closed_store_has_no_file_open(store: GitStore, folder: Path) -> None:
    begun(store, "x")
    begun(store, "y")
    store.upkeep().run(thorough=True)
    git(folder, "pack-refs", "--all")
    assert store.heads().keys() == {"x", "y"}
    assert list(store.waiting()) == []
    assert _open_below(folder) != []
    store.close()
    assert _open_below(folder) == []


def _open_below(folder: Path) -> list[str]:
    """The files below a folder that this process has open or mapped; garbage is not collected for it."""
    found = [line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder which is listed here
            found.append(str(entry.readlink()))
    return [name for name in found if name.startswith(str(folder))]


# What git sees -----------------------------------------------------------------------------------------------------


def test_git_finds_no_fault_with_a_tree_of_loops_whoever_takes_part(store: GitStore, folder: Path) -> None:
    World(store, NESTED).end(lambda _: "approve")
    for name in ("", "<>", "\x00", "a\nb", ".", "\ud800", "Ünï \U0001f600", " x ", "x" * 3000):
        store.write(STATE, parents=(), message="m", author=Person(name=name, email=name), committer=ROBOT)
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_a_commits_tree_is_that_of_the_data_model(store: GitStore, folder: Path) -> None:
    World(store, NESTED).settle()
    files = git(folder, "ls-tree", "-r", "-t", "--name-only", "loops/ops").split("\n")
    assert [one for one in files if "/" not in one] == ["agent.json", "children", "continuation.json", "messages"]
    assert "messages/00/00.json" in files
    assert "children/team-1/children/team-1/continuation.json" in files
    modes = {line.split()[0] for line in git(folder, "ls-tree", "-r", "-t", "loops/ops").split("\n")}
    assert modes == {"100644", "040000"}


def test_a_child_is_in_its_parent_the_same_object_as_at_its_own_head(store: GitStore, folder: Path) -> None:
    World(store, NESTED).settle()
    for path, loop in (("children/team-1", "ops.team-1"), ("children/team-1/children/team-1", "ops.team-1.team-1")):
        assert git(folder, "rev-parse", f"loops/ops:{path}") == git(folder, "rev-parse", f"loops/{loop}^{{tree}}")
        assert git(folder, "merge-base", "--is-ancestor", f"loops/{loop}", "loops/ops") == ""


def test_the_first_parents_are_the_loops_own_history(store: GitStore, folder: Path) -> None:
    World(store, NESTED).end(lambda _: "approve")
    loops = git(folder, "log", "--first-parent", "--format=%(trailers:key=Loop,valueonly,separator=)", "loops/ops")
    assert set(loops.split("\n")) == {"ops"}
    subjects = git(folder, "log", "--first-parent", "--reverse", "--format=%s", "loops/ops").split("\n")
    assert subjects[0].startswith("ops: started")
    assert subjects[-1].startswith("ops: completed")
    # What the children committed is within reach as well.
    all_loops = git(folder, "log", "--format=%(trailers:key=Loop,valueonly,separator=)", "loops/ops")
    assert set(all_loops.split("\n")) == {"ops", "ops.team-1", "ops.team-1.team-1"}


def test_the_log_answers_who_and_when_and_what(store: GitStore, folder: Path) -> None:
    world = World(store, ["order"])
    world.settle()
    world.decide(world.loops.pending("ops")[0], "reject")
    form = "%an <%ae>%n%cn%n%(trailers:key=Status,valueonly,separator=)%n%(trailers:key=Call,valueonly,separator=)"
    author, committer, status, call = git(folder, "log", "-1", f"--format={form}", "loops/ops").split("\n")
    assert (author, status, call) == (str(ADA), "active", "order-1")
    assert committer == ADA.name
    assert git(folder, "log", "--format=%H", "--author=Ada", "loops/ops") == store.head(loop_name("ops"))
    assert len(git(folder, "log", "--format=%H", "--grep=Event: ModelReplied", "loops/ops").split("\n")) == 1


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati"])
def test_a_commit_has_the_time_of_its_event_wherever_the_worker_is(folder: Path, zone: str) -> None:
    code = "import sys, tests.test_store_git as t; s = t.GitStore.open(sys.argv[1], create=True); t.begun(s)"
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, folder], env={**os.environ, "TZ": zone}, cwd=root, check=True)
    times = git(folder, "log", "-1", "--format=%at %ct", "loops/x").split()
    assert times == [str(int(EPOCH.timestamp()))] * 2


def test_appending_to_a_long_loop_writes_a_few_small_objects(store: GitStore, folder: Path) -> None:
    state = replace(STATE, messages=tuple(User(content=str(number)) for number in range(4000)))
    first = store.write(state, parents=(), message="m", author=ADA, committer=ROBOT)
    before = _objects(folder)
    longer = replace(state, messages=(*state.messages, User(content="one more")))
    second = store.write(longer, parents=(first.id,), message="m", author=ADA, committer=ROBOT)
    new = _objects(folder) - before
    # The commit, its tree, messages/, messages/62/ and the message; the record and the agent are as they were.
    assert len(new) == 5
    sizes = [int(git(folder, "cat-file", "-s", one)) for one in new]
    assert max(sizes) < 10_000
    assert second.id in new


def _objects(folder: Path) -> set[str]:
    listed = git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split("\n"))


def test_the_first_loop_of_a_bare_repository_becomes_its_head(store: GitStore, folder: Path) -> None:
    begun(store, "first")
    begun(store, "second")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/first"


@pytest.mark.parametrize("packed", [False, True], ids=["file", "list"])
def test_the_head_stays_as_long_as_its_branch_is_there_and_is_the_next_new_loop_then(
    store: GitStore, folder: Path, *, packed: bool
) -> None:
    begun(store, "first")
    begun(store, "second")
    if packed:
        git(folder, "pack-refs", "--all")
    begun(store, "third")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/first"
    git(folder, "update-ref", "-d", "refs/heads/loops/first")  # by somebody else, while the store is open
    begun(store, "fourth")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/fourth"
    git(folder, "symbolic-ref", "HEAD", "refs/heads/loops/second")
    begun(store, "fifth")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/second"


def test_a_new_loop_does_not_wait_for_who_has_locked_the_head_and_the_next_one_becomes_it(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[float]()
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(time, "sleep", waited.append)
    (folder / "HEAD.lock").touch()
    begun(store, "first")
    assert waited == []
    (folder / "HEAD.lock").unlink()
    begun(store, "second")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/second"


# Races -------------------------------------------------------------------------------------------------------------

WORK = """
import sys
from tests.strategies import *
from caesura.continuations import GitStore, LoopExists
folder, me, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
history = History(GitStore.open(folder))
print("ready", flush=True)
sys.stdin.readline()
begun = Started(at=EPOCH, definition=AGENT, prompt=User(content=me), nonce=me, worker=WorkerId(me))
try:
    history.begin(loop_name("x"), begun, ROBOT, ADA)
    print("won", flush=True)
except LoopExists:
    print("lost", flush=True)
for number in range(times):
    told = Told(at=EPOCH, message=User(content=f"{me} {number}"), by=ADA)
    history.apply(history.load(loop_name("x")), told, ROBOT)
"""


def test_of_eight_processes_one_creates_the_loop_and_no_word_of_any_is_lost(store: GitStore, folder: Path) -> None:
    root = Path(__file__).parent.parent
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, folder, f"w{number}", "6"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8
    assert sorted(said) == ["lost\n"] * 7 + ["won\n"]
    saved = History(store).load(X)
    words = [message.content for message in (*saved.state.messages, *saved.state.told) if isinstance(message, User)]
    assert sorted(str(word) for word in words[1:]) == sorted(f"w{who} {each}" for who in range(8) for each in range(6))
    assert git(folder, "rev-list", "--first-parent", "--count", "loops/x") == "49"
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_of_many_threads_with_stores_of_their_own_one_wins_each_move(store: GitStore, folder: Path) -> None:
    first = begun(store)
    count, winners = 8, list[str]()
    barrier = threading.Barrier(count)

    def race(number: int) -> None:
        mine = GitStore.open(folder)
        state = replace(STATE, nonce=str(number))
        commit = mine.write(state, parents=(first,), message=str(number), author=ADA, committer=ROBOT)
        barrier.wait()
        try:
            mine.move(X, first, commit.id)
            winners.append(commit.id)
        except Moved:
            pass
        finally:
            mine.close()

    threads = [threading.Thread(target=race, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners == [store.head(X)]


def test_git_itself_moving_the_branch_is_another_writer(store: GitStore, folder: Path) -> None:
    history = History(store)
    begun(store)
    saved = history.load(X)
    told = Told(at=EPOCH, message=User(content="First."), by=ADA)
    first = history.append(saved, told, ROBOT)
    git(folder, "update-ref", "refs/heads/loops/x", saved.commit)
    with pytest.raises(Moved):
        history.append(first, told, ROBOT)
    assert store.head(X) == saved.commit


def test_a_lock_that_stays_is_reported_with_its_file(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = begun(store)
    lock = folder / "refs/heads/loops/x.lock"
    lock.write_text("")
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    with pytest.raises(Locked, match=r"x\.lock") as refused:
        store.move(X, commit, commit)
    assert "delete that file" in refused.value.hint
    lock.unlink()
    store.move(X, commit, commit)


# Branches that are in the way --------------------------------------------------------------------------------------


def test_a_users_branches_below_a_loops_name_are_reported_at_once(store: GitStore, folder: Path) -> None:
    commit = begun(store)
    git(folder, "update-ref", "refs/heads/loops/y/mine", commit)
    with pytest.raises(Unavailable, match="loops/y") as refused:
        store.move(loop_name("y"), None, commit)
    assert "another name" in refused.value.hint


def test_a_users_branch_called_loops_is_reported_at_once(store: GitStore, folder: Path) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    git(folder, "update-ref", "refs/heads/loops", commit.id)
    assert not store.heads()
    with pytest.raises(Unavailable, match="loops"):
        store.move(X, None, commit.id)


# Repositories that are not -----------------------------------------------------------------------------------------


def test_a_missing_repository_is_unavailable_and_made_only_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no repository") as refused:
        GitStore.open(tmp_path / "none")
    assert "init" in refused.value.hint
    assert not (tmp_path / "none").exists()
    GitStore.open(tmp_path / "none", create=True).close()
    GitStore.open(tmp_path / "none").close()


@pytest.mark.parametrize("create", [False, True])
def test_a_repository_that_may_not_even_be_looked_for_is_refused_with_the_reason(tmp_path: Path, create: bool) -> None:
    with pytest.raises(Unavailable, match="File name too long"):
        GitStore.open(tmp_path / ("x" * 300), create=create)


def test_a_folder_or_a_file_that_is_no_repository_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        for create in (False, True):
            with pytest.raises(Unavailable):
                GitStore.open(tmp_path / name, create=create)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("left", [(), ("config",), ("config", "config.lock", "objects/", "refs/"), ("HEAD.lock",)])
def test_a_repository_left_half_made_is_made_whole(folder: Path, left: tuple[str, ...]) -> None:
    folder.mkdir()
    for name in (MARK, *left):
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    with pytest.raises(Unavailable):
        GitStore.open(folder)
    begun(GitStore.open(folder, create=True))
    assert git(folder, "config", "extensions.preciousObjects") == "true"
    assert git(folder, "fsck", "--strict") == ""
    assert not list(folder.rglob("*.lock"))


def test_the_settings_of_a_repository_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "theirs")
    before = (tmp_path / "theirs/.git/config").read_text()
    begun(GitStore.open(tmp_path / "theirs", create=True))
    assert (tmp_path / "theirs/.git/config").read_text() == before


def test_a_repository_that_cannot_be_written_says_so(store: GitStore, folder: Path) -> None:
    commit = begun(store)
    objects = folder / "objects"
    moved = folder / "objects.away"
    objects.rename(moved)
    objects.write_text("not a folder")  # as good as a full disk, also for root
    with pytest.raises(CaesuraError) as refused:
        store.write(replace(STATE, nonce="new"), parents=(), message="m", author=ADA, committer=ROBOT)
    assert refused.value.hint
    objects.unlink()
    moved.rename(objects)
    assert store.head(X) == commit
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_nobody_at_the_keyboard_is_asked_for_a_name(store: GitStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.person().email == "grace@example.com"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    assert store.person() == Person(name="Ada", email="grace@example.com")
    monkeypatch.delenv("GIT_AUTHOR_NAME")
    paths = pygit2.settings.search_path
    level = pygit2.enums.ConfigLevel.GLOBAL
    before = paths[level]
    try:
        paths[level] = "/nowhere"
        empty = GitStore.open(store.location)
        with pytest.raises(NoPerson) as refused:
            empty.person()
    finally:
        paths[level] = before
    assert "user.email" in refused.value.hint


# Damage ------------------------------------------------------------------------------------------------------------


def damaged(folder: Path, *changes: tuple[str, str | None]) -> CommitId:
    """A commit of loop x with files of its tree put in or (None) taken out, made by git."""
    index = {**os.environ, "GIT_INDEX_FILE": str(folder / "index.damage")}

    def run(*arguments: str, data: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=index, input=data, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    run("read-tree", "loops/x")
    for path, content in changes:
        if content is None:
            run("rm", "-r", "--cached", "--quiet", "--", path)
        else:
            blob = run("hash-object", "-w", "--stdin", data=content)
            run("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    return CommitId(run("commit-tree", run("write-tree"), "-m", "damaged"))


DAMAGE: dict[str, tuple[str, str | None]] = {
    "no messages": ("messages", None),
    "no definition": ("agent.json", None),
    "a message missing": ("messages/00/00.json", None),
    "a message too many": ("messages/00/02.json", '{"role": "user", "content": "x"}'),
    "a folder too deep": ("messages/00/a/b/c/d.json", "{}"),
    "no message": ("messages/00/01.json", "[]"),
    "no JSON": ("agent.json", "{"),
    "an unknown field": ("agent.json", '{"name": "x", "model": {"name": "m"}, "from_tomorrow": 1}'),
    "a child of nobody": ("children/it-1/continuation.json", "{}"),
    "children that are a file": ("children", "x"),
    "a record that is a folder": ("continuation.json/x", "{}"),
    "messages that are a file": ("messages", "x"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_commit_is_unreadable_and_says_where(store: GitStore, folder: Path, damage: str) -> None:
    begun(store)
    path, content = DAMAGE[damage]
    changes = [(path, content)]
    if damage in ("messages that are a file", "a record that is a folder"):
        changes = [(path.partition("/")[0], None), *changes]
    with pytest.raises(Unreadable) as refused:
        store.read(damaged(folder, *changes))
    assert refused.value.hint
    assert path.partition("/")[0] in str(refused.value) or "not a file" in str(refused.value)


def test_a_commit_without_a_continuation_is_no_loop(store: GitStore, folder: Path) -> None:
    begun(store)
    with pytest.raises(NotALoop):
        store.read(damaged(folder, ("continuation.json", None)))


def test_a_loop_of_a_newer_format_is_refused_by_name(store: GitStore, folder: Path) -> None:
    begun(store)
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        store.read(damaged(folder, ("continuation.json", json.dumps({"format": FORMAT + 1, "new": []}))))


def test_a_definition_is_written_once_and_again_only_when_it_changes(store: GitStore, folder: Path) -> None:
    other = AgentSpec(name="other", model=ModelSpec(name="m"))
    states: list[Continuation] = [STATE, replace(STATE, nonce="2"), replace(STATE, definition=other)]
    blobs: list[str] = []
    parents: tuple[CommitId, ...] = ()
    for state in states:
        commit = store.write(state, parents=parents, message="m", author=ADA, committer=ROBOT)
        blobs.append(git(folder, "rev-parse", f"{commit.id}:agent.json"))
        parents = (commit.id,)
    assert blobs[0] == blobs[1] != blobs[2]
