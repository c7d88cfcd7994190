"""Private indexes, versions that move and stay, and bad days, with a small index of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from package_server import PackageServer, sdist, serving, wheel
from studiolo import process
from studiolo.environments.kind import Index, Lock, Progress, Request, Upgrade
from studiolo.environments.uv import UvKind
from studiolo.problem import StudioloError, Unavailable, WrongInput

CANARY = "cuckoo:?canary"
LOGIN = ("ada", CANARY)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


@pytest.fixture
async def kind(tmp_path: Path) -> AsyncIterator[UvKind]:
    kind = UvKind(tmp_path / "cache")
    yield kind
    await kind.close()


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Callable[[], UvKind]]:
    """Makes kinds that have downloaded nothing yet."""
    made: list[UvKind] = []

    def make() -> UvKind:
        made.append(UvKind(tmp_path / f"cache-{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def server() -> Iterator[PackageServer]:
    """Has a kernel, `alpha` 1.0 and 1.1, and `beta` 1.0, which needs `alpha`."""
    index = PackageServer()
    index.add(wheel("ipykernel", "6.0"), wheel("alpha", "1.0"), wheel("alpha", "1.1"), wheel("beta", "1.0", ["alpha"]))
    with serving(index):
        yield index


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def ignore(_: Progress) -> None: ...


def only(server: PackageServer, login: tuple[str, str] | None = None) -> tuple[Index, ...]:
    return (Index(server.url, default=True, login=login),)


def versions(kind: UvKind, lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in kind.describe(lock)}


def host(server: PackageServer) -> str:
    return server.url.removeprefix("http://").removesuffix("/simple")


async def test_a_login_is_used_and_repeated_nowhere(
    kind: UvKind, server: PackageServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.login = LOGIN
    server.add(sdist("gamma", "1.0", GOSSIP))
    arguments: list[str] = []

    async def overhear(argv: Sequence[str | Path], **options: Any) -> Any:
        arguments.extend(str(word) for word in argv)
        return await process.run(argv, **options)

    monkeypatch.setattr("studiolo.environments.uv_program.run", overhear)
    heard: list[Progress] = []
    lock = await kind.lock(Request(packages=("beta",), indexes=only(server, LOGIN)), heard.append)
    assert versions(kind, lock) == {"alpha": "1.1", "beta": "1.0", "ipykernel": "6.0"}
    assert lock.facts["indexes"] == [server.url]
    assert "://" not in lock.text
    await kind.build(lock, target, heard.append, only(server, LOGIN))
    await kind.settle()
    said = [repr(lock), repr(heard), repr(arguments)]
    gossip = await kind.lock(Request(packages=("gamma",), indexes=only(server, LOGIN)), ignore)
    other = target.parent / "other"
    other.mkdir()
    with pytest.raises(StudioloError) as caught:
        await kind.build(gossip, other, heard.append, only(server, LOGIN))
    assert caught.value.problem.code == "package-build-failed"
    assert "***" in caught.value.problem.message, "a package's build printed it"
    said += [str(caught.value), (other / "build.log").read_text()]
    said += [path.read_text(errors="replace") for path in target.rglob("*") if path.is_file()]
    assert "ipykernel==6.0" in (target / "build.log").read_text()
    assert not [text for text in said if CANARY in text or "canary" in text]


GOSSIP = """
import os
def build_wheel(*arguments, **more):
    raise SystemExit(" ".join(value for name, value in os.environ.items() if name.startswith("UV_INDEX")))
