"""The fuzz targets, for a moment each, and every input that has ever found a bug; `tests.fuzz.run` is for longer."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

FOUND = Path(__file__).parent / "fuzz" / "found"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_not_broken_by_what_it_begins_with_or_by_chance(name: str) -> None:
    target = TARGETS[name]
    for seed in seeds().get(name, []):
        target(seed)

    @given(st.binary(max_size=300))
    @example(b"")
    @settings(max_examples=100)
    def run(data: bytes) -> None:
        target(data)

    run()


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_an_input_that_found_a_bug_finds_it_no_more(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
