"""Real environments, made by the real uv of small real packages."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from studiolo.environments.kind import Lock, Progress, Request
from studiolo.environments.uv import UvKind
from studiolo.problem import StudioloError, Unavailable, WrongInput

PROJECT = "[project]\nname = 'demo'\nversion = '1'\nrequires-python = '>=3.9'\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def kind(cache: Path) -> AsyncIterator[UvKind]:
    kind = UvKind(cache)
    yield kind
    await kind.close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def ignore(_: Progress) -> None: ...


def names(kind: UvKind, lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in kind.describe(lock)}


def fingerprint(folder: Path) -> str:
    parts = [(str(path), path.read_bytes() if path.is_file() else b"") for path in sorted(folder.rglob("*"))]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def uv_lock(folder: Path, text: str, cache: Path) -> None:
    """The person's own `uv lock`."""
    (folder / "pyproject.toml").write_text(text)
    env = {**os.environ, "UV_CACHE_DIR": str(cache / "uv")}
    subprocess.run([Path(sys.executable).with_name("uv"), "lock", "-q"], cwd=folder, env=env, check=True, timeout=120)


async def test_packages_are_locked_built_moved_and_run(kind: UvKind, tmp_path: Path) -> None:
    heard: list[Progress] = []
    lock = await kind.lock(Request(packages=("tomli==2.0.1", "iniconfig<3")), heard.append)
    assert lock.interpreter == platform.python_version()
    assert names(kind, lock)["tomli"] == "2.0.1"
    assert "ipykernel" in names(kind, lock)
    assert "://" not in lock.text
    assert str(Path.home()) not in lock.text
    building = tmp_path / "building"
    building.mkdir()
    await kind.build(lock, building, heard.append)
    moved = tmp_path / "moved"
    building.rename(moved)
    await kind.settle()
    activation = kind.activate(lock, moved)
    assert activation.interpreter is not None
    program = "import tomli, ipykernel, sys; print(sys.prefix, tomli.__file__, tomli.loads.__code__.co_filename)"
    output = subprocess.run(
        [activation.interpreter, "-c", program], env=dict(activation.env), capture_output=True, text=True, check=True
    ).stdout
    assert str(building) not in output
    assert output.split()[0] == str(moved)
    jupyter = subprocess.run([moved / "bin" / "jupyter-kernelspec", "--version"], capture_output=True, check=False)
    assert jupyter.returncode == 0, "scripts run from where they are now"
    site = next(moved.glob("lib/python*/site-packages"))
    assert list((site / "tomli" / "__pycache__").glob("*.pyc")), "compiled, also though it moved meanwhile"
    scripts = [path for path in (moved / "bin").iterdir() if path.is_file() and not path.is_symlink()]
    assert not [path for path in scripts if str(building).encode() in path.read_bytes()]
    assert any(progress.total == len(kind.describe(lock)) for progress in heard)
    assert "tomli==2.0.1" in (moved / "build.log").read_text()


async def test_a_lock_depends_on_what_is_asked_and_nothing_else(kind: UvKind, tmp_path: Path) -> None:
    texts = set()
    for number, text in enumerate(("six\ntomli\n", "# other words\ntomli\n\nsix # and order\n")):
        folder = tmp_path / f"repository-{number}"
        folder.mkdir()
        (folder / "requirements.txt").write_text(text)
        texts.add((await kind.lock(Request(folder), ignore)).id)
    assert len(texts) == 1


async def test_the_example_of_a_script_runs_in_its_environment(kind: UvKind, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "uv-script"
    detection = kind.detect(example)
    assert detection is not None
    assert detection.file == "primes.py"
    lock = await kind.lock(Request(example), ignore)
    assert lock.facts["source"] == "primes.py"
    await kind.build(lock, tmp_path, ignore)
    command = [tmp_path / "bin" / "python", example / "primes.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "9,592 primes" in done.stdout


async def test_uv_lock_is_taken_as_it_is(kind: UvKind, repository: Path, cache: Path) -> None:
    text = PROJECT + "dependencies = ['six<1.17', 'colorama; sys_platform == \"win32\"']\n"
    uv_lock(repository, text + "[dependency-groups]\ndev = ['iniconfig']\n", cache)
    before = fingerprint(repository)
    lock = await kind.lock(Request(repository), ignore)
    found = names(kind, lock)
    assert found["six"] == "1.16.0"
    assert "iniconfig" in found, "a workspace is for development"
    assert "ipykernel" in found
    assert "colorama" not in found
    assert "demo" not in found
    assert fingerprint(repository) == before
    more = await kind.lock(Request(repository, packages=("tomli",)), ignore)
    assert names(kind, more)["six"] == "1.16.0"
    assert "tomli" in names(kind, more)
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, packages=("six==1.17.0",)), ignore)
    assert caught.value.problem.code == "packages-conflict"
    assert caught.value.problem.where == "environment.packages[0]"


