"""Caesura's own side: the store as it is opened by a program, with its settings."""

import datetime as dt
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from caesura.continuations import (
    AgentSpec,
    CallId,
    Child,
    Commit,
    Continuation,
    GitStore,
    History,
    LoopName,
    Loops,
    ModelSpec,
    Person,
    Started,
    User,
    WorkerId,
    decode_message,
    encode_message,
    loop_name,
    outstanding,
    split_address,
    start,
)
from caesura.continuations import Message as OurMessage
from caesura.continuations._messages import extended
from caesura.runtime._crossing import Crossing

from .sides import Side
from .work import Message, Step

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "durable": {"durability": "power-cut", "visibility": "sealed"},
    "step": {"durability": "power-cut", "visibility": "step"},
    "crash": {"durability": "crash", "visibility": "sealed"},
}
"""How a store is opened: each step survives a power cut, or only the death of its process; git sees it at once, or once
it is sealed with others."""

REPOSITORY = "loops.git"

AUTHOR = Person(name="lead", email="lead@agents.invalid")
COMMITTER = Person(name="caesura", email="bench@localhost")
AGENT = AgentSpec(name="lead", instructions="You plan.", model=ModelSpec(name="scripted"), tools=())
BEGIN = dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC)


def opened(folder: Path, settings: str, *, create: bool = True) -> GitStore:
    """A store in a folder, with the settings of that name."""
    return GitStore.open(folder / REPOSITORY, create=create, **SETTINGS[settings])


def first_state(messages: tuple[OurMessage, ...], nonce: str) -> Continuation:
    """A loop that holds these messages."""
    begun = Started(at=BEGIN, definition=AGENT, prompt=User(content=""), nonce=nonce, worker=WorkerId("bench"))
    return replace(start(begun), messages=messages)


def next_state(
    before: Continuation, messages: tuple[OurMessage, ...], children: Mapping[CallId, Child] | None = None
) -> Continuation:
    """A loop with these messages more; its record changes as it does in life."""
    return replace(
        before,
        messages=extended(before.messages, *messages),  # as the core does
        at=before.at + dt.timedelta(seconds=1),
        spent=replace(before.spent, steps=before.spent.steps + 1),
        children=children or {},
    )


def as_ours(message: Message) -> OurMessage:
    """A message as the continuation holds it."""
    return decode_message(json.dumps(message).encode(), "message")


def as_work(message: OurMessage) -> Message:
    """A message as the work holds it."""
    plain: Message = msgspec.json.decode(encode_message(message))
    return plain


class Caesura(Side):
    """The store alone: a step is a commit with its messages and a changed record, and its branch moved."""

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder = folder
        self._store = opened(folder, settings)
        self._heads: dict[LoopName, Commit] = {}

    def prepared(self, step: Step) -> tuple[OurMessage, ...]:
        return tuple(map(as_ours, step))

    def append(self, loop: str, step: tuple[OurMessage, ...]) -> None:
        self._append(LoopName(loop), step, {})

    def _append(self, loop: LoopName, step: tuple[OurMessage, ...], children: Mapping[CallId, Child]) -> None:
        before = self._heads.get(loop)
        state = first_state(step, loop) if before is None else next_state(before.state, step, children)
        parents = () if before is None else (before.id, *[children[call].commit for call in sorted(children)])
        commit = self._store.write(state, parents=parents, message="lead: step", author=AUTHOR, committer=COMMITTER)
        self._store.move(loop, None if before is None else before.id, commit.id)
        self._heads[loop] = commit

    def at_once(self, loops: Mapping[str, Sequence[tuple[OurMessage, ...]]]) -> list[float]:
        took: list[float] = []

        async def drive(loop: str, crossing: Crossing) -> None:
            for step in loops[loop]:
                begin = time.perf_counter()
                await crossing.do(partial(self.append, loop, step))
                took.append(time.perf_counter() - begin)

        async def all_of_them() -> None:
            crossing = Crossing(self._store)  # as the runtime's loops call it
            async with trio.open_nursery() as nursery:
                for loop in loops:
                    nursery.start_soon(drive, loop, crossing)

        trio.run(all_of_them)
        return took

    def nested(
        self,
        lead: str,
        lead_steps: Sequence[tuple[OurMessage, ...]],
        children: Mapping[str, Sequence[tuple[OurMessage, ...]]],
    ) -> list[float]:
        root = loop_name(lead)
        took = [self.timed(lead, lead_steps[0]), *self.at_once(children)]
        for done, step in enumerate(lead_steps[1:], 1):  # each takes up one child's result, and nests those still live
            heads = {split_address(child)[1]: self._heads[loop_name(child)] for child in sorted(children)[done:]}
            nested = {call: Child(commit=head.id, state=head.state) for call, head in heads.items()}
            begin = time.perf_counter()
            self._append(root, step, nested)
            took.append(time.perf_counter() - begin)
        return took

    def read(self, loop: str) -> list[Message]:
        return [as_work(message) for message in History(self._store).load(loop_name(loop)).state.messages]

    def first_effect(self, loop: str) -> bool:
        return bool(outstanding(History(self._store).load(loop_name(loop)).state))

    def moment(self, loop: str, steps: Sequence[Step], taken: int) -> str:
        revision = f"refs/heads/loops/{loop}~{len(steps) - taken}"
        command = ["git", "-C", str(self._folder / REPOSITORY), "rev-parse", revision]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def fork(self, moment: str, name: str) -> None:
        Loops(self._store).fork(moment, name)

    def close(self) -> None:
        self._store.close()
