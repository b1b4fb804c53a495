"""Exploring: variants of one commit, tried at the same time, each in a loop of its own, and scored."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from caesura.continuations import (
    Budget,
    CaesuraError,
    CallerError,
    Person,
    Saved,
    Scored,
    Spent,
    Status,
    Variant,
    one_line,
    score_of,
    start_variant,
    variant_loop,
)

from ._notices import committed
from ._pot import Pot
from ._services import Services, as_author
from ._trials import Evaluator, NotEvaluated, Trial, scoring

if TYPE_CHECKING:
    from ._runtime import Outcome


class BadExploration(CallerError):
    """Something cannot be explored so."""


Drive = Callable[[Saved, Pot | None], Awaitable["Outcome"]]
"""Drives a loop until it ends or rests, for as long as there is something in the pot."""


class Explorer:
    """One exploration of one runtime: what it takes to try each variant of a revision."""

    def __init__(
        self,
        services: Services,
        drive: Drive,
        revision: str,
        name: str | None,
        by: Person | str | None,
        evaluator: Evaluator | None,
    ) -> None:
        self._services = services
        self._drive = drive
        self._revision = revision
        self._name = name
        self._by = by
        self._evaluator = evaluator
        self._trials: dict[str, Trial] = {}

    async def explore(self, variants: Sequence[Variant], limit: int, budget: Budget | None) -> list[Trial]:
        """Try all of them, so many at a time; the best first, then those without a score as they were given.

        Raises:
            BadExploration: two variants share a name, or none may be driven at a time.
        """
        names = [variant.name for variant in variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadExploration(f"Two variants are named {twice!r}.", hint="Give each a name of its own.")
        if limit < 1:
            raise BadExploration(f"{limit} loops at a time are none.", hint="Give a limit of 1 or more.")
        base, _ = await self._services.sync(self._services.history.at, self._revision)
        pot = None if budget is None else Pot(budget, base.state)
        # All are made before any is driven: what each has spent by now counts from the beginning.
        made = [(variant, saved) for variant in variants if (saved := await self._made(variant)) is not None]
        for _, saved in made:
            if pot is not None:
                pot.count(saved.loop, partial(_spent, saved))
        waiting = iter(made)

        async def work() -> None:
            for variant, saved in waiting:
                self._trials[variant.name] = await self._try(variant, saved, pot)

        async with trio.open_nursery() as nursery:
            for _ in range(min(limit, len(made))):
                nursery.start_soon(work)
        return sorted((self._trials[name] for name in names), key=_rank)

    async def _made(self, variant: Variant) -> Saved | None:
        services = self._services
        try:
            return await services.sync(
                start_variant, services.history, services.loops(), self._revision, variant, self._name, by=self._by
            )
        except CaesuraError as error:
            loop = variant_loop(self._revision, variant, self._name)
            self._trials[variant.name] = Trial(variant=variant, loop=loop, error=error)
            return None

    async def _try(self, variant: Variant, saved: Saved, pot: Pot | None) -> Trial:
        trial = Trial(variant=variant, loop=saved.loop)
        try:
            outcome = await self._drive(saved, pot)
            trial = replace(trial, outcome=outcome)
            if self._evaluator is None or outcome.status is not Status.COMPLETED:
                return trial
            score, note = await self._scored(self._evaluator, outcome)
        except CaesuraError as error:
            return replace(trial, error=error)
        return replace(trial, score=score, note=note)

    async def _scored(self, evaluator: Evaluator, outcome: "Outcome") -> tuple[float, str]:
        """The score that an evaluator has given an outcome before, or gives it now."""
        services = self._services
        saved = await services.sync(services.history.load, outcome.loop)
        known = await services.sync(self._known, evaluator, saved)
        if known is not None:
            return known
        score, note = await self._asked(evaluator, outcome, saved)
        mark = Scored(at=services.now(), evaluator=evaluator.name, score=score, note=note)
        made = await services.sync(services.history.score, saved, mark, services.committer, as_author(evaluator.name))
        services.listen(committed(made))
        return score, note

    def _known(self, evaluator: Evaluator, saved: Saved) -> tuple[float, str] | None:
        history = self._services.history
        name = one_line(history.redaction.text(evaluator.name), 200)  # as it would stand there
        for _, message in history.store.line(saved.commit):
            found = score_of(message)
            if found is None:
                return None
            if found.evaluator == name:
                return found.score, found.note
        return None

    async def _asked(self, evaluator: Evaluator, outcome: "Outcome", saved: Saved) -> tuple[float, str]:
        evaluate = partial(evaluator.evaluate, outcome, saved)
        try:
            if inspect.iscoroutinefunction(evaluator.evaluate):
                said = evaluate()
            else:
                said = await trio.to_thread.run_sync(evaluate, limiter=self._services.threads)
            return scoring(await said if inspect.isawaitable(said) else said)
        except CaesuraError:
            raise
        except (Exception, SystemExit) as error:  # the user's code: one outcome's fault ends no other
            raise NotEvaluated(
                f"{evaluator.name} failed on {outcome.loop}: {type(error).__name__}: {error}",
                hint="Mend it and explore again: what has ended is not run again.",
            ) from error


def _spent(saved: Saved) -> tuple[Spent, float]:
    return saved.state.total, saved.state.spent.seconds


def _rank(trial: Trial) -> tuple[bool, float]:
    return trial.score is None, -(trial.score or 0.0)
