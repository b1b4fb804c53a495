"""Predicates over a continuation: a command, a regular expression, or an agent as judge."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO

from caesura.continuations import CaesuraError, CommitId, Loops, MemoryStore

from ._faults import BadUsage, why
from ._look import state_json, state_page
from ._options import COMMAND, Place
from ._task import Task, make_task

SKIP = 125
"""The exit status with which a command says that this step cannot be tested."""

Predicate = Callable[[Loops, CommitId], bool | None]
"""Whether a step is good; None if it cannot be tested."""


class NotTested(CaesuraError):
    """A test could not be made, which is no answer."""


def predicate(where: Place, words: Sequence[str], matches: str | None, judge: str | None) -> Predicate:
    """The test that the words after ``--``, a regular expression or an agent make.

    Raises:
        BadUsage: there is none, there are several, or it is none.
        BadModule, NoSuchAgent, NoModel: the agent cannot be had.
    """
    command = command_of(words)
    if bool(command) + (matches is not None) + (judge is not None) != 1:
        raise BadUsage("One test is needed.", hint="Give -- and a command, or --matches, or --judge.")
    if judge is not None:
        return _judge(make_task(where, None, judge, model=None, api=None))
    if matches is None:
        return lambda loops, commit: _run(command, loops, commit)
    try:
        pattern = re.compile(matches, re.MULTILINE)
    except re.error as error:
        raise BadUsage(f"{matches!r} is no regular expression: {error}.", hint="Python's re says how.") from error
    return lambda loops, commit: pattern.search(_text(loops, commit)) is not None


def command_of(words: Sequence[str]) -> list[str]:
    """The command that the words after ``--`` make.

    Raises:
        BadUsage: there are words before it.
    """
    odd = [word for word in words if not word.startswith(COMMAND)]
    if odd:
        raise BadUsage(f"{' '.join(map(repr, odd))} is too much.", hint="A command comes after --.")
    return [word.removeprefix(COMMAND) for word in words]


def run_command(
    command: Sequence[str], loops: Loops, commit: CommitId, *, stdout: int | IO[str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command on a step, which it is given as JSON; it exits with 0 to 125.

    Raises:
        NotTested: it cannot be run, or ended otherwise.
    """
    state = json.dumps(state_json(loops, loops.show(commit), at_head=False)) + "\n"
    try:
        done = subprocess.run(command, input=state, text=True, stdout=stdout, check=False)  # noqa: S603
    except OSError as error:
        raise NotTested(f"{command[0]!r} cannot be run: {why(error)}.", hint="Nothing was tested.") from error
    if not 0 <= done.returncode <= SKIP:
        raise NotTested(
            f"The test of {commit} ended with status {done.returncode}.",
            hint="0 is good, 1 to 124 is bad, 125 is not to be tested; anything else is no answer.",
        )
    return done


def _text(loops: Loops, commit: CommitId) -> str:
    saved = loops.show(commit)
    return state_page(loops, saved, saved.state.at, at_head=False, full=True).plain


def _run(command: Sequence[str], loops: Loops, commit: CommitId) -> bool | None:
    # Its output is no result of ours.
    status = run_command(command, loops, commit, stdout=sys.stderr).returncode
    return None if status == SKIP else status == 0


def _judge(task: Task) -> Predicate:
    """Asks an agent about the transcript, in a loop of its own that nothing is kept of."""
    if task.agent.result is not bool:
        raise BadUsage(
            f"The result of agent {task.agent.name} is not true or false.", hint="Define a judge with result=bool."
        )

    def judge(loops: Loops, commit: CommitId) -> bool:
        import trio

        from caesura.runtime import Outcome, Runtime

        async def ask() -> Outcome:
            async with (
                task.serve() as model,
                Runtime.open(MemoryStore(), agents=[task.agent], model=model) as runtime,
            ):
                return await runtime.run(task.agent, _text(loops, commit))

        outcome = trio.run(ask)
        if not isinstance(outcome.result, bool):
            raise NotTested(
                f"{task.agent.name} did not judge {commit}: it is {outcome.status}.",
                hint="A judge has to answer by itself: no approvals, no questions.",
            )
        return outcome.result

    return judge
