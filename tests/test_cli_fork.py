"""``caesura fork`` with changes: what a person types, and what becomes of it."""

import subprocess
from pathlib import Path

import pytest

from tests.cli_process import AGENTS, Shell

LEAD, IT = f"{AGENTS}:lead", f"{AGENTS}:it"


@pytest.fixture
def laptop(tmp_path: Path) -> Shell:
    """A loop of ``it`` that got its laptop."""
    shell = Shell(tmp_path)
    assert shell("run", IT, "Set up Ada's workplace.", "--loop", "laptop").status == 3
    assert shell("approve", "laptop.order-1", "--yes").status == 0
    assert shell("resume", "laptop", "--agents", IT).out == "it done: ordered laptop for 2400\n"
    return shell


def subjects(shell: Shell, loop: str, number: int) -> list[str]:
    """What the last commits of a loop said, and who made them."""
    repository, shown = str(shell.folder / ".caesura"), ["--first-parent", f"-{number}", "--format=%an: %s"]
    command = ["git", "-C", repository, "log", *shown, f"loops/{loop}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_each_option_is_a_commit_of_whoever_types_it(laptop: Shell) -> None:
    (laptop.folder / "other.txt").write_text("Spend nothing.\n")
    told = laptop(
        *(
            "fork",
            "laptop~5",
            "--name",
            "other",
            "--instructions",
            "@other.txt",
            "--reword",
            "1=Set up Bob's workplace.",
        ),
        *("--arguments", 'laptop.order-1={"item": "pencil", "amount": 1}', "--tools", "ask", "--tell", "Be quick."),
        *("--settings", '{"seed": 1}', "--by", "Grace Hopper <grace@example.com>"),
    )
    assert (told.status, told.out) == (0, "other\n"), told.err
    assert subjects(laptop, "other", 6) == [
        "Grace Hopper: it: told: Be quick.",
        "Grace Hopper: it: rehearses: each call is asked about",
        'Grace Hopper: it: asks instead: order(item="pencil", amount=1)',
        "Grace Hopper: it: told instead: Set up Bob's workplace.",
        "Grace Hopper: it: with other instructions",
        "Grace Hopper: it: with other settings of its model",
    ]
    shown = laptop("show", "other", "--json").json
    assert (shown["tools"], shown["calls"][0]["arguments"]) == ("ask", {"item": "pencil", "amount": 1})
    assert "it rehearses: a person is asked before each call" in laptop("show", "other").out
    assert laptop("verify").status == 0


def test_the_same_again_from_the_record_orders_nothing(laptop: Shell) -> None:
    first = laptop("show", "laptop~6", "--json").json["commit"]
    assert laptop("fork", first, "--name", "again", "--tools", "recorded").status == 0
    told = laptop("resume", "again", "--agents", IT)
    assert (told.status, told.out) == (0, "it done: ordered laptop for 2400\n")
    assert "it: order returned, from the record: ordered laptop for 2400" in subjects(laptop, "again", 2)[1]
    assert "0" in laptop("diff", "--stat", "laptop", "again").out
    row = laptop("diff", "--stat", "laptop", "again", "--json").json["loops"][1]
    assert (row["loop"], row["tools_run"]) == ("again", 0)


def test_what_the_record_does_not_hold_fails_if_that_is_wanted(laptop: Shell) -> None:
    given = ("--arguments", 'order-1={"item": "gold", "amount": 1}', "--tools", "recorded", "--on-miss", "fail")
    assert laptop("fork", "laptop~5", "--name", "gold", *given).status == 0
    told = laptop("resume", "gold", "--agents", IT)
    assert told.status == 0
    assert "the record has no answer to this call. The call did not run." in told.out


def test_another_result_and_a_removed_word_let_the_model_answer_anew(laptop: Shell) -> None:
    told = laptop("fork", "laptop", "--name", "sold-out", "--drop", "1", "--result", "order-1=sold out", "--json")
    assert told.json["status"] == "active"
    assert laptop("resume", "sold-out", "--agents", IT).out == "it done: sold out\n"


def test_a_model_that_cannot_be_another_is_said_before_anything_is_done(laptop: Shell) -> None:
    assert laptop("fork", "laptop", "--name", "other", "--model", "gpt-9", "--tell", "More.").status == 0
    told = laptop("resume", "other", "--agents", IT)
    assert told.status == 2
    assert "scripted cannot be exchanged for it" in told.err
    assert subjects(laptop, "other", 1) == ["Ada Tester: it: told: More."]


SENSELESS: dict[str, list[str]] = {
    "--on-miss is about a record": ["--on-miss", "fail"],
    "--drop wants a number": ["--drop", "-1"],
    "There are 4 messages": ["--drop", "9"],
    "--arguments was given without a name": ["--arguments", "order-1"],
    "--arguments is no JSON object": ["--arguments", "order-1=5"],
    "--arguments is not JSON": ["--arguments", "order-1={"],
    "--result was given twice for one name": ["--result", "a=1", "--result", "a=2"],
    "'one' is no message's number": ["--reword", "one=x"],
    "--settings is no JSON object": ["--settings", "[]"],
    "nowhere cannot be read": ["--instructions", "@nowhere"],
    "Nothing is recorded after": ["--tools", "recorded"],
    "some": ["--tools", "some"],
}


def test_what_makes_no_sense_is_said_and_makes_no_loop(laptop: Shell) -> None:
    for says, options in SENSELESS.items():
        told = laptop("fork", "laptop", "--name", "other", *options)
        assert told.status in (1, 2), options
        assert says in told.err
        assert "hint: " in told.err
    assert [loop["loop"] for loop in laptop("loops", "--json").json["loops"]] == ["laptop"]
