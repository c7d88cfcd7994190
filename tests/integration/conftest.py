"""Fixtures of the tests that run apps."""

from __future__ import annotations

from pathlib import Path

import pytest

import built


@pytest.fixture(scope="session")
def jupyter_tools() -> Path:
    """JupyterLab's own tools."""
    return built.tools("jupyterlab")


@pytest.fixture(scope="session")
def vscode_tools() -> Path:
    """code-server with its Node."""
    return built.tools("vscode")


@pytest.fixture(scope="session")
def small_environment() -> Path:
    """A workspace's environment that is not the tools': it has a kernel, `six` and something that draws widgets."""
    return built.environment("uv", "six", "ipywidgets")
