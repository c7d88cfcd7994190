"""Generations appear whole or not at all, whoever builds, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from studiolo.environments.build_log import BuildLog
from studiolo.environments.generations import Generations
from studiolo.environments.kind import (
    Activation,
    Detection,
    ExportFormat,
    Index,
    Lock,
    Package,
    Progress,
    Report,
    Request,
)
from studiolo.environments.uv import UvKind
from studiolo.problem import Problem, StudioloError

LOCK = Lock("step", "one\n", "3.11.7", "linux-x86_64", {"source": "a test"})


class StepKind:
    """Builds in two halves; the second begins when `go` is set. `fault` happens between them."""

    name = "step"
    exports: tuple[ExportFormat, ...] = ()
    unlike: tuple[str, ...] = ()

    def __init__(self, fault: Callable[[Path], None] = lambda _: None, in_place: bool = False) -> None:
        self.in_place = in_place
        self.go = asyncio.Event()
        self.half = asyncio.Event()
        self.builds = 0
        self._fault = fault

    def detect(self, folder: Path) -> Detection | None:
        return None

    def inputs(self, request: Request) -> Mapping[str, str]:
        return {}

    async def lock(self, request: Request, report: Report) -> Lock:
        return LOCK

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        await self.build(lock, folder, report)

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        return {}

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        self.builds += 1
        BuildLog(folder).add("half")
        (folder / "first").write_text("1")
        report(Progress("half", 1, 2))
        self.half.set()
        await self.go.wait()
        self._fault(folder)
        (folder / "second").write_text("2")

    def activate(self, lock: Lock, folder: Path) -> Activation:
        return Activation()

    async def forget(self, lock: Lock) -> None:
        """Nothing is kept elsewhere."""

    async def close(self) -> None:
        """Nothing goes on."""

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        return (Package("one", "1"),)


def ignore(_: Progress) -> None: ...


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".lock-", ".failed-")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "generations"


def generations(folder: Path, kind: StepKind, reserve: int = 0) -> Generations:
    return Generations(folder, folder.parent / "cache", {"step": kind}, reserve=reserve, clock=lambda: 1000.0)


async def test_a_build_is_found_again_and_not_repeated(folder: Path) -> None:
    kind = StepKind()
    kind.go.set()
    store = generations(folder, kind)
    assert store.find(LOCK.id) is None
    assert store.all() == ()
    built = await store.build(LOCK, ignore)
    assert (built.id, built.kind, built.packages, built.built_at) == (LOCK.id, "step", 1, 1000.0)
    assert built.folder == folder / LOCK.id
    assert built.lock == LOCK
    again = generations(folder, kind)
    assert again.find(LOCK.id) == built
    assert again.all() == (built,)
    assert await again.build(LOCK, ignore) == built
    assert kind.builds == 1
    assert visible(folder) == [LOCK.id]
    assert (built.folder / "build.log").read_text() == "half\n"
    await store.settle()
    for name in ("first", "lock.json", "build.json"):
        assert not stat.S_IMODE((built.folder / name).stat().st_mode) & 0o222
    assert store.disk_usage() > 0


@pytest.mark.parametrize("name", ["", ".", "..", "../generations", "a/b", ".building-x"])
def test_only_an_id_finds_anything(folder: Path, name: str) -> None:
    assert generations(folder, StepKind()).find(name) is None


async def test_those_who_want_the_same_share_one_build_and_its_progress(folder: Path) -> None:
    kind = StepKind()
    store = generations(folder, kind)
    heard: list[list[Progress]] = [[], []]
    first = asyncio.create_task(store.build(LOCK, heard[0].append))
    await kind.half.wait()
    second = asyncio.create_task(store.build(LOCK, heard[1].append))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    kind.go.set()
    built = await second
    assert built.id == LOCK.id
    assert kind.builds == 1
    assert [progress[0].message for progress in heard] == ["half", "half"]


async def test_when_the_last_one_gives_up_nothing_is_left(folder: Path) -> None:
    kind = StepKind()
    store = generations(folder, kind)
    tasks = [asyncio.create_task(store.build(LOCK, ignore)) for _ in range(2)]
    await kind.half.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert visible(folder) == []
    kind.go.set()
    assert (await store.build(LOCK, ignore)).id == LOCK.id
    assert kind.builds == 2


def _fail(_: Path) -> None:
    raise StudioloError(Problem("package-not-found", "no such package"))


async def test_a_failed_build_leaves_its_log_and_can_be_tried_again(folder: Path) -> None:
    kind = StepKind(_fail)
    kind.go.set()
    store = generations(folder, kind)
    with pytest.raises(StudioloError, match="no such package"):
        await store.build(LOCK, ignore)
    assert visible(folder) == []
    assert (folder / f".failed-{LOCK.id}.log").read_text() == "half\n"
    healthy = StepKind()
    healthy.go.set()
    await generations(folder, healthy).build(LOCK, ignore)
    assert not (folder / f".failed-{LOCK.id}.log").exists()


async def test_too_little_space_is_said_before_anything_begins(folder: Path) -> None:
    kind = StepKind()
    with pytest.raises(StudioloError) as caught:
        await generations(folder, kind, reserve=1 << 60).build(LOCK, ignore)
    assert caught.value.problem.code == "disk-full"
    assert "MiB are free" in caught.value.problem.message
    assert "STUDIOLO_HOME" in caught.value.problem.hint
    assert kind.builds == 0
    assert visible(folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def test_a_disk_that_fills_up_while_building(small_disk: Path, tmp_path: Path) -> None:
    """With the real uv: the cache fits, the environment does not."""
    kind = UvKind(tmp_path / "cache")
    lock = await kind.lock(Request(packages=("six",)), ignore)
    store = Generations(small_disk / "generations", tmp_path / "cache", {"uv": kind}, reserve=0)
    with pytest.raises(StudioloError) as caught:
        await store.build(lock, ignore)
    assert caught.value.problem.code == "disk-full"
    assert visible(small_disk / "generations") == []
    assert store.find(lock.id) is None


async def test_a_disk_that_is_full_at_the_last_step(small_disk: Path) -> None:
    def fill(folder: Path) -> None:
        with (folder / "large").open("wb") as file:
            while True:
                file.write(b"x" * 65536)

    kind = StepKind(fill)
    kind.go.set()
    store = generations(small_disk / "generations", kind)
    with pytest.raises(StudioloError) as caught:
        await store.build(LOCK, ignore)
    assert caught.value.problem.code == "disk-full"
    assert visible(small_disk / "generations") == []


CHILD = """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_environments_generations import LOCK, StepKind, generations

    async def main():
        kind = StepKind()
        task = asyncio.create_task(generations(Path({folder!r}), kind).build(LOCK, lambda _: None))
        await kind.half.wait()
        print("half", flush=True)
        if await asyncio.to_thread(sys.stdin.readline):
            kind.go.set()
            await task
            print("built", kind.builds, flush=True)

    asyncio.run(main())
