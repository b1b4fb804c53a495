"""Imports point down only: every import statement of the project is read, those inside functions too."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("continuations", "runtime", "adapters")
PURE = {"msgspec"}
"""What the core may import besides the standard library's own pure modules."""
IMPURE = {"asyncio", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid", "io"}
"""Modules of the standard library that the core may not import: they reach outside, or differ from run to run."""


def modules(layer: str) -> list[Path]:
    return sorted(path for path in (ROOT / layer).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """The full names of what a module imports, relative imports resolved."""
    package = ["caesura", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])
            if node.module is None:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def layer_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "caesura" and len(parts) > 1 else None


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_imports_one_above_it(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    wrong = [(path.name, name) for path in modules(layer) for name in imports(path) if layer_of(name) in above]
    assert wrong == []


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_a_layer_uses_only_the_public_names_of_those_below_it(layer: str) -> None:
    below = LAYERS[: LAYERS.index(layer)]
    wrong = [
        (path.name, name)
        for path in modules(layer)
        for name in imports(path)
        if layer_of(name) in below and any(part.startswith("_") for part in name.split("."))
    ]
    assert wrong == []


def test_the_core_is_pure() -> None:
    core = [path for path in (ROOT / "continuations").glob("_*.py") if path.name != "__init__.py"]
    assert len(core) > 10
    for path in core:
        for name in imports(path):
            top = name.split(".")[0]
            if path.name == "_validate.py" and top in ("jsonschema", "referencing"):
                continue  # as pure as msgspec: a schema, a value, an answer
            assert top in PURE | {"caesura"} | set(sys.stdlib_module_names) - IMPURE, f"{path.name} imports {name}"
            assert not name.startswith("caesura.continuations.store"), f"{path.name} imports {name}"


def test_pygit2_is_imported_in_the_git_store_alone() -> None:
    users = {
        path for layer in LAYERS for path in modules(layer) if any(n.split(".")[0] == "pygit2" for n in imports(path))
    }
    assert {path.relative_to(ROOT).as_posix() for path in users} == {"continuations/store/_git.py"}


def test_only_the_runtime_and_the_adapters_know_trio() -> None:
    users = [path for path in modules("continuations") if any(n.split(".")[0] == "trio" for n in imports(path))]
    assert users == []


def test_no_module_passes_400_lines() -> None:
    """But for the lists of public names: these cannot be two."""
    sizes = {path: len(path.read_text().splitlines()) for layer in LAYERS for path in modules(layer)}
    assert not [path for path, size in sizes.items() if size > 400 and path.name != "__init__.py"]
