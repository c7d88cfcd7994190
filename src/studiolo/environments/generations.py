"""Built environments on disk: immutable, addressed by their lock, shared by all workspaces with the same lock.

A generation appears whole or not at all: it is built in `.building-<id>-<random>` and renamed, or, where what is built
holds its own path, in its place; either way it is one only once `build.json` is in it, written last. Only one process
builds an id at a time (a lock on `.lock-<id>`, which the kernel releases when its holder dies), and within this
process all who want it wait for the same build. Files are made read-only, a moment later and `build.json` last, because
they are hard links into the download cache that all generations share; folders stay writable, so that compiled modules
can be added later and `rm -rf` of the data folder just works.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studiolo import __version__
from studiolo.environments.build_log import NAME as LOG_NAME
from studiolo.environments.kind import Index, Kind, Lock, Progress, Report
from studiolo.problem import Problem, StudioloError
from studiolo.process import end_orphans

RESERVE = 500 << 20
"""Bytes that must be free before a build begins."""

_BUILDING = ".building-"
_LOCK = ".lock-"
_FAILED = ".failed-"
_REMOVING = ".removing-"
_VERIFYING = ".verify-"
_FACTS = "build.json"
_VERDICT = "verdict.json"
_ASK_AGAIN = 0.2
_LOGS_KEPT = 7 * 86400.0


@dataclass(frozen=True)
class Generation:
    """`built_at` is Unix time, `seconds` how long the build took, `packages` how many are in it, `builder` the version
    of Studiolo that built it."""

    id: str
    kind: str
    folder: Path
    lock: Lock
    built_at: float
    seconds: float
    packages: int
    builder: str = ""


@dataclass(frozen=True)
class Removal:
    """What removing generations frees. `freed` bytes had no other name; `shared` bytes have: other generations or the
    downloads hold the same files."""

    ids: tuple[str, ...]
    freed: int
    shared: int


@dataclass
class _Build:
    """A build under way in this process, and who is waiting for it."""

    reports: list[Report] = field(default_factory=list)
    last: Progress | None = None
    task: asyncio.Task[Generation] | None = None

    def report(self, progress: Progress) -> None:
        self.last = progress
        for each in self.reports:
            each(progress)


class Generations:
    """`folder` holds the generations, `cache` the downloads. `clock` gives Unix time."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        kinds: Mapping[str, Kind],
        *,
        reserve: int = RESERVE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._cache = cache
        self._kinds = kinds
        self._reserve = reserve
        self._clock = clock
        self._builds: dict[str, _Build] = {}
        self._found: dict[str, tuple[tuple[tuple[int, int], ...], Generation]] = {}
        self._protecting: set[asyncio.Task[None]] = set()

    def find(self, lock_id: str) -> Generation | None:
        """The complete generation of this id. None where there is none, or it cannot be read."""
        folder = self._folder / lock_id
        if not lock_id.isalnum():
            return None
        try:
            # It is asked for every workspace at every look, and its files do not change.
            marks = [(folder / name).stat() for name in ("lock.json", _FACTS)]
            version = tuple((mark.st_ino, mark.st_mtime_ns) for mark in marks)
            if lock_id not in self._found or self._found[lock_id][0] != version:
                self._found[lock_id] = version, _read(lock_id, folder)
            return self._found[lock_id][1]
        except (OSError, ValueError, TypeError, KeyError):
            self._found.pop(lock_id, None)
            return None

    def all(self) -> tuple[Generation, ...]:
        """Every complete generation, oldest first."""
        names = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
        found = [generation for name in names if (generation := self.find(name)) is not None]
        return tuple(sorted(found, key=lambda generation: (generation.built_at, generation.id)))

    async def build(self, lock: Lock, report: Report, indexes: Sequence[Index] = ()) -> Generation:
        """The generation of this lock, built if it is not there. Idempotent. `indexes` may hold log-ins.

        Callers in this process share one build and all hear its progress; cancelling the last of them cancels it. A
        build by another process is waited for. Raises `StudioloError` (disk-full, package-not-found, ...); then
        nothing is left but the log, `.failed-<id>.log`.
        """
        if (found := self.find(lock.id)) is not None:
            return found
        build = self._builds.get(lock.id)
        if build is None or build.task is None or build.task.done():
            build = self._builds[lock.id] = _Build()
            build.task = asyncio.create_task(self._build(lock, build, indexes), name=f"build {lock.id}")
        elif build.last is not None:
            report(build.last)
        task = build.task
        assert task is not None
        build.reports.append(report)
        try:
            return await asyncio.shield(task)
        finally:
            build.reports.remove(report)
            if not build.reports:
                if self._builds.get(lock.id) is build:
                    del self._builds[lock.id]
                if not task.done():
                    task.cancel()
                    # not `await task`: how it ended concerns nobody any more, and this may itself be cancelled
                    await asyncio.gather(task, return_exceptions=True)

    def log(self, lock_id: str) -> Path | None:
        """What the programs of its build printed: of the one under way, else of the one that made it or failed last."""
        if not lock_id.isalnum():
            return None
        under_way = sorted(self._folder.glob(f"{_BUILDING}{lock_id}-*/{LOG_NAME}"))
        known = (*under_way, self._folder / lock_id / LOG_NAME, self._folder / f"{_FAILED}{lock_id}.log")
        return next((path for path in known if path.is_file()), None)

    @property
    def busy(self) -> bool:
        """Whether this process is building anything."""
        return bool(self._builds)

    def judge(self, lock_id: str, verdict: Mapping[str, Any]) -> None:
        """Keep with a generation what looking at it has shown. It goes when the generation does."""
        _write(self._folder / lock_id / _VERDICT, verdict)

    def verdict(self, lock_id: str) -> Mapping[str, Any] | None:
        """What `judge` kept; None where nothing is known."""
        try:
            found = json.loads((self._folder / lock_id / _VERDICT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def weigh(self, ids: Iterable[str]) -> Removal:
        """What removing these would free. Takes seconds: use a thread."""
        return _weigh({each: self._folder / each for each in ids if self.find(each) is not None})

    def retire(self, ids: Iterable[str]) -> Mapping[str, Path]:
        """Take these generations out of sight, each in one step, so that half a one is never seen; one that is being
        built or is not there is left alone. Whoever asks must know that nothing uses them. Returns what went, for
        `discard`; where that is not reached, `sweep` does it."""
        retired = {}
        for lock_id in ids:
            with self._try_claim(lock_id) as claimed:
                going = self._folder / f"{_REMOVING}{lock_id}-{secrets.token_hex(4)}"
                if claimed:
                    with contextlib.suppress(FileNotFoundError):
                        retired[lock_id] = (self._folder / lock_id).rename(going)
        return retired

    def discard(self, retired: Mapping[str, Path]) -> Removal:
        """Remove the files of what was retired. Takes seconds: use a thread."""
        weighed = _weigh(retired)
        for folder in retired.values():
            _remove(folder)
        return weighed

    def sweep(self) -> None:
        """Remove what crashed builds left behind. What a live process is building stays. Call it from a thread."""
        if not self._folder.is_dir():
            return
        for leftover in sorted(self._folder.iterdir()):
            if leftover.name.startswith((_REMOVING, _VERIFYING)):
                _remove(leftover)
            elif leftover.name.startswith(_BUILDING):
                self._remove_if_dead(leftover, leftover.name.removeprefix(_BUILDING).split("-")[0])
            elif leftover.name.isalnum() and not (leftover / _FACTS).exists():
                self._remove_if_dead(leftover, leftover.name)
            elif leftover.name.isalnum() and (leftover / _FACTS).stat().st_mode & 0o222:
                _protect(leftover)  # its builder did not come to it
        for claim in sorted(self._folder.glob(f"{_LOCK}*")):
            with self._try_claim(claim.name.removeprefix(_LOCK)) as claimed:
                if claimed:
                    claim.unlink(missing_ok=True)
        before = self._clock() - _LOGS_KEPT
        for log in self._folder.glob(f"{_FAILED}*"):
            with contextlib.suppress(OSError):
                if log.stat().st_mtime < before:
                    log.unlink()
        scratch = self._cache / "scratch"
        for rest in scratch.iterdir() if scratch.is_dir() else ():
            with contextlib.suppress(OSError):
                if rest.stat().st_mtime < before:
                    _remove(rest)

    def _remove_if_dead(self, leftover: Path, lock_id: str) -> None:
        with self._try_claim(lock_id) as claimed:
            if claimed:
                _remove(leftover)

    def disk_usage(self) -> int:
        """Bytes on disk of all generations together; files they share count once. Takes seconds: use a thread."""
        seen: set[int] = set()
        total = 0
        for at, _, files in os.walk(self._folder):
            for name in files:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(at, name))  # noqa: PTH118  a hundred thousand files
                    if status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_blocks * 512
        return total

    async def _build(self, lock: Lock, build: _Build, indexes: Sequence[Index]) -> Generation:
        self._folder.mkdir(parents=True, exist_ok=True)
        told = False
        while True:
            with self._try_claim(lock.id) as claimed:
                if claimed:
                    return self.find(lock.id) or await self._build_alone(lock, build.report, indexes)
            if not told:
                build.report(Progress("waiting for another process that builds the same environment"))
                told = True
            await asyncio.sleep(_ASK_AGAIN)

    async def _build_alone(self, lock: Lock, report: Report, indexes: Sequence[Index]) -> Generation:
        self._check_space()
        kind = self._kinds.get(lock.kind)
        if kind is None:
            raise StudioloError(Problem("kind-unknown", f"no kind of environment is called {lock.kind}"))
        begun = time.monotonic()
        place = self._folder / lock.id
        building = place if kind.in_place else self._folder / f"{_BUILDING}{lock.id}-{secrets.token_hex(4)}"
        complete = False
        try:
            if place.exists():
                # what a crash left of a build in its place, or a generation that cannot be read any more; the dead
                # builder's programs may be writing there still
                await asyncio.to_thread(end_orphans)
                await asyncio.to_thread(_remove, place)
            building.mkdir()
            await kind.build(lock, building, report, indexes)
            contents, _ = await asyncio.gather(
                asyncio.to_thread(kind.describe, lock, building), asyncio.to_thread(_seal, building, lock)
            )
            packages = len(contents)
            facts = {
                "built_at": self._clock(),
                "seconds": round(time.monotonic() - begun, 3),
                "packages": packages,
                "builder": __version__,
            }
            _write(building / _FACTS, facts)
            if building != place:
                building.rename(place)
                _sync(self._folder)
            complete = True
        except OSError as error:
            self._keep_log(lock.id, building)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StudioloError(self._full()) from error
            raise StudioloError(
                Problem("environment-failed", f"the environment cannot be written: {error.strerror}", str(self._folder))
            ) from error
        except StudioloError:
            self._keep_log(lock.id, building)
            raise
        finally:
            if not complete and building.exists():
                # shielded: a second cancellation leaves nothing half removed
                await asyncio.shield(asyncio.to_thread(_remove, building))
        (self._folder / f"{_FAILED}{lock.id}.log").unlink(missing_ok=True)
        found = self.find(lock.id)
        assert found is not None, "what was just written can be read"
        task = asyncio.create_task(asyncio.to_thread(_protect, place), name=f"protect {lock.id}")
        self._protecting.add(task)
        task.add_done_callback(self._protecting.discard)
        return found

    async def settle(self) -> None:
        """Wait until the files of what was built are read-only."""
        await asyncio.gather(*self._protecting)

    def _check_space(self) -> None:
        if shutil.disk_usage(self._folder).free < self._reserve:
            raise StudioloError(self._full())

    def _full(self) -> Problem:
        free = shutil.disk_usage(self._folder).free >> 20
        return Problem(
            "disk-full",
            f"the disk is full: {free} MiB are free where environments are kept, and building one takes "
            f"{max(self._reserve, RESERVE) >> 20} MiB or more",
            f"remove what is not needed (downloads in {self._cache} may go at any time), "
            "or set STUDIOLO_HOME to a larger disk",
        )

    def _keep_log(self, lock_id: str, building: Path) -> None:
        with contextlib.suppress(OSError):
            (building / LOG_NAME).replace(self._folder / f"{_FAILED}{lock_id}.log")

    @contextlib.contextmanager
    def _try_claim(self, lock_id: str) -> Iterator[bool]:
        """Hold the right to build this id, if nobody else does: yields whether that is so."""
        path = self._folder / f"{_LOCK}{lock_id}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # sweep() removes claims that nobody holds: one that was removed meanwhile claims nothing
                claimed = os.fstat(handle).st_ino == path.stat().st_ino
            except (BlockingIOError, FileNotFoundError):
                claimed = False
            yield claimed
        finally:
            os.close(handle)


def _seal(folder: Path, lock: Lock) -> None:
    """Write what the generation is, and have it all on disk before it is one."""
    _write(folder / "lock.json", asdict(lock))
    # all at once: syncing fifty thousand files one by one takes far longer. A generation that a power cut had left
    # with empty files would look complete for ever
    os.sync()


def _protect(folder: Path) -> None:
    """Make its files read-only, `build.json` last: by it one sees that they all are."""
    for _, _, files, handle in os.fwalk(folder):  # by handle: tens of thousands of long paths take twice as long
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # a compiler's temporary file
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) and mode & 0o222 and name != _FACTS:
                    os.chmod(name, stat.S_IMODE(mode) & ~0o222, dir_fd=handle)
    with contextlib.suppress(FileNotFoundError):
        (folder / _FACTS).chmod(0o444)


def _read(lock_id: str, folder: Path) -> Generation:
    lock = Lock(**json.loads((folder / "lock.json").read_text(encoding="utf-8")))
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return Generation(
        lock_id,
        lock.kind,
        folder,
        lock,
        facts["built_at"],
        facts["seconds"],
        facts["packages"],
        facts.get("builder", ""),
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, and on disk."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _weigh(folders: Mapping[str, Path]) -> Removal:
    links: dict[tuple[int, int], tuple[int, int, int]] = {}
    for folder in folders.values():
        for at, _, files in os.walk(folder):
            for name in files:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(at, name))  # noqa: PTH118  a hundred thousand files
                    _, _, seen = links.get(key := (status.st_dev, status.st_ino), (0, 0, 0))
                    links[key] = (status.st_blocks * 512, status.st_nlink, seen + 1)
    freed = sum(size for size, names, seen in links.values() if seen >= names)
    return Removal(tuple(folders), freed, sum(size for size, _, _ in links.values()) - freed)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
