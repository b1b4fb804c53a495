"""What a step, a fork and a ref cost as loops grow long and many. Caesura alone, and git where it is the measure."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from caesura.continuations import (
    Assistant,
    Commit,
    Continuation,
    Function,
    GitStore,
    Loops,
    ModelReplied,
    Proposal,
    Reply,
    ToolRequest,
    loop_name,
    step,
)

from .job import Job, Outcome
from .ours import AUTHOR, COMMITTER, REPOSITORY, as_ours, as_work, first_state, next_state, opened
from .work import Message, messages

P = ParamSpec("P")

PACKED = "# pack-refs with: peeled fully-peeled sorted \n"
AWAITING = 100
"""One loop in so many waits for somebody."""


def timed(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """The seconds that a call takes."""
    begin = time.perf_counter()
    call(*args, **kwargs)
    return time.perf_counter() - begin


# Long loops ----------------------------------------------------------------------------------------------------------


class Growing:
    """Loops of some lengths, to which steps of one message are added in turn."""

    def __init__(self, job: Job, lengths: Sequence[int]) -> None:
        self.folder = Path(job.folder)
        self.work = messages(job.seed, "long", max(lengths) + job.steps)
        self.heads: dict[int, Commit] = {}
        with _closing(opened(self.folder, "crash")) as store:  # what was there before is not what is measured
            for length in lengths:
                ours = tuple(map(as_ours, self.work[:length]))
                self.heads[length] = self._commit(store, length, first_state(ours, f"long-{length}"), None)
        self.store = opened(self.folder, "durable")
        for length, head in self.heads.items():
            self.heads[length] = self.store.read(head.id)

    def _commit(self, store: GitStore, length: int, state: Continuation, before: Commit | None) -> Commit:
        parents = () if before is None else (before.id,)
        commit = store.write(state, parents=parents, message="lead: step", author=AUTHOR, committer=COMMITTER)
        store.move(loop_name(f"long-{length}"), None if before is None else before.id, commit.id)
        return commit

    def add(self, length: int) -> float:
        """Add a message to the loop that had so many at first; the seconds that it took."""
        before = self.heads[length]
        message = as_ours(self.work[len(before.state.messages)])
        begin = time.perf_counter()
        self.heads[length] = self._commit(self.store, length, next_state(before.state, (message,)), before)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Close, open again and check what is there.

        Raises:
            ValueError: it is not what was written.
        """
        self.store.close()
        with _closing(opened(self.folder, "durable")) as store:
            for length, head in self.heads.items():
                _same(store, f"long-{length}", self.work[: len(head.state.messages)])


def _same(store: GitStore, loop: str, expected: Sequence[Message]) -> None:
    head = store.head(loop_name(loop))
    found = [] if head is None else [as_work(message) for message in store.read(head).state.messages]
    if found != list(expected):
        raise ValueError(f"{loop} does not hold what was written to it: {len(found)} messages, not {len(expected)}")


def length(job: Job) -> Outcome:
    """Steps of one message, added in turn to loops of 10, 100, … messages, up to `size`."""
    lengths = [10**power for power in range(1, 9) if 10**power <= job.size]
    growing = Growing(job, lengths)
    took: dict[str, list[float]] = {str(one): [] for one in lengths}
    for _ in range(job.steps):
        for one in lengths:
            took[str(one)].append(growing.add(one))
    growing.close()
    return Outcome(side=job.side, figures=took)


def fork(job: Job) -> Outcome:
    """Forks in loops of some lengths, at the head or before it, and steps.

    A fork is made by a store that is open, as that of the steps is, and has read nothing of what it forks. The `first`
    of a store is shown besides: it opens the packs and the journal, and waits for what other processes have written.
    """
    lengths = [10**power for power in range(1, 9) if 10**power <= job.size]
    growing = Growing(job, lengths)
    took: dict[str, list[float]] = {"step": [], **{str(one): [] for one in lengths}, "first": []}
    with Loops(opened(growing.folder, "durable")) as forking:
        forking.fork(f"long-{lengths[0]}", "before")
        for number in range(job.steps):
            took["step"] += [growing.add(one) for one in lengths]
            first = number % len(lengths)
            for one in (*lengths[first:], *lengths[:first]):  # the first reads what the steps have added to the journal
                source = f"long-{one}~{number % 2}"
                took[str(one)].append(timed(forking.fork, source, f"fork-{one}-{number}"))
    for one in lengths:
        with Loops(opened(growing.folder, "durable")) as opening:
            took["first"].append(timed(opening.fork, f"long-{one}", f"first-{one}"))
    for one in lengths:
        for number in range(job.steps):
            known = growing.work[: one + number + 1 - number % 2]
            _same(growing.store, f"fork-{one}-{number}", known)
        _same(growing.store, f"first-{one}", growing.work[: one + job.steps])
    growing.close()
    return Outcome(side=job.side, figures=took)