"""


@pytest.fixture
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another Studiolo, half-way through building the same."""
    folder.mkdir()
    program = textwrap.dedent(CHILD).format(tests=str(Path(__file__).parent), folder=str(folder))
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        yield child
        child.kill()


async def test_a_killed_build_is_invisible_and_swept(folder: Path, other_process: subprocess.Popen[str]) -> None:
    kind = StepKind()
    kind.go.set()
    store = generations(folder, kind)
    (leftover,) = folder.glob(".building-*")
    store.sweep()
    assert leftover.exists(), "what lives is left alone"
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert store.find(LOCK.id) is None
    assert store.all() == ()
    store.sweep()
    assert [path.name for path in folder.iterdir()] == []
    assert (await store.build(LOCK, ignore)).id == LOCK.id


async def test_two_processes_build_once(folder: Path, other_process: subprocess.Popen[str]) -> None:
    kind = StepKind()
    kind.go.set()
    heard: list[Progress] = []
    waiting = asyncio.Event()

    def hear(progress: Progress) -> None:
        heard.append(progress)
        waiting.set()

    task = asyncio.create_task(generations(folder, kind).build(LOCK, hear))
    await asyncio.wait_for(waiting.wait(), 30)
    assert "another process" in heard[0].message
    assert other_process.stdin is not None
    assert other_process.stdout is not None
    other_process.stdin.write("go\n")
    other_process.stdin.flush()
    built = await asyncio.wait_for(task, 30)
    assert kind.builds == 0
    assert (built.folder / "second").read_text() == "2"
    assert await asyncio.to_thread(other_process.stdout.readline) == "built 1\n"


