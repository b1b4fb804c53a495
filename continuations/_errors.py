"""The root of the error tree: who is to blame decides the class, and every error says what to do next.

Each module defines its own errors beside the code that raises them, as subclasses of these.
"""


class CaesuraError(Exception):
    """Any error that Caesura raises on purpose.

    ``str(error)`` is one sentence that names the fault; ``error.hint`` names the next move, and stands below it in a
    traceback.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class CallerError(CaesuraError):
    """The caller asked for something that cannot be done."""


class SavedStateError(CaesuraError):
    """What is in the repository cannot be used as it is."""


class ModelError(CaesuraError):
    """The model could not be reached, or answered with something unusable."""


class ToolError(CaesuraError):
    """A tool is defined or behaves in a way that Caesura cannot work with."""


class ConflictError(CaesuraError):
    """Another writer was first; nothing of this attempt was kept."""
