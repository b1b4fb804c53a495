"""Policies on the command line: how far approvals are, who is still needed, signing with one's own key, and errors."""

import subprocess
from pathlib import Path

import pytest

from caesura.continuations import Person
from tests.cli_process import AGENTS, Shell
from tests.signing import Key, Keys, agent_with
from tests.strategies import EDITH, GRACE

ORDER = "onboard.order-1"


class Company:
    """A worker run by Ada, and people in homes of their own."""

    def __init__(self, folder: Path) -> None:
        self.shell = Shell(folder)
        self.keys = Keys(folder / "keys")
        self.folder = folder
        self.settings(
            f'agents = "{AGENTS}:it"\n[policy]\nallowed_signers = "keys/allowed_signers"\n'
            '[[policy.rules]]\ntools = ["order"]\napprovals = 2\n'
            'by = ["edith@example.com", "grace@example.com", "lin@example.com"]\nexpires = "2h"\n'
        )
        self.keys.list(EDITH, GRACE)

    def settings(self, text: str) -> None:
        (self.folder / "caesura.toml").write_text(text)

    def home(self, who: Person, key: str | Path | None) -> dict[str, str]:
        """The environment of a person whose git names that key."""
        home = self.folder / who.email
        home.mkdir(exist_ok=True)
        lines = f"[user]\n\tname = {who.name}\n\temail = {who.email}\n"
        if key is not None:
            lines += f"\tsigningkey = {key}\n[gpg]\n\tformat = ssh\n"
        (home / ".gitconfig").write_text(lines)
        return {"HOME": str(home)}


@pytest.fixture
def company(tmp_path: Path) -> Company:
    company = Company(tmp_path)
    assert company.shell("run", "Equip Ada", "--loop", "onboard").status == 3
    return company


def test_two_people_approve_on_the_command_line_and_each_step_says_who_is_still_needed(company: Company) -> None:
    shell = company.shell
    shown = shell("pending").out
    assert "approvals: 0 of 2; still needed: 2 of edith@example.com, grace@example.com, lin@example.com" in shown
    assert "in 2 hours; then it is rejected" in shown
    edith = company.home(EDITH, company.keys.of(EDITH).file)
    grace = company.home(GRACE, company.keys.of(GRACE).file)
    told = shell("approve", ORDER, "--yes", **edith)
    assert (told.status, told.out.splitlines()[0]) == (0, f"Approved {ORDER}: 1 of 2 approvals.")
    assert "approvals: 1 of 2 (Edith Clarke); still needed: 1 of grace@example.com, lin@example.com" in told.out
    again = shell("approve", ORDER, "--yes", **edith)
    assert (again.status, again.out.splitlines()[0]) == (0, f"You had approved {ORDER}: 1 of 2 approvals.")
    told = shell("reject", ORDER, "--reason", "after all", **edith)
    assert (told.status, "already approved by Edith Clarke" in told.err) == (1, True)
    (request,) = shell("pending", "--json").json["pending"]
    assert request["missing"] == 1
    assert [one["by"]["email"] for one in request["approvals"]] == [EDITH.email]
    assert request["by"] == ["edith@example.com", "grace@example.com", "lin@example.com"]
    assert (request["on_expiry"], request["expires"] is None) == ("reject", False)
    assert "1 of 2 approvals: Edith Clarke" in shell("show", "onboard").out
    told = shell("approve", ORDER, "--yes", **grace)
    assert told.out.splitlines()[0] == f"Approved {ORDER}."
    told = shell("resume", "onboard")
    assert (told.status, told.out) == (0, "it done: ordered laptop for 2400\n")


