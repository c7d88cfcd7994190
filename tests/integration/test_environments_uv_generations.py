"""What a built environment is made of, whether it comes out the same again, and how it leaves for other tools."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from packaging.pylock import Pylock

from package_server import PackageServer, sdist, serving, wheel
from studiolo.environments.kind import Index, Lock, Package, Progress, Request
from studiolo.environments.uv import UvKind
from studiolo.problem import StudioloError, WrongInput

UV = Path(sys.executable).with_name("uv")

BACKEND = """
import os, zipfile
def build_wheel(folder, *arguments):
    name = "gamma-1.0-py3-none-any.whl"
    info = "gamma-1.0.dist-info/"
    files = {
        "gamma.py": "built = %r" % os.environ.get("SOURCE_DATE_EPOCH"),
        info + "METADATA": "Metadata-Version: 2.1\\nName: gamma\\nVersion: 1.0\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[info + "RECORD"] = "".join(each + ",,\\n" for each in [*files, info + "RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
"""


def ignore(_: Progress) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[PackageServer]:
    index = PackageServer()
    index.add(
        wheel("ipykernel", "6.0", headers=["License: BSD-3-Clause"]),
        wheel(
            "alpha",
            "1.0+local.1",
            headers=["License-Expression: MIT OR Apache-2.0", "License: Something else"],
            files={
                "alpha-1.0+local.1.dist-info/entry_points.txt": "[console_scripts]\nalpha = alpha:main\n",
                "alpha-1.0+local.1.data/scripts/greet": "#!python\nprint('hello')\n",
                "alpha-1.0+local.1.data/data/share/alpha/words.txt": "words\n",
                "alpha_names.py": "names = {'a', 'b', 'c', 'd'}\nfixed = frozenset(['x', 'y', 'z'])\n",
            },
        ),
        wheel(
            "beta",
            "1.0",
            headers=[
                *("License: first line of a long text", "        and the second", "        and the third"),
                "Classifier: License :: OSI Approved :: MIT License",
            ],
        ),
        sdist("gamma", "1.0", BACKEND),
    )
    with serving(index):
        yield index


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def kind(cache: Path) -> AsyncIterator[UvKind]:
    kind = UvKind(cache)
    yield kind
    await kind.close()


@pytest.fixture
async def lock(kind: UvKind, server: PackageServer) -> Lock:
    request = Request(packages=("alpha", "beta", "gamma"), indexes=(Index(server.url, default=True),))
    return await kind.lock(request, ignore)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything but the log."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = (0, str(path.readlink()).encode())
        elif path.is_file() and name != "build.log":
            found[name] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


async def test_the_same_lock_gives_the_same_bytes_from_an_empty_cache(kind: UvKind, lock: Lock, tmp_path: Path) -> None:
    trees: list[Mapping[str, tuple[int, bytes]]] = []
    for number in range(2):
        fresh = UvKind(tmp_path / f"cache-{number}")
        folder = tmp_path / f"generation-with-another-name-{number}"
        folder.mkdir()
        await fresh.build(lock, folder, ignore)
        await fresh.settle()
        trees.append(tree(folder))
    assert trees[0] == trees[1]
    assert len([name for name in trees[0] if name.endswith(".pyc")]) >= 4, "byte code too"
    assert "share/alpha/words.txt" in trees[0]
    assert "bin/greet" in trees[0]
    again = tmp_path / "again"
    again.mkdir()
    await kind.rebuild(lock, again, ignore)

    def source(found: Mapping[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
        return {name: each for name, each in found.items() if "__pycache__" not in name}

    assert source(tree(again)) == source(trees[0])
    assert not [name for name, (_, content) in trees[0].items() if str(tmp_path).encode() in content]


async def test_two_generations_share_all_that_both_have(
    kind: UvKind, lock: Lock, server: PackageServer, tmp_path: Path
) -> None:
    """Byte code too; and what they share cannot be written to."""
    other = await kind.lock(Request(packages=("alpha", "beta"), indexes=(Index(server.url, default=True),)), ignore)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, each in zip(folders, (lock, other), strict=True):
        folder.mkdir()
        await kind.build(each, folder, ignore)
        await kind.settle()
    site = next(folders[0].glob("lib/python*/site-packages")).relative_to(folders[0])
    code = next((folders[0] / site / "__pycache__").glob("alpha_names.*.pyc")).relative_to(folders[0])
    for path in (site / "alpha_names.py", code):
        assert (folders[0] / path).samefile(folders[1] / path)
    assert not stat.S_IMODE((folders[0] / code).stat().st_mode) & 0o222
    python = kind.activate(lock, folders[0]).interpreter
    assert python is not None
    command = [python, "-v", "-c", "import alpha_names; print(alpha_names.names, alpha_names.__cached__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert "'a'" in done.stdout
    assert f"code object from '{folders[0] / code}'" in done.stderr


async def test_the_packages_are_described_with_their_licences(kind: UvKind, lock: Lock, tmp_path: Path) -> None:
    await kind.build(lock, tmp_path, ignore)
    assert kind.describe(lock, tmp_path) == (
        Package("alpha", "1.0+local.1", "MIT OR Apache-2.0", "pkg:pypi/alpha@1.0%2Blocal.1"),
        Package("beta", "1.0", "MIT License", "pkg:pypi/beta@1.0"),
        Package("gamma", "1.0", "", "pkg:pypi/gamma@1.0"),
        Package("ipykernel", "6.0", "BSD-3-Clause", "pkg:pypi/ipykernel@6.0"),
    )
    assert [each.licence for each in kind.describe(lock)] == ["", "", "", ""]


async def install(folder: Path, *arguments: str | Path) -> set[str]:
    """What somebody else's uv makes of it: the names of what it installs."""
    env = {**os.environ, "UV_CACHE_DIR": str(folder / "theirs")}
    subprocess.run([UV, "venv", "-q", folder / "venv"], env=env, check=True, timeout=60)
    command = [UV, "pip", "install", "-q", "--python", folder / "venv" / "bin" / "python", *arguments]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=120)
    return {path.name.split("-")[0] for path in folder.glob("venv/lib/python*/site-packages/*.dist-info")}


