"""Variants: what is tried of a commit, each in a fork of its own that is found again by its name."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import takewhile

import msgspec

from ._calls import Choice, Person
from ._errors import CaesuraError, CallerError
from ._ids import CommitId, Digest, LoopName, digest, root_name
from ._marks import variant_of
from ._messages import Json
from ._moves import AlreadyAnswered, AlreadyDecided
from ._redact import Redaction
from ._trailers import trailers
from ._variation import Variation
from .history import History, LoopExists, Saved
from .loops import Loops
from .missing import NoSuchLoop
from .store import Move, Moved

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

    If that cannot be decided, a loop that was made for it here is taken away again.

    Raises:
        LoopExists: there is another loop of its name, or it was made of a variant that asked for something else.
        NoSuchRequest: what it decides on does not wait.
        AlreadyDecided, AlreadyAnswered: somebody was first, and differs.
        CallerError, ConflictError: it cannot be made, as `Loops.fork` says.
    """
    loop, asked = variant_loop(revision, variant, name), _digest(variant, history.redaction)
    try:
        saved = history.load(loop)
    except NoSuchLoop:
        loops.fork_to_try(revision, loop, variant.variation, (variant.name, asked), by=by)
        try:
            _decide(loops, loop, variant, by)
        except CaesuraError:
            _take_away(history, loop)
            raise
    else:
        _check_same(history, saved, revision, variant.name, asked)
        _decide(loops, loop, variant, by)
    return history.load(loop)


def _check_same(history: History, saved: Saved, revision: str, name: str, asked: Digest) -> None:
    """That a loop was made of what is asked for now: what came of something else is not the answer to it.

    Raises:
        LoopExists: it was not.
    """
    if _forked_from(history, saved) != _commit(history, revision):
        raise LoopExists(
            f"There is a loop {saved.loop!r} already, and it is no fork of {revision} as that is now.",
            hint="Give what is tried of this commit another name.",
        )
    told = (variant_of(message) for message in _own(history, saved.loop, saved.commit))
    made_of = next((digest for digest in told if digest is not None), None)
    if made_of is None:
        raise LoopExists(
            f"There is a loop {saved.loop!r} already, and it was not made to try a variant.",
            hint="Give the variant another name, or all of them: 'caesura try --name NAME'.",
        )
    if made_of != asked:
        raise LoopExists(
            f"{saved.loop} was made when {name} asked for something else than it does now.",
            hint="Give the variant another name, or all of them: 'caesura try --name NAME'."
            f" 'caesura show {saved.loop}' shows what came of the old one.",
        )


def _digest(variant: Variant, redaction: Redaction) -> Digest:
    """Of all that a variant asks for; not of its name, and not of secrets in it."""
    plain = Variant(name=variant.name)
    fields = {name: getattr(variant, name) for name in Variant.__struct_fields__}
    asked = {name: value for name, value in fields.items() if value != getattr(plain, name)}
    return digest(msgspec.json.encode(redaction.json(msgspec.to_builtins(asked, str_keys=True)), order="sorted"))


def _take_away(history: History, loop: LoopName) -> None:
    """Let go of a loop that was only just made, unless a worker has taken it up since, or one nested in it."""
    heads = {loop: history.load(loop).commit, **history.store.heads(loop)}
    said = (message for one, head in heads.items() for message in _own(history, one, head))
    if any("Worker" in trailers(message) for message in said):
        return
    with suppress(Moved):  # by a worker that was not seen above
        history.store.move_all([Move(loop=one, old=head, new=None) for one, head in heads.items()], "not made")


def _decide(loops: Loops, loop: LoopName, variant: Variant, by: Person | str | None) -> None:
    for call in variant.approve:
        with _decided("approve"):
            loops.approve(f"{loop}.{call}", by=by)
    for call, reason in variant.reject.items():
        with _decided("reject"):
            loops.reject(f"{loop}.{call}", reason, by=by)
    for call, value in variant.answer.items():
        with _answered(value):
            loops.answer(f"{loop}.{call}", value, by=by)


def _commit(history: History, revision: str) -> CommitId:
    try:
        return history.store.resolve(revision)
    except CallerError:
        return history.at(revision)[0].commit  # a nested loop without a branch of its own


def _forked_from(history: History, saved: Saved) -> CommitId | None:
    """The commit of another loop that a loop began at."""
    line = history.store.line(saved.commit)
    return next((commit for commit, message in line if not _is_own(saved.loop, message)), None)


def _own(history: History, loop: LoopName, head: CommitId) -> Iterator[str]:
    """What a loop's commits say up to a head, down to where it began."""
    messages = (message for _, message in history.store.line(head))
    return takewhile(partial(_is_own, loop), messages)


def _is_own(loop: LoopName, message: str) -> bool:
    return trailers(message).get("Loop") == (loop,)


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
