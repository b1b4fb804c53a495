"""The agents of the demo, and their tools, which leave real traces in the working folder's ``onboarding/``."""

import csv
import datetime as dt
from email.message import EmailMessage
from pathlib import Path

from caesura import Agent, tool

LOOP = "onboarding"
PROMPT = "Onboard Ada Lovelace, who joins engineering on Monday: welcome her, and get her an account and a laptop."
LIMIT = 1000
"""What IT may spend on one order without asking, in euros."""

TRACES = Path("onboarding")


@tool
def send_mail(to: str, subject: str, body: str) -> str:
    """Send a mail.

    Args:
        to: The name of the person it goes to.
        subject: One line.
        body: The text.
    """
    mail = EmailMessage()
    mail["To"], mail["Subject"] = to, subject
    mail.set_content(body)
    outbox = TRACES / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    name = f"{len(list(outbox.iterdir())) + 1:03}.eml"
    (outbox / name).write_bytes(bytes(mail))
    return f"Sent to {to} as {name}."


@tool
def create_account(user: str) -> str:
    """Create an account that cannot do anything yet.

    Args:
        user: The account's name.
    """
    _record("accounts.csv", "created", user, "")
    return f"Account {user} is created. It has no rights yet."


@tool(needs_approval=True)
def authorize_account(user: str, role: str) -> str:
    """Give an account the rights of a role.

    Args:
        user: The account's name.
        role: The role, such as engineer.
    """
    _record("accounts.csv", "authorized", user, role)
    return f"Account {user} has the role {role} now."


@tool(needs_approval=lambda call: call.arguments["price"] > LIMIT)
def order(item: str, price: float) -> str:
    """Order a piece of equipment.

    Args:
        item: What to order.
        price: What it costs, in euros.
    """
    _record("orders.csv", "ordered", item, f"{price:g}")
    return f"Ordered: {item}, {price:g} euros."


def _record(ledger: str, *fields: str) -> None:
    """Add a line to a ledger: what was done, when."""
    TRACES.mkdir(exist_ok=True)
    with (TRACES / ledger).open("a", newline="") as file:
        csv.writer(file).writerow((dt.datetime.now().isoformat(timespec="seconds"), *fields))


hr = Agent("hr", instructions="You are HR. Welcome new people with a mail. Answer in one sentence.", tools=[send_mail])

accounts = Agent(
    "accounts",
    instructions="You look after accounts. Create the account first, then authorize it for the person's role. If a"
    " step is rejected, do not try it again: say what is done and what is not, and why.",
    tools=[create_account, authorize_account],
)

it = Agent(
    "it",
    instructions="You are IT. Ask accounts for the account and order the laptop at the same time. The usual laptop is"
    " a ThinkPad X1 for 2400 euros; if that is rejected, order a refurbished ThinkPad T14 for 890 euros instead. Say"
    " what is done and what is not, and why.",
    tools=[accounts.as_tool("Looks after accounts: creates and authorizes them."), order],
)

lead = Agent(
    "lead",
    instructions="You lead the onboarding of new people. Ask hr and it at the same time, then report what was done"
    " and what was not, and why.",
    tools=[hr.as_tool("Welcomes new people."), it.as_tool("Provides accounts and equipment.")],
)
