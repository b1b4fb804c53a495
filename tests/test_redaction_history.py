"""No secret reaches a repository: real runs with a secret in every place there is, and a search of what they kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import (
    Assistant,
    CallerError,
    Changes,
    GitStore,
    History,
    Image,
    ImageUrl,
    Loops,
    ModelFailed,
    ModelSpec,
    Person,
    Redaction,
    Reply,
    SecretName,
    Started,
    Status,
    Text,
    User,
    WorkerId,
    loop_name,
)
from caesura.runtime import (
    Agent,
    Ask,
    BadAgent,
    ModelRequest,
    Moment,
    ProposedCall,
    Retry,
    Runtime,
    Suspension,
    tool,
)
from tests.cli_process import AGENTS, Shell
from tests.damage import file_of, git, object_of, tear
from tests.leaks import AMID, SHAPED, kept, leaked, token
from tests.models import GRACE, NOON, ScriptedModel, World, ask_for, call_of, request, rounds, say
from tests.strategies import World as Nested
from tests.test_redaction import AWKWARD

PLACES: dict[str, str] = {}
"""Every place into which the run below has put a secret, and that secret."""


def hide(place: str) -> str:
    """A secret for a place, amid some text."""
    PLACES[place] = token(place)
    return f"«{token(place)}»"


def boss() -> Agent:
    """An agent with a secret in all that its code can say, and in all that its tools can do."""

    @tool(description=hide("a tool's description"))
    def look(query: str = hide("a default")) -> Any:
        return {"text": hide("a result"), "json": json.dumps({"inner": hide("a result's JSON in JSON")})}

    @tool(retry=Retry(on=(ValueError,), attempts=2, first=0))
    def fail(why: str) -> str:
        raise ValueError(hide("an exception"))

    def careful(call: ProposedCall) -> bool:
        raise ValueError(hide("a predicate's exception"))

    @tool(needs_approval=careful)
    def order(item: str) -> str:
        return f"ordered {item}"

    @tool(needs_approval=True)
    def deploy(service: str) -> str:
        return f"deployed {service}"

    @tool
    def consult(topic: str) -> Ask:
        return Ask(hide("a question"), answer=str)

    def check(moment: Moment) -> str | None:
        moment.memory[hide("a memory's key")] = [hide("a memory")]
        return hide("a condition's reason") if moment.state.spent.steps == 3 else None

    helper = Agent("helper", instructions=hide("a child's instructions"))
    return Agent(
        "boss",
        instructions=hide("instructions"),
        tools=[helper.as_tool(hide("an agent's description")), look, fail, order, deploy, consult],
        suspend=[Suspension(name="check", check=check)],
    )


class Model(ScriptedModel):
    """A model with a secret in its settings."""

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name=hide("a model's name"), settings={"header": hide("a model's settings")})


def script(asked: ModelRequest) -> Reply:
    """Secrets in all that a model can say, in turn."""
    if asked.agent == "helper":
        return say(hide("a child's result"))
    match rounds(asked):
        case 0:
            calls = (
                request("helper", {"prompt": hide("a child's prompt")}, hide("a call's id")),
                request("look", {"query": hide("arguments")}, "c1"),
                request("fail", json.dumps({"why": hide("arguments with an error")}), "c2"),
                request("fail", hide("arguments that are no JSON"), "c3"),
                request(token("a tool's name"), {}, "c4"),
            )
            PLACES["a tool's name"] = token("a tool's name")
            native = {"api": [{"deep": [hide("what only one API understands")], hide("its keys"): 1}]}
            message = Assistant(content=hide("a reply"), tool_calls=calls, native=native)
            return Reply(message=message, model=hide("the model's own name"))
        case 1:
            return ask_for(
                ("order", {"item": hide("arguments to approve")}),
                ("order", {"item": hide("arguments to reject")}),
                ("deploy", {"service": "api"}),
                ("consult", {"topic": "x"}),
                text=hide("why a call is made"),
            )
        case 2:
            return say(None, stop="refusal", refusal=hide("a refusal"))
        case 3 if not any("again" in str(message) for message in asked.messages):
            raise RuntimeError(hide("a model's exception"))
        case _:
            return say(hide("the result"))


async def worked(repository: Path, **options: Any) -> Path:
    """A run through everything; its repository."""
    world = World(repository, boss(), script, **options)
    world.model = Model(script)
    by = Person(name=hide("a person's name"), email=token("a person's email") + "@example.com")
    PLACES["a person's email"] = token("a person's email")
    parts = (Text(text=hide("a part")), Image(image_url=ImageUrl(url=f"https://x.invalid/{hide('a URL')}")))
    await world.run((Text(text=hide("a prompt")), *parts))
    loops = Loops(GitStore.open(repository), now=lambda: NOON, **options)
    waiting = {one.id.rpartition(".")[2]: one for one in loops.pending("x")}
    loops.tell("x", hide("what was told"), by=by)
    loops.approve(waiting["order-1"], note=hide("a note"), by=GRACE)
    loops.reject(waiting["order-2"], hide("a reason"), by=GRACE)
    loops.approve(waiting["deploy-1"], arguments={"service": hide("edited arguments")}, by=GRACE)
    loops.answer(waiting["consult-1"], hide("an answer"), by=GRACE)
    await world.resume()
    loops.tell("x", "once more", by=GRACE)
    assert (await world.resume()).pending[0].gate == "condition"
    loops.approve(loops.pending("x")[0], note=hide("a note on a gate"), by=GRACE)
    await world.resume()
    loops.tell("x", "again", by=GRACE)
    assert (await world.resume()).status is Status.COMPLETED
    loops.tell("x", "more", by=GRACE)
    loops.pause("x", hide("why it is paused"), by=GRACE)
    loops.cancel("x", hide("why it is cancelled"), by=GRACE)
    loops.import_("y", imported(), agent=boss().spec(Model(script).spec), by=by)
    loops.close()
    return repository


def imported() -> Any:
    """A continuation from elsewhere."""
    calls = [
        {"id": hide("an imported call's id"), "type": "function", "function": {"name": "order", "arguments": "{}"}},
        {
            "id": "k2",
            "type": "function",
            "function": {"name": "deploy", "arguments": json.dumps({"service": hide("imported arguments")})},
        },
    ]
    edited = {
        **calls[1],
        "function": {"name": "deploy", "arguments": json.dumps({"service": hide("an imported edit")})},
    }
    return {
        "continuation": {
            "messages": [
                {"role": "developer", "content": hide("imported instructions")},
                {"role": "user", "content": hide("an imported prompt")},
                {"role": "assistant", "content": None, "tool_calls": calls, "audio": {"x": hide("an imported extra")}},
                {"role": "tool", "tool_call_id": calls[0]["id"], "content": hide("an imported result")},
            ],
            "told": [{"role": "user", "content": hide("an imported word")}],
            "resume_request": [edited],
            "suspend_list": [hide("an imported gate")],
        },
        "approval_info": [{"path_ids": ["k2"], "approved": True}],
    }


@pytest.fixture
def _places() -> Iterator[None]:
    PLACES.clear()
    yield
    PLACES.clear()


@pytest.mark.usefixtures("_places")
async def test_no_secret_from_any_place_is_in_any_object_or_file_of_the_repository(tmp_path: Path) -> None:
    repository = await worked(tmp_path / "r")
    assert len(PLACES) > 40
    assert leaked(repository, PLACES) == set()
    assert kept(repository).count(b"[redacted: github-token]") >= len(PLACES)


@pytest.mark.usefixtures("_places")
async def test_without_redaction_the_same_search_finds_every_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the test above would hold of places that never reach a repository.
    monkeypatch.setattr(Redaction, "text", lambda _, text: text)
    repository = await worked(tmp_path / "r")
    assert set(PLACES) - leaked(repository, PLACES) == set()


async def test_every_shape_every_variable_and_every_pattern_is_kept_out(tmp_path: Path) -> None:
    secrets = (
        SHAPED | {name: secret for name, (_, secret, _) in AMID.items()} | {"value": AWKWARD, "mine": "ACME-123456"}
    )
    amid = "\n".join("".join(parts) for parts in AMID.values())
    prompt = "\n".join([amid, *SHAPED.values(), AWKWARD, "ACME-123456"])
    result: dict[str, str] = {}

    @tool
    def echo(text: str) -> Any:
        result["seen"] = text
        return {"said": text, "again": json.dumps({"said": prompt})}

    redaction = Redaction(patterns=[r"ACME-\d+"], secrets={"AWKWARD": AWKWARD})
    agent = Agent("echo", tools=[echo])
    world = World(
        tmp_path / "r",
        agent,
        lambda asked: say(prompt) if rounds(asked) else ask_for(request("echo", {"text": prompt}, "c1")),
        redaction=redaction,
    )
    outcome = await world.run(prompt)
    assert outcome.status is Status.COMPLETED
    assert leaked(tmp_path / "r", secrets) == set()
    # What was proposed, shown and run is what is in the history, and it is still JSON.
    assert result["seen"] == redaction.text(prompt) == outcome.text
    assert [one.instructions for one in world.model.requests] == ["", ""]


async def test_what_is_approved_is_what_runs_and_a_resume_sees_no_changed_agent(tmp_path: Path) -> None:
    ran: list[str] = []
    seen: list[Any] = []

    def predicate(call: ProposedCall) -> bool:
        seen.append(call.arguments["item"])
        return True

    @tool(needs_approval=predicate, description=f"It takes {token('description')}.")
    def order(item: str) -> str:
        ran.append(item)
        return "done"

    secret, marker = token("item"), "[redacted: github-token]"
    agent = Agent("buyer", instructions=f"Use {token('instructions')}.", tools=[order])
    world = World(
        tmp_path / "r", agent, lambda asked: say("end") if rounds(asked) else ask_for(("order", {"item": secret}))
    )
    (waiting,) = (await world.run()).pending
    assert json.loads(waiting.arguments) == {"item": marker}
    world.loops().approve(waiting, by=GRACE)
    assert (await world.resume()).status is Status.COMPLETED
    assert seen == ran == [marker]
    assert not any("agent changed" in subject for subject in world.subjects())


def _nested(secret: str) -> Agent:
    """An agent that calls another, with a secret in what either is told and in what their tools say."""

    @tool(needs_approval=True, description=f"It takes {secret}.")
    def order(item: str) -> str:
        return "done"

    buyer = Agent("buyer", instructions=f"Use {secret}.", tools=[order])
    return Agent("boss", instructions=f"Never say {secret}.", tools=[buyer.as_tool(f"Buys with {secret}.")])


def _buying(asked: ModelRequest) -> Reply:
    if rounds(asked):
        return say("end")
    return ask_for(("buyer", {"prompt": "x"}) if asked.agent == "boss" else ("order", {"item": "x"}))


async def test_a_secret_in_the_instructions_is_no_change_of_the_agent(tmp_path: Path) -> None:
    strict = Changes(guidance="refuse", contract="refuse")
    world = World(tmp_path / "r", _nested(token("one")), _buying, changes=strict)
    (waiting,) = (await world.run()).pending
    world.agent = _nested(token("another"))  # what is redacted tells nothing, so it is the same
    world.loops().approve(waiting, by=GRACE)
    assert (await world.resume()).status is Status.COMPLETED
    assert not any("Event: AgentChanged" in commit.message for commit in world.history())


async def test_what_is_asked_about_a_changed_agent_holds_no_secret(tmp_path: Path) -> None:
    world = World(tmp_path / "r", _nested("cash"), _buying, changes=Changes(guidance="ask", contract="ask"))
    (waiting,) = (await world.run()).pending
    world.loops().approve(waiting, by=GRACE)
    world.agent = _nested(token("changed"))
    outcome = await world.resume()
    assert {one.kind for one in outcome.pending} == {"gate"}
    while outcome.pending:
        for gate in outcome.pending:
            world.loops().approve(gate, by=GRACE)
        outcome = await world.resume()
    assert outcome.status is Status.COMPLETED
    assert any("Event: AgentChanged" in commit.message for commit in world.history())
    assert b"[redacted: github-token]" in kept(tmp_path / "r")
    assert not leaked(tmp_path / "r", {"changed": token("changed")})


def test_what_a_repair_says_of_lost_steps_and_who_did_it_are_redacted(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    Nested(GitStore.open(folder, create=True), ["order"]).settle()
    with Loops.open(folder) as before:  # nobody had named it
        before.tell("ops", "It was ACME-123456.", by=GRACE)
    tear(file_of(folder, object_of(folder, "loops/ops^{tree}")), "missing")
    with Loops.open(folder, redaction=Redaction(patterns=["ACME-[0-9]{6}"])) as loops:
        (repaired,) = loops.repair(by=f"Ada {token('by')} <ada@example.com>").loops
    assert "ACME-123456" not in repaired.message
    assert "It was [redacted: pattern 1]" in repaired.message
    assert git(folder, "log", "-1", "--format=%an", "loops/ops").strip() == "Ada [redacted: github-token]"
    assert not leaked(folder, {"by": token("by")})


async def test_a_pattern_that_fits_ids_digests_and_nonces_leaves_them_alone(tmp_path: Path) -> None:
    @tool(needs_approval=True)
    def order(item: str) -> str:
        return "done"

    buyer = Agent("buyer", tools=[order])
    world = World(
        tmp_path / "r",
        Agent("boss", tools=[buyer.as_tool("Buys.")]),
        lambda asked: (
            say("end")
            if rounds(asked)
            else ask_for(("buyer", {"prompt": "x"}), ("buyer", {"prompt": "deadbeef"}))
            if asked.agent == "boss"
            else ask_for(("order", {"item": "cafebabe"}))
        ),
        redaction=Redaction(patterns=["[0-9a-f]{6,}"]),
    )
    outcome = await world.run()
    loops = Loops(GitStore.open(tmp_path / "r"), redaction=Redaction(patterns=["[0-9a-f]{6,}"]))
    nonces = {call.nonce for call in world.state().calls}
    assert len(nonces) == 2
    assert not any("redacted" in nonce for nonce in nonces)
    for waiting in outcome.pending:
        assert json.loads(waiting.arguments) == {"item": "[redacted: pattern 1]"}
        decision = call_of(loops.approve(waiting, by=GRACE).state, "order-1").decision
        assert (decision.seen, decision.arguments) == (waiting.commit, waiting.arguments_digest)
    assert (await world.resume()).status is Status.COMPLETED
    assert not any("redacted" in commit.state.worker for commit in world.history())


async def test_the_same_decision_twice_is_one_for_a_person_and_an_edit_with_a_secret(tmp_path: Path) -> None:
    @tool(needs_approval=True)
    def order(item: str) -> str:
        return "done"

    world = World(tmp_path / "r", Agent("buyer", tools=[order]), lambda _: ask_for(("order", {"item": "x"})))
    (waiting,) = (await world.run()).pending
    who, edit = f"Ada {token('name')} <ada@example.com>", {"item": token("edit")}
    first = world.loops().approve(waiting, arguments=edit, by=who)
    assert world.loops().approve(waiting, arguments=edit, by=who).commit == first.commit
    assert call_of(first.state, "order-1").decision.by.name == "Ada [redacted: github-token]"


async def test_an_edit_that_redaction_makes_unfit_decides_nothing(tmp_path: Path) -> None:
    @tool(needs_approval=True)
    def pay(account: int) -> str:
        return "done"

    redaction = Redaction(secrets={"ACCOUNT": "1234567890"})
    world = World(tmp_path / "r", Agent("buyer", tools=[pay]), lambda _: ask_for(("pay", {"account": 1})))
    (waiting,) = (await world.run()).pending
    with pytest.raises(CallerError, match="do not fit pay"):
        Loops(GitStore.open(tmp_path / "r"), redaction=redaction).approve(waiting, arguments={"account": 1234567890})
    assert world.loops().pending("x") == [waiting]


def test_whoever_commits_is_redacted_too(tmp_path: Path) -> None:
    places = ["author", "committer", "later author", "later committer"]
    author, committer, later, last = (Person(name=token(place), email=f"{token(place)}@host") for place in places)
    store = GitStore.open(tmp_path / "r", create=True)
    history = History(store)
    definition = Agent("boss").spec(ModelSpec(name="m"))
    begun = Started(at=NOON, definition=definition, prompt=User(content="x"), nonce="n", worker=WorkerId("w"))
    saved = history.begin(loop_name("x"), begun, committer, author)
    history.append(saved, ModelFailed(at=NOON, error="x", shown=1), last, later)
    store.close()
    assert leaked(tmp_path / "r", {place: token(place) for place in places}) == set()


async def test_names_that_hold_a_secret_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    secret = token("name")
    world = World(tmp_path / "r", Agent("boss"), lambda _: say("done"))
    await world.run()
    before = kept(tmp_path / "r")
    with pytest.raises(SecretName):
        await world.run(loop=secret)
    with pytest.raises(SecretName):
        world.loops().fork("x", secret)
    with pytest.raises(SecretName):
        world.loops().import_(
            secret,
            {"messages": [{"role": "user", "content": "x"}], "result": "y"},
            agent=Agent("boss").spec(ModelSpec(name="m")),
            by=GRACE,
        )

    @tool(name=secret)
    def named() -> None: ...

    for agent in (
        Agent(secret),
        Agent("b", tools=[named]),
        Agent("b", suspend=[Suspension(name=secret, check=lambda _: None)]),
    ):
        with pytest.raises(BadAgent, match="holds a secret") as refused:
            async with Runtime.open(tmp_path / "r", agents=[agent], model=world.model):
                raise AssertionError
        assert secret not in f"{refused.value} {refused.value.hint}"
    assert kept(tmp_path / "r") == before


# On the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_keeps_what_the_settings_name_out_of_the_repository(tmp_path: Path) -> None:
    agents = tmp_path / AWKWARD_FOLDER / "agents.py"
    agents.parent.mkdir()
    agents.write_text(AGENTS.read_text())
    (tmp_path / "caesura.toml").write_text(
        'redact.env = ["DB_PASSWORD", "NOT_SET"]\nredact.patterns = [\'ACME-[0-9]{6}\']\n'
    )
    shell = Shell(tmp_path, DB_PASSWORD=AWKWARD_FOLDER)
    texts = {place: f"{place} {AWKWARD_FOLDER} ACME-123456 {token(place)}" for place in "abcdefghij"}
    named = f"{AWKWARD_FOLDER}/agents.py"
    by = ("--by", f"Ada {token('by')} <ada@example.com>")
    assert shell("run", f"{named}:echo", texts["a"], "--loop", "e").status == 0
    assert shell("tell", "e", "-", *by, said=texts["b"]).status == 0
    assert shell("pause", "e", "--reason", texts["c"]).status == 0
    assert shell("cancel", "e", "--reason", texts["d"]).status == 0
    assert shell("run", f"{named}:lead", texts["e"], "--loop", "l").status == 3
    assert shell("approve", "l.it-1.order-1", "--yes", "--note", texts["f"]).status == 0
    assert shell("run", f"{named}:it", "x", "--loop", "i").status == 3
    edit = json.dumps({"item": texts["g"], "amount": 1})
    assert shell("approve", "i.order-1", "--yes", "--arguments", edit).status == 0
    assert shell("fork", "i~1", "--name", "j").status == 0
    assert shell("reject", "j.order-1", "--reason", texts["h"]).status == 0
    assert shell("run", f"{named}:asker", "x", "--loop", "k").status == 3
    assert shell("answer", "k.word-1", texts["i"]).status == 0
    document = json.dumps({"messages": [{"role": "user", "content": texts["j"]}], "result": texts["j"]})
    assert shell("import", "m", "-", "--agent", f"{named}:echo", said=document).status == 0
    assert shell("resume", "l", "--agents", f"{named}:lead").status == 0
    secrets = {place: token(place) for place in "abcdefghij"} | {
        "by": token("by"),
        "value": AWKWARD_FOLDER,
        "mine": "ACME-123456",
    }
    repository = tmp_path / ".caesura"
    assert leaked(repository, secrets) == set()
    everything = kept(repository)
    for place in "abcdefghij":
        assert f"{place} [redacted: $DB_PASSWORD] [redacted: pattern 1] [redacted: github-token]".encode() in everything


AWKWARD_FOLDER = 'corréct "horse"'
"""A secret that is also a folder's name: the command that goes on with a loop would hold it."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('redact.env = ["SHORT"]', "SHORT has fewer than 8 characters"),
        ('redact.patterns = ["("]', "not a regular expression"),
        ('redact.patterns = ["x*"]', "matches the empty text"),
        ('redact.envs = ["A"]', "envs"),
        ("redact = 1", "redact"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, settings: str, message: str
) -> None:
    (tmp_path / "caesura.toml").write_text(settings)
    told = Shell(tmp_path, SHORT="1234567")("run", f"{AGENTS}:echo", "hello")
    assert (told.status, message in told.err) == (2, True), told.err
    assert not (tmp_path / ".caesura").exists()