async def test_pylock_toml_lists_what_is_locked_and_installs(
    kind: UvKind, lock: Lock, server: PackageServer, tmp_path: Path
) -> None:
    later = wheel("beta", "1.0", headers=["Summary: uploaded later"])
    later = (later[0].replace("-py3-", "-1-py3-"), later[1])
    server.add(later)
    try:
        (text,) = (await UvKind(tmp_path / "cache").export(lock, "pylock")).values()
    finally:
        del server.files[later[0]]
    document = tomllib.loads(text)
    Pylock.from_dict(document).validate()
    for package in document["packages"]:
        for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]:
            assert f"sha256:{file['hashes']['sha256']}" in lock.text
    (tmp_path / "pylock.toml").write_text(text)
    assert await install(tmp_path, "-r", "pylock.toml") == {"alpha", "beta", "gamma", "ipykernel"}


async def test_requirements_install_elsewhere(kind: UvKind, lock: Lock, tmp_path: Path) -> None:
    (text,) = (await kind.export(lock, "requirements")).values()
    (tmp_path / "requirements.txt").write_text(text)
    found = await install(tmp_path, "--require-hashes", "-r", "requirements.txt")
    assert found == {"alpha", "beta", "gamma", "ipykernel"}


async def test_a_dockerfile_installs_exactly_the_lock(kind: UvKind, lock: Lock) -> None:
    files = await kind.export(lock, "dockerfile")
    assert set(files) == {"Dockerfile", "requirements.txt"}
    minor = ".".join(lock.interpreter.split(".")[:2])
    assert f"FROM python:{minor}-slim\n" in files["Dockerfile"]
    assert "--require-hashes --requirement /tmp/requirements.txt" in files["Dockerfile"]


STUB = """
{ outputs = { self }: {
    lib.genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    legacyPackages.x86_64-linux = rec {
      mkShell = shell: derivation {
        name = "shell"; system = "x86_64-linux"; builder = "/bin/sh"; inherit (shell) shellHook;
      };
      python%s = "/python"; uv = "/uv"; zlib = "/zlib"; stdenv.cc.cc.lib = "/lib";
      lib.makeLibraryPath = builtins.concatStringsSep ":";
    };
  };
}
"""


