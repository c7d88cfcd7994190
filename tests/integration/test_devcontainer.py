"""A repository with a devcontainer.json and nothing of ours, opened by `studiolo run`: port, commands, variables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import ROOT, Installation, free_port, left_behind, until


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


def test_the_example_runs_as_its_devcontainer_says(installed: Installation, tmp_path: Path) -> None:
    repository = tmp_path / "tides-here"
    shutil.copytree(ROOT / "examples/devcontainer-ports", repository)
    file = repository / ".devcontainer/devcontainer.json"
    port = free_port()
    for each in (file, repository / "app.py"):
        each.write_text(each.read_text().replace("5000", str(port)))

    done = installed.run("run", str(repository), "--no-browser")
    assert f"extensions ms-python.python, charliermarsh.ruff; ports {port} as tides; variables PLACE" in done.stderr
    assert "its image; the environment is detected from the repository" in done.stderr
    assert "runArgs: options of a container's start are not handed on" in done.stderr
    workspace = installed.workspace("tides-here")
    assert {app.name: app.kind for app in workspace.apps} == {
        "jupyterlab": "jupyterlab",
        "vscode": "vscode",
        "tides": "port",
    }
    made = repository / "tides.csv"
    until(lambda: made.exists() and made.read_text().endswith("48,1.64\n"), 60, "what the command makes")

    token = installed.token("tides-here", "tides")
    early = installed.get(token)
    assert (early.status_code, early.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert f"Nothing listens on port {port} yet" in early.text
    with installed.client() as client, client.exec("tides-here", ["python", "app.py"]):
        page = until(lambda: (found := installed.get(token)).status_code == 200 and found.text, 60, "the page")
        assert "<h1>Tides at Vlissingen</h1>" in page
        assert "<polyline points=" in page
    until(lambda: installed.get(token).status_code == 502, 30, "the end of the program")
