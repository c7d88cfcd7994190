"""Environments of workspaces, from the command line: numbered, compared, rolled back, renewed, never in the way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from installation import Installation, echo, left_behind, until
from package_server import PackageServer, serving, wheel
from studiolo.environments.pins import parse, render
from studiolo.resources import Workspace

SIX = "six==1.17.0\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture
def make(installed: Installation, tmp_path: Path) -> Any:
    """Makes a workspace of a repository with these files, and waits until it runs."""

    def make(name: str, files: dict[str, str], **document: Any) -> tuple[Path, Workspace]:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        installed.make({"name": name, "apps": [echo()], **document}, repository=str(folder))
        return folder, installed.phase(name, "running")

    return make


def numbers(installed: Installation, name: str) -> dict[int, str]:
    """The workspace's generations, each with its state; the current one in capitals."""
    found = installed.json("env", "ls", "-w", name)
    return {each["number"]: each["state"].upper() if each["current"] else each["state"] for each in found}


def versions(installed: Installation, name: str, *more: str) -> dict[str, str]:
    shown = installed.json("env", "show", *more, "-w", name)
    return {package["name"]: package["version"] for package in shown["contents"]}


def python(installed: Installation, name: str, program: str) -> str:
    return installed.run("exec", name, "--", "python", "-c", program).stdout.strip()


def test_generations_are_numbered_compared_and_rolled_back(installed: Installation, make: Any) -> None:
    folder, first = make("back", {"requirements.txt": SIX})
    assert numbers(installed, "back") == {1: "GOOD"}
    (made,) = installed.json("env", "ls", "-w", "back")
    assert (made["by"], made["source"], made["kind"], made["built"]) == (first.owner, "requirements.txt", "uv", True)
    assert list(made["inputs"]) == ["requirements.txt"]
    assert made["builder"]

    installed.run("restart", "back")
    assert numbers(installed, "back") == {1: "GOOD"}, "nothing has changed, so nothing is locked anew"

    (folder / "requirements.txt").write_text("six==1.16.0\niniconfig==2.0.0\n")
    installed.run("restart", "back")
    assert numbers(installed, "back") == {1: "good", 2: "GOOD"}
    assert python(installed, "back", "import six; print(six.__version__)") == "1.16.0"

    told = installed.run("env", "diff", "1", "2", "-w", "back").stdout.splitlines()
    assert "~ six 1.17.0 → 1.16.0" in told
    assert any(line.startswith("+ iniconfig 2.0.0") for line in told)
    found = installed.json("env", "diff", "1", "2", "-w", "back")
    assert [change["name"] for change in found["changed"]] == ["six"]

    # In the repository's folder the workspace need not be named.
    done = installed.run("env", "rollback", cwd=folder)
    assert done.stdout.splitlines()[-1] == f"back is running on generation 1: {first.environment}"
    assert numbers(installed, "back") == {1: "GOOD", 2: "left"}
    assert python(installed, "back", "import six; print(six.__version__)") == "1.17.0"
    done = installed.run("restart", "back")
    assert numbers(installed, "back") == {1: "GOOD", 2: "left"}, "a restart does not undo a rollback"
    assert any("rolled back from" in note for note in installed.workspace("back").notes)

    (folder / "requirements.txt").write_text("six==1.17.0\niniconfig==2.0.0\n")
    installed.run("restart", "back")
    assert numbers(installed, "back") == {1: "good", 2: "left", 3: "GOOD"}
    installed.run("env", "rollback", "2", "-w", "back")
    assert numbers(installed, "back") == {1: "good", 2: "GOOD", 3: "left"}
    refused = installed.run("env", "rollback", "7", "-w", "back", check=False)
    assert refused.returncode == 1
    assert "there are 1 to 3" in refused.stderr


def test_a_run_goes_on_until_what_replaces_it_is_built(installed: Installation, make: Any) -> None:
    folder, workspace = make("onward", {"requirements.txt": SIX})
    (folder / "requirements.txt").write_text("six==1.16.0\n")
    installed.run("restart", "onward")
    with installed.client() as client:
        kinds = [event.kind for event in client.history(workspace.id)]
    again = kinds[kinds.index("asked") :]
    assert again.index("built") < again.index("stopping") < again.index("starting")


