"""OpenAI and every server that speaks like it: `OpenAIModel`. The `openai` package is imported at the first call."""

from ._model import OpenAIModel

__all__ = ["OpenAIModel"]
