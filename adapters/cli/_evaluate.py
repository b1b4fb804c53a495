"""Evaluators: a command, or an agent as judge, that says how good the outcome of a loop is."""

import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._faults import BadUsage
from ._look import state_page
from ._options import Place
from ._predicate import SKIP, NotTested, command_of, run_command
from ._task import make_task

if TYPE_CHECKING:
    from caesura.continuations import Saved
    from caesura.runtime import Evaluator, Outcome


def evaluator(where: Place, words: Sequence[str], judge: str | None) -> "Evaluator | None":
    """What scores outcomes: the command after ``--``, or an agent; None if neither is given.

    Raises:
        BadUsage: both are given, or the agent's result is no score.
        BadModule, NoSuchAgent, NoModel: the agent cannot be had.
    """
    command = command_of(words)
    if command and judge is not None:
        raise BadUsage("There are two judges.", hint="Give -- and a command, or --judge, not both.")
    if judge is not None:
        return _judge(where, judge)
    return _command(where, command) if command else None


def _command(where: Place, command: Sequence[str]) -> "Evaluator":
    from caesura.runtime import Evaluator

    def evaluate(outcome: "Outcome", saved: "Saved") -> tuple[float, str]:
        with where.loops() as loops:
            done = run_command(command, loops, saved.commit, stdout=subprocess.PIPE)
        if done.returncode == SKIP:
            raise NotTested(f"{command[0]} does not score {outcome.loop}.", hint="It exited with status 125.")
        return (0.0, "") if done.returncode else _printed(done.stdout) or (1.0, "")

    return Evaluator(name=" ".join(command), evaluate=evaluate)


def _printed(text: str) -> tuple[float, str] | None:
    """The score in the last line that was printed, and what follows it there."""
    number, _, note = (text.strip().splitlines() or [""])[-1].strip().partition(" ")
    try:
        return float(number), note.strip()
    except ValueError:
        return None


def _judge(where: Place, named: str) -> "Evaluator":
    from caesura.runtime import judged_by

    task = make_task(where, None, named, model=None, api=None)
    if task.agent.result is str:
        raise BadUsage(
            f"The result of agent {task.agent.name} is text, which is no score.",
            hint="Define a judge with result=float, or bool, or a class with a score and a note.",
        )

    def show(outcome: "Outcome", saved: "Saved") -> str:
        with where.loops() as loops:
            return state_page(loops, saved, saved.state.at, at_head=False, full=True).plain

    return judged_by(task.agent, model=task.model, show=show)
