"""Documentation that runs: executes the blocks of a Markdown file in a sandbox, and compares or rewrites their output.

- ```` ```console ````: each line ``$ command`` is run by bash; what follows is what it prints, both streams together.
- ```` ```console graph ````: the same for ``git log --graph``: the order of parallel loops' commits is left open.
- ```` ```python name.py ````: a file of that name; without a name, a program that must succeed.
- ```` ```toml name.toml ````: a file of that name.

``python -m tests.documentation README.md`` rewrites the outputs in place with real ones.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 120

_BLOCK = re.compile(r"^```(?P<kind>console|python|toml)(?P<name>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = [
    (re.compile(r"\b[0-9a-f]{7,40}\b"), "<hash>"),
    (re.compile(r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4} [+-]\d{4}"), "<date>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\b(\d+(\.\d+)? ?(ms|s|seconds?|minutes?)( ago)?|a moment ago)\b"), "<duration>"),
    (re.compile(r'"seconds": [\d.]+'), '"seconds": <duration>'),
    (re.compile(r"caesura <[^>]*>"), "caesura <user@host>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    # How many steps loops take that run side by side, and for how long; and which of them is the last.
    (re.compile(r"^(\S+ +\w+ +)\d+((?: +[\d,]+){5}) +<duration>", re.MULTILINE), r"\1<steps>\2 <duration>"),
    # Tokens of trials whose tools print paths and times.
    (re.compile(r"^(\S+ +completed +\S+ +\d+ +)\d,\d{3}$", re.MULTILINE), r"\1<tokens>"),
    (re.compile(r"\b\d+ (commits|objects|stay with others)\b"), r"<number> \1"),
    (re.compile(r"(would become) \d+"), r"\1 <number>"),
    (re.compile(r"(the last commit in common: <hash>).*"), r"\1  <subject>"),
]
_GRAPH = re.compile(r"^[*|\\/_.\- ]+")
_PASSING = re.compile(r": (.* (goes on|is suspended)|resumed)$")
"""Steps of which a parallel run has more or fewer, as its loops happen to come to rest together or one by one."""


@dataclass(frozen=True)
class Difference:
    """A command that printed something else than its document says."""

    command: str
    expected: str
    printed: str


class Sandbox:
    """A folder, a home and a git identity of its own to run a document in."""

    def __init__(self, folder: Path, *, server: str = "") -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        home = folder / "home"
        home.mkdir()
        (home / ".gitconfig").write_text(
            "[user]\n\tname = Grace Hopper\n\temail = grace@example.com\n[init]\n\tdefaultBranch = main\n"
        )
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "PYTHONWARNINGS") if name in os.environ}
        self.environment = kept | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "COLUMNS": "100",
            "TZ": "UTC",
        }
        if server:
            self.environment |= {"OPENAI_BASE_URL": server, "OPENAI_API_KEY": "none-needed"}

    def run(self, command: str) -> str:
        """What a command prints, both streams as a terminal would show them."""
        # The demo takes a key for the wish to talk to a real model.
        hidden = "OPENAI_" if command.startswith("caesura demo") else "\0"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={name: value for name, value in self.environment.items() if not name.startswith(hidden)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        lines = (line.rstrip() for line in done.stdout.replace(str(self.folder), "~").splitlines())
        return "\n".join(lines).rstrip("\n")

    def python(self, program: str) -> str:
        """Run a program that must succeed; what it complains of."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        return done.stderr


def commands(body: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and the output that is shown for it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = f"{command}\n{more}"
        yield command, output.rstrip("\n")


def execute(document: Path, sandbox: Sandbox) -> tuple[str, list[Difference]]:
    """Run a document: its text with real outputs, and where they differ from those it shows."""
    differences: list[Difference] = []

    def run(match: re.Match[str]) -> str:
        kind, name, body = match["kind"], match["name"].strip(), match["body"]
        if kind != "console":
            if name:
                (sandbox.folder / name).write_text(body)
            else:
                complaint = sandbox.python(body)
                differences.extend([Difference(body, "", complaint)] if complaint else [])
            return match[0]
        lines: list[str] = []
        for command, expected in commands(body):
            printed = sandbox.run(command)
            if normal(printed, graph=name == "graph") != normal(expected, graph=name == "graph"):
                differences.append(Difference(command, expected, printed))
            lines += [f"$ {command}", *([printed] if printed else [])]
        return f"```{kind}{match['name']}\n" + "\n".join(lines) + "\n```"

    return _BLOCK.sub(run, document.read_text()), differences


def normal(output: str, *, graph: bool) -> str:
    """An output without what changes from run to run."""
    for pattern, name in _VARYING:
        output = pattern.sub(name, output)
    if not graph:
        return output
    subjects = {_GRAPH.sub("", line).strip() for line in output.splitlines()}
    return "\n".join(sorted(line for line in subjects if line and not _PASSING.search(line)))


@contextmanager
def model_server() -> Iterator[str]:
    """The URL of the documentation's scripted model, served for as long as the context lasts."""
    command = [sys.executable, "-m", "tests.documentation_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def main() -> None:
    """Rewrite the outputs of the documents named on the command line."""
    for name in sys.argv[1:]:
        document = ROOT / name
        with tempfile.TemporaryDirectory() as folder, model_server() as server:
            text, differences = execute(document, Sandbox(Path(folder), server=server))
        document.write_text(text)
        print(json.dumps({"document": name, "changed": len(differences)}))  # noqa: T201  # a command's output


if __name__ == "__main__":
    main()