def test_a_pinned_workspace_stays(installed: Installation, make: Any) -> None:
    folder, _ = make("pinned", {"requirements.txt": SIX})
    installed.run("env", "pin", "1", "-w", "pinned")
    (folder / "requirements.txt").write_text("six==1.16.0\n")
    installed.run("restart", "pinned")
    assert numbers(installed, "pinned") == {1: "GOOD"}
    for command in (("update",), ("rollback",), ("adopt",)):
        refused = installed.run("env", *command, "-w", "pinned", check=False)
        assert refused.returncode == 1
        assert "pinned to generation 1" in refused.stderr
    assert installed.run("env", "pin", "-w", "pinned", check=False).returncode == 2
    installed.run("env", "pin", "--none", "-w", "pinned")
    installed.run("restart", "pinned")
    assert numbers(installed, "pinned") == {1: "good", 2: "GOOD"}


def test_what_cannot_be_had_leaves_the_former_generation_in_use(installed: Installation, make: Any) -> None:
    folder, _ = make("kept", {"requirements.txt": SIX})
    (folder / "requirements.txt").write_text("six==1.17.0\nno-such-package-anywhere==9\n")
    done = installed.run("restart", "kept", check=False)
    assert done.returncode == 1
    assert "no-such-package-anywhere" in done.stderr
    assert "stays in the environment it had" in done.stderr
    assert "Traceback" not in done.stderr
    found = installed.phase("kept", "running")
    assert found.trouble is not None
    assert found.trouble.code == "package-not-found"
    assert numbers(installed, "kept") == {1: "GOOD"}
    assert python(installed, "kept", "import six; print(six.__version__)") == "1.17.0"
    (folder / "requirements.txt").write_text(SIX)
    installed.run("restart", "kept")
    assert installed.workspace("kept").trouble is None


def test_a_workspace_that_never_had_an_environment_fails_with_the_reason(
    installed: Installation, tmp_path: Path
) -> None:
    (tmp_path / "requirements.txt").write_text("six>=99\n")
    installed.make({"name": "never", "apps": [echo()]}, repository=str(tmp_path))
    found = installed.phase("never", "failed")
    assert found.reason is not None
    assert found.reason.code == "packages-conflict"
    assert "six" in found.reason.message
    assert installed.json("env", "ls", "-w", "never") == []
    refused = installed.run("env", "show", "-w", "never", check=False)
    assert refused.returncode == 1
    assert "has no environment yet" in refused.stderr
    installed.run("rm", "never", "--yes")


