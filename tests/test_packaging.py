"""What is installed is what is here: the listed packages, and a wheel built from the sdist that runs the demo."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_folder_with_code_is_a_listed_package() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(["caesura", *path.parent.relative_to(ROOT).parts])
        for layer in ("continuations", "runtime", "adapters")
        for path in (ROOT / layer).rglob("__init__.py")
    }
    assert set(setup["packages"]) == folders | {"caesura"}


def test_the_wheel_built_from_the_sdist_runs_the_demo_in_a_fresh_environment(tmp_path: Path) -> None:
    def run(*command: str | Path, status: int = 0, folder: Path = tmp_path) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "CAESURA_"))}
    environment |= {"GIT_AUTHOR_NAME": "Grace Hopper", "GIT_AUTHOR_EMAIL": "grace@example.com", "NO_COLOR": "1"}
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    run(tmp_path / "env" / "bin" / "pip", "install", "--quiet", wheel)

    caesura = tmp_path / "env" / "bin" / "caesura"
    work = tmp_path / "work"
    work.mkdir()
    run(caesura, "demo", status=3, folder=work)
    ledger = work / "onboarding" / "orders.csv"
    assert not ledger.exists()
    run(caesura, "reject", "onboarding.it-1.order-1", "--reason", "over budget", folder=work)
    run(caesura, "approve", "onboarding.it-1.accounts-1.authorize_account-1", "--yes", folder=work)
    assert "over budget" in run(caesura, "demo", folder=work)
    assert "ThinkPad X1" not in ledger.read_text()
    assert "authorized,ada,engineer" in (work / "onboarding" / "accounts.csv").read_text()
