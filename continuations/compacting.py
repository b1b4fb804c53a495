"""Compacting by hand: the messages of a loop that nobody drives, made shorter without a model."""

from ._calls import Person
from ._compaction import compaction_fault, messages_digest, without_results
from ._events import Compacted
from ._ids import loop_name, root_of
from ._moves import NotApplicable
from ._specs import BadCompaction
from .care import Care
from .history import Saved
from .leases import held


class Compacting(Care):
    """What can be done about the length of a loop's messages."""

    def compact(self, loop: str, *, keep: int = 10, by: Person | str | None = None) -> Saved:
        """Leave the contents of a loop's old tool results out: of all but the newest `keep`.

        What the model has not read yet stays, and so does what people decided or answered. Everything is in the earlier
        commits; to go back, fork one.

        Raises:
            NoSuchLoop: there is none of that name.
            BadCompaction: `keep` is below zero.
            NotApplicable: it has ended, or there is nothing to leave out.
            StillDriven: a living worker drives it; an agent's own `compaction` does it meanwhile.
        """
        if keep < 0:
            raise BadCompaction(f"{keep} results cannot be kept.", hint="Give 0 or a number above it.")
        name, who = loop_name(loop), self._person(by)
        with held(self._store, root_of(name), self._now()):
            saved = self._history.load(name)
            before = saved.state.messages
            after = without_results(saved.state.definition, before, keep)
            if saved.state.ending is None and compaction_fault(before, after) is not None:
                raise NotApplicable(
                    f"There is nothing to leave out of {name}, beside its newest {keep} results.",
                    hint="A smaller --keep leaves more out.",
                )
            event = Compacted(
                at=self._now(),
                messages=after,
                shown=len(before),
                replaces=messages_digest(before),
                how=f"drop_tool_results(keep={keep})",
                by=who,
            )
            return self._history.apply(saved, event, who)
