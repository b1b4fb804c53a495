"""Forking: a new loop from any commit, other than its source in what was asked for, and in nothing else."""

import re
from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from ._calls import Person
from ._errors import CallerError, SavedStateError
from ._events import AnyEvent, Told
from ._events_of_forks import Amended, Edited, Overridden, Rehearsed, Reworded, Rewound
from ._ids import BadName, CallId, CommitId, Digest, LoopName, is_call_id, loop_name, root_name
from ._marks import Tried
from ._messages import Json, User
from ._moves import NotApplicable, find
from ._rehearsal import Recording, Rehearsal
from ._specs import Amendment
from ._state import Child, Continuation
from ._text import one_line
from ._trailers import trailers
from ._validate import check_edit, written
from ._variation import Variation
from ._varied import last_reply, unanswered
from .archive import Archive
from .history import LoopExists, Saved, nested, saved_from


class NothingRecorded(CallerError):
    """A fork is to be answered from its source's history, and that does not go on after the commit that is forked."""


class Forked(msgspec.Struct, frozen=True, kw_only=True):
    """A new loop, the commit that its branch begins with, and the loop that the forked commit says it is a step of.

    Nothing else of it was loaded: `Loops.show` does that.
    """

    loop: LoopName
    commit: CommitId
    source: LoopName | None = None


