"""Approvals of calls that write files: what the call would change, and what the loop has changed, is shown before."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.adapters.files import file_tools
from caesura.continuations import (
    LINK,
    SCRIPT,
    Assistant,
    CallId,
    Changes,
    FileContent,
    Function,
    GitStore,
    Loops,
    Preview,
    Proposal,
    Redaction,
    Reply,
    Request,
    ToolError,
    ToolRequest,
    Usage,
    Variation,
    WouldWrite,
    file_patch,
    loop_name,
    preview_of,
)
from caesura.continuations.verify import verify
from caesura.runtime import Agent, ProposedCall, Runtime, Tool, ToolContext, ToolDefinition, tool
from caesura.runtime import _previews as runtime_previews
from caesura.runtime._previews import with_previews
from tests.models import ADA, GRACE, ScriptedModel, ask_for, lines, say
from tests.workspaces import files_in

TOOLS = {tool.name: tool for tool in file_tools()}
LOOP = loop_name("fix")
ADOPT = Changes(contract="adopt")


@pytest.fixture(scope="module", autouse=True)
def no_hurry() -> Iterator[None]:
    """However slow the machine is, only a tool that never says what it would write takes too long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runtime_previews, "SECONDS", 120.0)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    return root


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


def looked(root: Path, name: str, /, *, hides: str = "", **arguments: Any) -> Preview:
    """What a tool says that a call would change."""
    made: Tool[..., Any] = TOOLS[name]
    assert made.writes is not None
    proposed = ProposedCall(tool=name, arguments=arguments, loop=LOOP, call=CallId("c-1"))
    would = made.writes(proposed, root)
    redaction = Redaction(patterns=[hides] if hides else [])
    return preview_of(root, would, redaction, lines=10**6, characters=10**9)


def done(root: Path, name: str, **arguments: Any) -> None:
    TOOLS[name](context=ToolContext(loop=LOOP, call=CallId("c-1"), idempotency_key="k", workspace=root), **arguments)


def applied(root: Path, preview: Preview) -> None:
    patch = "".join(file.text for file in preview.files)
    if patch:
        subprocess.run(
            ["git", "apply", "--whitespace=nowarn"],
            cwd=root,
            input=patch.encode(),
            check=True,
            env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(root.parent), "GIT_CONFIG_NOSYSTEM": "1"},
        )


# What a preview shows is what is done --------------------------------------------------------------------------------

LINES = ["a\n", "b\n", "\n", "c\r\n", "é\u2028\n", "+x\n", "\x1b[31m\n", "e"]
TEXTS = st.lists(st.sampled_from(LINES), max_size=8).map("".join)
NAMES = st.sampled_from(["a", "b", "with space", 'quo"te', "lösung", "tab\there", "deep/er/file", "deep/b", "run"])
TREES = st.dictionaries(NAMES, st.one_of(TEXTS.map(str.encode), st.just(b"\0\xff")), max_size=4)


def made(root: Path, tree: Mapping[str, bytes]) -> None:
    root.mkdir()
    for name, data in tree.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o755 if name == "run" else 0o644)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Mapping[str, bytes], str, dict[str, Any]]:
    """Files, and a call of a tool that may write to them."""
    tree, path, text = draw(TREES), draw(NAMES), draw(TEXTS)
    kind = draw(st.sampled_from(["write_file", "edit_file", "apply_patch"]))
    if kind == "write_file":
        return tree, kind, {"path": path, "content": text}
    if kind == "edit_file":
        new = draw(st.sampled_from(LINES))
        return tree, kind, {"path": path, "old": draw(st.sampled_from(LINES)), "new": new, "all": draw(st.booleans())}
    patch = ""
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        mode = SCRIPT if name == "run" else 0o100644
        old = FileContent(tree[name], mode) if name in tree else None
        wanted = draw(st.sampled_from([None, FileContent(text.encode(), draw(st.sampled_from([mode, SCRIPT])))]))
        patch += file_patch(name, old, wanted).text if old != wanted else ""
    return tree, kind, {"patch": patch}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls())
