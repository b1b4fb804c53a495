"""Folders of files for the tests: what is in one, what git says is in a tree, and things that happen to files."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from caesura.continuations import (
    Assistant,
    ChildFiles,
    Files,
    GitStore,
    History,
    Loops,
    NoSuchLoop,
    Reply,
    User,
    loop_name,
)
from caesura.runtime import Agent, ModelRequest, Outcome, Runtime, ToolContext, tool
from tests.models import ADA, ScriptedModel, ask_for, lines, say
from tests.mortal import Fate

LOOP = "fix"
Kept = dict[str, tuple[str, bytes]]
"""Files by path: each with git's mode and what is in it, of a link where it leads."""

NAMES = ("a", "b", "c.py", "lösung", "with space", "line\nbreak", os.fsdecode(b"\xff\xfe"), "-rf", "a.b")


def files_in(root: Path) -> Kept:
    """The files of a folder, by a walk of the test's own."""
    found: Kept = {}
    for above, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in (*names, *(name for name in folders if (Path(above) / name).is_symlink())):
            path = Path(above) / name
            if path.is_symlink():
                kept = "120000", os.fsencode(path.readlink())
            elif not path.is_file():  # a pipe, say
                continue
            else:
                kept = "100755" if path.stat().st_mode & 0o100 else "100644", path.read_bytes()
            found[str(path.relative_to(root))] = kept
    return found


