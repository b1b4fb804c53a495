"""Signed decisions: with real keys, a real ssh-agent and real git; and everything that is no decision, and said so."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    AllowedSigners,
    ApprovalRule,
    BadPolicy,
    Call,
    CallState,
    CommitId,
    Continuation,
    Decided,
    Decision,
    GitStore,
    History,
    Judge,
    Loops,
    Needs,
    NoSigningKey,
    Person,
    Policy,
    Request,
    Saved,
    SigningFailed,
    Status,
    describe,
    digest,
    loop_name,
    split_signature,
    step,
    utc_now,
)
from caesura.runtime import Agent
from tests.models import ADA, NOON, World, ask_for, call_of, lines, say
from tests.signing import Key, Keys, agent_with, signing
from tests.strategies import EDITH
from tests.test_runtime_rules import Shop, orders

MALLORY = Person(name="Mallory", email="mallory@example.com")


class Signed:
    """A loop that wants to order tea, under a policy whose signers are Ada and Edith."""

    def __init__(self, folder: Path, *items: str, approvals: int = 1, **options: Any) -> None:
        self.path = folder / "r.git"
        self.keys = Keys(folder / "keys")
        self.shop = Shop()
        self.policy = Policy(
            rules=(ApprovalRule(tools=("order",), needs=Needs(approvals=approvals)),),
            allowed_signers=self.keys.list(ADA, EDITH),
            **options,
        )
        agent = Agent("a", tools=[self.shop.order()])
        self.world = World(self.path, agent, orders(*(items or ("tea",))), policy=self.policy)

    def approve(self, who: Person = ADA, call: str = "x.order-1", **options: Any) -> Saved:
        """A person approves, with their own key."""
        with signing(self.path, self.policy, self.keys.of(who).file) as loops:
            return loops.approve(call, by=who, **options)

    async def refused(self, reason: str, loop: str = "x") -> Request:
        """The worker does not run the call, and says why."""
        pending = [one for one in (await self.world.resume(loop)).pending if one.kind == "approval"]
        assert self.shop.ran == []
        assert reason in pending[0].remark
        return pending[0]

    def sign(self, key: Key, namespace: str = "git") -> Callable[[bytes], str]:
        """Sign as anybody can who has ssh-keygen."""

        def signature(content: bytes) -> str:
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key.file)]
            return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode()

        return signature

    def forge(
        self,
        change: Callable[[Continuation], Continuation],
        *,
        author: Person = ADA,
        sign: Callable[[bytes], str] | None = None,
        message: str | None = None,
    ) -> None:
        """Write a state straight into the repository, as anybody can who may write there."""
        store = GitStore.open(self.path)
        saved = History(store).load(loop_name("x"))
        state = change(saved.state)
        told = self.message(saved) if message is None else message
        commit = store.write(state, parents=(saved.commit,), message=told, author=author, committer=author, sign=sign)
        store.move(saved.loop, saved.commit, commit.id)
        store.close()

    def message(self, saved: Saved, by: Person = ADA) -> str:
        """What a commit says that approves the call as it stands."""
        event = decided(saved.state, saved.commit, by)
        return describe(saved.loop, saved.state, event, step(saved.state, event)).message


def decided(state: Continuation, seen: CommitId, by: Person) -> Decided:
    call = call_of(state, "order-1")
    tool = state.tool(call)
    assert tool is not None
    return Decided(
        at=state.at,
        call=call.id,
        choice="approve",
        by=by,
        seen=seen,
        arguments=call.arguments_digest,
        tool=tool.digest,
    )


def approved(by: Person = ADA, **changes: Any) -> Callable[[Continuation], Continuation]:
    """A state in which that person has approved, or so it says."""

    def change(state: Continuation) -> Continuation:
        call = call_of(state, "order-1")
        event = decided(state, CommitId("c" * 40), by)
        decision = Decision(
            choice="approve", by=by, at=event.at, seen=event.seen, arguments=event.arguments, tool=event.tool
        )
        return with_call(
            state, replace(call, **{"state": CallState.APPROVED, "decision": decision, "needs": None} | changes)
        )

    return change


def with_call(state: Continuation, call: Call) -> Continuation:
    return replace(state, calls=tuple(call if one.id == call.id else one for one in state.calls))


def git(path: Path, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
    import os

    return subprocess.run(
        ["git", "-C", str(path), *arguments],
        input=stdin,
        capture_output=True,
        check=True,
        env={**os.environ, **(env or {})},
    ).stdout.decode()


# Signing -----------------------------------------------------------------------------------------------------------


async def test_a_decision_signed_by_a_listed_key_counts_and_gits_own_tools_accept_it(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    commit = signed.approve().commit
    config = f"gpg.ssh.allowedSignersFile={signed.policy.allowed_signers}"
    git(signed.path, "-c", config, "verify-commit", commit)
    shown = git(signed.path, "-c", config, "log", "-1", "--show-signature", commit)
    assert 'Good "git" signature for ada@example.com with ED25519 key' in shown
    git(signed.path, "fsck", "--strict")
    assert (await signed.world.resume()).status is Status.COMPLETED
    assert signed.shop.ran == ["tea"]


@pytest.mark.parametrize("form", ["key::", "", "file"])
async def test_a_key_that_only_an_ssh_agent_has_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    key = signed.keys.of(ADA)
    with agent_with(key) as found:
        key.file.unlink()
        named = f"{key.file}.pub" if form == "file" else form + key.public
        with signing(signed.path, signed.policy, named) as loops:
            with pytest.raises(SigningFailed, match="could not sign"):
                loops.approve("x.order-1", by=ADA)
            monkeypatch.setenv("SSH_AUTH_SOCK", found["SSH_AUTH_SOCK"])
            loops.approve("x.order-1", by=ADA)
    assert (await signed.world.resume()).status is Status.COMPLETED
    assert signed.shop.ran == ["tea"]


async def test_everything_that_a_person_commits_is_signed(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    with signing(signed.path, signed.policy, signed.keys.of(ADA).file) as loops:
        commits = [
            loops.tell("x", "Hurry.", by=ADA).commit,
            loops.reject("x.order-1", "no", by=ADA).commit,
            loops.cancel("x", by=ADA).commit,
        ]
    for commit in commits:
        git(signed.path, "-c", f"gpg.ssh.allowedSignersFile={signed.policy.allowed_signers}", "verify-commit", commit)


async def test_somebody_without_a_key_is_told_how_to_name_one_and_nothing_is_decided(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    before = (await signed.world.run()).commit
    with signing(signed.path, signed.policy, None) as loops, pytest.raises(NoSigningKey) as refused:
        loops.approve("x.order-1", by=ADA)
    assert "git config --global user.signingkey" in refused.value.hint
    assert signed.world.loops().show("x").commit == before


async def test_a_decision_whose_signature_would_not_count_is_not_made(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    before = (await signed.world.run()).commit
    with signing(signed.path, signed.policy, signed.keys.of(MALLORY).file) as loops:
        for who in (MALLORY, ADA):
            with pytest.raises(SigningFailed, match=f"is not signed by a key that is listed for {who.email}"):
                loops.approve("x.order-1", by=who)
    assert signed.world.loops().show("x").commit == before


async def test_no_program_and_no_key_is_taken_from_the_repositorys_own_configuration(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f'#!/bin/sh\ntouch {sprung}\nexec ssh-keygen "$@"\n')
    trap.chmod(0o755)
    for name, value in {
        "gpg.format": "ssh",
        "gpg.ssh.program": str(trap),
        "gpg.ssh.defaultKeyCommand": str(trap),
        "gpg.ssh.allowedSignersFile": str(tmp_path / "none"),
        "user.signingkey": str(signed.keys.of(ADA).file),
    }.items():
        git(signed.path, "config", name, value)
    with Loops.open(signed.path, policy=signed.policy) as loops, pytest.raises(NoSigningKey):
        loops.approve("x.order-1", by=ADA)
    signed.approve()
    assert (await signed.world.resume()).status is Status.COMPLETED
    assert not sprung.exists()


async def test_a_key_and_an_address_that_look_like_options_are_none(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    with signing(signed.path, signed.policy, "-Oprint-pubkey") as loops, pytest.raises(SigningFailed):
        loops.approve("x.order-1", by=ADA)
    odd = Person(name="Odd", email="-fnothing")
    signed.forge(approved(odd), author=odd, sign=signed.sign(signed.keys.of(ADA)))
    await signed.refused("is not signed by a key that is listed for -fnothing")


async def test_two_people_with_keys_of_their_own_approve_together(tmp_path: Path) -> None:
    signed = Signed(tmp_path, approvals=2)
    await signed.world.run()
    signed.approve()
    assert (await signed.world.resume()).pending[0].missing == 1
    signed.approve(EDITH)
    assert (await signed.world.resume()).status is Status.COMPLETED


async def test_one_key_that_is_listed_for_two_people_is_one_person(tmp_path: Path) -> None:
    signed = Signed(tmp_path, approvals=2)
    signed.keys.file.write_text(f"*@example.com {signed.keys.of(ADA).public}\n")
    await signed.world.run()
    for who in (ADA, EDITH):
        with signing(signed.path, signed.policy, signed.keys.of(ADA).file) as loops:
            loops.approve("x.order-1", by=who)
    pending = await signed.refused("is by somebody who has approved already")
    assert pending.missing == 1


# What is no decision -----------------------------------------------------------------------------------------------


async def test_an_unsigned_approval_is_void_and_said_so(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.world.loops().approve("x.order-1", by=ADA)
    pending = await signed.refused(f"the approval by {ADA} is not signed")
    assert pending.approvals == ()
    signed.approve()
    assert (await signed.world.resume()).status is Status.COMPLETED
    assert signed.shop.ran == ["tea"]


async def test_an_approval_signed_by_a_key_that_is_not_listed_is_void(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.forge(approved(), sign=signed.sign(signed.keys.of(MALLORY)))
    await signed.refused("is not signed by a key that is listed for ada@example.com")


async def test_an_approval_signed_by_another_listed_person_is_void(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.forge(approved(), sign=signed.sign(signed.keys.of(EDITH)))
    await signed.refused("is not signed by a key that is listed for ada@example.com")


async def test_an_approval_in_a_commit_by_somebody_else_is_void_though_that_is_signed(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.forge(approved(), author=EDITH, sign=signed.sign(signed.keys.of(EDITH)))
    await signed.refused(f"is in a commit by {EDITH}")


@pytest.mark.parametrize(
    "options", ['valid-before="20200101"', 'valid-after="21000101"', 'namespaces="file"', "cert-authority"]
)
async def test_an_approval_by_a_key_that_is_not_good_for_it_now_is_void(tmp_path: Path, options: str) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.approve()
    signed.keys.list(ADA, options=options)
    await signed.refused("is not signed by a key that is listed for ada@example.com")


async def test_an_approval_by_a_key_that_was_revoked_since_is_void(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.touch()
    signed = Signed(tmp_path, revoked_signers=str(revoked))
    await signed.world.run()
    signed.approve()
    revoked.write_text(signed.keys.of(ADA).public + "\n")
    await signed.refused("is not signed by a key that is listed for ada@example.com")


async def test_a_signature_made_for_something_else_than_git_is_none(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.forge(approved(), sign=signed.sign(signed.keys.of(ADA), "file"))
    await signed.refused("has a signature that is not of its commit")


async def test_a_signature_over_other_arguments_is_none(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    good = signed.approve().commit
    store = GitStore.open(signed.path)
    _, signature = split_signature(store.raw(good))
    git(signed.path, "update-ref", "refs/heads/loops/x", f"{good}^")
    caviar = '{"item": "caviar"}'

    def other(state: Continuation) -> Continuation:
        state = with_call(state, replace(call_of(state, "order-1"), arguments=caviar))
        return approved()(state)

    signed.forge(other, sign=lambda _: signature)
    await signed.refused("is of other arguments, or of another tool")


async def test_a_signature_taken_from_another_commit_is_none(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    good = signed.approve().commit
    _, signature = split_signature(GitStore.open(signed.path).raw(good))
    git(signed.path, "update-ref", "refs/heads/loops/x", f"{good}^")
    signed.forge(approved(), sign=lambda _: signature)
    await signed.refused("has a signature that is not of its commit")


async def test_arguments_changed_after_a_signed_approval_do_not_run(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.approve()
    arguments = '{"item": "caviar"}'

    def change(state: Continuation) -> Continuation:
        call = call_of(state, "order-1")
        decision = replace(call.decision, arguments=digest(arguments.encode()))
        return with_call(state, replace(call, arguments=arguments, decision=decision))

    signed.forge(change, sign=signed.sign(signed.keys.of(MALLORY)), message="a: nothing to see here\n")
    await signed.refused("is in no commit that decides")


async def test_an_approval_in_another_loop_is_none_here(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.approve()
    signed.world.loops().fork("x", "y")
    await signed.refused("was given in x, not here", loop="y")
    with signing(signed.path, signed.policy, signed.keys.of(ADA).file) as loops:
        loops.approve("y.order-1", by=ADA)
    assert (await signed.world.resume("y")).status is Status.COMPLETED
    assert signed.shop.ran == ["tea"]


async def test_an_approval_of_another_call_of_the_loop_is_none(tmp_path: Path) -> None:
    signed = Signed(tmp_path, "tea", "tea")
    await signed.world.run()
    signed.approve()
    assert [one.id for one in (await signed.world.resume()).pending] == ["x.order-2"]
    signed.shop.ran.clear()
    store = GitStore.open(signed.path)
    first = next(
        call.decision
        for commit in signed.world.history()
        for call in commit.state.calls
        if call.id == "order-1" and call.decision is not None
    )

    def change(state: Continuation) -> Continuation:
        return with_call(state, replace(call_of(state, "order-2"), state=CallState.APPROVED, decision=first))

    signed.forge(change, message="a: nothing to see here\n")
    store.close()
    await signed.refused("is in no commit that decides")


async def test_a_signed_commit_that_decides_about_one_call_decides_about_no_other(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    tea = ("order", {"item": "tea"})
    signed.world.model.script = lines(ask_for(tea, tea), say("done"))
    await signed.world.run()

    def change(state: Continuation) -> Continuation:
        decision = call_of(approved()(state), "order-1").decision
        return with_call(state, replace(call_of(state, "order-2"), state=CallState.APPROVED, decision=decision))

    signed.forge(change, sign=signed.sign(signed.keys.of(ADA)))
    pending = [one.remark for one in (await signed.world.resume()).pending if one.id == "x.order-2"]
    assert pending == [f"the approval by {ADA} is of another call"]
    assert signed.shop.ran == []


@pytest.mark.parametrize("key", [None, MALLORY, EDITH])
async def test_an_approval_picked_onto_another_commit_with_git_is_none(tmp_path: Path, key: Person | None) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    good = signed.approve().commit
    message = git(signed.path, "log", "-1", "--format=%B", good)
    config = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={signed.keys.of(key or ADA).file}"]
    person = {"GIT_AUTHOR_NAME": ADA.name, "GIT_AUTHOR_EMAIL": ADA.email}
    sign = [] if key is None else ["-S"]
    picked = git(
        signed.path, *config, "commit-tree", *sign, f"{good}^{{tree}}", "-p", f"{good}^", "-m", message, env=person
    ).strip()
    git(signed.path, "update-ref", "refs/heads/loops/x", picked)
    await signed.refused(
        "is not signed" if key is None else "is not signed by a key that is listed for ada@example.com"
    )


async def test_a_call_that_has_ended_is_not_run_again_on_its_old_approval(tmp_path: Path) -> None:
    signed = Signed(tmp_path, "tea", "tea")
    await signed.world.run()
    signed.approve()
    async with signed.world.open() as runtime:
        signed.world.seen("order returned", runtime.stop)
        await runtime.resume("x")
    assert signed.shop.ran == ["tea"]
    signed.shop.ran.clear()

    def again(state: Continuation) -> Continuation:
        call = replace(call_of(state, "order-1"), state=CallState.APPROVED)
        return replace(with_call(state, call), messages=state.messages[:-1])

    signed.forge(again, message="a: nothing to see here\n")
    await signed.refused("is in no commit of this loop")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decision": None},
        {"needs": Needs(approvals=1, by=(MALLORY.email,))},
        {"attempt": 7},
    ],
)
async def test_a_loops_tree_cannot_loosen_what_the_workers_policy_asks_for(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    signed = Signed(tmp_path, approvals=2)
    await signed.world.run()
    signed.forge(approved(MALLORY, **changes), author=MALLORY, sign=signed.sign(signed.keys.of(MALLORY)))
    pending = await signed.refused("")
    assert pending.missing == 2
    assert pending.needs is not None
    assert pending.needs.by == ()


async def test_an_unsigned_rejection_puts_a_gate_that_only_a_signed_decision_lifts(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.world.loops().reject("x.order-1", "no", by=ADA)
    for _ in range(2):
        (gate,) = (await signed.world.resume()).pending
        assert gate.gate == "policy"
        assert f"the decision by {ADA} is not signed" in gate.text
        signed.world.loops().approve(gate, by=ADA)
    (gate,) = (await signed.world.resume()).pending
    with signing(signed.path, signed.policy, signed.keys.of(ADA).file) as loops:
        loops.approve(gate, by=ADA)
    assert (await signed.world.resume()).status is Status.COMPLETED
    assert signed.shop.ran == []


async def test_a_standing_approval_counts_only_if_it_was_signed(tmp_path: Path) -> None:
    for number, sign in enumerate((False, True)):
        signed = Signed(tmp_path / str(number), "tea", "jam")
        signed.policy = signed.world.options["policy"] = replace(signed.policy, rules=())
        await signed.world.run()
        if sign:
            signed.approve(always="tool")
        else:
            signed.world.loops().approve("x.order-1", always="tool", by=ADA)
            await signed.refused("is not signed")
            signed.approve()
        outcome = await signed.world.resume()
        assert signed.shop.ran == (["tea", "jam"] if sign else ["tea"])
        assert outcome.status is (Status.COMPLETED if sign else Status.SUSPENDED)


async def test_what_is_claimed_is_exactly_what_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a worker's look and its claim, somebody puts another call in the place of the one that it judged."""
    signed = Signed(tmp_path)
    await signed.world.run()
    signed.approve()
    judged, caviar = Judge.objection, '{"item": "caviar"}'

    def swapped(state: Continuation) -> Continuation:
        call = replace(call_of(state, "order-1"), arguments=caviar, state=CallState.AWAITING)
        return approved()(with_call(state, call))

    def objection(judge: Judge, saved: Saved, call: Call, tool: Any) -> Any:
        found = judged(judge, saved, call, tool)
        if found is None and call.arguments != caviar:
            signed.forge(swapped, message="a: nothing to see here\n")
        return found

    monkeypatch.setattr(Judge, "objection", objection)
    await signed.refused("is in no commit that decides")


