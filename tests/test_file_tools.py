"""The file tools: what they do, that they stay in the workspace, and that no command runs that nobody allowed."""

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from caesura.adapters.files import command_tool, file_tools, is_plain
from caesura.continuations import CallerError, CallId, Loops, loop_name
from caesura.runtime import Agent, Runtime, ToolContext
from tests.models import ADA, ScriptedModel, ask_for, lines, results, say
from tests.workspaces import files_in, files_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("one\ntwo\nthree\n")
    (root / "src" / "b.py").write_text("two\n" * 3)
    (root / ".gitignore").write_text("*.log\n")
    (root / "x.log").write_text("two\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "binary").write_bytes(b"\0\1two")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("[core]\n")
    (tmp_path / "outside").write_text("keep out\n")
    subprocess.run(["git", "init", "-q", "--bare", str(root / ".caesura")], check=True)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to("..")
    return root


TOOLS = {tool.name: tool for tool in file_tools()}


def use(root: Path | None, name: str, /, **arguments: Any) -> str:
    """What a tool returns."""
    context = ToolContext(loop=loop_name("x"), call=CallId("c-1"), idempotency_key="k", workspace=root)
    made: str = TOOLS[name](context=context, **arguments)
    return made


def fails(root: Path | None, name: str, /, **arguments: Any) -> str:
    """What a tool says when it cannot do what it is asked."""
    from caesura.continuations import ToolError

    with pytest.raises(ToolError) as raised:
        use(root, name, **arguments)
    return str(raised.value)


def test_files_are_read_whole_and_in_parts(root: Path) -> None:
    assert use(root, "read_file", path="src/a.py") == "one\ntwo\nthree\n"
    assert use(root, "read_file", path=f"{root}/./src//a.py", first_line=2, lines=1) == (
        "two\n\n[1 more line from line 3]"
    )
    (root / "empty").write_text("")
    assert use(root, "read_file", path="empty") == "[The file is empty.]"
    assert "not text" in fails(root, "read_file", path="binary")
    assert "There is no" in fails(root, "read_file", path="src/c.py")
    assert "There is no" in fails(root, "read_file", path="src")


def test_files_are_listed_found_and_searched(root: Path) -> None:
    assert use(root, "list_files") == ".caesura/\n.gitignore\nbinary\nout\nrun\nsrc/\nup\nx.log"
    assert use(root, "list_files", path="src") == "a.py\nb.py"
    assert use(root, "find_files", pattern="*.py") == "src/a.py\nsrc/b.py"
    assert use(root, "find_files", pattern="**/a.py") == use(root, "find_files", pattern="a.py") == "src/a.py"
    assert use(root, "find_files", pattern="*.c") == "[Nothing.]"
    assert use(root, "search_files", text="two", pattern="a.*") == "src/a.py:2: two"
    assert use(root, "search_files", text="TWO", ignore_case=True).count("\n") == 3
    assert use(root, "search_files", text="keep out") == "[Nothing.]"
    assert "nothing to search" in fails(root, "search_files", text="")


def test_files_are_written_and_edited(root: Path) -> None:
    assert use(root, "write_file", path="new/deep/c.py", content="x\n") == "new/deep/c.py is made: 1 line."
    assert (root / "new/deep/c.py").read_text() == "x\n"
    use(root, "write_file", path="run", content="#!/bin/sh\necho\n")
    assert os.access(root / "run", os.X_OK)
    use(root, "edit_file", path="src/a.py", old="two\n", new="2\n")
    assert (root / "src/a.py").read_text() == "one\n2\nthree\n"
    assert "3 times" in fails(root, "edit_file", path="src/b.py", old="two", new="2")
    assert use(root, "edit_file", path="src/b.py", old="two", new="2", all=True) == "src/b.py: replaced 3 pieces."
    for old in ("four", ""):
        assert "does not hold" in fails(root, "edit_file", path="src/a.py", old=old, new="4")


PATCH = "--- a/{0}\n+++ b/{0}\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


def test_a_patch_is_applied_whole_or_not_at_all(root: Path) -> None:
    new = "--- /dev/null\n+++ b/src/new.py\n@@ -0,0 +1 @@\n+new"
    use(root, "apply_patch", patch=f"{PATCH.format('src/a.py')}{new}")
    assert (root / "src/a.py").read_text() == "one\n2\nthree\n"
    assert (root / "src/new.py").read_text() == "new\n"
    before = files_in(root)
    assert "repository" in fails(root, "apply_patch", patch=new.replace("src/new.py", ".caesura/hooks/post-update"))
    for old, new_name in (("src/b.py", ".caesura/b.py"), (".caesura/HEAD", "src/stolen")):
        for verb in ("rename", "copy"):
            names = f"{verb} from {old}\n{verb} to {new_name}\n"
            moved = f"diff --git a/{old} b/{new_name}\nsimilarity index 100%\n{names}"
            assert "renames or copies" in fails(root, "apply_patch", patch=moved)
    other = new.replace("new.py", "other.py")
    assert "does not apply" in fails(root, "apply_patch", patch=f"{other}\n{PATCH.format('src/a.py')}")
    assert files_in(root) == before


@pytest.mark.parametrize("where", ["plain", "within a bare repository", "within a project"])
def test_a_patch_means_the_workspace_wherever_that_is(tmp_path: Path, where: str) -> None:
    root = tmp_path / "r.git" / "workspaces" / "files"
    if where != "plain":
        words = ["--bare"] if "bare" in where else []
        subprocess.run(["git", "init", "-q", *words, str(tmp_path / "r.git")], check=True)
    root.mkdir(parents=True)
    (root / "a").write_text("one\ntwo\nthree\n")
    use(root, "apply_patch", patch=PATCH.format("a"))
    assert (root / "a").read_text() == "one\n2\nthree\n"


HOSTILE = [
    "../outside",
    "src/../../outside",
    "/etc/passwd",
    "out",
    "up/outside",
    ".git/config",
    ".GIT/hooks/post-commit",
    "src/.git/config",
    "a\0b",
    ".caesura/config",
    ".caesura/refs/heads/loops/x",
    "up/work/src/a.py",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_nothing_outside_of_the_workspace_is_read_or_written(root: Path, path: str) -> None:
    outside = root.parent / "outside"
    fails(root, "read_file", path=path)
    fails(root, "write_file", path=path, content="evil")
    fails(root, "edit_file", path=path, old="keep", new="evil")
    fails(root, "list_files", path=path)
    if "\0" not in path:
        fails(root, "apply_patch", patch=PATCH.format(path))
        fails(root, "apply_patch", patch=f"--- /dev/null\n+++ b/{path}/new\n@@ -0,0 +1 @@\n+evil\n")
    assert outside.read_text() == "keep out\n"
    assert (root / ".git" / "config").read_text() == "[core]\n"
    assert sorted(one.name for one in root.parent.iterdir()) == ["outside", "work"]


def test_a_loop_without_files_is_told_so() -> None:
    for name in ("list_files", "find_files"):
        assert "no workspace" in fails(None, name, **({} if name == "list_files" else {"pattern": "*"}))


# Commands ----------------------------------------------------------------------------------------------------------


def run(root: Path, command: str, timeout: float = 30.0, **variables: str) -> str:
    tool = command_tool(timeout=timeout, variables=variables)
    context = ToolContext(loop=loop_name("x"), call=CallId("c-1"), idempotency_key="k", workspace=root)
    made: str = trio.run(partial(tool.function, context=context, command=command))
    return made


def test_a_command_runs_in_the_workspace_and_its_end_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sesame")
    assert run(root, "pwd; echo problem >&2; exit 3") == f"{root}\nproblem\n[exit status 3]"
    assert run(root, "kill -9 $$") == "[ended by signal 9]"
    assert run(root, "cat") == "[exit status 0]"
    assert "sesame" not in run(root, "env")
    assert "yes" in run(root, "echo $GIVEN", GIVEN="yes")


def test_a_commands_output_is_cut_in_the_middle(root: Path) -> None:
    said = run(root, "echo first; seq 100000; echo last")
    assert said.startswith("first\n1\n")
    assert said.endswith("last\n[exit status 0]")
    assert "bytes are left out" in said
    assert len(said) < 31_000


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(root: Path) -> None:
    from caesura.continuations import ToolError

    with pytest.raises(ToolError, match="begun"):
        run(root, "echo begun; sh -c 'echo $$ > pid; sleep 600' & wait", timeout=3.0)
    pid = int((root / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_what_a_command_leaves_running_does_not_hold_it_up(root: Path) -> None:
    assert run(root, "sleep 600 & echo done") == "done\n[exit status 0]"


@pytest.mark.parametrize(
    ("command", "plain"),
    [
        ("pytest", True),
        ("pytest -q tests/test_a.py", True),
        ("git diff --stat", True),
        ("'pytest' -q", True),
        ("git push", False),
        ("pytest2", False),
        ("pytest; rm -rf /", False),
        ("pytest && evil", False),
        ("pytest | sh", False),
        ("pytest $(evil)", False),
        ("pytest `evil`", False),
        ("pytest > /etc/passwd", False),
        ("pytest\nevil", False),
        ("pytest &", False),
        ("X=1 pytest", False),
        ("pytest 'unclosed", False),
        ("", False),
        ("evil pytest", False),
    ],
)
def test_a_command_is_allowed_by_its_first_words_if_a_shell_makes_no_more_of_it(command: str, plain: bool) -> None:
    assert is_plain(command, ["pytest", "git diff"]) is plain


@given(st.text(alphabet="ab '\"\\;&|$()<>`\n\r\t!*?[]{}~#=%^\0", max_size=12))
def test_a_plain_command_is_the_words_that_a_shell_makes_of_it(text: str) -> None:
    command = f"echo {text}"
    if is_plain(command, ["echo"]):
        import shlex

        done = subprocess.run(["sh", "-c", f"printf '<%s>' {text}"], capture_output=True, text=True, check=True)
        words = shlex.split(command)[1:]
        assert done.stdout == ("".join(f"<{word}>" for word in words) or "<>")


@pytest.mark.parametrize("allow", ["", "a;b", "a 'b"])
def test_what_is_no_command_cannot_be_allowed(allow: str) -> None:
    with pytest.raises(CallerError):
        command_tool(allow=[allow])


async def test_a_coding_agent_mends_a_file_and_asks_before_it_runs_what_is_not_allowed(tmp_path: Path) -> None:
    path, root = tmp_path / "r.git", tmp_path / "project"
    root.mkdir()
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    model = ScriptedModel(
        lines(
            ask_for(("read_file", {"path": "calc.py"})),
            ask_for(("edit_file", {"path": "calc.py", "old": "a - b", "new": "a + b"})),
            ask_for(("run_command", {"command": "cat calc.py"}), ("run_command", {"command": "cat calc.py > copy.py"})),
            say("Mended."),
        )
    )
    agent = Agent("coder", tools=file_tools(allow=["cat"]))
    async with Runtime.open(path, agents=[agent], model=model) as runtime:
        outcome = await runtime.run("coder", "Mend it.", loop="fix", workspace=root)
        assert [request.id for request in outcome.pending] == ["fix.run_command-2"]
        assert files_in(root).keys() == {"calc.py"}
        with Loops.open(path) as loops:
            loops.approve("fix.run_command-2", by=ADA)
        outcome = await runtime.resume("fix")
    assert outcome.status == "completed"
    assert results(model.requests[-1])[-2:] == ["def add(a, b):\n    return a + b\n[exit status 0]", "[exit status 0]"]
    assert files_of(path, "loops/fix:workspace") == files_in(root)
    assert files_in(root).keys() == {"calc.py", "copy.py"}