@pytest.mark.skipif(shutil.which("nix") is None, reason="Nix is not installed")
async def test_a_flake_is_one_that_nix_understands(kind: UvKind, lock: Lock, tmp_path: Path) -> None:
    """With a stand-in for nixpkgs, which takes a download."""
    files = await kind.export(lock, "flake")
    (tmp_path / "flake").mkdir()
    (tmp_path / "nixpkgs").mkdir()
    for name, text in files.items():
        (tmp_path / "flake" / name).write_text(text)
    short = "".join(lock.interpreter.split(".")[:2])
    (tmp_path / "nixpkgs" / "flake.nix").write_text(STUB % short)
    command = [
        *("nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json", "--no-write-lock-file"),
        *("--override-input", "nixpkgs", f"path:{tmp_path}/nixpkgs", "--store", f"{tmp_path}/store"),
        f"path:{tmp_path}/flake#devShells.x86_64-linux.default.shellHook",
    ]
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "uv pip sync --quiet --require-hashes" in json.loads(done.stdout)


PROJECT = "[project]\nname = 'demo'\nversion = '1'\ndependencies = ['six']\n"
MEMBERS = "[tool.uv.workspace]\nmembers = ['parts/*']\n"
SCRIPT = "# /// script\n# dependencies = ['six']\n# ///\nimport six\n"


@pytest.mark.parametrize(
    ("file", "files"),
    [
        (
            None,
            {"requirements.txt": "-r more/base.txt\n", "more/base.txt": "six\n-c limits.txt\n", "more/limits.txt": ""},
        ),
        ("requirements.txt", {"requirements.txt": "-e .\n", "pyproject.toml": PROJECT, ".python-version": "3.11\n"}),
        (None, {"pyproject.toml": PROJECT}),
        (None, {"uv.lock": "", "pyproject.toml": PROJECT + MEMBERS, "parts/one/pyproject.toml": PROJECT}),
        ("tools/task.py", {"tools/task.py": SCRIPT, ".python-version": "3.11\n"}),
        ("envs/dev.in", {"envs/dev.in": "six\n", "envs/pyproject.toml": "[project]\nrequires-python = '>=3.9'\n"}),
    ],
)
def test_editing_any_file_that_was_read_is_noticed(tmp_path: Path, file: str | None, files: dict[str, str]) -> None:
    kind = UvKind(tmp_path / "cache")
    repository = tmp_path / "repository"
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    (repository / "README.md").write_text("nobody reads me\n")
    request = Request(repository, file=file)
    before = kind.inputs(request)
    assert set(before) == set(files)
    for name in files:
        text = (repository / name).read_text()
        (repository / name).write_text(text + "# edited\n")
        after = kind.inputs(request)
        assert {each for each in before if after[each] != before[each]} == {name}
        (repository / name).write_text(text)
    assert kind.inputs(request) == before


def test_a_python_that_is_asked_for_makes_the_repositorys_word_on_it_no_input(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    (tmp_path / ".python-version").write_text("3.11\n")
    kind = UvKind(tmp_path)
    assert set(kind.inputs(Request(tmp_path))) == {"requirements.txt", ".python-version"}
    assert set(kind.inputs(Request(tmp_path, python="3.11"))) == {"requirements.txt"}
    assert kind.inputs(Request(packages=("six",))) == {}


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("nowhere.txt", "file-missing"),
        ("../outside.txt", "file-missing"),
        ("link.txt", "file-missing"),
        ("environment.yml", "file-unknown"),
        ("uv.lock", "file-missing"),
        ("plain.py", "script-metadata"),
    ],
)
async def test_a_file_that_will_not_do_is_refused(kind: UvKind, tmp_path: Path, file: str, code: str) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (tmp_path / "outside.txt").write_text("six\n")
    (repository / "link.txt").symlink_to("../outside.txt")
    for name in ("environment.yml", "uv.lock"):
        (repository / name).touch()
    (repository / "plain.py").write_text("print('hello')\n")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, file=file), ignore)
    assert caught.value.problem.code == code
    assert caught.value.problem.hint


async def test_an_export_that_would_be_something_else_is_refused(
    kind: UvKind, lock: Lock, server: PackageServer, tmp_path: Path
) -> None:
    name, content = wheel("beta", "1.0")
    before = server.files[name]
    server.files[name] = content
    try:
        with pytest.raises(StudioloError) as caught:
            await UvKind(tmp_path).export(lock, "pylock")
    finally:
        server.files[name] = before
    assert caught.value.problem.code == "hash-mismatch"
    assert "beta" in caught.value.problem.message