async def test_a_waiting_process_takes_over_from_one_that_dies(
    folder: Path, other_process: subprocess.Popen[str]
) -> None:
    kind = StepKind()
    kind.go.set()
    waiting = asyncio.Event()
    task = asyncio.create_task(generations(folder, kind).build(LOCK, lambda _: waiting.set()))
    await asyncio.wait_for(waiting.wait(), 30)
    other_process.kill()
    assert (await asyncio.wait_for(task, 30)).id == LOCK.id
    assert kind.builds == 1


async def test_what_holds_its_own_path_is_built_in_its_place_and_is_none_until_it_is_whole(folder: Path) -> None:
    kind = StepKind(in_place=True)
    store = generations(folder, kind)
    task = asyncio.create_task(store.build(LOCK, ignore))
    await kind.half.wait()
    assert (folder / LOCK.id / "first").exists()
    assert store.find(LOCK.id) is None
    assert store.all() == ()
    assert (log := store.log(LOCK.id)) is not None
    assert log.read_text() == "half\n"
    kind.go.set()
    assert (await task).folder == folder / LOCK.id


async def test_half_a_build_in_its_place_is_swept_or_built_over(folder: Path) -> None:
    (folder / LOCK.id / "lib").mkdir(parents=True)
    (folder / LOCK.id / "lib/old").touch()
    kind = StepKind(in_place=True)
    kind.go.set()
    store = generations(folder, kind)
    built = await store.build(LOCK, ignore)
    assert not (built.folder / "lib").exists()
    store.sweep()
    assert store.find(LOCK.id) == built
    (folder / LOCK.id / "build.json").unlink()
    store.sweep()
    assert list(folder.iterdir()) == []


async def test_what_was_not_made_read_only_before_a_crash_is_afterwards(folder: Path) -> None:
    kind = StepKind()
    kind.go.set()
    store = generations(folder, kind)
    built = await store.build(LOCK, ignore)
    await store.settle()
    for name in ("first", "build.json"):
        (built.folder / name).chmod(0o644)
    generations(folder, kind).sweep()
    for name in ("first", "build.json"):
        assert not (built.folder / name).stat().st_mode & 0o222


async def test_a_failed_build_in_its_place_leaves_its_log_only(folder: Path) -> None:
    kind = StepKind(_fail, in_place=True)
    kind.go.set()
    store = generations(folder, kind)
    with pytest.raises(StudioloError, match="no such package"):
        await store.build(LOCK, ignore)
    assert visible(folder) == []
    assert (log := store.log(LOCK.id)) is not None
    assert log.read_text() == "half\n"


async def test_removing_frees_what_has_no_other_name(folder: Path) -> None:
    def share(building: Path) -> None:
        (building / "large").write_bytes(b"x" * 100_000)
        (building / "shared").write_bytes(b"x" * 50_000)
        os.link(building / "shared", folder.parent / "download")

    kind = StepKind(share)
    kind.go.set()
    store = generations(folder, kind)
    await store.build(LOCK, ignore)
    weighed = store.weigh([LOCK.id, "0123456789abcdef"])
    assert weighed.ids == (LOCK.id,)
    assert weighed.freed >= 100_000
    assert 50_000 <= weighed.shared < 100_000
    assert store.find(LOCK.id) is not None, "weighing changes nothing"
    assert store.discard(store.retire([LOCK.id, "0123456789abcdef"])) == weighed
    assert store.find(LOCK.id) is None
    assert visible(folder) == []
    assert (folder.parent / "download").exists()


async def test_what_is_being_built_is_not_removed(folder: Path, other_process: subprocess.Popen[str]) -> None:
    store = generations(folder, StepKind())
    assert store.retire([LOCK.id]) == {}
    assert len(list(folder.glob(".building-*"))) == 1


async def test_a_verdict_is_kept_with_the_generation(folder: Path) -> None:
    kind = StepKind()
    kind.go.set()
    store = generations(folder, kind)
    built = await store.build(LOCK, ignore)
    assert store.verdict(LOCK.id) is None
    store.judge(LOCK.id, {"kernel": "ok"})
    assert generations(folder, kind).verdict(LOCK.id) == {"kernel": "ok"}
    assert store.find(LOCK.id) == built
    store.discard(store.retire([LOCK.id]))
    assert store.verdict(LOCK.id) is None
