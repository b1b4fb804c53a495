"""The demonstration, which lives in an adapter of its own."""

from importlib import import_module

from ._options import Json, Repo


def demo(*, repo: Repo = None, json: Json = False) -> int:
    """Watch agents work, suspend for a person, be decided on and resume. Needs no model and no key."""
    return int(import_module("caesura.adapters.demo").run_demo(repo=repo, json=json) or 0)
