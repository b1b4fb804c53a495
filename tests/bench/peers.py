"""The peers: frameworks that keep agents' messages, with their own default settings unless said."""

import asyncio
import operator
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from .sides import Side, peer
from .work import Message, Step

T = TypeVar("T")

_STEPS_MORE = 100
"""Beyond the steps of a loop, for LangGraph's limit of recursion."""


class LangGraph(Side):
    """A graph of one node that appends a step's messages and is run again until there are no more.

    The messages are on a plain channel, of which each checkpoint holds the whole; with `delta`, on a `DeltaChannel`,
    which takes dicts with a role for something else: there each message is wrapped.
    """

    def __init__(self, folder: Path, *, delta: bool = False) -> None:
        self._delta = delta
        self._path = folder / "checkpoints.db"
        self._steps: dict[str, Sequence[Step]] = {}
        self._begun: dict[str, list[float]] = {}
        self._forks: dict[str, Any] = {}
        self._saver_context = peer("langgraph.checkpoint.sqlite").SqliteSaver.from_conn_string(str(self._path))
        self._saver = self._saver_context.__enter__()
        self._graph = self._compiled(self._saver)

    def _compiled(self, saver: Any) -> Any:
        graph = peer("langgraph.graph")
        channel: Any = operator.add
        if self._delta:
            channel = peer("langgraph.channels").DeltaChannel(_joined)
        schema = peer("typing").TypedDict("State", {"messages": Annotated[list[Any], channel], "loop": str})
        builder = graph.StateGraph(schema)
        builder.add_node("step", self._node)
        builder.add_edge(graph.START, "step")
        builder.add_conditional_edges("step", self._next, {"step": "step", "end": graph.END})
        return builder.compile(checkpointer=saver)

    def _node(self, state: Mapping[str, Any]) -> dict[str, Any]:
        begun = self._begun[state["loop"]]
        begun.append(time.perf_counter())
        return {"messages": self._wrapped(self._steps[state["loop"]][len(begun) - 1])}

    def _next(self, state: Mapping[str, Any]) -> str:
        return "step" if len(self._begun[state["loop"]]) < len(self._steps[state["loop"]]) else "end"

    def _wrapped(self, step: Step) -> list[Any]:
        return [{"message": message} if self._delta else message for message in step]

    def _task(self, loop: str, steps: Sequence[Step]) -> tuple[Any, Any]:
        """What a graph is called with to take these steps."""
        self._steps[loop], self._begun[loop] = steps, []
        config = {"configurable": {"thread_id": loop}, "recursion_limit": len(steps) + _STEPS_MORE}
        return {"messages": [], "loop": loop}, config

    def _took(self, loop: str) -> list[float]:
        moments = [*self._begun[loop], time.perf_counter()]
        return [after - before for before, after in pairwise(moments)]

    def run(self, loop: str, steps: Sequence[Step]) -> list[float]:
        start, config = self._task(loop, steps)
        self._graph.invoke(start, config, durability="sync")
        return self._took(loop)

    def read(self, loop: str) -> list[Message]:
        config = self._forks.get(loop, {"configurable": {"thread_id": loop}})
        values = self._graph.get_state(config).values["messages"]
        return [value["message"] if self._delta else value for value in values]

    def first_effect(self, loop: str) -> bool:
        state = self._graph.get_state({"configurable": {"thread_id": loop}})
        return bool(state.values["messages"])

    def moment(self, loop: str, steps: Sequence[Step], taken: int) -> Any:
        self._task(loop, [])  # what the graph's edges ask for
        (found,) = self._saver.list({"configurable": {"thread_id": loop}}, filter={"step": taken})
        return found.config

    def fork(self, moment: Any, name: str) -> None:
        self._forks[name] = self._graph.update_state(moment, {"messages": []}, as_node="step")

    def close(self) -> None:
        self._saver_context.__exit__(None, None, None)
        with sqlite3.connect(self._path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _joined(state: Sequence[Any], writes: Sequence[Sequence[Any]]) -> list[Any]:
    """A `DeltaChannel`'s reducer: everything written so far, in order."""
    return [*state, *(value for write in writes for value in write)]


class LangGraphAsync(LangGraph):
    """The same over `AsyncSqliteSaver`, with its default: a checkpoint is written while the next step runs."""

    def run(self, loop: str, steps: Sequence[Step]) -> list[float]:
        return self.at_once({loop: steps})

    def at_once(self, loops: Mapping[str, Sequence[Step]]) -> list[float]:
        saver_type = peer("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver

        async def one(graph: Any, loop: str, steps: Sequence[Step]) -> list[float]:
            start, config = self._task(loop, steps)
            await graph.ainvoke(start, config)
            return self._took(loop)

        async def all_of_them() -> list[list[float]]:
            async with saver_type.from_conn_string(str(self._path)) as saver:
                graph = self._compiled(saver)
                return await asyncio.gather(*(one(graph, loop, steps) for loop, steps in loops.items()))

        return [seconds for some in asyncio.run(all_of_them()) for seconds in some]


class OpenAIAgents(Side):
    """The session of openai-agents: a step adds its items."""

    def __init__(self, folder: Path) -> None:
        self._session_type = peer("agents").SQLiteSession
        self._path = folder / "sessions.db"
        self._sessions: dict[str, Any] = {}

    def _session(self, loop: str) -> Any:
        if loop not in self._sessions:
            self._sessions[loop] = self._session_type(loop, self._path)
        return self._sessions[loop]

    def run(self, loop: str, steps: Sequence[Step]) -> list[float]:
        return _in_loop(lambda: self._add_all(loop, steps))

    async def _add_all(self, loop: str, steps: Sequence[Step]) -> list[float]:
        session = self._session(loop)
        took: list[float] = []
        for step in steps:
            begin = time.perf_counter()
            await session.add_items(list(step))
            took.append(time.perf_counter() - begin)
        return took

    def read(self, loop: str) -> list[Message]:
        found: list[Message] = _in_loop(lambda: self._session(loop).get_items())
        return found

    def first_effect(self, loop: str) -> bool:
        return bool(self.read(loop))

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        with sqlite3.connect(self._path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _in_loop(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(call())


class Dbos(Side):
    """A durable workflow of DBOS on sqlite: each of its steps returns a step's messages, which are its record."""

    def __init__(self, folder: Path) -> None:
        library = peer("dbos")
        self._dbos = library.DBOS
        self._name = library.SetWorkflowID
        self._steps: dict[str, Sequence[Step]] = {}
        self._took: dict[str, list[float]] = {}
        self._path = folder / "dbos.db"
        self._dbos(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{self._path}",
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )
        step = self._dbos.step()(lambda messages: messages)

        def workflow(loop: str) -> None:
            for messages in self._steps[loop]:
                begin = time.perf_counter()
                step(list(messages))
                self._took[loop].append(time.perf_counter() - begin)

        self._workflow = self._dbos.workflow(name="bench")(workflow)
        self._dbos.launch()

    def run(self, loop: str, steps: Sequence[Step]) -> list[float]:
        self._steps[loop], self._took[loop] = steps, []
        with self._name(loop):
            self._workflow(loop)
        return self._took[loop]

    def read(self, loop: str) -> list[Message]:
        return [message for step in self._dbos.list_workflow_steps(loop) for message in step["output"]]

    def close(self) -> None:
        self._dbos.destroy()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(5)
        with sqlite3.connect(self._path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