# Many loops ----------------------------------------------------------------------------------------------------------


class Crowded:
    """A repository with so many loops on packed refs: one in a hundred waits for an approval, the others have ended."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder / f"{count}"
        self.folder.mkdir()
        with _closing(opened(self.folder, "durable")) as store:
            begun = first_state((as_ours({"role": "user", "content": "Deploy it."}),), "crowd")
            commit = store.write(begun, parents=(), message="lead: started", author=AUTHOR, committer=COMMITTER)
            self.waiting = _after(store, commit, Assistant(tool_calls=(_REQUEST,)))
            self.ended = _after(store, commit, Assistant(content="It is done."))
        lines = [
            f"{(self.ended if number % AWAITING else self.waiting).id} refs/heads/loops/{_name(number)}\n"
            for number in range(count)
        ]
        (self.folder / REPOSITORY / "packed-refs").write_text(PACKED + "".join(lines))


_REQUEST = ToolRequest(id="c1", function=Function(name="deploy", arguments="{}"))


def _name(number: int) -> str:
    return f"loop-{number:07}"


def _after(store: GitStore, before: Commit, said: Assistant) -> Commit:
    """The step in which the model says something, as the core makes it."""
    proposals = tuple(Proposal(nonce=call.id, needs_approval=True) for call in said.tool_calls)
    event = ModelReplied(at=before.state.at, reply=Reply(message=said), shown=1, proposals=proposals)
    state = step(before.state, event)
    return store.write(state, parents=(before.id,), message="lead: step", author=AUTHOR, committer=COMMITTER)


def refs(job: Job) -> Outcome:
    """Among 1,000, 100,000 … up to `size` loops: list all as git does and those that wait; then, in turn, update,
    create and finish some. The first look at what waits may have an index to make.

    Raises:
        ValueError: something else was found than there is; or there are fewer loops that wait than are to finish.
    """
    counts = [10**power for power in (3, 5, 6) if 10**power <= job.size]
    if job.steps > counts[0] // AWAITING:
        raise ValueError(f"only {counts[0] // AWAITING} of {counts[0]} loops wait, and {job.steps} are to finish")
    crowds = {count: Crowded(Path(job.folder), count) for count in counts}
    stores = {count: opened(crowd.folder, "durable") for count, crowd in crowds.items()}
    took = {f"{what} {count}": list[float]() for what in _WHAT for count in counts}
    for count, crowd in crowds.items():
        took[f"first look {count}"].append(timed(list, stores[count].waiting()))
        for _ in range(_LOOKS):
            took[f"git lists all {count}"].append(timed(_for_each_ref, crowd.folder))
            begin = time.perf_counter()
            found = len(list(stores[count].waiting()))
            took[f"list what waits {count}"].append(time.perf_counter() - begin)
            if found != count // AWAITING:
                raise ValueError(f"{found} of {count // AWAITING} loops that wait were found")
        took[f"their requests {count}"].append(timed(Loops(stores[count]).pending))
        for commit in (crowd.waiting, crowd.ended):
            stores[count].read(commit.id)  # as whoever moves a branch has read or written where it goes
    for number in range(1, job.steps + 1):
        for count, crowd in crowds.items():
            place = number * (count // (job.steps + 1)) // AWAITING * AWAITING  # all over the file
            update, create, finish = loop_name(_name(place + 1)), loop_name(f"more-{number}"), loop_name(_name(place))
            ended, waits = crowd.ended.id, crowd.waiting.id
            took[f"update {count}"].append(timed(stores[count].move, update, ended, waits))
            took[f"create {count}"].append(timed(stores[count].move, create, None, waits))
            took[f"finish {count}"].append(timed(stores[count].move, finish, waits, ended))
    for count, crowd in crowds.items():
        stores[count].close()
        listed = _for_each_ref(crowd.folder)
        wait = count // AWAITING + job.steps
        if (listed.count(b"\n"), listed.count(crowd.waiting.id.encode())) != (count + job.steps, wait):
            raise ValueError(f"git does not list what was written among {count} branches")
    return Outcome(side=job.side, figures=took)


_WHAT = ("update", "create", "finish", "list what waits", "their requests", "first look", "git lists all")
_LOOKS = 2


def _for_each_ref(folder: Path) -> bytes:
    command = ["git", "-C", str(folder / REPOSITORY), "for-each-ref", "--format=%(objectname) %(refname)"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@contextmanager
def _closing(store: GitStore) -> Iterator[GitStore]:
    try:
        yield store
    finally:
        store.close()
