"""The demo: a company's onboarding, three levels deep, with two approvals in two branches of the tree."""

from ._agents import LOOP, PROMPT, lead
from ._model import scripted_model

__all__ = ["LOOP", "PROMPT", "lead", "scripted_model"]