def lock_without(package: str, requirements: str, folder: Path) -> str:
    """What uv locks for these requirements, but for one package."""
    (folder / "in.txt").write_text(requirements)
    done = subprocess.run(
        [find_uv_bin(), "pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "-q", "in.txt"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return render(pin for pin in parse(done.stdout) if pin.name != package)


def test_a_generation_whose_kernel_does_not_start_is_marked_bad_and_left(
    installed: Installation, make: Any, tmp_path: Path
) -> None:
    folder, _ = make("broken", {"requirements.txt": SIX})
    (folder / "requirements.txt").unlink()
    (folder / "requirements.lock").write_text(lock_without("pyzmq", "ipykernel\n", tmp_path))
    done = installed.run("restart", "broken", check=False)
    assert done.returncode == 1
    assert "its kernel does not start" in done.stderr
    assert "zmq" in done.stderr
    assert numbers(installed, "broken") == {1: "GOOD", 2: "bad"}
    assert installed.phase("broken", "running").environment.endswith("requirements.txt")
    refused = installed.run("env", "rollback", "2", "-w", "broken", check=False)
    assert refused.returncode == 1
    assert "marked bad" in refused.stderr
    again = installed.run("restart", "broken", check=False)
    assert again.returncode == 1
    assert numbers(installed, "broken") == {1: "GOOD", 2: "bad"}


def test_modules_to_import_ahead_are_tried(installed: Installation, make: Any) -> None:
    _, workspace = make("ahead", {"requirements.txt": SIX}, environment={"preload": ["six", "sixx"]})
    shown = installed.json("env", "show", "-w", "ahead")
    assert shown["preload"]["six"] in ("", "not yet")
    assert "sixx" in shown["preload"]["sixx"]
    assert any(note.startswith("preload: sixx is left out") for note in workspace.notes)
    assert shown["kernel"] == "ok"


def test_what_cannot_be_shared_is_told_and_what_is_not_there_yet_is_not_claimed(
    installed: Installation, make: Any, tmp_path: Path
) -> None:
    """A module that starts a thread can be imported, and is left out for kernels all the same."""
    go = tmp_path / "go"
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n"
    waits = "import os, time\nahead = 'zygote' in open('/proc/self/cmdline').read()\n"
    waits += f"while ahead and not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
    modules = {"idler": waits, "spinner": thread}
    wheels = [wheel(name, "1.0", files={f"{name}.py": text}) for name, text in modules.items()]
    with serving(PackageServer().add(*wheels)) as server:
        indexes = [{"url": server.url}]
        files = {"requirements.txt": "spinner==1.0\nidler==1.0\n"}
        make("threads", files, environment={"preload": list(modules), "indexes": indexes})

    def told() -> dict[str, str]:
        found: dict[str, str] = installed.json("env", "show", "-w", "threads")["preload"]
        return found

    assert told() == dict.fromkeys(modules, "not yet")
    go.touch()
    after = until(lambda: (found := told())["idler"] == "" and found, 60, "that it is imported")
    assert "thread" in after["spinner"]
    installed.run("stop", "threads")
    installed.phase("threads", "stopped")
    assert told() == dict.fromkeys(modules, ""), "when it was built, both could be imported"


def test_what_is_installed_by_hand_survives_and_can_be_adopted(installed: Installation, make: Any) -> None:
    folder, _ = make("byhand", {"requirements.txt": SIX, "studiolo.yaml": "# mine\nname: byhand\n"})
    done = installed.run("exec", "byhand", "--", "pip", "install", "-q", "iniconfig==2.0.0")
    assert python(installed, "byhand", "import iniconfig, six; print(iniconfig.__file__)").startswith(
        str(installed.layout.workspace_home(installed.workspace("byhand").id))
    )
    assert "+ iniconfig 2.0.0" in installed.run("env", "diff", "-w", "byhand").stdout
    installed.run("restart", "byhand")
    assert numbers(installed, "byhand") == {1: "GOOD"}
    python(installed, "byhand", "import iniconfig")

    missing = installed.run("env", "adopt", "numpy", "-w", "byhand", check=False)
    assert missing.returncode == 1
    assert "numpy was not installed by hand from an index" in missing.stderr
    done = installed.run("env", "adopt", "-w", "byhand")
    assert "adopted iniconfig==2.0.0" in done.stdout
    assert (
        folder / "studiolo.yaml"
    ).read_text() == "# mine\nname: byhand\nenvironment:\n  packages:\n  - iniconfig==2.0.0\n"
    assert numbers(installed, "byhand") == {1: "good", 2: "GOOD"}
    assert versions(installed, "byhand")["iniconfig"] == "2.0.0"
    assert installed.json("env", "diff", "-w", "byhand")["overlay"] == []
    where = python(installed, "byhand", "import iniconfig; print(iniconfig.__file__)")
    assert "/generations/" in where


def test_rescue_starts_whatever_is_broken(installed: Installation, make: Any) -> None:
    folder, workspace = make("rescued", {"requirements.txt": SIX})
    home = installed.layout.workspace_home(workspace.id)
    (home / "precious.txt").write_text("mine")
    installed.run("exec", "rescued", "--", "pip", "install", "-q", "iniconfig==2.0.0")
    installed.run("start", "rescued", "--rescue")
    found = installed.workspace("rescued")
    assert found.rescue
    assert any(note.startswith("rescue mode: a minimal environment") for note in found.notes)
    gone = "import importlib.util as u; print(u.find_spec('iniconfig'), u.find_spec('ipykernel') is not None)"
    assert python(installed, "rescued", gone) == "None True"
    assert installed.run("exec", "rescued", "--", "sh", "-c", "cat ~/precious.txt").stdout == "mine"
    installed.run("env", "update", "-w", "rescued")
    assert installed.workspace("rescued").rescue, "what is broken is mended beside it"
    installed.run("stop", "rescued")
    installed.run("env", "update", "-w", "rescued", timeout=60)
    gone = folder.rename(folder.with_name("gone"))
    installed.run("start", "rescued", "--rescue")
    assert installed.run("exec", "rescued", "--", "cat", "precious.txt").stdout == "mine"
    gone.rename(folder)
    installed.run("restart", "rescued")
    assert not installed.workspace("rescued").rescue
    python(installed, "rescued", "import iniconfig, six")


def test_updating_is_asked_for(installed: Installation, make: Any) -> None:
    folder, _ = make("updated", {"requirements.txt": "iniconfig==2.0.0\nsix==1.16.0\n"})
    (folder / "requirements.txt").write_text("iniconfig\nsix\n")
    installed.run("restart", "updated")
    assert numbers(installed, "updated") == {1: "GOOD"}, "what was locked still fits, so it stays"
    installed.run("env", "update", "iniconfig", "-w", "updated")
    assert numbers(installed, "updated") == {1: "good", 2: "GOOD"}
    now = versions(installed, "updated")
    assert now["iniconfig"] != "2.0.0"
    assert now["six"] == "1.16.0"
    installed.run("stop", "updated")
    installed.run("env", "update", "-w", "updated")
    assert installed.workspace("updated").phase == "stopped", "building needs no running workspace"
    assert versions(installed, "updated")["six"] != "1.16.0"
    installed.run("start", "updated")
    python(installed, "updated", "import six; assert six.__version__ != '1.16.0'")


def test_setup_runs_once(installed: Installation, make: Any) -> None:
    folder, workspace = make("setup", {"requirements.txt": SIX}, setup=["echo one >> done.txt", "exit 3", "echo never"])
    until(lambda: any("setup failed" in note for note in installed.workspace("setup").notes), 30, "the end of setup")
    assert (folder / "done.txt").read_text() == "one\n"
    assert "$ exit 3" in (installed.layout.workspace_logs(workspace.id) / "setup.log").read_text()
    installed.run("restart", "setup")
    assert (folder / "done.txt").read_text() == "one\n"


def test_workspaces_of_a_stored_environment_share_its_numbers(installed: Installation, tmp_path: Path) -> None:
    block = tmp_path / "block.yaml"
    block.write_text("name: tiny\npackages: [six]\n")
    installed.run("environment", "create", "-f", str(block))
    for name in ("tiny-one", "tiny-two"):
        installed.make({"name": name, "apps": [echo()], "environment": "tiny"})
        installed.phase(name, "running")
    (shared,) = installed.json("env", "ls", "--environment", "tiny")
    assert shared["number"] == 1
    assert shared["id"] == installed.workspace("tiny-two").generation
    with installed.client() as client:
        stages = {stage.name: stage.message for stage in client.workspace("tiny-two").stages}
    assert stages["built"].endswith(", shared")


def test_what_nobody_needs_is_removed_and_can_be_built_again(installed: Installation, make: Any) -> None:
    folder, _ = make("cleared", {"requirements.txt": "six==1.15.0\n"})
    (folder / "requirements.txt").write_text("six==1.14.0\n")
    installed.run("restart", "cleared")
    first, second = installed.json("env", "ls", "-w", "cleared")
    dry = installed.json("env", "gc", "--keep", "1", "--dry-run")
    assert first["id"] in dry["generations"]
    assert second["id"] not in dry["generations"]
    refused = installed.run("env", "gc", "--keep", "1", check=False)
    assert refused.returncode != 0, "it asks first, and nobody is there to answer"
    done = installed.run("env", "gc", "--keep", "1", "--yes")
    assert "freed" in done.stdout
    first, second = installed.json("env", "ls", "-w", "cleared")
    assert (first["built"], second["built"]) == (False, True)
    installed.run("env", "rollback", "-w", "cleared")
    assert python(installed, "cleared", "import six; print(six.__version__)") == "1.15.0"
    assert numbers(installed, "cleared") == {1: "GOOD", 2: "left"}


def test_a_generation_is_verified_exported_and_listed(installed: Installation, make: Any, tmp_path: Path) -> None:
    make("checked", {"requirements.txt": SIX})
    result = installed.json("env", "verify", "-w", "checked")
    assert result["differences"] == []
    assert result["same"]
    assert result["files"] > 100
    generation = Path(installed.home / "generations" / installed.json("env", "show", "-w", "checked")["id"])
    (tampered,) = generation.glob("lib/python3*/site-packages/six.py")
    original = tampered.read_bytes()
    tampered.unlink()
    tampered.write_bytes(original + b"# changed\n")
    try:
        found = installed.run("env", "verify", "-w", "checked", check=False)
        assert found.returncode == 1
        assert "six.py: other content" in found.stdout
    finally:
        tampered.write_bytes(original)
    exported = installed.run("env", "export", "requirements", "-w", "checked").stdout
    assert "six==1.17.0 \\\n    --hash=sha256:" in exported
    installed.run("env", "export", "dockerfile", "-o", str(tmp_path / "out"), "-w", "checked")
    assert "\nFROM python:3.11-slim\n" in (tmp_path / "out/Dockerfile").read_text()
    wrong = installed.run("env", "export", "nonsense", "-w", "checked", check=False)
    assert wrong.returncode == 2
    document = json.loads(installed.run("env", "sbom", "-w", "checked").stdout)
    assert document["bomFormat"] == "CycloneDX"
    assert "pkg:pypi/six@1.17.0" in [component.get("purl") for component in document["components"]]
    assert "six" in installed.run("env", "log", "-w", "checked").stdout


def test_which_workspace_is_meant(installed: Installation, tmp_path: Path) -> None:
    nobody = installed.run("env", "ls", cwd=tmp_path, check=False)
    assert nobody.returncode == 1
    assert "no workspace belongs to this folder" in nobody.stderr
