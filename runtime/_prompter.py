"""The prompter of a rehearsal: gives each call its line from the record, and asks a person where there is none."""

from collections.abc import Awaitable, Callable

from caesura.continuations import AnyEvent, CallId, Saved

from ._services import Services


class Prompter:
    """Answers one loop's calls. `commit` makes a step of exactly the state that was looked at."""

    def __init__(self, services: Services, commit: Callable[[AnyEvent], Awaitable[bool]]) -> None:
        self._services = services
        self._commit = commit

    async def answer(self, saved: Saved, call: CallId) -> None:
        """End a call as the record says, or let it be asked about."""
        services = self._services
        async with services.prompting:  # loops side by side must not be given the same answer
            event = await services.sync(services.records.look_up, saved, call, services.now())
            await self._commit(event)
