"""Built environments and tools that tests share.

They are addressed by their lock and immutable, so they are kept below `.test-home` from one test run to the next, as
the product keeps them from one workspace to the next.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from studiolo.apps.kinds import KINDS
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Progress, Report, Request
from studiolo.environments.kinds import kinds
from studiolo.environments.uv import UvKind
from studiolo.spec.document import App

SHARED = Path(__file__).parents[2] / ".test-home"


@functools.cache
def environment(kind: str, *packages: str, report: Report = lambda progress: None) -> Path:
    """The folder of a generation with these packages, built with the product's own code."""

    async def build() -> Path:
        known = kinds(SHARED / "cache")
        lock = await known[kind].lock(Request(packages=packages), report)
        generation = await Generations(SHARED / "generations", SHARED / "cache", known).build(lock, report)
        # Byte code makes every JupyterLab of every test start in half the time.
        uv = known["uv"]
        assert isinstance(uv, UvKind)
        await uv.settle()
        return generation.folder

    (SHARED / "generations").mkdir(parents=True, exist_ok=True)
    (SHARED / "cache").mkdir(exist_ok=True)
    return asyncio.run(build())


def tools(app: str, report: Report = lambda progress: None) -> Path:
    """An app's own tools. VS Code's take minutes to build the first time."""
    wanted = KINDS[app].tools(App.model_validate({"name": app, "kind": app}))
    assert wanted is not None
    return environment(wanted.kind, *wanted.packages, report=report)


def _tell(progress: Progress) -> None:
    count = f" ({progress.done} of {progress.total})" if progress.done and progress.total else ""
    print(f"   {progress.message}{count}", flush=True)


if __name__ == "__main__":
    # Before the tests, so that none of them waits for minutes in silence.
    for name in ("jupyterlab", "vscode"):
        print(f"== the tools of {name}", flush=True)
        tools(name, _tell)
