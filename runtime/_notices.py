"""Notices: what a running tree of loops tells whoever watches it. They are for show; the history is in git."""

from collections.abc import Callable
from dataclasses import dataclass

from caesura.continuations import CallId, CommitId, LoopName, Saved, Status, Value


class Committed(Value, frozen=True, kw_only=True, tag=True):
    """A step was committed."""

    loop: LoopName
    commit: CommitId
    agent: str
    subject: str
    status: Status


class Thinking(Value, frozen=True, kw_only=True, tag=True):
    """A model call has begun."""

    loop: LoopName
    agent: str


class Streamed(Value, frozen=True, kw_only=True, tag=True):
    """A piece of a model's answer arrived; only finished messages are committed."""

    loop: LoopName
    text: str


class Progressed(Value, frozen=True, kw_only=True, tag=True):
    """A running tool said how far it is."""

    loop: LoopName
    call: CallId
    text: str


class Dropped(Value, frozen=True, kw_only=True, tag=True):
    """Something came too late to count, because the loop had moved on."""

    loop: LoopName
    event: str
    reason: str


def committed(saved: Saved) -> Committed:
    """The notice of a loop's newest step."""
    return Committed(
        loop=saved.loop,
        commit=saved.commit,
        agent=saved.state.agent,
        subject=saved.message.partition("\n")[0],
        status=saved.state.status,
    )


Notice = Committed | Thinking | Streamed | Progressed | Dropped
Listener = Callable[[Notice], None]


@dataclass
class Audience:
    """A listener, until it fails: it only watches, so its failure must not pass for a model's, nor end what runs.

    `failed` is called once, when it fails; `fault` is what it raised.
    """

    listener: Listener
    failed: Callable[[], None]
    fault: Exception | SystemExit | None = None

    def tell(self, notice: Notice) -> None:
        """Call the listener, if it can still be called."""
        if self.fault is not None:
            return
        try:
            self.listener(notice)
        except (Exception, SystemExit) as fault:  # noqa: BLE001  # whatever it raises, the loops come to rest first
            self.fault = fault
            self.failed()