def git(repository: Path, *words: str, stdin: bytes | None = None, **environment: str) -> bytes:
    """What git says of a repository; a failure of it fails the test."""
    done = subprocess.run(
        ["git", "-C", str(repository), *words],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def project_of(folder: Path) -> Path:
    """A small project with files of every kind, committed on ``main``."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada Lovelace")
    git(folder, "config", "user.email", "ada@example.com")
    (folder / "README").write_text("from before\n")
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_text("print('hi')\n")
    (folder / "run").write_bytes(b"#!/bin/sh\n\xff\x00")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("src/main.py")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "kept.log").write_text("ignored, and kept\n")
    git(folder, "add", "-Af")
    git(folder, "commit", "-qm", "The project")
    return folder


def files_of(repository: Path, tree: str) -> Kept:
    """The files of a tree, as git reads them."""
    lines = [line.partition(b"\t") for line in git(repository, "ls-tree", "-r", "-z", tree).split(b"\0") if line]
    blobs = [about.split(b" ")[2] for about, _, _ in lines]
    data = git(repository, "cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob in blobs)) if blobs else b""
    found: Kept = {}
    at = 0
    for about, _, path in lines:
        start = data.index(b"\n", at) + 1
        at = start + int(data[at : start - 1].split(b" ")[2])
        found[os.fsdecode(path)] = about[:6].decode(), data[start:at]
        at += 1
    return found


def something_happens(root: Path, chance: random.Random) -> None:
    """Something that a tool or a person may do to the files of a folder."""
    depth = chance.randint(0, 2)
    path = root.joinpath(*(chance.choice(NAMES) for _ in range(depth + 1)))
    kind = chance.choice(("write", "write", "write", "same", "delete", "link", "mode", "move", "swap"))
    for above in reversed(path.relative_to(root).parents):
        place = root / above
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    there = path.exists() or path.is_symlink()
    plain = path.is_file() and not path.is_symlink()
    if kind == "same" and plain:  # as many bytes, other ones
        path.write_bytes(chance.randbytes(path.stat().st_size))
    elif kind == "delete" and there:
        _delete(path)
    elif kind == "mode" and plain:
        path.chmod(chance.choice((0o644, 0o755, 0o600, 0o700)))
    elif kind == "move" and there:
        target = root / chance.choice(NAMES)
        if target not in (path, *path.parents) and path not in target.parents:
            _delete(target)
            path.rename(target)
    elif kind == "link":
        _delete(path)
        path.symlink_to(chance.choice(("/etc/passwd", "..", "a", "nowhere", "../../..")))
    elif kind == "swap" and plain:  # a file becomes a folder
        path.unlink()
        path.mkdir()
        (path / "inner").write_bytes(chance.randbytes(3))
    else:
        _delete(path)
        path.write_bytes(chance.choice((b"", b"text\n", chance.randbytes(chance.randint(1, 40)), b"\0\r\n" * 9)))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def scribbler(effect: Callable[[], None] = lambda: None) -> Agent:
    """An agent whose tool does things to the loop's files; `effect` is called after each."""

    @tool
    def scribble(seed: int, times: int, context: ToolContext) -> str:
        assert context.workspace is not None
        chance = random.Random(seed)  # noqa: S311 - to be the same in each run
        for _ in range(times):
            something_happens(context.workspace, chance)
            effect()
        return f"scribbled {times} times"

    return Agent("writer", tools=[scribble])


def scribbles(*seeds: int, times: int = 6, at_once: int = 1) -> ScriptedModel:
    """A model that lets the agent scribble for each of the seeds, then ends."""
    calls = [ask_for(*[("scribble", {"seed": seed, "times": times})] * at_once) for seed in seeds]
    return ScriptedModel(lines(*calls, say("done")))


async def drive(path: Path, root: Path, loop: str = LOOP, effect: Callable[[], None] = lambda: None) -> Outcome:
    """Begin the loop that works in a folder, or go on with it."""
    async with Runtime.open(path, agents=[scribbler(effect)], model=scribbles(1, 2, 3)) as runtime:
        try:
            return await runtime.resume(loop)
        except NoSuchLoop:
            return await runtime.run("writer", "Write.", loop=loop, workspace=root)


def family(effect: Callable[[], None] = lambda: None, workspace: ChildFiles = "copy") -> Agent:
    """An agent that scribbles, and lets others scribble in copies of its files, or in its own folder."""
    writer = scribbler(effect)
    return Agent("lead", tools=[*writer.tools, writer.as_tool("Writes.", workspace=workspace)])


def family_script(asked: ModelRequest) -> Reply:
    """The lead lets two others scribble while it does, twice; each does as the seed in its prompt says, and ends."""
    said = sum(isinstance(message, Assistant) for message in asked.messages)
    if asked.agent == "writer":
        prompt = asked.messages[0]
        assert isinstance(prompt, User)
        return say("written") if said else ask_for(("scribble", {"seed": int(str(prompt.content)), "times": 4}))
    if said == 2:
        return say("done")
    seeds = [str(10 * said + number) for number in (1, 2)]
    mine = ("scribble", {"seed": 10 * said, "times": 3})
    return ask_for(*(("writer", {"prompt": seed}) for seed in seeds), mine)


async def drive_family(
    path: Path,
    root: Path,
    loop: str = LOOP,
    effect: Callable[[], None] = lambda: None,
    workspace: ChildFiles = "copy",
) -> Outcome:
    """Begin the loop of a family that works in a folder, or go on with it."""
    agents, model = [family(effect, workspace)], ScriptedModel(family_script)
    async with Runtime.open(path, agents=agents, model=model) as runtime:
        try:
            return await runtime.resume(loop)
        except NoSuchLoop:
            return await runtime.run("lead", "Write.", loop=loop, workspace=root)


def family_driven(path: str, root: str, loop: str, death: str = "", workspace: ChildFiles = "copy") -> dict[str, int]:
    """A process: `driven` of a family."""
    fate = Fate(death)
    trio.run(partial(drive_family, Path(path), Path(root), loop, fate.effect, workspace))
    return {"moves": fate.moves, "writes": fate.writes, "effects": fate.effects}


def driven(path: str, root: str, loop: str, death: str = "") -> dict[str, int]:
    """A process: drives the loop until it rests. How often it did what it could have died at."""
    fate = Fate(death)
    trio.run(partial(drive, Path(path), Path(root), loop, fate.effect))
    return {"moves": fate.moves, "writes": fate.writes, "effects": fate.effects}


def taken_up(path: str, loop: str, death: str = "") -> None:
    """A process: makes a loop's folder what its head holds."""
    Fate(death)
    history = History(GitStore.open(path))
    Files(history).take_up(history.load(loop_name(loop)))


def once(seed: int) -> ScriptedModel:
    """A model that lets the agent scribble once more, then ends."""
    spoken: list[ModelRequest] = []

    def script(asked: ModelRequest) -> Reply:
        spoken.append(asked)
        return say("done") if spoken[1:] else ask_for(("scribble", {"seed": seed, "times": 3}))

    return ScriptedModel(script)


async def again(path: Path, loop: str, seed: int) -> None:
    """Let a loop scribble once more, wherever it stands."""
    with Loops.open(path) as loops:
        if loops.show(loop).state.ending is not None:
            loops.tell(loop, "Go on.", by=ADA)
        for request in loops.pending(loop):
            loops.answer(request, "It ran.", by=ADA)
    async with Runtime.open(path, agents=[scribbler()], model=once(seed)) as runtime:
        outcome = await runtime.resume(loop)
        for request in outcome.pending:
            assert request.kind == "outcome"