def test_applying_a_preview_makes_what_the_tool_then_makes(
    tmp_path_factory: pytest.TempPathFactory, call: tuple[Mapping[str, bytes], str, dict[str, Any]]
) -> None:
    tree, name, arguments = call
    folder = tmp_path_factory.mktemp("preview")
    root, other = folder / "root", folder / "other"
    made(root, tree)
    made(other, tree)
    before = files_in(root)
    try:
        preview = looked(root, name, **arguments)
    except ToolError as refused:
        with pytest.raises(type(refused)):
            done(root, name, **arguments)
        assert files_in(root) == before
        return
    assert files_in(root) == before
    assert {one.name for one in folder.iterdir()} == {"root", "other"}
    done(root, name, **arguments)
    applied(other, preview)
    assert files_in(other) == files_in(root)
    shutil.rmtree(folder)


def test_a_preview_keeps_to_the_workspace_and_to_what_the_tool_would_do(root: Path) -> None:
    (root.parent / "outside").write_text("keep out\n")
    (root / "out").symlink_to("../outside")
    subprocess.run(["git", "init", "-q", "--bare", str(root / ".caesura")], check=True)
    for path in ("../outside", "out", ".git/config", ".caesura/config", "", "calc.py/under"):
        with pytest.raises(ToolError):
            looked(root, "write_file", path=path, content="x")
        with pytest.raises(ToolError):
            looked(root, "edit_file", path=path, old="keep", new="x", all=False)
    link = file_patch("made", None, FileContent(b"/etc/passwd", LINK)).text
    (shown,) = looked(root, "apply_patch", patch=link).files
    assert "new file mode 120000" in shown.text
    assert "+/etc/passwd" in shown.text


def test_a_patch_is_shown_as_it_is_applied_whatever_a_project_says_of_line_ends(root: Path) -> None:
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "config", "core.autocrlf", "true"], check=True)
    (root / ".gitattributes").write_text("* text eol=crlf\n")
    patch = "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"
    preview = looked(root, "apply_patch", patch=patch)
    done(root, "apply_patch", patch=patch)
    assert (root / "calc.py").read_bytes() == b"def add(a, b):\n    return a + b\n"
    assert preview.files[0].text.endswith("+    return a + b\n")


