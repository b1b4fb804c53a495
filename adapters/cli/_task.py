"""What to drive loops with: the agents and the model that the command line or the settings name."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from caesura.continuations import LoopName, ModelSpec

from ._config import Api, Config
from ._faults import BadUsage
from ._options import Place
from ._paste import Paste, option

if TYPE_CHECKING:
    from caesura.runtime import Agent, Model

Agents = Annotated[
    str | None,
    Parameter(
        name="--agents",
        help="Where the agents are: module.py:agent or package.module:agent; several with commas. Default: as"
        " caesura.toml says. A repository never names code.",
    ),
]
ModelName = Annotated[
    str | None,
    Parameter(name="--model", help="The model for agents that have none of their own, by its server's name."),
]
ModelApi = Annotated[Api | None, Parameter(name="--api", help="The API to call the model through. Default: chat")]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to drive a loop with; the agents that are tools of this one come with it.

    `serve` gives the model for the agents that have none of their own, for as long as its context lasts.
    """

    where: Place
    agent: "Agent"
    serve: "Callable[[], AbstractAsyncContextManager[Model | None]]"
    model: "Model | None"
    wait: bool = False

    def spec_of(self, agent: "Agent") -> ModelSpec:
        """Which model serves one of the agents."""
        model = agent.model or self.model
        assert model is not None  # noqa: S101  # make_task() has seen to it
        return model.spec


def make_task(
    where: Place, agents: str | None, named: str | None, *, prompt: str = "", model: str | None, api: Api | None
) -> "Task":
    """Load the agents, choose the one that is `named`, else the first, and make the model.

    Raises:
        BadUsage, BadModule, NoSuchAgent, NoModel: something is missing.
    """
    from ._agents import choose, is_spec, load_agents, the_one

    config, specs = where.config, _specs(where.config, agents, named)
    if not specs:
        if is_spec(prompt):
            raise BadUsage(f"There is nothing for {prompt} to do.", hint=f'Add a prompt: {prompt} "…"')
        raise BadUsage(
            "No agent is named.",
            hint="Name one, module.py:agent, before the prompt or with --agents, or once in caesura.toml:"
            ' agents = "module.py:agent".',
        )
    folder = Path.cwd() if agents is not None or (named is not None and is_spec(named)) else config.folder
    loaded = load_agents(specs, folder)
    named = None if named is None else config.changes.renamed.get(named, named)
    chosen = choose(loaded, named) if named is not None and not is_spec(named) else the_one(loaded)
    repeated = "" if specs == config.agents else option("--agents", ",".join(specs))
    options = " ".join(part for part in (option("--model", model), option("--api", api)) if part)
    paste = Paste(repo=where.paste.repo, agents=repeated, model=options)
    made = _model(config, chosen, model, api)
    return Task(where=replace(where, paste=paste), agent=chosen, model=made, serve=lambda: nullcontext(made))


def task_of(
    where: Place, loop: LoopName, agent: str, agents: str | None, *, model: str | None, api: Api | None
) -> "Task":
    """`make_task` to go on with a loop of this agent.

    Raises:
        BadUsage, BadModule, NoSuchAgent, NoModel: something is missing; it is told how the loop was driven last.
    """
    from ._agents import NoSuchAgent

    try:
        return make_task(where, agents, agent, model=model, api=api)
    except (BadUsage, NoSuchAgent) as error:
        last = f"It was driven last by: {where.paste.resume(loop)}" if where.paste.known(loop) else ""
        if isinstance(error, BadUsage):
            raise BadUsage(str(error), hint=last or error.hint) from None
        renamed = f'if it was renamed, say so in caesura.toml: [changes] renamed = {{ {agent} = "NEW" }}.'
        hint = f"{error.hint} Name the module that defines it, with --agents; {renamed} {last}"
        raise NoSuchAgent(str(error), hint=hint.rstrip()) from error


def _specs(config: Config, agents: str | None, named: str | None) -> tuple[str, ...]:
    from ._agents import is_spec

    if named is not None and is_spec(named):
        return (named,)
    return config.agents if agents is None else tuple(part.strip() for part in agents.split(",") if part.strip())


def _model(config: Config, agent: "Agent", name: str | None, api: Api | None) -> "Model | None":
    """The model for the agents that have none of their own."""
    from caesura.runtime import NoModel

    from ._agents import everyone

    wanting = [one.name for one in everyone([agent]) if one.model is None]
    name = name or config.model
    if not wanting:
        return None
    if name is None:
        raise NoModel(
            f"Agent {wanting[0]} has no model.", hint='Name one with --model, or in caesura.toml: model = "NAME".'
        )
    from caesura.adapters.openai import OpenAIModel

    return OpenAIModel(name, api=api or config.api, settings=config.settings)
