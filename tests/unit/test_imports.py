"""The house has floors: who may import whom, and what must not be imported to begin with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_nobody_imports_from_a_floor_above() -> None:
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("studiolo", {"pydantic", "httpx2"}),
        ("studiolo.cli.main", {"sqlalchemy", "fastapi", "uvicorn", "alembic"}),
        ("studiolo.client", {"sqlalchemy", "fastapi", "typer"}),
        ("studiolo.backends.local.agent", {"sqlalchemy", "fastapi", "alembic"}),
        ("studiolo.edge.relay", {"sqlalchemy", "fastapi", "pydantic"}),
    ],
)
def test_a_process_loads_only_what_it_needs(module: str, unwanted: set[str]) -> None:
    """Each of these is a process that many have or that starts often, so what it loads is paid for often."""
    listing = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    assert not unwanted & set(loaded)


def test_modules_stay_small() -> None:
    """About 400 lines, as CONTRIBUTING.md has it: what is longer has two nouns."""
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in (ROOT / "src").rglob("*.py")}
    assert {str(path): lines for path, lines in lengths.items() if lines > 430} == {}