prepare_metadata_for_build_wheel = build_wheel
"""


@pytest.mark.parametrize("refusal", [401, 403])
@pytest.mark.parametrize("login", [None, ("ada", "wrong")])
async def test_an_index_that_wants_a_login_is_named(
    kind: UvKind,
    server: PackageServer,
    target: Path,
    refusal: int,
    login: tuple[str, str] | None,
    fresh: Callable[[], UvKind],
) -> None:
    request = Request(packages=("alpha",), indexes=only(server))
    lock = await kind.lock(request, ignore)
    server.login, server.refusal = LOGIN, refusal
    for attempt in (
        lambda: fresh().lock(Request(packages=("alpha",), indexes=only(server, login)), ignore),
        lambda: fresh().build(lock, target, ignore, only(server, login)),
    ):
        with pytest.raises(WrongInput) as caught:
            await attempt()
        assert caught.value.problem.code == "index-login"
        assert host(server) in caught.value.problem.message
        assert "studiolo secret set" in caught.value.problem.hint


async def test_files_of_a_repository_may_name_indexes(kind: UvKind, server: PackageServer, repository: Path) -> None:
    server.login = LOGIN
    files = {
        "requirements.txt": f"--index-url {server.url}\nbeta\n",
        "pyproject.toml": "[project]\nname='demo'\nversion='1'\ndependencies=['beta']\n"
        f"[[tool.uv.index]]\nurl = '{server.url}/'\ndefault = true\n",
        "task.py": "# /// script\n# dependencies = ['beta']\n# [[tool.uv.index]]\n"
        f"# url = '{server.url}'\n# default = true\n# ///\nimport beta\n",
    }
    for name, text in files.items():
        (repository / name).write_text(text)
        # environment.indexes has the login for it
        request = Request(repository, file=name, indexes=(Index(server.url, login=LOGIN),))
        lock = await kind.lock(request, ignore)
        assert versions(kind, lock)["alpha"] == "1.1"
        assert lock.facts["source"] == name
        assert [url.rstrip("/") for url in lock.facts["indexes"]] == [server.url]


async def test_a_newer_version_elsewhere_is_not_slipped_in(
    kind: UvKind, server: PackageServer, repository: Path
) -> None:
    own = PackageServer().add(wheel("alpha", "0.9"))
    with serving(own):
        beside = (Index(own.url), *only(server))
        lock = await kind.lock(Request(packages=("beta",), indexes=beside), ignore)
        assert versions(kind, lock) == {"alpha": "0.9", "beta": "1.0", "ipykernel": "6.0"}
        with pytest.raises(WrongInput) as caught:
            await kind.lock(Request(packages=("alpha>=1",), indexes=beside), ignore)
        assert caught.value.problem.code == "packages-conflict"
        assert host(own) in caught.value.problem.hint


async def test_a_package_that_is_bound_to_an_index_comes_from_there(
    kind: UvKind, server: PackageServer, repository: Path, target: Path
) -> None:
    own = PackageServer().add(wheel("alpha", "0.9"), wheel("beta", "9.0"))
    with serving(own):
        (repository / "pyproject.toml").write_text(
            "[project]\nname='demo'\nversion='1'\ndependencies=['beta', 'alpha']\n"
            f"[[tool.uv.index]]\nname = 'own'\nurl = '{own.url}'\nexplicit = true\n"
            "[tool.uv.sources]\nalpha = { index = 'own' }\n"
        )
        lock = await kind.lock(Request(repository, indexes=only(server)), ignore)
        assert versions(kind, lock) == {"alpha": "0.9", "beta": "1.0", "ipykernel": "6.0"}
        await kind.build(lock, target, ignore)
        assert (target / "bin" / "python").exists()


async def test_the_same_version_on_two_indexes_is_told_apart(
    kind: UvKind, server: PackageServer, repository: Path, target: Path
) -> None:
    """The index that `alpha` is bound to also has `beta`, and both have other files than the default index."""
    own = PackageServer().add(
        wheel("alpha", "1.1", headers=["Summary: own"]), wheel("beta", "1.0", headers=["Summary: own"])
    )
    with serving(own):
        (repository / "pyproject.toml").write_text(
            "[project]\nname='demo'\nversion='1'\ndependencies=['beta', 'alpha']\n"
            f"[[tool.uv.index]]\nname = 'own'\nurl = '{own.url}'\nexplicit = true\n"
            "[tool.uv.sources]\nalpha = { index = 'own' }\n"
        )
        lock = await kind.lock(Request(repository, indexes=only(server)), ignore)
        await kind.build(lock, target, ignore)
        site = next(target.glob("lib/python*/site-packages"))
        assert "own" in (site / "alpha-1.1.dist-info" / "METADATA").read_text()
        assert "own" not in (site / "beta-1.0.dist-info" / "METADATA").read_text()


async def test_files_that_have_moved_to_another_index_are_found_by_their_hash(
    kind: UvKind, server: PackageServer, target: Path, fresh: Callable[[], UvKind]
) -> None:
    own = PackageServer().add(wheel("alpha", "1.0", headers=["Summary: own"]))
    with serving(own):
        lock = await kind.lock(Request(packages=("alpha",), indexes=(Index(own.url), *only(server))), ignore)
        server.files |= own.files
        own.files = dict([wheel("alpha", "1.0", headers=["Summary: another"])])
        with pytest.raises(StudioloError) as caught:
            await fresh().build(lock, target, ignore)
        assert caught.value.problem.code == "hash-mismatch"
        own.files.clear()
        await fresh().build(lock, target, ignore)
        assert "own" in next(target.glob("lib/python*/site-packages/alpha-1.0.dist-info/METADATA")).read_text()


async def test_versions_stay_until_they_are_told_to_move(
    kind: UvKind, server: PackageServer, fresh: Callable[[], UvKind]
) -> None:
    request = Request(packages=("alpha", "delta"), indexes=only(server))
    server.add(wheel("delta", "1.0"))
    first = await kind.lock(request, ignore)
    server.add(wheel("alpha", "1.2"), wheel("delta", "1.1"))
    now = fresh()  # which remembers no earlier state of the index

    async def again(upgrade: Upgrade | None, packages: tuple[str, ...] = ("alpha", "delta")) -> Lock:
        moved = Request(packages=packages, indexes=only(server), previous=first, upgrade=upgrade)
        return await now.lock(moved, ignore)

    assert (await again(None)).id == first.id
    assert versions(kind, await again(None, ("alpha>=1.2", "delta"))) == {
        "alpha": "1.2",
        "delta": "1.0",
        "ipykernel": "6.0",
    }
    one = versions(kind, await again(Upgrade(("Alpha",))))
    assert (one["alpha"], one["delta"]) == ("1.2", "1.0")
    everything = versions(kind, await again(Upgrade()))
    assert (everything["alpha"], everything["delta"]) == ("1.2", "1.1")
    with pytest.raises(WrongInput) as caught:
        await again(Upgrade(("zeta",)))
    assert caught.value.problem.code == "package-not-locked"


async def test_what_the_repository_locks_moves_there(
    kind: UvKind, server: PackageServer, repository: Path, fresh: Callable[[], UvKind]
) -> None:
    locked = await kind.lock(Request(packages=("alpha==1.0",), indexes=only(server)), ignore)
    (repository / "requirements.lock").write_text(locked.text)
    request = Request(repository, indexes=only(server))
    for upgrade in (Upgrade(), Upgrade(("alpha",))):
        with pytest.raises(WrongInput) as caught:
            await kind.lock(Request(repository, indexes=only(server), previous=locked, upgrade=upgrade), ignore)
        assert caught.value.problem.code == "locked-in-repository"
        assert "uv pip compile --upgrade" in caught.value.problem.hint
    more = await kind.lock(Request(repository, packages=("beta",), indexes=only(server)), ignore)
    assert versions(kind, more)["alpha"] == "1.0"
    server.add(wheel("beta", "1.1", ["alpha"]))
    moved = Request(repository, packages=("beta",), indexes=only(server), previous=more, upgrade=Upgrade())
    lock = await fresh().lock(moved, ignore)
    assert versions(kind, lock) == {"alpha": "1.0", "beta": "1.1", "ipykernel": "6.0"}
    assert "requirements.lock" in lock.facts["notes"][0]
    assert (await kind.lock(request, ignore)).text == locked.text


async def test_a_yanked_version_is_taken_only_where_it_is_pinned(
    kind: UvKind, server: PackageServer, target: Path
) -> None:
    server.yanked["alpha-1.1"] = "eats data"
    lock = await kind.lock(Request(packages=("alpha",), indexes=only(server)), ignore)
    assert versions(kind, lock)["alpha"] == "1.0"
    assert "notes" not in lock.facts
    lock = await kind.lock(Request(packages=("alpha==1.1",), indexes=only(server)), ignore)
    assert lock.facts["notes"] == ["alpha 1.1 has been withdrawn by its makers (yanked: eats data)"]
    await kind.build(lock, target, ignore)
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(packages=("alpha>=1.1",), indexes=only(server)), ignore)
    assert caught.value.problem.code == "packages-conflict"
    assert "was yanked" in caught.value.problem.message
    assert "==" in caught.value.problem.hint


async def test_files_that_are_not_what_the_index_says(kind: UvKind, server: PackageServer, target: Path) -> None:
    server.lying.add("alpha-1.1-py3-none-any.whl")
    lock = await kind.lock(Request(packages=("beta",), indexes=only(server)), ignore)
    with pytest.raises(StudioloError) as caught:
        await kind.build(lock, target, ignore)
    assert caught.value.problem.code == "hash-mismatch"
    assert "alpha" in caught.value.problem.message
    assert "Hash mismatch" in (target / "build.log").read_text()


async def test_an_index_that_dies_in_the_middle(
    kind: UvKind, server: PackageServer, target: Path, fresh: Callable[[], UvKind]
) -> None:
    lock = await kind.lock(Request(packages=("beta",), indexes=only(server)), ignore)
    server.dying |= {"alpha-1.1-py3-none-any.whl", "alpha-1.0-py3-none-any.whl"}
    with pytest.raises(Unavailable) as caught:
        await fresh().build(lock, target, ignore)
    assert caught.value.problem.code == "index-unreachable"
    assert "alpha" in caught.value.problem.message
    with pytest.raises(Unavailable) as caught:
        await fresh().lock(Request(packages=("beta",), indexes=only(server)), ignore)
    assert caught.value.problem.code == "index-unreachable"
    server.dying.clear()
    await fresh().build(lock, target, ignore)


async def test_a_source_that_does_not_build_shows_the_end_of_what_it_printed(
    kind: UvKind, server: PackageServer, target: Path
) -> None:
    steps = "\n".join(f"    print('compiling part {number} of a library')" for number in range(80))
    broken = f"def build_wheel(*a, **b):\n{steps}\n    raise SystemExit('fatal: libfoo.h is missing')\n"
    server.add(sdist("gamma", "1.0", broken))
    lock = await kind.lock(Request(packages=("gamma",), indexes=only(server)), ignore)
    with pytest.raises(StudioloError) as caught:
        await kind.build(lock, target, ignore)
    problem = caught.value.problem
    assert problem.code == "package-build-failed"
    assert problem.message.startswith("gamma")
    assert problem.message.endswith("fatal: libfoo.h is missing")
    assert "compiling part 79" in problem.message
    assert len(problem.message) < 1100
    assert "compiling part 40" in (target / "build.log").read_text()


async def test_a_full_disk_in_the_middle(server: PackageServer, tmp_path: Path, kind: UvKind) -> None:
    server.add(wheel("alpha", "2.0", files={"alpha_data.txt": os.urandom(4 << 20).hex()}))
    lock = await kind.lock(Request(packages=("alpha",), indexes=only(server)), ignore)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("a small disk can only be made by root")
    try:
        (small / "target").mkdir()
        tight = UvKind(small / "cache")
        with pytest.raises(StudioloError) as caught:
            await tight.build(lock, small / "target", ignore)
        assert caught.value.problem.code == "disk-full"
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


async def test_a_script_with_a_lock_beside_it(
    kind: UvKind, server: PackageServer, repository: Path, tmp_path: Path
) -> None:
    script = repository / "task.py"
    script.write_text(
        "# /// script\n# requires-python = '>=3.9'\n# dependencies = ['beta', 'ipykernel']\n# [[tool.uv.index]]\n"
        f"# url = '{server.url}'\n# default = true\n# ///\n"
    )
    env = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "theirs")}
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "lock", "-q", "--script", script], env=env, check=True, timeout=60)
    server.add(wheel("alpha", "1.2"))
    before = set(kind.inputs(Request(repository)))
    assert before == {"task.py", "task.py.lock"}
    lock = await kind.lock(Request(repository), ignore)
    assert versions(kind, lock) == {"alpha": "1.1", "beta": "1.0", "ipykernel": "6.0"}
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, previous=lock, upgrade=Upgrade()), ignore)
    assert "uv lock --upgrade --script task.py" in caught.value.problem.hint