class Forking(Archive):
    """Starts loops from commits of others."""

    def fork(
        self,
        revision: str,
        name: str | None = None,
        variation: Variation | None = None,
        *,
        by: Person | str | None = None,
    ) -> Forked:
        """Start a root loop from any commit: a loop's, an older one of it, a nested one's.

        Without a `variation` it is the same as ``git branch loops/<name> <revision>``, and takes as long at any length
        of the loop: of the commit, no more is read than that it is a loop's, and in a format that is known. With one,
        each change is a commit of the new loop, by `by`; the branch is made with all of them, or not at all. The
        source stays as it is.

        Raises:
            NoSuchRevision, NotALoop: there is no continuation there.
            LoopExists: the name is taken.
            NotApplicable: what was asked for cannot be made of that commit.
            InvalidAnswer: other arguments do not fit their tool.
            NothingRecorded: there is nothing that its tools could be answered from.
        """
        source, commit = self._source(revision)
        varied = variation or Variation()
        if name is not None:
            return self._fork(root_name(name), source, commit, varied, by)
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", source)[:80].strip("-")
        for number in range(1, 10_000):
            with suppress(LoopExists):
                return self._fork(root_name(f"{stem}-fork-{number}"), source, commit, varied, by)
        raise LoopExists(f"Every name for a fork of {stem} is taken.", hint="Name it yourself.")

    def fork_to_try(
        self, revision: str, name: str, variation: Variation, tried: tuple[str, Digest], *, by: Person | str | None
    ) -> None:
        """`fork`, with a last commit that says of which variant it was made, by its name and its digest.

        Raises: as `fork` does.
        """
        loop, who = root_name(name), self._person(by)
        source, commit = self._source(revision)
        self._history.check_free(loop)
        begin = self._varied(loop, commit, (source, *_loop_of(self._store.check(commit))), variation, who)
        children = [child.commit for _, child in sorted(self._store.read(begin).state.children.items())]
        mark = Tried(at=self._now(), variant=tried[0], digest=tried[1], by=who)
        self._history.branch(loop, self._history.mark(loop, mark, begin, (begin, *children), who).commit)

    def _source(self, revision: str) -> tuple[str, CommitId]:
        """The loop that a revision names, as far as it names one, and the commit."""
        try:
            commit = self._store.resolve(revision)
        except CallerError:
            commit = self._history.at(revision)[0].commit  # a nested loop without a branch of its own
        return re.split(r"[~^@:]", revision.removeprefix("loops/"))[0], commit

    def _fork(
        self, loop: LoopName, source: str, commit: CommitId, varied: Variation, by: Person | str | None
    ) -> Forked:
        said, begin = _loop_of(self._store.check(commit)), commit
        if varied != Variation():
            self._history.check_free(loop)
            begin = self._varied(loop, commit, (source, *said), varied, self._person(by))
        self._history.branch(loop, begin)
        own: LoopName | None = None
        with suppress(BadName):  # whoever wrote the commit may have written anything
            own = loop_name(said[-1]) if said else None
        return Forked(loop=loop, commit=begin, source=own)

    def _varied(
        self, loop: LoopName, commit: CommitId, names: tuple[str, ...], varied: Variation, who: Person
    ) -> CommitId:
        """Write the commits that make of a commit what was asked for; the last one of them."""
        forked = saved_from(loop, self._store.read(commit))
        saved, since = forked, commit
        if varied.drop:
            rewound = self._rewound(saved, varied.drop, who)
            saved, since = self._history.draft(saved, rewound, who), rewound.to
        for event in self._departures(saved.state, varied, names, who):
            saved = self._history.draft(saved, event, who)
        if varied.tools is not None:
            rehearsal = self._rehearsal(names, forked, since, varied)
            if rehearsal is not None or saved.state.rehearsal is not None:
                saved = self._rehearsed(saved, rehearsal, who)
        if varied.tell is not None:
            told = Told(at=self._now(), message=User(content=varied.tell), by=who)
            saved = self._history.draft(saved, told, who)
        return saved.commit

    # What was said -----------------------------------------------------------------------------------------------

    def _rewound(self, saved: Saved, drop: int, who: Person) -> Rewound:
        """The removal of a tail, with the calls of the round that stays as the history has them."""
        kept = max(0, len(saved.state.messages) - drop)
        prefix = saved.state.messages[:kept]
        event = Rewound(at=self._now(), kept=kept, to=saved.commit, calls=(), by=who)
        if not prefix or unanswered(prefix) is not None:
            return event  # the step says what is wrong with it
        for commit, _ in self._store.line(saved.commit):
            state = self._store.read(commit).state
            same = state.nonce == saved.state.nonce and state.messages[:kept] == prefix
            if same and not state.open_calls and last_reply(state.messages) == last_reply(prefix):
                return replace(event, to=commit, calls=state.calls, workspace=state.workspace)
        raise NotApplicable(
            "No commit of the loop ends with what would stay.", hint="Drop more, or fork an earlier commit."
        )

    def _departures(
        self, state: Continuation, varied: Variation, names: tuple[str, ...], who: Person
    ) -> Iterator[AnyEvent]:
        """Other definition, words, arguments and results than in `state`, none of which touches another."""
        redaction, model = self._history.redaction, state.definition.model
        if varied.model or varied.settings is not None:
            settings = model.settings if varied.settings is None else redaction.json(varied.settings)
            model = replace(model, name=varied.model or model.name, settings=settings)
            yield Amended(at=self._now(), amendment=Amendment(model=model), by=who)
        if varied.instructions is not None:
            yield Amended(at=self._now(), amendment=Amendment(instructions=varied.instructions), by=who)
        for number, content in varied.reword.items():
            yield Reworded(at=self._now(), place=number - 1, message=User(content=content), by=who)
        for call_id, arguments in varied.arguments.items():
            call = find(state, _own(call_id, names))
            clean: Json = redaction.json(arguments)
            check_edit(state.tool(call), call.tool, clean)
            yield Edited(
                at=self._now(), call=call.id, arguments=written(clean, "What stands for the arguments"), by=who
            )
        for call_id, content in varied.results.items():
            yield Overridden(at=self._now(), call=_own(call_id, names), content=content, by=who)

    # What its tools do -------------------------------------------------------------------------------------------

    def _rehearsal(self, names: tuple[str, ...], forked: Saved, since: CommitId, varied: Variation) -> Rehearsal | None:
        if varied.tools == "live":
            return None
        if varied.tools == "ask":
            return Rehearsal()
        until = self._future(names, forked) or forked.commit
        if until == since:
            raise NothingRecorded(
                f"Nothing is recorded after {since[:12]} that calls could be answered from.",
                hint="Fork an earlier commit, by its loop's name ('release~5'); or let each call be asked about.",
            )
        return Rehearsal(record=Recording(until=until, since=since, on_miss=varied.on_miss))

    def _future(self, names: tuple[str, ...], forked: Saved) -> CommitId | None:
        """The head of the loop that a commit is one of: the one that the revision names, else the commit itself."""
        for name in names:
            with suppress(CallerError, SavedStateError):
                loop = loop_name(name)
                head = self._store.head(loop, archived=True) or self._history.load(loop).commit
                if any(commit == forked.commit for commit, _ in self._store.line(head)):
                    return head
        return None

    def _rehearsed(self, saved: Saved, rehearsal: Rehearsal | None, who: Person) -> Saved:
        """Let a loop rehearse, or act again, and all that is nested in it."""
        children: dict[CallId, Child] = {}
        for call, child in nested(saved).items():
            done = self._rehearsed(child, rehearsal, who)
            children[call] = Child(commit=done.commit, state=done.state)
        record = None if rehearsal is None else rehearsal.record
        event = Rehearsed(at=self._now(), rehearsal=rehearsal, by=who)
        further = () if record is None else (record.until,)
        return self._history.draft(saved, event, who, children=children, further=further)


def _own(call: str, names: tuple[str, ...]) -> CallId:
    """A call of the forked loop itself, by its id, or by its address in the source.

    Raises:
        NotApplicable: it is in another.
    """
    loop, _, call_id = call.rpartition(".")
    if not is_call_id(call_id) or (loop and loop not in names):
        raise NotApplicable(
            f"{one_line(call)!r} is no call of the forked loop itself.",
            hint="Name it as in 'deploy-1'. Fork the nested loop alone, or fork, then approve with other arguments.",
        )
    return CallId(call_id)


def _loop_of(message: str) -> tuple[str, ...]:
    """The loop that a commit says it is a step of."""
    return trailers(message).get("Loop", ())