def test_who_cannot_decide_is_told_why_and_what_to_do(company: Company) -> None:
    shell = company.shell
    told = shell("approve", ORDER, "--yes")
    assert (told.status, "they ran the worker that asks" in told.err) == (1, True)
    told = shell("approve", ORDER, "--yes", **company.home(EDITH, None))
    assert told.status == 2
    assert "git names no SSH key of yours" in told.err
    assert "git config --global user.signingkey" in told.err
    told = shell("approve", ORDER, "--yes", **company.home(GRACE, company.keys.of(EDITH).file))
    assert told.status == 2
    assert "is not signed by a key that is listed for grace@example.com" in told.err
    told = shell("approve", ORDER, "--yes", **company.home(GRACE, company.folder / "none"))
    assert (told.status, "ssh-keygen could not sign with" in told.err) == (2, True)
    assert shell("pending", "--json").json["pending"][0]["approvals"] == []


def test_a_signed_commit_is_shown_with_what_its_signature_is_worth(company: Company) -> None:
    shell = company.shell
    assert "signed" not in shell("show", "onboard").out
    assert shell("approve", ORDER, "--yes", **company.home(EDITH, company.keys.of(EDITH).file)).status == 0
    last = shell("show", "onboard").out.splitlines()
    assert any(
        line.startswith("its commit is signed by a key that the policy lists for its author: SHA256:") for line in last
    )
    company.keys.list(GRACE)
    assert f"its commit is not signed by a key that is listed for {EDITH.email}" in shell("show", "onboard").out
    company.settings(f'agents = "{AGENTS}:it"\n')
    assert "its commit has a signature, and no policy here says whose counts" in shell("show", "onboard").out


def test_an_approval_that_was_not_signed_is_asked_for_again_and_the_screen_says_why(company: Company) -> None:
    shell = company.shell
    company.settings(f'agents = "{AGENTS}:it"\n[[policy.rules]]\ntools = "order"\n')
    assert shell("run", "Equip Ada", "--loop", "second").status == 3
    assert shell("approve", "second.order-1", "--yes", **company.home(EDITH, None)).status == 0
    company.settings(f'agents = "{AGENTS}:it"\n[policy]\nallowed_signers = "keys/allowed_signers"\n')
    told = shell("resume", "second")
    assert told.status == 3
    assert f"the approval by {EDITH} is not signed" in told.err


def test_a_passphrase_is_asked_for_on_the_persons_terminal(company: Company) -> None:
    key = Key(company.folder, "locked", "open sesame")
    company.keys.file.write_text(f"{EDITH.email} {key.public}\n")
    terminal = company.shell.terminal("approve", ORDER, "--yes", **company.home(EDITH, key.file))
    terminal.until("Enter passphrase")
    terminal.type("open sesame")
    assert terminal.end() == 0
    assert "1 of 2 approvals" in terminal.screen


def test_a_key_in_ssh_agent_signs_without_being_asked_for_anything(company: Company) -> None:
    key = company.keys.of(EDITH)
    with agent_with(key) as found:
        key.file.unlink()
        told = company.shell("approve", ORDER, "--yes", **company.home(EDITH, f"key::{key.public}"), **found)
    assert (told.status, told.err.count("Enter passphrase")) == (0, 0)
    commit = subprocess.run(
        ["git", "-C", company.folder / ".caesura", "cat-file", "-p", "loops/onboard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "gpgsig -----BEGIN SSH SIGNATURE-----" in commit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[policy.rules]]\ntools = "order"\nexpires = "soon"\n', "expires = 'soon' is no time"),
        ('[[policy.rules]]\ntools = "order"\napprovals = 2\nby = ["a@b"]\n', "2 of 1 people can never approve (order)"),
        ('[[policy.rules]]\ntools = "order"\nhow = "twice"\n', "unknown field `how`"),
        ('[policy]\nallowed_signers = "nowhere"\n', "There is no file"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    company = Company(tmp_path)
    company.settings(f'agents = "{AGENTS}:it"\n{text}')
    told = company.shell("run", "Equip Ada", "--loop", "onboard")
    assert told.status == 2
    assert said in told.err
    assert company.shell("loops", "--repo", ".caesura").out.count("onboard") == 0
