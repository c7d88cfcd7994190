"""What people install themselves, with the real pip over real environments."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import built
from studiolo.environments import overlay
from studiolo.environments.health import Health, examine
from studiolo.environments.kind import Activation
from studiolo.environments.overlay import Overlay, OverlayPackage, Shared, packages, prepare, remove

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def generation() -> Path:
    return built.environment("uv", "six", "ipywidgets")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return overlay.ensure_shared(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a space and a quote in its path, as homes may have."""
    folder = tmp_path / "ada's home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "tiny", "1.0", {"tiny/__init__.py": "def main(): print('tiny', 1)"}, script="tiny:main", needs="six")
    wheel(folder, "six", "99.0", {"six.py": "__version__ = '99.0'"})
    return folder


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], script: str = "", needs: str = "") -> Path:
    """A wheel, written by hand."""
    info = f"{name}-{version}.dist-info"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {script}\n"
    record = io.StringIO()
    csv.writer(record).writerows([[path, "", ""] for path in (*content, f"{info}/RECORD")])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**content, f"{info}/RECORD": record.getvalue()}.items():
            archive.writestr(each, text)
    return path


def run(made: Overlay, generation: Path, *argv: str | Path, cwd: Path | None = None) -> str:
    """In a terminal of the workspace: overlay first, then the generation, then the system."""
    env = {
        "HOME": str(made.folder.parents[1]),
        "LANG": "C.UTF-8",
        **made.env,
        "PATH": ":".join([*made.path, str(generation / "bin"), SYSTEM_PATH]),
    }
    done = subprocess.run(argv, env=env, cwd=cwd or made.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(made: Overlay, generation: Path, wheels: Path, *what: str) -> str:
    return run(made, generation, "pip", "install", "--no-index", "--find-links", wheels, *what)


def test_pip_sees_the_generation_and_adds_only_what_is_missing(
    home: Path, generation: Path, shared: Shared, wheels: Path
) -> None:
    before = sorted(path.name for path in generation.glob("lib/python*/site-packages/*"))
    made = prepare(home, str(generation / "bin/python"), shared)
    assert "six" in run(made, generation, "python", "-m", "pip", "list")
    said = install(made, generation, wheels, "tiny")
    assert "Requirement already satisfied: six" in said
    assert "Successfully installed tiny-1.0" in said
    assert run(made, generation, "tiny") == "tiny 1\n"
    assert run(made, generation, "python", "-c", "import six, ipywidgets, sys; print(six.__file__)").startswith(
        str(generation)
    )
    assert packages(home) == (OverlayPackage("tiny", "1.0", True, made_python(generation), True),)
    assert before == sorted(path.name for path in generation.glob("lib/python*/site-packages/*"))


def test_what_readmes_say_works_too(home: Path, generation: Path, shared: Shared, wheels: Path) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    words = ("--user", "--no-index", "--find-links", wheels, "tiny == 1.0")
    assert "Successfully installed tiny-1.0" in run(made, generation, "pip3", "install", *words)


def made_python(generation: Path) -> str:
    return next(generation.glob("lib/python3.*")).name.removeprefix("python")


def test_a_newer_version_shadows_the_generations_and_goes_again(
    home: Path, generation: Path, shared: Shared, wheels: Path
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    version = ("python", "-c", "import six; print(six.__version__)")
    original = run(made, generation, *version)
    install(made, generation, wheels, "six==99.0")
    assert run(made, generation, *version) == "99.0\n"
    # The generation's own commands see it too.
    assert run(made, generation, "ipython", "--no-banner", "-c", "import six; print(six.__version__)") == "99.0\n"
    assert packages(home)[0].version == "99.0"
    run(made, generation, "pip", "uninstall", "--yes", "six")
    assert packages(home) == ()
    assert run(made, generation, *version) == original


async def test_a_notebook_runs_in_it(
    home: Path, generation: Path, shared: Shared, wheels: Path, tmp_path: Path
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    install(made, generation, wheels, "tiny")
    entered = Activation((*made.path, str(generation / "bin")), made.env, made.interpreter)
    found = await examine(entered, ("tiny", "six", "pip"), tmp_path / "scratch")
    assert found == Health("ok", "", {"tiny": "", "six": "", "pip": ""})


def test_what_is_removed_leaves_nothing_behind(home: Path, generation: Path, shared: Shared, wheels: Path) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    empty = files(made.folder)
    install(made, generation, wheels, "tiny", "six==99.0")
    run(made, generation, "python", "-c", "import tiny, six")
    remove(home, ["Tiny", "unknown"])
    assert [each.name for each in packages(home)] == ["six"]
    remove(home, ["six"])
    assert files(made.folder) == empty


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_preparing_again_changes_nothing(home: Path, generation: Path, shared: Shared, wheels: Path) -> None:
    interpreter = str(generation / "bin/python")
    made = prepare(home, interpreter, shared)
    install(made, generation, wheels, "tiny")
    before = {path: path.lstat().st_mtime_ns for path in made.folder.rglob("*")}
    assert prepare(home, interpreter, shared) == made
    assert {path: path.lstat().st_mtime_ns for path in made.folder.rglob("*")} == before


def test_packages_outlive_the_generation(
    home: Path, generation: Path, shared: Shared, wheels: Path, tmp_path: Path
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    install(made, generation, wheels, "tiny")
    other = plain_environment(tmp_path / "other", sys.executable)
    prepare(home, str(other / "bin/python"), shared)
    assert run(made, other, "tiny") == "tiny 1\n"
    assert not (made.path[1] / Path("ipython")).exists()
    listed = json.loads(run(made, other, "pip", "list", "--format", "json"))
    assert {each["name"] for each in listed} == {"tiny", "pip"}


def plain_environment(folder: Path, python: str) -> Path:
    """A virtual environment without a package."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def test_another_python_leaves_packages_inactive_until_the_first_is_back(
    home: Path, generation: Path, shared: Shared, wheels: Path, tmp_path: Path
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    install(made, generation, wheels, "tiny")
    minor = int(made_python(generation).partition(".")[2])
    # A prefix of a Python that is not installed here: nothing of it is run.
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / f"lib/python3.{minor + 1}/site-packages").mkdir(parents=True)
    (prefix / f"lib/python3.{minor + 1}/os.py").touch()
    (prefix / f"bin/python3.{minor + 1}").touch(0o755)
    (prefix / "bin/python").symlink_to(f"python3.{minor + 1}")
    prepare(home, str(prefix / "bin/python"), shared)
    assert [(each.name, each.active) for each in packages(home)] == [("tiny", False)]
    assert not (made.folder / f"bin/python3.{minor}").is_symlink()
    assert (made.folder / f"bin/python3.{minor + 1}").is_symlink()
    prepare(home, str(generation / "bin/python"), shared)
    assert [(each.name, each.active) for each in packages(home)] == [("tiny", True)]
    assert run(made, generation, "tiny") == "tiny 1\n"


def test_a_prefix_that_is_no_virtual_environment(home: Path, shared: Shared, wheels: Path) -> None:
    """As conda and Nix have it: a Python with its own site-packages, here the one under these tests."""
    prefix = Path(sys.base_prefix)
    made = prepare(home, str(prefix / "bin/python3"), shared)
    install(made, prefix, wheels, "tiny", "--no-deps")
    shown = run(made, prefix, "python", "-c", "import sys; print(sys.prefix, sys.base_prefix, *sys.path, sep='\\n')")
    lines = shown.splitlines()
    assert lines[:2] == [str(made.folder), str(prefix)]
    own = str(prefix / f"lib/python3.{sys.version_info.minor}/site-packages")
    assert lines.index(str(made.folder / f"lib/python3.{sys.version_info.minor}/site-packages")) < lines.index(own)
    assert run(made, prefix, "tiny") == "tiny 1\n"


def test_a_lone_link_to_a_python(home: Path, shared: Shared, tmp_path: Path) -> None:
    """As in a folder of programs that Nix links together."""
    (tmp_path / "profile/bin").mkdir(parents=True)
    (tmp_path / "profile/bin/python").symlink_to(Path(sys.base_prefix, "bin/python3"))
    made = prepare(home, str(tmp_path / "profile/bin/python"), shared)
    assert run(made, tmp_path, "python", "-c", "import sys; print(sys.base_prefix)").strip() == sys.base_prefix


def test_a_python_behind_a_wrapper(home: Path, shared: Shared, wheels: Path, tmp_path: Path) -> None:
    """As Nix makes it for a Python with packages: links to the library, and a script that goes on to the real one."""
    name = f"python3.{sys.version_info.minor}"
    prefix = tmp_path / "wrapped"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib" / name / "site-packages").mkdir(parents=True)
    (prefix / "lib" / name / "site-packages/beside.py").touch()
    for each in Path(sys.base_prefix, "lib", name).iterdir():
        if each.name != "site-packages":
            (prefix / "lib" / name / each.name).symlink_to(each)
    wrapper = prefix / "bin" / name
    wrapper.write_text(f'#!/bin/bash\nexec -a "$0" {sys.base_prefix}/bin/{name} "$@"\n')
    wrapper.chmod(0o755)
    (prefix / "bin/python").symlink_to(name)
    made = prepare(home, str(prefix / "bin/python"), shared)
    install(made, prefix, wheels, "tiny", "--no-deps")
    assert run(made, prefix, "tiny") == "tiny 1\n"
    shown = run(made, prefix, "python", "-c", "import beside, sys; print(sys.prefix, sys.base_prefix, sep='\\n')")
    assert shown.splitlines() == [str(made.folder), str(prefix)]


def test_what_is_no_python_is_refused(home: Path, shared: Shared, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    with pytest.raises(FileNotFoundError, match="no library"):
        prepare(home, str(tmp_path / "bin/python"), shared)
    with pytest.raises(OSError, match="No such file"):
        prepare(home, str(tmp_path / "nowhere/python"), shared)


def test_an_editable_installation(home: Path, generation: Path, shared: Shared, tmp_path: Path) -> None:
    """With a build backend written here, so that none is downloaded."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/mine.py").write_text("print('edited')")
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    (project / "backend.py").write_text(BACKEND.replace("SOURCE", str(project / "src")))
    made = prepare(home, str(generation / "bin/python"), shared)
    run(made, generation, "pip", "install", "--no-index", "--no-build-isolation", "--editable", project)
    assert run(made, generation, "python", "-c", "import mine") == "edited\n"
    (found,) = packages(home)
    assert (found.name, found.editable, found.origin) == ("mine", True, f"file://{project}")
    remove(home, ["mine"])
    assert packages(home) == ()
    assert (project / "src/mine.py").exists()


BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        archive.writestr("mine.pth", "SOURCE\\n")
        archive.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        archive.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        archive.writestr("mine-1.0.dist-info/RECORD", "mine.pth,,\\nmine-1.0.dist-info/METADATA,,\\n"
            "mine-1.0.dist-info/WHEEL,,\\nmine-1.0.dist-info/RECORD,,\\n")
    return name
"""


@pytest.mark.parametrize("broken", [".studiolo", ".studiolo/overlay", ".studiolo/overlay/lib"])
@pytest.mark.parametrize("link", [True, False])
def test_what_is_no_overlay_is_moved_aside(
    home: Path, generation: Path, shared: Shared, tmp_path: Path, broken: str, link: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = home / broken
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(elsewhere) if link else path.write_text("mine")
    made = prepare(home, str(generation / "bin/python"), shared)
    assert run(made, generation, "python", "-c", "import six, sys; print(sys.prefix)").strip() == str(made.folder)
    assert list(elsewhere.iterdir()) == []
    assert len([*home.glob("*.broken-1"), *home.glob(".studiolo/*.broken-1")]) == 1
    assert prepare(home, str(generation / "bin/python"), shared) == made


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_a_broken_python_in_the_overlay(
    home: Path, generation: Path, shared: Shared, tmp_path: Path, what: str
) -> None:
    python = Path(prepare(home, str(generation / "bin/python"), shared).interpreter)
    python.unlink()
    if what == "folder":
        python.mkdir()
    elif what == "file":
        python.write_text("broken")
    else:
        python.symlink_to(tmp_path / "nowhere")
    made = prepare(home, str(generation / "bin/python"), shared)
    assert run(made, generation, "python", "-c", "import six; print(1)") == "1\n"
    assert (home / ".studiolo/overlay.broken-1").exists() == (what == "folder")


def test_a_home_that_cannot_be_written(home: Path, generation: Path, shared: Shared) -> None:
    (home / ".studiolo").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", home / ".studiolo"], check=False)
    if not os.path.ismount(home / ".studiolo"):
        pytest.skip("a read-only disk cannot be mounted here")
    try:
        with pytest.raises(OSError, match="Read-only"):
            prepare(home, str(generation / "bin/python"), shared)
    finally:
        subprocess.run(["umount", "-l", home / ".studiolo"], check=True)


def test_a_hostile_list_of_files_removes_nothing_outside(home: Path, generation: Path, shared: Shared) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    site = next(made.folder.glob("lib/python3.*/site-packages"))
    victim = home / "victim"
    victim.write_text("precious")
    (home / "folder").mkdir()
    (home / "folder/inside").write_text("precious")
    (site / "way-out").symlink_to(home / "folder")
    info = site / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: evil\nVersion: 1\n")
    up = "../" * 5
    (info / "RECORD").write_text(
        f"{up}victim,,\n{victim},,\nway-out/inside,,\n.,,\n\n,,\n\0,,\n../../..,,\n../../../../overlay,,\n"
    )
    remove(home, ["evil"])
    assert victim.exists()
    assert (home / "folder/inside").exists()
    assert packages(home) == ()
    assert run(made, generation, "python", "-c", "print(1)") == "1\n"


def test_hostile_descriptions_are_passed_over(home: Path, generation: Path, shared: Shared, tmp_path: Path) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    site = next(made.folder.glob("lib/python3.*/site-packages"))
    for number, text in enumerate(("", "Name: a\n", "Name: \x1b[2J\nVersion: 1\n", "Name: b\nVersion: 1\x1b[2J\n")):
        (site / f"bad{number}-1.dist-info").mkdir()
        (site / f"bad{number}-1.dist-info/METADATA").write_text(text)
    os.mkfifo(site / "pipe.dist-info")
    (site / "fifo-1.dist-info").mkdir()
    os.mkfifo(site / "fifo-1.dist-info/METADATA")
    (site / "link-1.dist-info").symlink_to(tmp_path)
    (site / "odd-1.dist-info").mkdir()
    (site / "odd-1.dist-info/METADATA").write_text("Name: odd\nVersion: 1\n\nName: body\n")
    (site / "odd-1.dist-info/direct_url.json").write_text('{"url": ' + "[" * 50000)
    python = site.parts[-2].removeprefix("python")
    assert packages(home) == (OverlayPackage("odd", "1", False, python, True),)


def test_what_is_shared_is_made_once(tmp_path: Path) -> None:
    first = overlay.ensure_shared(tmp_path / "cache")
    inodes = (first.pip.stat().st_ino, first.kernels.stat().st_ino)
    assert overlay.ensure_shared(tmp_path / "cache") == first
    assert (first.pip.stat().st_ino, first.kernels.stat().st_ino) == inodes
    assert set((tmp_path / "cache").iterdir()) == {first.pip, first.kernels}


KERNELS = "share/jupyter/kernels"


def specs(made: Overlay, generation: Path) -> dict[str, Any]:
    """What a jupyter_client of the workspace finds, by name."""
    listing = "import json, jupyter_client.kernelspec as k; print(json.dumps(k.KernelSpecManager().get_all_specs()))"
    return dict(json.loads(run(made, generation, "python", "-c", listing)))


def a_generation(folder: Path, like: Path, *kernels: str) -> Path:
    """One with further kernels, that has all packages of another."""
    subprocess.run([like / "bin/python", "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    site.rmdir()
    site.symlink_to(next(like.glob("lib/python3.*/site-packages")))
    for name in kernels:
        (folder / KERNELS / name).mkdir(parents=True)
        (folder / KERNELS / name / "kernel.json").write_text(json.dumps({"argv": ["run", name], "display_name": name}))
        (folder / KERNELS / name / "logo.svg").write_text(name)
    return folder


def test_a_notebook_that_is_run_by_a_program_runs_in_the_overlay_and_may_be_forked(
    home: Path, generation: Path, shared: Shared
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    spec = specs(made, generation)["python3"]["spec"]
    assert spec["argv"][0] == made.interpreter
    assert spec["metadata"]["kernel_provisioner"]["provisioner_name"] == "studiolo"
    described = json.loads((generation / KERNELS / "python3/kernel.json").read_text())
    assert spec["display_name"] == described["display_name"]
    assert described["metadata"].items() <= spec["metadata"].items()
    notebook = made.folder / "notebook.py"
    notebook.write_text("import sys\nprint(sys.prefix)")
    # There is no agent here: it is started, by the provisioner.
    shown = run(made, generation, "jupyter", "run", "--kernel", "python3", notebook)
    assert shown.strip() == str(made.folder)


def test_somebodys_own_virtual_environment_sees_none_of_it(
    home: Path, generation: Path, shared: Shared, tmp_path: Path
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    run(made, generation, "python", "-m", "venv", "--without-pip", tmp_path / "own")
    listing = "import sys, importlib.metadata as m; print([d.name for d in m.distributions()], *sys.path)"
    shown = run(made, generation, tmp_path / "own/bin/python", "-c", listing)
    assert shown.startswith("[]")
    assert "kernels-" not in shown


def test_what_pip_freezes_can_be_had_elsewhere(home: Path, generation: Path, shared: Shared) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    frozen = run(made, generation, "pip", "freeze")
    assert "six==" in frozen
    assert "studiolo" not in frozen


def test_further_kernels_are_seen_and_go_with_their_generation(
    home: Path, generation: Path, shared: Shared, tmp_path: Path
) -> None:
    first = a_generation(tmp_path / "first", generation, "alpha", "beta")
    made = prepare(home, str(first / "bin/python"), shared)
    assert set(specs(made, generation)) == {"python3", "alpha", "beta"}
    assert (made.folder / KERNELS / "alpha/logo.svg").read_text() == "alpha"
    second = a_generation(tmp_path / "second", generation, "beta", "gamma")
    prepare(home, str(second / "bin/python"), shared)
    assert set(specs(made, generation)) == {"python3", "beta", "gamma"}
    assert (made.folder / KERNELS / "beta/kernel.json").resolve().is_relative_to(second)
    prepare(home, str(plain_environment(tmp_path / "other", sys.executable) / "bin/python"), shared)
    assert [*(made.folder / KERNELS).iterdir()] == []
    assert not (made.folder / "kernel.json").exists()


@pytest.mark.parametrize("name", ["python3", "alpha"])
def test_a_kernel_of_somebodys_own_stays(
    home: Path, generation: Path, shared: Shared, tmp_path: Path, name: str
) -> None:
    first = a_generation(tmp_path / "first", generation, "alpha")
    made = prepare(home, str(first / "bin/python"), shared)
    mine = made.folder / KERNELS / name
    for file in mine.iterdir():
        file.unlink()
    (mine / "kernel.json").write_text('{"argv": ["mine"], "display_name": "mine"}')
    for interpreter in (first, a_generation(tmp_path / "second", generation, "alpha"), generation):
        prepare(home, str(interpreter / "bin/python"), shared)
        assert json.loads((mine / "kernel.json").read_text())["argv"] == ["mine"]
        assert [file.name for file in mine.iterdir()] == ["kernel.json"]
    assert specs(made, generation)[name]["spec"]["argv"] == ["mine"]


def test_a_kernel_that_is_installed_by_its_own_command_replaces_ours(
    home: Path, generation: Path, shared: Shared
) -> None:
    made = prepare(home, str(generation / "bin/python"), shared)
    run(made, generation, "python", "-m", "ipykernel", "install", "--sys-prefix", "--display-name", "mine")
    prepare(home, str(generation / "bin/python"), shared)
    assert specs(made, generation)["python3"]["spec"]["display_name"] == "mine"


@pytest.mark.parametrize("place", ["share", "share/jupyter", KERNELS, f"{KERNELS}/python3"])
def test_where_something_else_is_in_the_way_there_are_no_kernels(
    home: Path, generation: Path, shared: Shared, tmp_path: Path, place: str
) -> None:
    folder = home / ".studiolo/overlay"
    (folder / place).parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / place).symlink_to(tmp_path / "elsewhere")
    made = prepare(home, str(generation / "bin/python"), shared)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (folder / place).is_symlink()
    assert run(made, generation, "python", "-c", "import six; print(1)") == "1\n"


@pytest.mark.parametrize("version", ["6.1.12", "odd"])
def test_a_jupyter_client_that_knows_no_provisioners_is_left_alone(
    home: Path, shared: Shared, tmp_path: Path, version: str
) -> None:
    other = plain_environment(tmp_path / "other", sys.executable)
    (site,) = other.glob("lib/python3.*/site-packages")
    (site / "ipykernel").mkdir()
    (site / f"jupyter_client-{version}.dist-info").mkdir()
    made = prepare(home, str(other / "bin/python"), shared)
    assert not (made.folder / KERNELS).exists()
