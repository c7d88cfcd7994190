"""Real conda environments, made by the real engine from a small channel made on the spot."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conda_channel import PLACEHOLDER, SUBDIR, Recipe, make_channel, module, python
from studiolo.environments import kinds
from studiolo.environments.conda import CondaKind
from studiolo.environments.conda_lock import CondaLock
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Lock, Progress, Request, Upgrade
from studiolo.environments.verify import verify
from studiolo.problem import StudioloError, Unavailable, WrongInput
from studiolo.process import end_orphans

HELLO = Recipe(
    "hello",
    files={
        "bin/hello": f"#!{PLACEHOLDER}/bin/python\nimport greet\nprint('hello', greet.VERSION)\n".encode(),
        "share/hello.bin": b"\0begin " + PLACEHOLDER.encode() + b"/share\0end",
        "share/hello.txt": b"shared by all\n",
        "etc/conda/env_vars.d/hello.json": b'{"HELLO_DATA": "share", "PATH": "/nowhere"}',
        "etc/conda/activate.d/hello.sh": b"exit 1\n",
    },
)
TOOL = Recipe(
    "tool",
    depends=["python"],
    files={"site-packages/tool.py": b"def main():\n    print('a tool')\n"},
    noarch="python",
    entry_points=["tool = tool:main"],
)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_channel(
        tmp_path_factory.mktemp("channel") / "lab",
        python(),
        HELLO,
        TOOL,
        module("greet"),
        module("greet", "2.0"),
        module("iniconfig", "1.1.1"),
        Recipe("needs-greet-3", depends=["greet >=3"]),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def kind(cache: Path) -> CondaKind:
    return CondaKind(cache)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


class Server:
    """A channel over http. A file named in `held` is not sent before `go` is set; one in `cut` ends too early."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: set[str] = set()
        self.cut: set[str] = set()
        self.asked: set[str] = set()
        self.go = threading.Event()
        serve = functools.partial(_Handler, self, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: object, directory: str) -> None:
        self._studio = server
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self._studio.asked.add(name)
        if name in self._studio.held:
            self._studio.go.wait(60)
        try:
            if name in self._studio.cut:
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"BZh")
                self.close_connection = True
            else:
                super().do_GET()
        except ConnectionError:
            self.close_connection = True  # who asked has given up

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(channel: Path) -> Iterator[Server]:
    server = Server(channel)
    yield server
    server.close()


def ignore(_: Progress) -> None: ...


def declare(
    repository: Path, channel: Path | str, *dependencies: str, more: str = "", name: str = "environment.yml"
) -> Path:
    address = channel if isinstance(channel, str) else channel.as_uri()
    lines = "".join(f"  - {each}\n" for each in dependencies)
    (repository / name).write_text(f"channels: ['{address}']\ndependencies:\n{lines}{more}")
    return repository


def versions(kind: CondaKind, lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in kind.describe(lock)}


def run(program: Path, *arguments: str) -> str:
    return subprocess.run([program, *arguments], env={}, capture_output=True, text=True, check=True).stdout.strip()