def test_what_holds_a_secret_is_not_shown(root: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    (root / "env").write_text(f"TOKEN={token}\nother\n")
    (shown,) = looked(root, "edit_file", path="env", old="other", new="more", all=False).files
    assert (shown.text, shown.note) == ("", "it holds a secret")
    (shown,) = looked(root, "write_file", path="new", content=token).files
    assert token not in repr(shown)
    (shown,) = looked(root, "write_file", path="calc.py", content="", hides="return a").files
    assert shown.note == "it holds a secret"


# In a loop -----------------------------------------------------------------------------------------------------------


def asking() -> list[Tool[..., Any]]:
    """The file tools, each of which asks before it writes."""
    return [one.with_approval(True) if one.writes is not None else one for one in file_tools(allow=["true"])]


EDIT = ("edit_file", {"path": "calc.py", "old": "a - b", "new": "a + b"})


async def asked(path: Path, root: Path, *calls: tuple[str, Any], tools: list[Any] | None = None) -> list[Request]:
    """What a loop waits for that asks for these calls."""
    model = ScriptedModel(lines(ask_for(*calls), say("done")))
    async with Runtime.open(path, agents=[Agent("coder", tools=tools or asking())], model=model) as runtime:
        return list((await runtime.run("coder", "Mend it.", loop=LOOP, workspace=root)).pending)


async def test_a_request_shows_what_the_call_would_change_in_any_process_and_it_is_on_record(
    path: Path, root: Path
) -> None:
    (request,) = await asked(path, root, EDIT)
    with Loops.open(path) as loops:
        assert loops.pending() == [request]
        assert request.preview is not None
        (file,) = request.preview.files
        assert (file.path, file.added, file.removed) == ("calc.py", 1, 1)
        assert file.text.endswith(" def add(a, b):\n-    return a - b\n+    return a + b\n")
        assert loops.outdated(request) == ()
        loops.approve(request, by=ADA)
        seen = loops.show(request.commit).state.calls[0].preview
        assert seen == request.preview
    assert verify(GitStore.open(path)).faults == ()


async def test_a_preview_of_files_that_were_changed_since_says_which(path: Path, root: Path) -> None:
    (request,) = await asked(path, root, ("apply_patch", {"patch": patch_of(root, "calc.py", "new/file")}))
    with Loops.open(path) as loops:
        assert loops.outdated(request) == ()
        (root / "other").write_text("by hand\n")
        assert loops.outdated(request) == ()
        (root / "new").mkdir()
        (root / "new" / "file").write_text("by hand\n")
        assert loops.outdated(request) == ("new/file",)
        (root / "calc.py").chmod(0o755)
        assert loops.outdated(request) == ("calc.py", "new/file")
        loops.keep_files(LOOP, by=GRACE)
        assert loops.outdated(loops.request(request.id)) == ("calc.py", "new/file")
        loops.fork(request.commit, "again", by=GRACE)
        (again,) = loops.pending("again")
        assert loops.outdated(again) == ()  # its folder is not made yet: its commit says what will be in it
        assert files_in(Path(loops.files("again").folder)) == {}
        assert loops.outdated(again) == ()  # nor is this one what it will be
    shutil.move(path, path.with_name("elsewhere"))
    shutil.rmtree(root)
    with Loops.open(path.with_name("elsewhere")) as loops:
        assert loops.outdated(loops.request(request.id)) == ("calc.py", "new/file")


def patch_of(root: Path, old: str, new: str) -> str:
    """A patch that empties one file and makes another."""
    emptied = file_patch(old, FileContent((root / old).read_bytes()), FileContent(b""))
    return emptied.text + file_patch(new, None, FileContent(b"x\n")).text


async def test_other_arguments_or_another_tool_have_no_preview(path: Path, root: Path) -> None:
    (request,) = await asked(path, root, EDIT)
    with Loops.open(path) as loops:
        arguments = {"path": "calc.py", "old": "a - b", "new": "b + a"}
        decided = loops.approve(request, arguments=arguments, by=ADA)
        assert decided.state.calls[0].preview is None
        loops.fork(request.commit, "again", by=GRACE)
        loops.fork(request.commit, "other", by=GRACE)
        assert loops.show("again").state.calls[0].preview is not None
        loops.fork(request.commit, "edited", Variation(arguments={"edit_file-1": arguments}), by=GRACE)
        assert loops.show("edited").state.calls[0].preview is None
        loops.approve("other.edit_file-1", by=ADA)
    changed = [tool(name="edit_file", needs_approval=True)(_other)]
    model = ScriptedModel(lines(say("done")))
    async with Runtime.open(path, agents=[Agent("coder", tools=changed)], model=model, changes=ADOPT) as runtime:
        (asked_anew,) = (await runtime.resume("other")).pending
    assert asked_anew.preview is None
    assert verify(GitStore.open(path)).faults == ()


def _other(path: str, old: str, new: str, all: bool = False) -> str:
    """Replace something else."""
    return path + old + new + str(all)


async def test_a_call_that_nobody_is_asked_about_has_no_preview(path: Path, root: Path) -> None:
    looked_at = threading.Event()

    def writes(call: ProposedCall, folder: Path) -> WouldWrite:
        looked_at.set()
        return {}

    free = tool(writes=writes)(_other)
    model = ScriptedModel(lines(ask_for(("_other", {"path": "a", "old": "b", "new": "c"})), say("done")))
    async with Runtime.open(path, agents=[Agent("coder", tools=[free])], model=model) as runtime:
        assert (await runtime.run("coder", "Go.", loop=LOOP, workspace=root)).status == "completed"
    assert not looked_at.is_set()


# No preview is no obstacle -------------------------------------------------------------------------------------------


def failing(call: ProposedCall, folder: Path) -> WouldWrite:
    raise LookupError("no idea\x1b[2J")


def leaving(call: ProposedCall, folder: Path) -> WouldWrite:
    raise SystemExit(3)


def wrong(call: ProposedCall, folder: Path) -> Any:
    return {"calc.py": 7}


def nothing(call: ProposedCall, folder: Path) -> Any:
    return None


def many(call: ProposedCall, folder: Path) -> WouldWrite:
    return {f"file-{number}": "x" for number in range(1000)}


def outside(call: ProposedCall, folder: Path) -> WouldWrite:
    return {"../outside": "x"}


@pytest.mark.parametrize(
    ("writes", "why"),
    [
        (failing, "LookupError: no idea"),
        (leaving, "SystemExit: 3"),
        (wrong, "NoPreview: calc.py cannot hold int."),
        (nothing, "Type"),
        (many, "NoPreview: 1,000 files would change."),
        (outside, "NotHere: ../outside is not in the workspace."),
    ],
)
async def test_a_tool_that_cannot_say_what_it_would_write_is_asked_about_all_the_same(
    path: Path, root: Path, writes: Any, why: str
) -> None:
    made = tool(needs_approval=True, writes=writes)(_other)
    (request,) = await asked(path, root, ("_other", {"path": "a", "old": "b", "new": "c"}), tools=[made])
    assert request.preview is not None
    assert request.preview.files == ()
    assert request.preview.failed.startswith(why)
    assert "\x1b" not in request.preview.failed


async def test_a_tool_that_takes_too_long_to_say_is_not_waited_for(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()

    def writes(call: ProposedCall, folder: Path) -> WouldWrite:
        never.wait()
        return {}

    monkeypatch.setattr(runtime_previews, "SECONDS", 0.05)
    try:
        made = tool(needs_approval=True, writes=writes)(_other)
        call = ("_other", {"path": "a", "old": "b", "new": "c"})
        first, second = await asked(path, root, call, call, tools=[made])
        assert first.preview == second.preview == Preview(failed="it was not known within 0.05 seconds")
    finally:
        never.set()


async def test_a_reply_is_not_lost_while_a_tool_says_what_it_would_write(path: Path, root: Path) -> None:
    ask_first = asking()
    (request,) = await asked(path, root, EDIT, tools=ask_first)
    agent = Agent("coder", tools=ask_first)
    async with Runtime.open(path, agents=[agent], model=ScriptedModel(lines(say("done")))) as runtime:
        with Loops.open(path) as loops:
            saved = loops.show(LOOP)
        reply = Reply(message=Assistant(tool_calls=(requested(*EDIT),)), stop="end", usage=Usage())
        proposals = (Proposal(nonce="n", needs_approval=True),)
        made: tuple[Proposal, ...] = ()
        with trio.CancelScope() as scope:
            scope.cancel()
            made = await with_previews(runtime._services, agent, saved, reply, proposals)
    assert [one.preview for one in made] == [request.preview]


def requested(name: str, arguments: dict[str, Any]) -> ToolRequest:
    return ToolRequest(id="c", function=Function(name=name, arguments=json.dumps(arguments)))


def test_what_says_what_a_tool_writes_is_a_plain_function() -> None:
    async def later(call: ProposedCall, folder: Path) -> WouldWrite:
        return {}

    for bad in (later, "calc.py"):
        with pytest.raises(ToolDefinition, match="writes of _other"):
            tool(writes=bad)(_other)  # type: ignore[arg-type]


async def test_what_is_kept_of_a_large_preview_is_bounded_and_says_how_much_is_left_out(path: Path, root: Path) -> None:
    content = "".join(f"line {number}\n" for number in range(5000))
    wide = "x" * 120_000 + "\n"
    requests = await asked(
        path,
        root,
        ("write_file", {"path": "long", "content": content}),
        ("write_file", {"path": "wide", "content": wide}),
        ("write_file", {"path": "wider", "content": wide}),
    )
    kept = [request.preview.files[0] for request in requests if request.preview is not None]
    assert [(file.added, file.text.count("\n") + file.cut) for file in kept] == [(5000, 5006), (1, 7), (1, 7)]
    assert kept[0].text.count("\n") == runtime_previews.MOST_LINES
    assert (kept[1].cut, kept[2].cut) == (0, 1)
    assert sum(len(file.text) for file in kept) <= runtime_previews.MOST_CHARACTERS


# Since a person last looked ------------------------------------------------------------------------------------------


async def test_a_request_shows_what_the_loop_has_changed_since_a_person_looked(path: Path, root: Path) -> None:
    write = TOOLS["write_file"]
    tools = [write, TOOLS["edit_file"].with_approval(True)]
    model = ScriptedModel(
        lines(
            ask_for(("write_file", {"path": "one", "content": "1\n"})),
            ask_for(EDIT, ("write_file", {"path": "two", "content": "2\n"})),
            ask_for(("write_file", {"path": "three", "content": "3\n"})),
            ask_for(("edit_file", {"path": "one", "old": "1", "new": "one"})),
            say("done"),
        )
    )
    async with Runtime.open(path, agents=[Agent("coder", tools=tools)], model=model) as runtime:
        (first,) = (await runtime.run("coder", "Mend it.", loop=LOOP, workspace=root)).pending
        with Loops.open(path) as loops:
            shown = loops.unseen(first)
            assert [(file.kind, file.path) for file in shown.files] == [("A", "one"), ("A", "two")]
            assert shown.until == first.commit
            loops.approve(first, by=ADA)
            assert loops.unseen(LOOP).files == ()
            assert loops.unseen(first) == shown
        (second,) = (await runtime.resume(LOOP)).pending
    with Loops.open(path) as loops:
        shown = loops.unseen(second)
        assert shown.since == first.commit
        assert [(file.kind, file.path) for file in shown.files] == [("M", "calc.py"), ("A", "three")]
        loops.tell(LOOP, "Careful.", by=GRACE)
        assert loops.unseen(LOOP).files == ()
        assert loops.unseen(second) == shown


async def test_who_decided_before_a_file_was_written_has_not_seen_it(path: Path, root: Path) -> None:
    (request,) = await asked(
        path, root, EDIT, ("write_file", {"path": "two", "content": "2\n"}), tools=[asking()[5], TOOLS["write_file"]]
    )
    with Loops.open(path) as loops:
        asked_first = loops.show(f"{request.commit}~2")  # before the file was written
        assert [call.state.value for call in asked_first.state.calls] == ["awaiting", "approved"]
        loops.approve(replace(request, commit=asked_first.commit), by=ADA)
        shown = loops.unseen(LOOP)
        assert shown.since == asked_first.commit
        assert [file.path for file in shown.files] == ["two"]


async def test_git_takes_the_whole_of_what_a_loop_has_changed(path: Path, root: Path) -> None:
    before = root.with_name("before")
    shutil.copytree(root, before, symlinks=True)
    wild = tool(name="wild")(_wild)
    model = ScriptedModel(lines(ask_for(("wild", {})), say("done")))
    async with Runtime.open(path, agents=[Agent("coder", tools=[wild])], model=model) as runtime:
        await runtime.run("coder", "Go.", loop=LOOP, workspace=root)
    with Loops.open(path) as loops:
        shown = loops.unseen(LOOP, whole=True)
    applied(before, Preview(files=shown.files))
    assert files_in(before) == files_in(root)


def _wild(context: ToolContext) -> str:
    """Do everything that can be done to files."""
    assert context.workspace is not None
    root = context.workspace
    (root / "calc.py").unlink()
    (root / "calc.py").mkdir()
    (root / "calc.py" / 'inner\n"name').write_bytes(b"\0\xff" * 5000)
    (root / "run").chmod(0o644)
    (root / os.fsdecode(b"\xff\x1b")).write_text("no end")
    (root / "link").symlink_to("nowhere")
    return "done"


@pytest.mark.parametrize("limit", ["COMPARED", "FILES"])
async def test_what_is_too_much_to_compare_is_named(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"caesura.continuations.unseen.{limit}", 1)
    calls = [("write_file", {"path": name, "content": "x\n"}) for name in "abc"]
    await asked(path, root, *calls, tools=[TOOLS["write_file"]])
    with Loops.open(path) as loops:
        files = loops.unseen(LOOP).files
        assert [(file.path, bool(file.text), bool(file.note)) for file in files] == [
            ("a", True, False),
            ("b", False, True),
            ("c", False, True),
        ]
        assert all(file.text for file in loops.unseen(LOOP, whole=True).files)
