"""Settings: ``caesura.toml``, or ``[tool.caesura]`` of ``pyproject.toml``, here or in a folder above."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from caesura.continuations import CallerError, Changes, Durability, Policy, Redaction, Visibility

from ._policy import PolicyTable, policy_of

Api = Literal["chat", "responses"]
"""The model APIs there are."""


class BadConfig(CallerError):
    """The settings cannot be read, or say something that makes no sense."""


class _Redact(msgspec.Struct, forbid_unknown_fields=True):
    """What the file may say of secrets: the variables that hold some, and regular expressions for others."""

    env: list[str] = []
    patterns: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What the file may say."""

    agents: str | list[str] = []
    model: str | None = None
    api: Api = "chat"
    settings: dict[str, Any] = {}
    repo: str | None = None
    changes: Changes = Changes()
    durability: Durability = "power-cut"
    visibility: Visibility = "step"
    policy: PolicyTable | None = None
    redact: _Redact = msgspec.field(default_factory=_Redact)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings; `folder` is where the file is, to which its paths are relative.

    `unset` are the variables of ``redact.env`` whose secrets this process does not know, and so cannot keep out.
    """

    folder: Path
    found: bool = False
    agents: tuple[str, ...] = ()
    model: str | None = None
    api: Api = "chat"
    settings: Mapping[str, Any] = {}
    repo: Path
    changes: Changes = Changes()
    durability: Durability = "power-cut"
    visibility: Visibility = "step"
    policy: Policy | None = None
    redaction: Redaction = Redaction()
    unset: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model == "":
            raise BadConfig("The model's name is empty.", hint='Write model = "NAME", or leave it out.')


def find_config(start: Path | None = None) -> Config:
    """The settings that hold in a folder; the working folder unless another is given.

    Raises:
        BadConfig: they cannot be read, or belong to somebody else.
        BadPolicy: they ask for something that cannot be.
        BadRedaction: what they say of secrets cannot work.
    """
    folder = Path.cwd() if start is None else start
    for above in (folder, *folder.parents):
        for name in ("caesura.toml", "pyproject.toml"):
            file = above / name
            values = _values(file)
            if values is not None:
                _check_owner(file, folder)
                return _config(file, values)
    return Config(folder=folder, repo=folder / ".caesura")


def _values(file: Path) -> Any:
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if file.name == "pyproject.toml":
            return None  # somebody else's to mend, and not known to speak of us
        raise BadConfig(f"{file} is not TOML: {error}.", hint="Mend it, or move it away.") from error
    if file.name == "caesura.toml":
        return read
    tool = read.get("tool")
    return tool.get("caesura") if isinstance(tool, dict) else None


def _check_owner(file: Path, folder: Path) -> None:
    """Settings name code to import: a stranger's file in a shared folder above this one must not choose it."""
    owner = file.stat().st_uid
    if file.parent != folder and owner not in (os.getuid(), 0):
        raise BadConfig(f"{file} belongs to another user.", hint="Put a caesura.toml of your own here.")


def _config(file: Path, values: Any) -> Config:
    try:
        read = msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        known = ", ".join(_File.__struct_fields__)
        hint = f"It may hold {known}; 'caesura --help' shows how."
        field = re.search(r"`\$\.(\w+)`", str(error))
        allowed = get_args(get_type_hints(_File).get(field[1])) if field else ()
        if allowed and all(isinstance(one, str) for one in allowed):
            hint = f"It may be {' or '.join(map(repr, allowed))}."
        raise BadConfig(f"{file}: {error}.", hint=hint) from error
    return Config(
        folder=file.parent,
        found=True,
        agents=(read.agents,) if isinstance(read.agents, str) else tuple(read.agents),
        model=read.model,
        api=read.api,
        settings=read.settings,
        repo=_repository(file.parent, read.repo),
        changes=read.changes,
        durability=read.durability,
        visibility=read.visibility,
        policy=None if read.policy is None else policy_of(read.policy, file.parent),
        redaction=Redaction(patterns=read.redact.patterns, secrets=_set(read.redact.env)),
        unset=tuple(name for name in read.redact.env if not os.environ.get(name)),
    )


def _set(names: list[str]) -> Mapping[str, str]:
    """The variables that are set here: who decides on another machine has no use for the secrets of the worker's."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _repository(folder: Path, named: str | None) -> Path:
    """The one that the settings name; else the one that is here already, else one beside the settings."""
    here = Path.cwd() / ".caesura"
    if named is None and here.exists():
        return here
    try:
        return folder / Path(named or ".caesura").expanduser()
    except RuntimeError as error:
        raise BadConfig(f"repo = {named!r} names the home of nobody.", hint="Name a folder.") from error
