"""Loops: list, decide, answer, tell, pause, cancel and fork. Needs no model, no agent's code and no event loop."""

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar, get_args

from msgspec.structs import replace

from ._calls import CallState, Choice, Person, Scope
from ._errors import CallerError, SavedStateError
from ._events import Answered, AnyEvent, Cancelled, Decided, Suspended, Told
from ._ids import Address, LoopName, loop_name, parent_name, root_of, split_address
from ._messages import Content, Json, User
from ._moves import NotApplicable
from ._redact import Redaction
from ._requests import Request, requests
from ._specs import AgentSpec
from ._validate import InvalidAnswer, check_answer, check_edit, written
from .adoption import Adoption
from .compacting import Compacting
from .exporting import Exporting
from .forking import Forking
from .history import History, Saved, saved_from
from .interchange import export_loop, import_loop
from .keep import Keep
from .leases import living
from .missing import NoSuchLoop
from .overview import LoopInfo, overview, utc_now, waiting
from .policy import Policy
from .settled import check_first, once, same_answer, same_decision
from .signatures import Signer, allowed_signers
from .store import Durability, Store, Visibility
from .unseen import Unseen

T = TypeVar("T")


class NoSuchRequest(CallerError):
    """Nothing of that address waits for anybody."""


class Loops(Keep, Forking, Adoption, Compacting, Exporting, Unseen):
    """The loops of one repository, for whoever decides about them. Use it as a context manager, or close it.

    `redaction` says what, besides keys and tokens of known shapes, nothing that is written may hold. If the `policy`
    lists signers, what is decided here is signed.
    """

    def __init__(
        self,
        store: Store,
        *,
        policy: Policy | None = None,
        redaction: Redaction | None = None,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        allowed = None if policy is None else allowed_signers(policy)
        sign = None if allowed is None else Signer(store, allowed, now)
        super().__init__(History(store, redaction, sign=sign), now)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".caesura",
        *,
        policy: Policy | None = None,
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
        redaction: Redaction | None = None,
    ) -> "Loops":
        """Open the repository at `path`; `durability` and `visibility` are of what is decided, as in `GitStore.open`.

        Raises: Unavailable: there is none. BadSetting: it cannot be opened so.
        """
        from .store import GitStore

        store = GitStore.open(path, durability=durability, visibility=visibility)
        return cls(store, policy=policy, redaction=redaction)

    # Looking -----------------------------------------------------------------------------------------------------

    def all(self, *, nested: bool = False) -> list[LoopInfo]:
        """Every root loop, in the order of their names; with `nested`, the loops within them too."""
        return [info for name in self._names(nested=nested) for info in self._readable(name, self._info)]

    def waiting(self) -> list[LoopName]:
        """The loops in which something waits for somebody, or may, because they cannot be read; nested ones too.

        What a loop waits for is in `pending`. This takes about as long with a million loops as with a thousand.
        """
        return list(self._store.waiting())

    def unreadable(self, among: Iterable[LoopName] | None = None) -> dict[LoopName, SavedStateError]:
        """The branches that look like loops and cannot be read, and why; the other loops are none the worse."""
        found: dict[LoopName, SavedStateError] = {}
        for name in sorted({*self._store.heads(), *self._store.torn()}) if among is None else among:
            try:
                self._info(self._history.load(name))
            except SavedStateError as error:
                found[name] = error
        return found

    def _names(self, *, nested: bool = False) -> list[LoopName]:
        return [name for name in self._store.heads() if nested or parent_name(name) is None]

    def _readable(self, name: LoopName, look: Callable[[Saved], T]) -> Iterator[T]:
        with suppress(SavedStateError, NoSuchLoop):  # of a nested loop, the root may be gone
            yield look(self._history.load(name))

    def info(self, loop: str) -> LoopInfo:
        """One loop at a glance.

        Raises:
            NoSuchLoop: there is none of that name.
        """
        return self._info(self._history.load(loop_name(loop)))

    def show(self, revision: str) -> Saved:
        """A loop's newest state, or the state in any commit. The loop's name is the revision as it was given.

        Raises:
            NoSuchRevision: nothing has that name.
            NotALoop: it is not a commit of a loop.
        """
        with suppress(CallerError):
            return self._history.load(loop_name(revision))
        commit = self._store.read(self._store.resolve(revision))
        return saved_from(LoopName(revision), commit)

    def pending(self, loop: str | None = None) -> list[Request]:
        """What waits for somebody, in one loop and everything nested in it, or in all that can be read."""
        if loop is not None:
            return self._waiting(self._history.load(loop_name(loop)))
        roots = sorted(set(map(root_of, self._store.waiting())))
        return [one for name in roots for some in self._readable(name, self._waiting) for one in some]

    def _waiting(self, saved: Saved) -> list[Request]:
        return list(waiting(self._history, saved))

    def request(self, request_id: str) -> Request:
        """One request as it stands now.

        Raises:
            NoSuchRequest: nothing of that address waits.
            AlreadyDecided, AlreadyAnswered: it did, and somebody was first.
        """
        loop, call_id = split_address(request_id)
        saved = self._history.load(loop)
        check_first(self._history, Address(request_id))
        for request in requests(loop, saved.commit, saved.state, ()):
            if request.id == request_id:
                return replace(request, path=self._path(loop))
        call = saved.state.call(call_id)
        what = f"Nothing waits at {request_id}."
        if call is not None:
            nested = call.state is CallState.WAITING
            what = f"{request_id} waits for nobody: {'what is nested in it does' if nested else f'it is {call.state}'}."
        raise NoSuchRequest(what, hint="'caesura pending' lists what does.")

    def _path(self, loop: LoopName) -> tuple[str, ...]:
        """The agents from the root down to a loop, if nothing on the way has ended: what is below waits no more."""
        parent = parent_name(loop)
        state = self._history.load(loop).state
        if parent is None:
            return (state.agent,)
        if self._history.load(parent).state.ending is not None:
            raise NoSuchRequest(f"{parent} has ended, and with it {loop}.", hint="'caesura pending' lists what waits.")
        return (*self._path(parent), state.agent)

    def _info(self, saved: Saved) -> LoopInfo:
        return overview(self._history, saved, self._now())

    def driver(self, loop: str) -> str | None:
        """The living process that drives a loop now, as a person knows it, or None."""
        claim = living(self._store.lease(root_of(loop_name(loop))), self._now())
        return None if claim is None else claim.process

    # Deciding ----------------------------------------------------------------------------------------------------

    def approve(
        self,
        request: Request | str,
        *,
        note: str = "",
        arguments: Json = None,
        always: Scope = "call",
        by: Person | str | None = None,
    ) -> Saved:
        """Approve a call, or lift a gate: a commit by a person on the loop's branch.

        Given a `Request`, the decision is bound to what that request shows; given an address, to what stands there
        now. `arguments` replaces the model's arguments, and the model is told. `always` makes it a standing decision
        for later calls in the same loop: of this ``tool``, or of it with these ``arguments``. The same decision again
        changes nothing. `by` is git's ``user.name`` and ``user.email`` unless given.

        Raises:
            NoSuchRequest, AlreadyDecided, StaleDecision: there is nothing (left) to decide, or it has changed.
            NotEntitled, RequestExpired: by its policy your word does not count, or no longer.
            NoSigningKey, SigningFailed: it must be signed, and cannot be.
            InvalidAnswer: the edited arguments do not fit the tool, or no decision reaches so far.
            WrongType: the note is no text.
        """
        if arguments is not None and always != "call":
            raise InvalidAnswer(
                "An approval with edited arguments cannot be a standing one.",
                hint="Approve this call with the edit, and a later one always.",
            )
        return self._decide(request, "approve", note, arguments, always, by)

    def reject(
        self,
        request: Request | str,
        reason: str = "",
        *,
        always: Scope = "call",
        by: Person | str | None = None,
    ) -> Saved:
        """Reject a call, turn a question down, give an unknown call up, or give a loop up at a gate.

        The call never runs, and the model is told, with the reason. See `approve` for the rest.

        Raises:
            NoSuchRequest, AlreadyDecided, StaleDecision: there is nothing (left) to decide, or it has changed.
        """
        return self._decide(request, "reject", reason, None, always, by)

    def _decide(
        self,
        request: Request | str,
        choice: Choice,
        note: str,
        arguments: Json,
        scope: Scope,
        by: Person | str | None,
    ) -> Saved:
        if scope not in get_args(Scope):
            raise InvalidAnswer(
                f"{scope!r} is not how far a decision can reach.",
                hint="always='tool' is for later calls of the tool, always='arguments' for those with these arguments.",
            )
        who = self._person(by)
        address = Address(request if isinstance(request, str) else request.id)
        loop, call_id = split_address(address)
        saved = self._history.load(loop)
        arguments = self._history.redaction.json(arguments)
        edited = None if arguments is None else written(arguments, "What stands for the arguments")

        def decide() -> Saved:
            shown = request if isinstance(request, Request) else self.request(address)
            check_first(self._history, address)
            self._path(loop)
            if shown.kind == "gate" and (edited is not None or scope != "call"):
                raise InvalidAnswer("A gate has no arguments, and no standing decisions.", hint="Decide on it alone.")
            if arguments is not None:
                check_edit(saved.state.definition.tool(shown.tool), shown.tool, arguments)
            event = Decided(
                at=self._now(),
                call=call_id,
                choice=choice,
                by=who,
                seen=shown.commit,
                arguments=shown.arguments_digest,
                tool=shown.tool_digest,
                fingerprint=shown.fingerprint,
                attempt=shown.attempts,
                note=note,
                edited=edited,
                scope=scope,
            )
            return self._history.apply(saved, event, who)

        made = partial(same_decision, self._history, address, choice, who, edited, scope)
        decided = once(self._history, address, made, decide)
        if decided.state.ending is not None and decided.state.ending.status == "failed":
            self._cancel_below(loop, f"{saved.state.agent} was given up", who)
        return decided

    # Answering and telling ---------------------------------------------------------------------------------------

    def answer(self, request: Request | str, value: Json, *, by: Person | str | None = None) -> Saved:
        """Answer a question, or say what a call of unknown outcome returned.

        Raises:
            InvalidAnswer: the value does not fit the question's schema. The question still waits.
            NoSuchRequest, AlreadyAnswered, AlreadyDecided: nothing of that address asks anything (any more).
        """
        address = Address(request if isinstance(request, str) else request.id)
        loop, call_id = split_address(address)
        who = self._person(by)
        value = self._history.redaction.json(value)
        text = value if isinstance(value, str) else written(value, "The answer")

        def settle() -> Saved:
            shown = self.request(address) if isinstance(request, str) else request
            if shown.kind == "question":
                check_answer(shown.id, value, shown.answer)
            elif shown.kind != "outcome":
                raise NoSuchRequest(f"{shown.id} asks no question.", hint="'caesura pending' says what it waits for.")
            check_first(self._history, address)
            self._path(loop)
            event = Answered(at=self._now(), call=call_id, value=text, attempt=shown.attempts, by=who)
            return self._apply(loop, event, who)

        return once(self._history, address, partial(same_answer, self._history, address, text, who), settle)

    def tell(self, loop: str, message: Content, *, by: Person | str | None = None) -> Saved:
        """Say something to a loop: heard at once, or after the calls that are open. A completed loop goes on.

        Raises:
            NoSuchLoop: there is none of that name.
            NotApplicable: it failed or was cancelled, or it ended within another loop.
            WrongType: the message is no text, nor parts of one.
        """
        name = loop_name(loop)
        said, nested = User(content=message), parent_name(name) is not None
        return self._apply(name, Told(at=self._now(), message=said, by=self._person(by), nested=nested), by)

    def pause(self, loop: str, reason: str = "paused by hand", *, by: Person | str | None = None) -> Saved:
        """Put a gate before the next effect of a loop and of everything nested in it. Resuming lifts it.

        Raises:
            NoSuchLoop: there is none of that name.
            NotApplicable: it has ended, or stands still already.
        """
        event = Suspended(at=self._now(), kind="pause", reason=reason, by=self._person(by))
        return self._apply(loop_name(loop), event, by)

    def cancel(self, loop: str, reason: str = "cancelled by hand", *, by: Person | str | None = None) -> Saved:
        """End a loop and everything nested in it; every open call gets its one result.

        Raises:
            NoSuchLoop: there is none of that name.
            NotApplicable: it has completed or failed.
        """
        who = self._person(by)
        top = self._history.load(loop_name(loop))
        try:
            # From the top down: one commit decides, and what is nested can only follow.
            top = self._history.apply(top, Cancelled(at=self._now(), reason=reason, by=who), who)
        except NotApplicable:
            top = self._history.load(top.loop)
            if top.state.status != "cancelled":  # else somebody did, and may have died before the rest
                raise
        self._cancel_below(top.loop, reason, who)
        return top

    def _cancel_below(self, loop: LoopName, reason: str, who: Person) -> None:
        for name in self._store.heads(loop):
            with suppress(NotApplicable, SavedStateError):  # it ended by itself, or is another history's
                event = Cancelled(at=self._now(), reason=reason, by=who)
                self._history.apply(self._history.load(name), event, who)

    def _apply(self, loop: LoopName, event: AnyEvent, by: Person | str | None) -> Saved:
        return self._history.apply(self._history.load(loop), event, self._person(by))

    # Exchanging --------------------------------------------------------------------------------------------------

    def export(self, revision: str, *, form: bool = True) -> dict[str, Json]:
        """A loop, or the state in any commit, as the JSON continuation object of agent-continuations.

        With `form` it lists every request, for somebody to decide over there.

        Raises:
            NoSuchRevision, NotALoop: there is no continuation there.
            NotExportable: it is in a state for which the format has no form.
        """
        return export_loop(self._history, revision, form=form)

    def import_(
        self,
        name: str,
        document: Json,
        *,
        agent: AgentSpec,
        agents: Iterable[AgentSpec] = (),
        decide: bool = True,
        by: Person | str | None = None,
    ) -> Saved:
        """Make a root loop of a continuation object of agent-continuations, and decide what its form decides.

        `agent` defines the root loop's agent, `agents` those that its tools start.

        Raises:
            BadDocument: it cannot go on here. Nothing was written.
            LoopExists, BadName: the name is taken, or cannot be a branch.
        """
        who, now = self._person(by), self._now()
        return import_loop(self._history, name, document, agent=agent, agents=agents, by=who, now=now, decide=decide)
