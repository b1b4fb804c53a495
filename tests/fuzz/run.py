"""Fuzzing under atheris: ``python -m tests.fuzz.run TARGET [FOLDER] [-max_total_time=600 …]``, options as libFuzzer's.

FOLDER keeps the inputs that reached something new. An input that found a bug is written beside it; once the bug is
mended, the input belongs in ``tests/fuzz/found/TARGET``, which the suite replays. Needs ``pip install atheris``, which
is for some versions of Python only and so no dependency of development.
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")
with atheris.instrument_imports(include=["caesura", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    """Fuzz one target."""
    name, *rest = sys.argv[1:]
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds().get(name, [])):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        own = [one for one in rest if not one.startswith("-")]
        options = [one for one in rest if one.startswith("-")]
        atheris.Setup([sys.argv[0], *options, *own, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
