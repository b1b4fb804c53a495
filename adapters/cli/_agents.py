"""Loading agents: ``module.py:agent``, ``module.py`` or ``package.module:agent``, as the user names them.

Code is imported because a person named it on the command line or in their own settings, never because a repository
does.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from caesura.continuations import CaesuraError, CallerError
from caesura.runtime import Agent, AgentTool, Tool

_SPEC = re.compile(r"(?:.*\.py(?::[\w.]+)?|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)")


class BadModule(CallerError):
    """The code that defines an agent cannot be imported, or is not where it was said to be."""


class NoSuchAgent(CallerError):
    """There is no agent of that name in the code that was named."""


def is_spec(text: str) -> bool:
    """Whether the text says where an agent's code is, rather than the agent's name."""
    return _SPEC.fullmatch(text) is not None


def load_agents(specs: Iterable[str], folder: Path) -> list[Agent]:
    """The agents that these specs name, in their order; paths and packages are looked for in `folder`.

    Raises:
        BadModule, NoSuchAgent: they cannot be had.
    """
    with redirect_stdout(sys.stderr):  # what a module prints is no result of ours
        loaded = [_load(spec, folder) for spec in specs]
    return loaded[0] if len(loaded) == 1 else [agent for agents in loaded for agent in agents]


def choose(agents: Sequence[Agent], name: str) -> Agent:
    """The agent of that name, among these and those that are their tools.

    Raises:
        NoSuchAgent: there is none.
    """
    known = {agent.name: agent for agent in everyone(agents)}
    if name not in known:
        raise NoSuchAgent(f"There is no agent {name!r}.", hint=f"There are: {', '.join(known) or 'none'}.")
    return known[name]


def the_one(agents: Sequence[Agent]) -> Agent:
    """The first of these, if it was clear which one that is.

    Raises:
        NoSuchAgent: a module was named that defines several, none of them another's tool.
    """
    if isinstance(agents, _Several):
        raise NoSuchAgent(
            f"There are {len(agents)} agents that could be run.",
            hint=f"Name one of them: {', '.join(agent.name for agent in agents)}.",
        )
    return agents[0]


class _Several(list[Agent]):
    """Agents in no order that means anything."""


def everyone(agents: Iterable[Agent]) -> list[Agent]:
    """These agents, and those that are their tools, at any depth."""
    found: list[Agent] = []
    waiting = list(agents)
    while waiting:
        agent = waiting.pop(0)
        if not any(agent is one for one in found):
            found.append(agent)
            waiting.extend(tool.agent for tool in agent.tools if isinstance(tool, AgentTool))
    return found


def _load(spec: str, folder: Path) -> list[Agent]:
    if not is_spec(spec):
        raise BadModule(
            f"{spec!r} does not say where an agent is.", hint="Write module.py:agent or package.module:agent."
        )
    where, _, name = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    module = _import_file(folder / where, where) if where.endswith(".py") else _import_package(where, folder)
    return _named(module, where, name) if name else _all(module, where)


def _import_file(path: Path, where: str) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise BadModule(f"There is no file {where}.", hint="Name the file that defines the agent: agents.py:lead.")
    known = sys.modules.get(path.stem)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path:
            return known
        raise BadModule(
            f"{where} cannot be imported: a module named {path.stem!r} is loaded already.", hint="Rename the file."
        )
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise BadModule(f"{where} is not Python.", hint="Name the file that defines the agent: agents.py:lead.")
    sys.path.insert(0, str(path.parent))  # as Python does for a script
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # it is the user's code, and anything can happen in it
        del sys.modules[path.stem]
        raise _broken(where, error, path.parent) from error
    return module


def _import_package(where: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(where)
    except (Exception, SystemExit) as error:  # as above
        if isinstance(error, ModuleNotFoundError) and error.name and f"{where}.".startswith(f"{error.name}."):
            hint = f"It is looked for in {folder} and in what is installed; a file is named with its .py."
            raise BadModule(f"There is no module {error.name}.", hint=hint) from error
        raise _broken(where, error, folder) from error


def _broken(where: str, error: BaseException, folder: Path) -> BadModule:
    """What is wrong with the user's code, and the line at which it was found."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        file, number, line = error.filename or where, error.lineno or 0, error.text or ""
        what = f"{type(error).__name__}: {error.msg}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame
            for frame in frames
            if "site-packages" not in frame.filename and folder in Path(frame.filename).parents
        ]
        frame = (own or list(frames))[-1]
        file, number, line = frame.filename, frame.lineno or 0, frame.line or ""
    shown = Path(file).relative_to(folder) if folder in Path(file).parents else Path(file)
    hint = f"{shown}, line {number}: {line.strip()}"
    if isinstance(error, CaesuraError):
        hint = f"{error.hint} ({hint})"
    return BadModule(f"{where} cannot be imported: {what.rstrip('.')}.", hint=hint)


def _named(module: ModuleType, where: str, name: str) -> list[Agent]:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [key for key, one in vars(module).items() if isinstance(one, Agent)]
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {where}:{near[0]}?" if near else f"Its agents are: {', '.join(known) or 'none'}."
            raise NoSuchAgent(f"{where} defines no {name!r}.", hint=hint)
        value = getattr(value, part)
    if callable(value) and not isinstance(value, type | Tool):  # a tool acts if it is called
        try:
            value = value()
        except Exception as error:  # the user's code again
            raise _broken(f"{where}:{name}", error, Path(module.__file__ or where).resolve().parent) from error
    found: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if not found or not all(isinstance(one, Agent) for one in found):
        raise NoSuchAgent(
            f"{where}:{name} is no agent.",
            hint="It may be an Agent, a list of them, or a function that returns either.",
        )
    return found


def _all(module: ModuleType, where: str) -> list[Agent]:
    """Every agent that a module defines and that is not a tool of another."""
    agents = everyone(one for one in vars(module).values() if isinstance(one, Agent))
    below = {id(tool.agent) for one in agents for tool in one.tools if isinstance(tool, AgentTool)}
    tops = _Several(one for one in agents if id(one) not in below)
    if not tops:
        raise NoSuchAgent(f"{where} defines no agent.", hint='Define one in it: lead = Agent("lead", …).')
    return tops if len(tops) > 1 else list(tops)
