"""The table of commands: their names, where they live, what they are for. Importing it costs nothing."""

from typing import NamedTuple


class Command(NamedTuple):
    """One command: ``module`` in this package holds ``function``; `usage` is what follows its name."""

    name: str
    module: str
    function: str
    usage: str
    summary: str


GROUPS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    (
        "Work",
        (
            Command("run", "_drive", "run", "[AGENT] PROMPT", "Start a loop and drive it until it ends or waits."),
            Command("resume", "_drive", "resume", "LOOP", "Go on with a loop from where it is."),
            Command("tell", "_steer", "tell", "LOOP TEXT", "Say something to a loop."),
            Command("pause", "_steer", "pause", "LOOP", "Let a loop stand still until it is resumed."),
            Command("compact", "_steer", "compact", "LOOP", "Shorten what a loop's model is sent."),
            Command("cancel", "_steer", "cancel", "LOOP", "End a loop and everything nested in it."),
        ),
    ),
    (
        "Decide",
        (
            Command("pending", "_look", "pending", "[LOOP]", "List what waits for somebody."),
            Command("approve", "_decide", "approve", "ID...", "Approve calls, or lift gates."),
            Command("reject", "_decide", "reject", "ID...", "Reject calls; turn questions down; give loops up."),
            Command("answer", "_answer", "answer", "ID [VALUE]", "Answer a question."),
        ),
    ),
    (
        "Look and branch",
        (
            Command("loops", "_look", "loops", "", "List the loops."),
            Command("show", "_look", "show", "REVISION", "Show a loop, or any commit of one, as a transcript."),
            Command(
                "diff", "_compare", "diff", "REVISION REVISION", "Compare loops: where they part, and what came of it."
            ),
            Command(
                "bisect", "_bisect", "bisect", "GOOD BAD [-- COMMAND...]", "Find the first step that a test fails."
            ),
            Command("test", "_bisect", "check", "[REVISION] [-- COMMAND...]", "Test one step, for 'git bisect run'."),
            Command("fork", "_fork", "fork", "REVISION", "Start a new loop from any commit, as it is or with changes."),
            Command(
                "try", "_try", "try_", "REVISION --variants FILE [-- COMMAND...]", "Try variants of a commit at once."
            ),
            Command("adopt", "_adopt", "adopt", "BRANCH --into LOOP", "Let a loop go on as the one that was chosen."),
            Command("files", "_files", "files", "LOOP", "Show a loop's files, and what was changed in them by hand."),
        ),
    ),
    (
        "More",
        (
            Command("init", "_steer", "init", "", "Make a repository for loops."),
            Command("verify", "_care", "verify", "[LOOP...]", "Check every commit, as git and as Caesura."),
            Command("repair", "_care", "repair", "[LOOP...]", "Let damaged loops go on from their last good commit."),
            Command("gc", "_gc", "gc", "", "Put objects and branches into few files."),
            Command(
                "textconv", "_gitdiff", "textconv", "FILE", "Print a file of a commit as text, for git to compare."
            ),
            Command("archive", "_archive", "archive", "[LOOP...]", "Take loops that have ended out of the way."),
            Command("prune", "_prune", "prune", "[LOOP...]", "Shorten the histories of loops that have ended."),
            Command("erase", "_erase", "erase", "LOOP", "Take what a loop held out of the repository for good."),
            Command(
                "export", "_interchange", "export_", "LOOP...", "Write loops to a file, or one for another system."
            ),
            Command(
                "import", "_interchange", "import_", "[LOOP] FILE", "Take loops from a file, or from another system."
            ),
            Command("demo", "_demo", "demo", "", "Watch agents suspend, be decided on and resume; needs no model."),
            Command("completion", "_completion", "completion", "SHELL", "Print a completion script for your shell."),
        ),
    ),
)
"""Every command, in the order in which help lists them."""

COMMANDS = {command.name: command for _, commands in GROUPS for command in commands}
"""Every command by name."""

TAKES_COMMAND = frozenset({"bisect", "test", "try"})
"""The commands in which what follows -- is a command to run."""

ANSWERS_GIT = frozenset({"test"})
"""The commands whose exit status git bisect reads as an answer: any error of theirs is `GIT_ABORTS`."""

GIT_ABORTS = 128
"""The exit status at which git bisect gives up, instead of taking it for an answer."""

READS_STDIN = frozenset({"run", "tell", "answer", "import"})
"""The commands in which - means standard input."""

INTRODUCTION = """\
Run LLM agents whose every step is a git commit: suspend for a person, exit, resume or fork from any commit.

There is no command for the log, because git has it: git -C .caesura log loops/LOOP"""

CLOSING = """\
Agents are named as module.py:agent or package.module:agent, on the command line or once in caesura.toml (or in
[tool.caesura] of pyproject.toml), here or in a folder above:

  agents = "agents.py:lead"    or a list of them; the first is the one that 'caesura run PROMPT' runs
  model = "gpt-5"              for the agents that have none of their own
  api = "responses"            or "chat", the default
  settings = { temperature = 0 }
  repo = ".caesura"            beside the file
  changes = { contract = "ask" }   what becomes of a loop whose agent's code has changed: adopt, ask or refuse, for
                               its guidance (adopt), its contract (ask), open calls of a vanished tool (refuse)
  durability = "crash"         faster: a step survives a crash, not a power cut; "power-cut", the default: both
  visibility = "sealed"        much faster: git sees a step when the loop rests or is idle; "step", the default: at once
  [policy]                     who may decide, and how many must: docs/approvals.md
  redact.env = ["DB_PASSWORD"]          the values of these variables never enter the history,
  redact.patterns = ['ACME-[0-9]{6}']   nor does what these regular expressions match, or looks like a key

The repository is --repo, else CAESURA_REPO, else repo of the file, else .caesura.

Results go to stdout, everything else to stderr. With --json, stdout is one JSON object; if the command fails, it is
{"error": {"type", "message", "hint"}}. CAESURA_DEBUG=1 adds the traceback of an error. NO_COLOR turns colours off.

Exit status:
    0  done; for run and resume: the loop completed
    1  failed: an error at run time, a loop that failed or was cancelled, or a question to you that was not confirmed
    2  wrong usage: bad arguments, no such loop, a bad name
    3  suspended: the loop waits for somebody or something
  130  interrupted; the loop can be resumed
'caesura test' answers git bisect instead: 0 good, 1 bad, 125 not to be tested, 128 any error"""
