"""The public surface is held: what is public is listed, documented and importable; what is not is private by name."""

import importlib
import inspect
import subprocess
import sys

import pytest

PUBLIC = {
    "Agent",
    "Ask",
    "Budget",
    "CaesuraError",
    "Compaction",
    "Image",
    "ImageUrl",
    "Loops",
    "Moment",
    "Outcome",
    "Person",
    "ProposedCall",
    "Redaction",
    "Request",
    "Retry",
    "Runtime",
    "SleepUntil",
    "Status",
    "Text",
    "Tool",
    "ToolContext",
    "after",
    "after_model_calls",
    "ask",
    "drop_tool_results",
    "sleep_until",
    "summarize",
    "suspension",
    "tool",
}
PACKAGES = ["caesura", "caesura.continuations", "caesura.continuations.store", "caesura.runtime"]


def test_the_public_face_is_exactly_this() -> None:
    import caesura

    assert set(caesura.__all__) == PUBLIC


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{package}.{name} has no docstring"
            assert not value.__doc__.startswith(f"{name}("), f"{package}.{name} has no docstring of its own"


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_public_classes_document_their_public_methods(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if not inspect.isclass(value):
            continue
        for attribute, member in vars(value).items():
            if attribute.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            assert inspect.getdoc(getattr(value, attribute)), f"{package}.{name}.{attribute} has no docstring"


@pytest.mark.parametrize(
    ("imported", "unloaded"),
    [
        ("from caesura import Loops", {"trio", "openai", "rich", "jsonschema"}),
        ("import caesura.adapters.cli", {"trio", "openai", "rich", "pygit2"}),
        ("from caesura.adapters.openai import OpenAIModel; OpenAIModel('m', api_key='k')", {"openai"}),
        ("import caesura.adapters.demo", {"openai"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(imported: str, unloaded: set[str]) -> None:
    code = f"import sys; {imported}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert unloaded & set(loaded) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    import caesura

    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        getattr(caesura, "nothing_of_that_name")  # noqa: B009  # the name is not there, which is the point