# Parts -------------------------------------------------------------------------------------------------------------


def test_a_commit_with_two_signatures_has_none() -> None:
    head = b"tree 0\nauthor a <a@b> 0 +0000\ngpgsig -----A\n line\n"
    assert split_signature(head + b"\nmessage\n\ngpgsig no") == (
        b"tree 0\nauthor a <a@b> 0 +0000\n\nmessage\n\ngpgsig no",
        "-----A\nline\n",
    )
    two = head + b"gpgsig -----B\n line\n\nmessage\n"
    assert split_signature(two) == (two, "")


def test_a_key_must_be_good_at_the_time_that_the_worker_tells(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.list(ADA, options='valid-before="20290101"')
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(keys.of(ADA).file)]
    signature = subprocess.run(command, input=b"text", capture_output=True, check=True).stdout.decode()
    allowed = AllowedSigners(keys.file)
    assert allowed.check(b"text", signature, ADA, NOON.replace(year=2028)).fault == ""
    assert allowed.check(b"text", signature, ADA, NOON).fault


def test_a_missing_file_of_signers_is_an_error_and_not_an_approval(tmp_path: Path) -> None:
    allowed = AllowedSigners(tmp_path / "none")
    with pytest.raises(BadPolicy, match="There is no file"):
        allowed.check(b"", "signature", ADA, utc_now())


async def test_a_worker_whose_file_of_signers_is_missing_does_not_begin(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    signed.keys.file.unlink()
    with pytest.raises(BadPolicy, match="There is no file"):
        await signed.world.run()