async def failure(awaitable: object) -> StudioloError:
    with pytest.raises(StudioloError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value


async def until(condition: object, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_an_environment_is_solved_built_and_entered(
    kind: CondaKind, repository: Path, channel: Path, cache: Path, tmp_path: Path
) -> None:
    declare(
        repository,
        channel,
        "python",
        "greet=1",
        "hello",
        "tool",
        "pip:\n    - tomli==2.0.1",
        more="variables:\n  DATA: data/raw\nprefix: /home/somebody/env\n",
    )
    assert kinds.detect(repository) == kind.detect(repository)
    heard: list[Progress] = []
    lock = await kind.lock(Request(repository), heard.append)
    assert lock.platform == SUBDIR
    assert lock.interpreter == python().version
    assert lock.facts["source"] == "environment.yml"
    assert versions(kind, lock)["greet"] == "1.0"
    assert "greet 1.0 0 noarch greet-1.0-0.tar.bz2 sha256:" in lock.text
    assert "tomli==2.0.1" in lock.text
    assert CondaLock.parse(lock.text).text == lock.text
    notes = "\n".join(lock.facts["notes"])
    assert "environment.yml:11:1: prefix" in notes
    assert "ipykernel" in notes, "no kernel can be had from this channel, which is no reason to fail"
    folder = tmp_path / "generation"
    folder.mkdir()
    await kind.build(lock, folder, heard.append)
    assert run(folder / "bin" / "hello") == "hello 1.0"
    assert run(folder / "bin" / "tool") == "a tool"
    assert run(folder / "bin" / "python", "-c", "import sys, tomli; print(sys.prefix)") == str(folder)
    assert (folder / "share" / "hello.bin").read_bytes().startswith(b"\0begin " + str(folder).encode() + b"/share\0")
    assert len((folder / "share" / "hello.bin").read_bytes()) == len(HELLO.files["share/hello.bin"])
    counted = [(each.message, each.done, each.total) for each in heard if each.total == 4]
    assert ("downloading packages", 0, 4) in counted
    assert {done for message, done, _ in counted if message.startswith("downloaded")} == {1, 2, 3, 4}
    assert {done for message, done, _ in counted if message.startswith("installed ")} >= {1, 2, 3, 4}
    log = (folder / "build.log").read_text()
    assert "tomli==2.0.1" in log
    assert "etc/conda/activate.d/hello.sh comes with a package and is not run" in log
    activation = kind.activate(lock, folder)
    assert activation.path == (str(folder / "bin"),)
    assert activation.env == {"HELLO_DATA": "share", "DATA": "data/raw", "CONDA_PREFIX": str(folder)}
    assert activation.interpreter is None, "without ipykernel there is nothing that runs kernels"
    described = {package.name: package for package in kind.describe(lock, folder)}
    assert described["python"].licence == "PSF-2.0"
    assert described["greet"].purl == "pkg:conda/greet@1.0?build=0&subdir=noarch&type=tar.bz2"
    assert described["tomli"].purl == "pkg:pypi/tomli@2.0.1"
    assert "MIT" in described["tomli"].licence
    record = (folder / "conda-meta" / "tool-1.0-0.json").read_text()
    assert '"depends": [\n  "python"\n ]' in record, "other tools see what it needs"
    assert str(cache) not in record, "a cache that may go at any time is not remembered"


async def test_a_kernel_is_added_where_the_channel_has_it(kind: CondaKind, repository: Path, tmp_path: Path) -> None:
    lab = await asyncio.to_thread(make_channel, tmp_path / "lab", python(), module("greet"), module("ipykernel", "7.0"))
    lock = await kind.lock(Request(declare(repository, lab, "greet")), ignore)
    assert versions(kind, lock)["ipykernel"] == "7.0"
    assert "notes" not in lock.facts
    only_data = await asyncio.to_thread(make_channel, tmp_path / "data", Recipe("data"))
    lock = await kind.lock(Request(declare(repository, only_data, "data")), ignore)
    assert versions(kind, lock) == {"data": "1.0"}
    assert lock.interpreter == ""
    assert "no Python" in lock.facts["notes"][0]


async def test_packages_and_python_of_studiolo_yaml_come_on_top(
    kind: CondaKind, repository: Path, channel: Path, tmp_path: Path
) -> None:
    declare(repository, channel, "greet")
    version = python().version
    lock = await kind.lock(Request(repository, packages=("ipykernel",), python=version.rsplit(".", 1)[0]), ignore)
    assert lock.interpreter == version
    assert "notes" not in lock.facts
    folder = tmp_path / "generation"
    folder.mkdir()
    await kind.build(lock, folder, ignore)
    interpreter = kind.activate(lock, folder).interpreter
    assert interpreter == str(folder / "bin" / "python")
    assert run(Path(interpreter), "-c", "import ipykernel.kernelapp, greet; print(greet.VERSION)") == "2.0"
    error = await failure(kind.lock(Request(repository, python="3.1"), ignore))
    assert (error.problem.code, error.problem.where) == ("packages-conflict", "environment.python")


async def test_what_conda_has_installed_counts_for_pip(kind: CondaKind, repository: Path, channel: Path) -> None:
    declare(repository, channel, "iniconfig", "pip:\n    - iniconfig\n    - six")
    lock = await kind.lock(Request(repository), ignore)
    assert [pin.name for pin in CondaLock.parse(lock.text).pip] == ["six"]
    declare(repository, channel, "iniconfig", "pip:\n    - iniconfig>=2")
    error = await failure(kind.lock(Request(repository), ignore))
    assert error.problem.code == "packages-conflict"
    assert error.problem.where == "environment.yml:5:7"
    assert "1.1.1" in error.problem.message


async def test_versions_stay_until_somebody_asks(kind: CondaKind, repository: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    await asyncio.to_thread(make_channel, lab, python(), module("greet"), module("other"))
    declare(repository, lab, "greet", "other", "pip:\n    - tomli<2.0.2")
    first = await kind.lock(Request(repository), ignore)
    await asyncio.to_thread(make_channel, lab, module("greet", "2.0"), module("other", "2.0"))
    declare(repository, lab, "greet", "other", "pip:\n    - tomli")
    again = await kind.lock(Request(repository, previous=first), ignore)
    assert again.id == first.id
    named = await kind.lock(Request(repository, previous=first, upgrade=Upgrade(("greet",))), ignore)
    found = versions(kind, named)
    assert (found["greet"], found["other"], found["tomli"]) == ("2.0", "1.0", "2.0.1")
    every = await kind.lock(Request(repository, previous=first, upgrade=Upgrade()), ignore)
    found = versions(kind, every)
    assert (found["greet"], found["other"]) == ("2.0", "2.0")
    assert found["tomli"] > "2.0.1"
    error = await failure(kind.lock(Request(repository, previous=first, upgrade=Upgrade(("pandas",))), ignore))
    assert error.problem.code == "package-not-locked"
    (lab / "noarch" / "greet-1.0-0.tar.bz2").unlink()
    await asyncio.to_thread(make_channel, lab)
    gone = await kind.lock(Request(repository, previous=first), ignore)
    assert versions(kind, gone)["greet"] == "2.0", "what was withdrawn cannot be kept"


async def test_a_channel_is_a_name_below_the_owners_alias(
    kind: CondaKind, repository: Path, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", channel.parent.as_uri())
    (repository / "environment.yml").write_text("channels: [lab, nodefaults]\ndependencies: [lab::hello, greet]\n")
    lock = await kind.lock(Request(repository), ignore)
    assert "://" not in lock.text
    assert versions(kind, lock)["hello"] == "1.0"
    assert [package.channel for package in CondaLock.parse(lock.text).packages] == ["lab"] * 3
    exported = await kind.export(lock, "dockerfile")
    assert f"{channel.as_uri()}/noarch/greet-2.0-0.tar.bz2#sha256:" in exported[f"conda-{SUBDIR}.lock"]


async def test_a_chosen_file_wins_and_its_includes_are_inputs(kind: CondaKind, repository: Path, channel: Path) -> None:
    declare(repository, channel, "hello")
    (repository / "envs").mkdir()
    declare(repository / "envs", channel, "greet", "pip:\n    - -r more.txt", name="gpu.yml")
    (repository / "envs" / "more.txt").write_text("six==1.17.0\n")
    request = Request(repository, project="envs", file="gpu.yml")
    assert set(kind.inputs(request)) == {"envs/gpu.yml", "envs/more.txt"}
    before = kind.inputs(request)
    lock = await kind.lock(request, ignore)
    assert lock.facts["source"] == "envs/gpu.yml"
    assert versions(kind, lock)["six"] == "1.17.0"
    assert "hello" not in versions(kind, lock)
    (repository / "envs" / "more.txt").write_text("six==1.16.0\n")
    assert kind.inputs(request) != before
    error = await failure(kind.lock(Request(repository, file="envs/cpu.yml"), ignore))
    assert (error.problem.code, error.problem.where) == ("environment-file-missing", "environment.file")


@pytest.mark.parametrize(
    ("dependency", "code", "words"),
    [
        ("gret", "package-not-found", "did you mean `greet`?"),
        ("greet>=3", "packages-conflict", "greet >=3"),
        ("needs-greet-3", "packages-conflict", "needs-greet-3 1.0 would require"),
        ("greet=1=never_built", "packages-conflict", "never_built"),
        ("greet >>1", "requirement-syntax", "greet >>1"),
        ("greet*", "requirement-syntax", "greet*"),
        ("greet[channel=elsewhere]", "requirement-syntax", "name::package"),
    ],
)
async def test_what_cannot_be_solved_is_explained(
    kind: CondaKind, repository: Path, channel: Path, dependency: str, code: str, words: str
) -> None:
    declare(repository, channel, "python", f"'{dependency}'")
    error = await failure(kind.lock(Request(repository), ignore))
    assert isinstance(error, WrongInput)
    assert error.problem.code == code
    assert words in str(error.problem)
    assert "\n" not in error.problem.message
    assert error.problem.where == "environment.yml:4:5"


async def test_a_channel_that_is_none_and_one_that_cannot_be_reached(
    kind: CondaKind, repository: Path, server: Server
) -> None:
    error = await failure(kind.lock(Request(declare(repository, f"{server.url}/nowhere", "greet")), ignore))
    assert isinstance(error, WrongInput)
    assert error.problem.code == "channel-not-found"
    server.close()
    error = await failure(kind.lock(Request(declare(repository, server.url, "greet")), ignore))
    assert isinstance(error, Unavailable)
    assert error.problem.code == "index-unreachable"


async def test_a_pip_section_that_cannot_be_locked(kind: CondaKind, repository: Path, channel: Path) -> None:
    declare(
        repository,
        channel,
        "python",
        "pip:\n    - git+https://example.org/code.git\n    - ./own.whl\n    - --find-links elsewhere\n    - six>>1",
    )
    error = await failure(kind.lock(Request(repository), ignore))
    assert isinstance(error, WrongInput)
    assert [problem.where for problem in error.problems] == [f"environment.yml:{line}:7" for line in (5, 6, 7, 8)]
    declare(repository, channel, "python", "pip:\n    - no-such-package-of-studiolo")
    error = await failure(kind.lock(Request(repository), ignore))
    assert (error.problem.code, error.problem.where) == ("package-not-found", "environment.yml:5:7")


def generations(folder: Path, kind: CondaKind, cache: Path) -> Generations:
    return Generations(folder / "generations", cache, {"conda": kind}, reserve=0)


def left(folder: Path) -> list[str]:
    names = (path.name for path in (folder / "generations").iterdir())
    return sorted(name for name in names if not name.startswith((".lock-", ".failed-")))


async def test_two_who_want_the_same_build_once_and_share_files_with_the_next(
    kind: CondaKind, repository: Path, channel: Path, cache: Path, tmp_path: Path
) -> None:
    lock = await kind.lock(Request(declare(repository, channel, "greet=1", "hello")), ignore)
    heard: list[str] = []
    both = await asyncio.gather(
        generations(tmp_path, kind, cache).build(lock, lambda progress: heard.append(progress.message)),
        generations(tmp_path, CondaKind(cache), cache).build(lock, lambda progress: heard.append(progress.message)),
    )
    assert both[0] == both[1]
    assert heard.count("installed hello") == 1
    assert any("waiting" in message for message in heard)
    first = both[0].folder
    assert run(first / "bin" / "hello") == "hello 1.0", "built in its place, it runs where it lies"
    other = await kind.lock(Request(declare(repository, channel, "greet=2", "hello")), ignore)
    second = (await generations(tmp_path, kind, cache).build(other, ignore)).folder
    assert run(second / "bin" / "hello") == "hello 2.0", "files that the first made read-only do not hinder the next"
    for name in ("share/hello.txt", "lib/python3.11/site-packages/README.txt".replace("3.11", python().version[:4])):
        assert (first / name).stat().st_ino == (second / name).stat().st_ino
        assert not (first / name).stat().st_mode & 0o222
    assert run(first / "bin" / "hello") == "hello 1.0"


async def test_a_build_that_is_given_up_leaves_nothing_and_nobody(
    repository: Path, server: Server, tmp_path: Path
) -> None:
    kind = CondaKind(tmp_path / "cache")
    server.held = {"greet-1.0-0.tar.bz2"}
    lock = await kind.lock(Request(declare(repository, server.url, "greet=1", "hello")), ignore)
    task = asyncio.create_task(generations(tmp_path, kind, tmp_path / "cache").build(lock, ignore))
    await until(
        lambda: "greet-1.0-0.tar.bz2" in server.asked and (tmp_path / "generations" / lock.id / "share").exists()
    )
    workers = [each for each in psutil.Process().children() if "studiolo.environments.conda_worker" in each.cmdline()]
    assert workers
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(worker.is_running() for worker in workers)
    assert left(tmp_path) == []
    server.go.set()
    built = await generations(tmp_path, kind, tmp_path / "cache").build(lock, ignore)
    assert run(built.folder / "bin" / "hello") == "hello 1.0"


CHILD = """
    import asyncio, sys
    from pathlib import Path
    from studiolo.environments.conda import CondaKind
    from studiolo.environments.generations import Generations
    from studiolo.environments.kind import Lock

    folder = Path(sys.argv[1])
    lock = Lock("conda", sys.stdin.read(), sys.argv[2], sys.argv[3])
    kind = CondaKind(folder / "cache")
    store = Generations(folder / "generations", folder / "cache", {"conda": kind}, reserve=0)
    asyncio.run(store.build(lock, lambda _: None))
"""


async def test_a_power_cut_half_way_is_built_over(repository: Path, server: Server, tmp_path: Path) -> None:
    kind = CondaKind(tmp_path / "cache")
    server.held = {"greet-1.0-0.tar.bz2"}
    lock = await kind.lock(Request(declare(repository, server.url, "greet=1", "hello")), ignore)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), tmp_path, lock.interpreter, lock.platform],
        stdin=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdin is not None
        child.stdin.write(lock.text)
        child.stdin.close()
        place = tmp_path / "generations" / lock.id
        await until(lambda: "greet-1.0-0.tar.bz2" in server.asked and (place / "share").exists())
        os.kill(child.pid, signal.SIGKILL)
    store = generations(tmp_path, kind, tmp_path / "cache")
    assert store.find(lock.id) is None, "half a generation is none"
    assert await asyncio.to_thread(end_orphans) >= 1, "as the control plane does when it starts"
    server.go.set()
    (place / "share" / "hello.txt").write_text("torn")  # a hard link: the cache has it too
    built = await store.build(lock, ignore)
    assert run(built.folder / "bin" / "hello") == "hello 1.0"
    assert (place / "share" / "hello.txt").read_text() == "shared by all\n"
    assert left(tmp_path) == [lock.id]


async def test_a_channel_that_goes_away_in_the_middle(repository: Path, server: Server, tmp_path: Path) -> None:
    kind = CondaKind(tmp_path / "cache")
    lock = await kind.lock(Request(declare(repository, server.url, "greet=1", "hello")), ignore)
    server.cut = {"greet-1.0-0.tar.bz2"}
    store = generations(tmp_path, kind, tmp_path / "cache")
    error = await failure(store.build(lock, ignore))
    assert isinstance(error, Unavailable)
    assert error.problem.code == "index-unreachable"
    assert left(tmp_path) == []
    assert "greet-1.0-0" in (tmp_path / "generations" / f".failed-{lock.id}.log").read_text()
    server.cut = set()
    assert (await store.build(lock, ignore)).packages == 3


@pytest.mark.parametrize("over_http", [True, False])
async def test_a_file_that_is_not_the_locked_one(repository: Path, tmp_path: Path, over_http: bool) -> None:
    lab = await asyncio.to_thread(make_channel, tmp_path / "lab", python(), module("greet"))
    with contextlib.closing(Server(lab)) as server:
        kind = CondaKind(tmp_path / "cache")
        lock = await kind.lock(Request(declare(repository, server.url if over_http else lab, "greet")), ignore)
        module("greet", text="VERSION = 'not what was locked'\n").write(lab)
        store = generations(tmp_path, kind, tmp_path / "cache")
        error = await failure(store.build(lock, ignore))
        assert error.problem.code == "hash-mismatch"
        assert "greet-1.0" in error.problem.message
        assert left(tmp_path) == []
        (lab / "noarch" / "greet-1.0-0.tar.bz2").unlink()
        assert (await failure(store.build(lock, ignore))).problem.code == "package-gone"


async def test_files_of_the_same_name_in_two_channels_are_not_mixed_up(
    kind: CondaKind, repository: Path, tmp_path: Path
) -> None:
    """They share a place in the cache: neither may be taken for the other, nor change what is built already."""
    said: list[Path] = []
    for name in ("one", "two", "one"):
        text = f"VERSION = {name!r}\n"
        lab = await asyncio.to_thread(make_channel, tmp_path / name, python(), module("greet", "9.0", text=text))
        lock = await kind.lock(Request(declare(repository, lab, "greet")), ignore)
        folder = tmp_path / f"generation-{len(said)}"
        folder.mkdir()
        await kind.build(lock, folder, ignore)
        said.append(folder)
    program = "import greet; print(greet.VERSION)"
    assert [run(each / "bin" / "python", "-c", program) for each in said] == ["one", "two", "one"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def test_a_disk_that_fills_up_while_building(repository: Path, small_disk: Path, tmp_path: Path) -> None:
    large = Recipe("large", files={"share/large.bin": os.urandom(3 << 20)})
    lab = await asyncio.to_thread(make_channel, tmp_path / "lab", large)
    for cache in (small_disk / "cache", tmp_path / "cache"):
        kind = CondaKind(cache)
        lock = await kind.lock(Request(declare(repository, lab, "large")), ignore)
        error = await failure(generations(small_disk, kind, cache).build(lock, ignore))
        assert error.problem.code == "disk-full"
        assert left(small_disk) == []
        shutil.rmtree(cache)


async def test_a_rebuild_is_the_same(
    kind: CondaKind, repository: Path, channel: Path, cache: Path, tmp_path: Path
) -> None:
    declare(repository, channel, "greet", "hello", "tool", "pip:\n    - tomli")
    lock = await kind.lock(Request(repository), ignore)
    heard: list[str] = []
    folder = (await generations(tmp_path, kind, cache).build(lock, ignore)).folder
    run(folder / "bin" / "python", "-c", "import greet, tomli")
    found = await verify(kind, lock, folder, tmp_path, lambda progress: heard.append(progress.message))
    assert found.same, found.differences
    assert found.files > 20
    assert "downloaded hello" in heard
    assert left(tmp_path) == [lock.id]
    (folder / "share" / "hello.txt").unlink()
    (folder / "share" / "hello.txt").write_text("meddled with\n")
    found = await verify(kind, lock, folder, tmp_path, ignore)
    assert [difference.path for difference in found.differences] == ["share/hello.txt"]


async def test_the_example_resolves(repository: Path, tmp_path: Path) -> None:
    """Against stand-ins of the same names, as conda-forge cannot be had in tests."""
    example = Path(__file__).parents[2] / "examples" / "conda-weather"
    shutil.copytree(example, repository, dirs_exist_ok=True)
    lab = tmp_path / "conda-forge"
    names = ("pandas", "matplotlib-base", "pip", "ipykernel")
    await asyncio.to_thread(make_channel, lab, python(), *(module(name, "3.0") for name in names))
    kind = CondaKind(tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDA_CHANNEL_ALIAS", tmp_path.as_uri())
        lock = await kind.lock(Request(repository), ignore)
    found = versions(kind, lock)
    assert {*names, "python", "humanize"} <= set(found)
    assert "notes" not in lock.facts
    assert "://" not in lock.text