async def test_a_complete_uv_lock_needs_no_network(
    kind: UvKind, repository: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv_lock(repository, PROJECT + "dependencies = ['ipykernel', 'six']\n", cache)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    lock = await UvKind(tmp_path / "empty").lock(Request(repository), ignore)
    assert "six" in names(kind, lock)


async def test_a_workspace_with_local_packages(kind: UvKind, repository: Path, cache: Path) -> None:
    member = repository / "packages" / "part"
    (member / "src" / "part").mkdir(parents=True)
    (member / "pyproject.toml").write_text("[project]\nname='part'\nversion='1'\ndependencies=['tomli']\n")
    text = PROJECT + "dependencies = ['part', 'six']\n[tool.uv.sources]\npart = {workspace = true}\n"
    uv_lock(repository, text + "[tool.uv.workspace]\nmembers = ['packages/*']\n", cache)
    found = names(kind, await kind.lock(Request(repository), ignore))
    assert {"six", "tomli"} <= set(found)
    assert "part" not in found


async def test_a_broken_uv_lock_says_so(kind: UvKind, repository: Path) -> None:
    (repository / "pyproject.toml").write_text(PROJECT)
    (repository / "uv.lock").write_text("version = 1\n[[package]]\nname = 3\n")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert (caught.value.problem.code, caught.value.problem.where) == ("lock-unreadable", "uv.lock")
    assert "uv lock" in caught.value.problem.hint
    assert "scratch" not in caught.value.problem.message


async def test_hashes_that_somebody_wrote_down_are_kept_and_enforced(
    kind: UvKind, repository: Path, tmp_path: Path
) -> None:
    wrong = "sha256:" + "0" * 64
    (repository / "requirements.txt").write_text(f"six==1.17.0 --hash={wrong}\n")
    lock = await kind.lock(Request(repository), ignore)
    assert wrong in lock.text
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(StudioloError) as caught:
        await kind.build(lock, target, ignore)
    assert caught.value.problem.code == "hash-mismatch"
    assert "six" in caught.value.problem.message


async def test_project_dependencies_and_a_folder_inside(kind: UvKind, repository: Path) -> None:
    part = repository / "models"
    part.mkdir()
    (part / "pyproject.toml").write_text(PROJECT + "dependencies = ['six']\n")
    found = names(kind, await kind.lock(Request(repository, project="models"), ignore))
    assert "six" in found
    for wrong in ("nowhere", "..", "/etc"):
        with pytest.raises(WrongInput) as caught:
            await kind.lock(Request(repository, project=wrong), ignore)
        assert caught.value.problem.where == "environment.project"


async def test_a_package_that_does_not_exist(kind: UvKind, repository: Path) -> None:
    (repository / "requirements.txt").write_text("six\nno-such-package-of-studiolo\n")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    problem = caught.value.problem
    assert (problem.code, problem.where) == ("package-not-found", "requirements.txt:2:1")
    assert "no-such-package-of-studiolo" in problem.message


async def test_versions_that_cannot_be_had_together(kind: UvKind) -> None:
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(packages=("six==1.16.0", "six>=1.17")), ignore)
    assert caught.value.problem.code == "packages-conflict"
    assert "six" in caught.value.problem.message


async def test_without_a_network_it_fails_quickly_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    begun = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await UvKind(tmp_path).lock(Request(packages=("six",)), ignore)
    assert caught.value.problem.code == "index-unreachable"
    assert time.monotonic() - begun < 30


async def test_without_a_network_what_was_downloaded_before_serves(
    kind: UvKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(packages=("six",))
    online = await kind.lock(request, ignore)
    first = tmp_path / "first"
    first.mkdir()
    await kind.build(online, first, ignore)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    heard: list[Progress] = []
    assert (await kind.lock(request, heard.append)).id == online.id
    second = tmp_path / "second"
    second.mkdir()
    await kind.build(online, second, heard.append)
    assert (second / "bin" / "python").exists()


async def test_a_python_that_is_not_here(kind: UvKind, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(python="3.99"), ignore)
    problem = caught.value.problem
    assert (problem.code, problem.where) == ("python-not-found", "environment.python")
    assert platform.python_version() in problem.message
    (repository / "requirements.txt").write_text("six\n")
    (repository / ".python-version").write_text("3.98\n")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert caught.value.problem.where == ".python-version"


async def test_cancelling_ends_uv(kind: UvKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that never answers; the lock is given up."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        arrived.set()
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple")
    async with server:
        task = asyncio.create_task(UvKind(tmp_path).lock(Request(packages=("six",)), ignore))
        await asyncio.wait_for(arrived.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await asyncio.wait_for(gone.wait(), 10)
    assert not list((tmp_path / "scratch").iterdir())
