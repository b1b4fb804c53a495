"""What the documents show is what happens: their blocks are run, and the pages made from code are up to date."""

from pathlib import Path

import pytest

from tests.documentation import ROOT, Sandbox, execute, model_server
from tests.generated import DOCS, PAGES

EXECUTED = [
    "README.md",
    "docs/tutorial.md",
    "docs/data-model.md",
    "docs/approvals.md",
    "docs/changes.md",
    "docs/compaction.md",
    "docs/history.md",
    "docs/keeping.md",
    "docs/branching.md",
    "docs/ways-out.md",
    "docs/recipes.md",
    "docs/workspaces.md",
]


@pytest.mark.parametrize("name", EXECUTED)
def test_a_document_shows_what_its_commands_print(name: str, tmp_path: Path) -> None:
    with model_server() as server:
        _, differences = execute(ROOT / name, Sandbox(tmp_path, server=server))
    assert differences == []


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "write it again: python -m tests.generated"
