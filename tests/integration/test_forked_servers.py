"""JupyterLab's servers, forked: each with its own home, settings and variables, and the person's own configuration."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Installation, until
from studiolo.daemon import Identity
from studiolo.resources import Token, Workspace

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def place() -> Iterator[Installation]:
    home = Path(tempfile.mkdtemp(prefix="sf-"))
    installation = Installation(home)
    installation.up()
    try:
        yield installation
    finally:
        installation.down()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def pair(place: Installation) -> tuple[tuple[Workspace, Token], tuple[Workspace, Token]]:
    """Two workspaces whose servers come from one zygote."""
    made = []
    for name, word in (("one", "first"), ("two", "second")):
        place.make({"apps": ["jupyterlab"], "env": {"WORD": word}}, name=name)
        made.append((place.phase(name, "running"), place.token(name)))
    return made[0], made[1]


def _server(place: Installation, workspace: Workspace) -> int:
    """The pid of its JupyterLab, which must have been forked."""
    record = json.loads((place.layout.run / "agent" / f"{workspace.id}.json").read_text())
    pid = int(record["apps"]["jupyterlab"]["process"]["pid"])
    mapped = Path(f"/proc/{pid}/maps").read_text()
    log = (place.layout.workspace_logs(workspace.id) / "jupyterlab.log").read_text()
    assert mapped
    assert "without forking" not in log, log
    return pid


def test_both_are_forked_from_one_zygote_and_belong_to_the_agent(
    place: Installation, pair: tuple[tuple[Workspace, Token], tuple[Workspace, Token]]
) -> None:
    shared = []
    for workspace, _ in pair:
        pid = _server(place, workspace)
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == place.pid("agent")
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        shared.append(int(next(line for line in rollup if line.startswith("Shared_Dirty:")).split()[1]))
    assert min(shared) > 5000, "they share less than 5 MB of what has been written, so they were not forked"


def test_each_has_the_settings_trash_and_variables_of_its_own_workspace(
    place: Installation, pair: tuple[tuple[Workspace, Token], tuple[Workspace, Token]]
) -> None:
    for (workspace, token), word in zip(pair, ("first", "second"), strict=True):
        home = Path(workspace.home)
        (home / f"{word}.txt").write_text("rubbish")
        tracker = "/lab/api/settings/@jupyterlab/notebook-extension:tracker"
        raw = json.dumps({"raw": json.dumps({"recordTiming": True})})
        assert place.request("PUT", token, tracker, content=raw).status_code == 204
        assert list((home / ".jupyter/lab/user-settings").rglob("tracker.jupyterlab-settings"))
        assert place.request("DELETE", token, f"/api/contents/{word}.txt").status_code == 204
        assert (home / f".local/share/Trash/files/{word}.txt").read_text() == "rubbish"
        environ = Path(f"/proc/{_server(place, workspace)}/environ").read_bytes().split(b"\0")
        assert f"WORD={word}".encode() in environ
    assert not list((place.layout.run / "zygotes").rglob("*-settings"))
    assert not list((place.layout.run / "zygotes").rglob("*.txt"))


def test_a_configuration_that_is_no_python_is_passed_over_and_told(
    place: Installation, pair: tuple[tuple[Workspace, Token], tuple[Workspace, Token]]
) -> None:
    workspace = pair[0][0]
    folder = Path(workspace.home) / ".jupyter"
    folder.mkdir(exist_ok=True)
    (folder / "jupyter_server_config.py").write_text("c.ServerApp.shutdown_no_activity_timeout = (\n")
    place.run("restart", "one")
    found = place.phase("one", "running")
    assert any(f"{folder}/jupyter_server_config.py:1:" in note for note in found.notes), found.notes
    (folder / "jupyter_server_config.py").write_text("c.MappingKernelManager.default_kernel_name = 'mine'\n")
    place.run("restart", "one")
    assert not place.phase("one", "running").notes
    answer = place.get(place.token("one"), "/api/kernelspecs")
    assert answer.json()["default"] == "mine", "the person's configuration was not read"
    (folder / "jupyter_server_config.py").unlink()


def test_a_start_after_the_zygote_was_killed_is_as_good_as_any(
    place: Installation, pair: tuple[tuple[Workspace, Token], tuple[Workspace, Token]]
) -> None:
    for pid in Path(f"/proc/{place.pid('agent')}/task/{place.pid('agent')}/children").read_text().split():
        if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    place.run("restart", "two")
    workspace = place.phase("two", "running")
    assert place.get(place.token("two"), "/api/status").status_code == 200
    _server(place, workspace)


def test_down_leaves_no_zygote(place: Installation) -> None:
    agent = place.pid("agent")
    children = [Identity.of(int(pid)) for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]
    place.down()
    until(lambda: not any(child is not None and child.alive for child in children), 10, "the end of all zygotes")
    place.up()
