"""The demo: a company's onboarding, three levels deep, with two approvals in two branches of the tree."""

from ._agents import LOOP, PROMPT, lead
from ._model import scripted_model
from ._server import Script, serve_script

__all__ = ["LOOP", "PROMPT", "Script", "lead", "scripted_model", "serve_script"]
