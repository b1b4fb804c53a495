"""The demo's model: the scripted server, reached through the real client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from caesura.adapters.openai import OpenAIModel

from ._script import script
from ._server import serve_script

PACE = 0.02
"""Seconds between the words of a streamed answer: slow enough to be seen."""


@asynccontextmanager
async def scripted_model(*, pace: float = PACE) -> AsyncIterator[OpenAIModel]:
    """A model that knows its lines, served on loopback for as long as the context lasts."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(lambda task_status: serve_script(script, pace=pace, task_status=task_status))
        try:
            yield OpenAIModel("scripted", base_url=base_url, api_key="none-needed")
        except Exception as error:  # noqa: BLE001  # raised again below, outside of the nursery's group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
