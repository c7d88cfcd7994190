"""Tools for Node, made by the real npm of tiny real packages."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from studiolo.environments.kind import Progress, Request
from studiolo.environments.nodejs import Node
from studiolo.environments.npm import NpmKind
from studiolo.problem import StudioloError, Unavailable, WrongInput


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def ignore(_: Progress) -> None: ...


async def test_a_tool_is_locked_built_moved_and_run(cache: Path, tmp_path: Path) -> None:
    kind = NpmKind(cache)
    lock = await kind.lock(Request(packages=("semver@7.7.2",)), ignore)
    assert "://" not in lock.text
    assert lock.interpreter == f"node-{Node.shipped().version}"
    assert [(package.name, package.version) for package in kind.describe(lock)] == [("semver", "7.7.2")]
    assert (await kind.lock(Request(packages=("semver@7.7.2",)), ignore)).id == lock.id
    building = tmp_path / "building"
    building.mkdir()
    heard: list[Progress] = []
    await kind.build(lock, building, heard.append)
    assert heard
    moved = tmp_path / "moved"
    building.rename(moved)
    path = ":".join((*kind.activate(lock, moved).path, "/usr/bin", "/bin"))
    done = subprocess.run(
        ["semver", "-r", "1.x", "1.2.3"], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1.2.3\n"
    node = subprocess.run(["node", "-v"], env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    assert node == f"v{Node.shipped().version}\n"
    assert shutil.which("node", path=path) == str(moved / "bin" / "node")


async def test_what_is_not_what_was_locked_is_refused(cache: Path, tmp_path: Path) -> None:
    kind = NpmKind(cache)
    lock = await kind.lock(Request(packages=("semver@7.7.2",)), ignore)
    document = json.loads(lock.text)
    document["packages"]["node_modules/semver"]["integrity"] = "sha512-" + "A" * 86 + "=="
    forged = type(lock)(lock.kind, json.dumps(document), lock.interpreter, lock.platform)
    with pytest.raises(StudioloError):
        await kind.build(forged, tmp_path, ignore)
    assert not (tmp_path / "node_modules" / "semver" / "package.json").exists()


@pytest.mark.parametrize(
    "package", ["semver", "semver@", "--registry=https://evil.test@1", "a@file:/etc", "a@git+ssh://x"]
)
async def test_a_package_is_a_name_and_a_version(cache: Path, package: str) -> None:
    with pytest.raises(WrongInput) as caught:
        await NpmKind(cache).lock(Request(packages=(package,)), ignore)
    assert caught.value.problem.code == "requirement-syntax"


async def test_a_version_that_does_not_exist(cache: Path) -> None:
    with pytest.raises(WrongInput) as caught:
        await NpmKind(cache).lock(Request(packages=("semver@999.0.0",)), ignore)
    assert caught.value.problem.code == "package-not-found"


async def test_without_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(Unavailable) as caught:
        await NpmKind(tmp_path).lock(Request(packages=("semver@7.7.2",)), ignore)
    assert caught.value.problem.code == "index-unreachable"


async def test_what_compiling_needs_is_said_beforehand(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = NpmKind(cache)
    lock = await kind.lock(Request(packages=("semver@7.7.2",)), ignore)
    document = json.loads(lock.text)
    document["packages"]["node_modules/semver"]["hasInstallScript"] = True
    scripted = type(lock)(lock.kind, json.dumps(document), lock.interpreter, lock.platform)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(StudioloError) as caught:
        await kind.build(scripted, tmp_path, ignore)
    assert caught.value.problem.code == "build-tools-missing"
    assert caught.value.problem.hint == "sudo apt-get install g++ make python3 pkg-config"
