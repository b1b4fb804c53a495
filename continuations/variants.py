"""Variants: what is tried of a commit, each in a fork of its own that is found again by its name."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ._calls import Choice, Person
from ._errors import CallerError
from ._ids import CommitId, LoopName, root_name
from ._messages import Json
from ._moves import AlreadyAnswered, AlreadyDecided
from ._trailers import trailers
from ._variation import Variation
from .history import History, LoopExists, NoSuchLoop, Saved
from .loops import Loops

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


class BadVariant(CallerError):
    """A variant cannot be tried."""


class Variant(Variation, frozen=True, kw_only=True):
    """One thing to try: a variation, and what is decided in it of what waits.

    `approve`, `reject` (with the reasons) and `answer` name calls and gates as the fork has them: ``deploy-1``, or
    ``ops-1.deploy-1`` in a nested loop. Decisions come after everything else that is changed.

    Raises:
        BadVariant: the name is not 1 to 64 letters, digits, ``-`` and ``_``, or something is decided twice.
    """

    name: str
    approve: tuple[str, ...] = ()
    reject: Mapping[str, str] = {}
    answer: Mapping[str, Json] = {}

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise BadVariant(
                f"{self.name!r} cannot name a variant.",
                hint="Use 1 to 64 letters, digits, '-' and '_', not starting with '-'.",
            )
        decided = [*self.approve, *self.reject, *self.answer]
        twice = next((one for one in decided if decided.count(one) > 1), None)
        if twice is not None:
            raise BadVariant(f"Variant {self.name} decides twice on {twice}.", hint="Make two variants of it.")

    @property
    def variation(self) -> Variation:
        """What the fork is to be other than its source."""
        return Variation(**{name: getattr(self, name) for name in Variation.__struct_fields__})


def stem_of(revision: str) -> str:
    """What the names of the variants of a revision begin with, unless another name is given."""
    source = re.split(r"[~^@:]", revision.removeprefix("loops/"))[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", source)[:80].strip("-")


def variant_loop(revision: str, variant: Variant, name: str | None) -> LoopName:
    """The name of the loop in which a variant of a revision is tried: `name`, else the revision's, and its own.

    Raises:
        BadName: it cannot be one.
    """
    return root_name(f"{name or stem_of(revision)}-{variant.name}")


def start_variant(
    history: History, loops: Loops, revision: str, variant: Variant, name: str | None = None, *, by: Person | str | None
) -> Saved:
    """Make a variant's loop, or find the one that was made of it; then decide in it what is still to be decided.

    Raises:
        LoopExists: there is another loop of its name.
        NoSuchRequest: what it decides on does not wait.
        AlreadyDecided, AlreadyAnswered: somebody was first, and differs.
        CallerError, ConflictError: it cannot be made, as `Loops.fork` says.
    """
    loop = variant_loop(revision, variant, name)
    try:
        saved = history.load(loop)
    except NoSuchLoop:
        loops.fork(revision, loop, variant.variation, by=by)
    else:
        if _forked_from(history, saved) != _commit(history, revision):
            raise LoopExists(
                f"There is a loop {loop!r} already, and it is no fork of {revision} as that is now.",
                hint="Give what is tried of this commit another name.",
            )
    for call in variant.approve:
        with _decided("approve"):
            loops.approve(f"{loop}.{call}", by=by)
    for call, reason in variant.reject.items():
        with _decided("reject"):
            loops.reject(f"{loop}.{call}", reason, by=by)
    for call, value in variant.answer.items():
        with _answered(value):
            loops.answer(f"{loop}.{call}", value, by=by)
    return history.load(loop)


def _commit(history: History, revision: str) -> CommitId:
    try:
        return history.store.resolve(revision)
    except CallerError:
        return history.at(revision)[0].commit  # a nested loop without a branch of its own


def _forked_from(history: History, saved: Saved) -> CommitId | None:
    """The commit of another loop that a loop began at."""
    line = history.store.line(saved.commit)
    return next((commit for commit, message in line if trailers(message).get("Loop") != (saved.loop,)), None)


@contextmanager
def _decided(choice: Choice) -> Iterator[None]:
    """Take it that somebody has decided so before."""
    try:
        yield
    except AlreadyDecided as error:
        if error.decision.choice != choice:
            raise


@contextmanager
def _answered(value: Json) -> Iterator[None]:
    """Take it that somebody has answered so before."""
    try:
        yield
    except AlreadyAnswered as error:
        if error.value != (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)):
            raise
