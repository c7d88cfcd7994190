"""What tests of several kinds share: built environments and tools.

They are addressed by their lock and immutable, so they are kept below `.test-home` from one test run to the next, as
the product keeps them from one workspace to the next.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from studiolo.apps.app import Tools
from studiolo.apps.kinds import KINDS
from studiolo.environments.generations import Generation, Generations
from studiolo.environments.kind import Request
from studiolo.environments.kinds import kinds
from studiolo.spec.document import App

SHARED = Path(__file__).parents[1] / ".test-home"


def _built(kind: str, *packages: str) -> Generation:
    async def build() -> Generation:
        known = kinds(SHARED / "cache")
        lock = await known[kind].lock(Request(packages=packages), lambda progress: None)
        return await Generations(SHARED / "generations", SHARED / "cache", known).build(lock, lambda progress: None)

    (SHARED / "generations").mkdir(parents=True, exist_ok=True)
    (SHARED / "cache").mkdir(exist_ok=True)
    return asyncio.run(build())


def _tools(kind: str) -> Path:
    tools: Tools | None = KINDS[kind].tools(App.model_validate({"name": kind, "kind": kind}))
    assert tools is not None
    return _built(tools.kind, *tools.packages).folder


@pytest.fixture(scope="session")
def jupyter_tools() -> Path:
    """JupyterLab's own tools."""
    return _tools("jupyterlab")


@pytest.fixture(scope="session")
def vscode_tools() -> Path:
    """code-server with its Node. Minutes to build the first time."""
    return _tools("vscode")


@pytest.fixture(scope="session")
def small_environment() -> Path:
    """A workspace's environment that is not the tools': it has a kernel, `six` and something that draws widgets."""
    return _built("uv", "six", "ipywidgets").folder
