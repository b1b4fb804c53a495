"""What the scripted model says: one function a role, from the results so far to the next answer."""

from typing import Any

Answer = dict[str, Any]


def script(request: dict[str, Any]) -> Answer:
    """Answer a Chat Completions request of the demo's agents, told apart by the first words of their instructions."""
    system, *messages = request["messages"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    told = messages[-1]["content"] if messages[-1]["role"] == "user" else ""
    for beginning, role in _ROLES.items():
        if system["content"].startswith(beginning):
            return role(results, told)
    return _say("I only know my lines in the onboarding.")


def _lead(results: list[str], told: str) -> Answer:
    if not results:
        return _call(
            "I'll ask HR and IT at the same time.",
            ("hr", {"prompt": "Welcome Ada Lovelace, who joins engineering on Monday."}),
            ("it", {"prompt": "Ada Lovelace joins engineering on Monday: she needs an account and a laptop."}),
        )
    if told and len(results) >= 2:
        return _say(f"Noted: {told}")
    return _say("Ada Lovelace's onboarding: " + " ".join(results))


def _hr(results: list[str], told: str) -> Answer:
    if not results:
        mail = {"to": "Ada Lovelace", "subject": "Welcome!", "body": "Welcome, Ada! We look forward to Monday."}
        return _call("", ("send_mail", mail))
    return _say("A welcome mail is on its way.")


def _it(results: list[str], told: str) -> Answer:
    if not results:
        return _call(
            "The account and the laptop can go ahead side by side. The X1 is what engineers get.",
            ("accounts", {"prompt": "Create the account 'ada' and authorize it as engineer."}),
            ("order", {"item": "ThinkPad X1", "price": 2400}),
        )
    ordered = [result for result in results if result.startswith("Ordered")]
    rejected = [result for result in results if result.startswith("Rejected") and result != _account(results)]
    if rejected and not ordered:
        return _call(
            f"The X1 was turned down ({_reason(rejected[-1])}), so I'll take the refurbished one, within my limit.",
            ("order", {"item": "ThinkPad T14, refurbished", "price": 890}),
        )
    laptop = f"The laptop is on order: {ordered[-1].removeprefix('Ordered: ')}" if ordered else "There is no laptop."
    if rejected:
        laptop += f" The ThinkPad X1 was not ordered: {_reason(rejected[-1])}."
    return _say(f"{_account(results)} {laptop}")


def _account(results: list[str]) -> str:
    """What the accounts agent said: the one result that speaks of the account."""
    return next((result for result in results if "ada" in result and not result.startswith("Ordered")), "")


def _accounts(results: list[str], told: str) -> Answer:
    if not results:
        return _call("", ("create_account", {"user": "ada"}))
    if len(results) == 1:
        return _call(
            "The account exists. To work on Monday she needs the engineer's rights.",
            ("authorize_account", {"user": "ada", "role": "engineer"}),
        )
    if results[-1].startswith("Rejected"):
        return _say(f"The account 'ada' is created but has no rights: {_reason(results[-1])}.")
    return _say("The account 'ada' is created and authorized as engineer.")


def _reason(rejection: str) -> str:
    """Who said what, out of the result of a rejected call."""
    return rejection.removeprefix("Rejected by ").removesuffix(" The call did not run.").rstrip(".")


def _say(content: str) -> Answer:
    return {"content": content, "tool_calls": []}


def _call(content: str, *calls: tuple[str, dict[str, Any]]) -> Answer:
    return {
        "content": content or None,
        "tool_calls": [{"name": name, "arguments": arguments} for name, arguments in calls],
    }


_ROLES = {"You lead": _lead, "You are HR": _hr, "You are IT": _it, "You look after accounts": _accounts}
