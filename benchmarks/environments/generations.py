"""Building the example's lock, against `uv sync` of the same packages; and what a second generation costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from studiolo.environments.generations import Generations
from studiolo.environments.kind import Lock, Progress, Request
from studiolo.environments.uv import UvKind

EXAMPLE = Path("examples/penguins").absolute()
PLACE = Path(".benchmarks/environments").absolute()
SMALL = "iniconfig"
"""A package of 20 kB: what the second generation has beside the first."""
_UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True)
class Bytes:
    """Of files on disk: the first generation's, and those that the second one added."""

    first: int
    added: int


def ignore(_: Progress) -> None: ...


class Builds:
    """Both sides share one cache of downloads, and each build goes into a folder of its own: where files have just been
    removed, ext4 takes several times as long to make others. All of it is removed at the end."""

    def __init__(self) -> None:
        shutil.rmtree(PLACE, ignore_errors=True)
        self._cache = PLACE / "cache"
        self._kind = UvKind(self._cache)
        self._project = PLACE / "project"

    async def lock(self, *packages: str) -> Lock:
        return await self._kind.lock(Request(EXAMPLE, packages=packages), ignore)

    async def ours(self, lock: Lock, turn: str) -> float:
        """Seconds until the generation is there, on disk. Compiling goes on in the background and is waited for, so
        that it disturbs nobody."""
        generations = Generations(PLACE / "generations" / turn, self._cache, {"uv": self._kind})
        os.sync()
        began = time.perf_counter()
        await generations.build(lock, ignore)
        seconds = time.perf_counter() - began
        await self._kind.settle()
        return seconds

    def prepare_theirs(self, lock: Lock) -> None:
        """A project that asks for exactly these packages, with uv's own lock."""
        self._project.mkdir(parents=True)
        wanted = [f"{package.name}=={package.version}" for package in self._kind.describe(lock)]
        project = {
            "name": "peer",
            "version": "1",
            "requires-python": f"=={lock.interpreter}",
            "dependencies": wanted,
        }
        (self._project / "pyproject.toml").write_text(tomli_w.dumps({"project": project}))
        self._uv("lock")

    def theirs(self, turn: str) -> float:
        """Seconds that `uv sync` takes."""
        os.sync()
        began = time.perf_counter()
        self._uv("sync", UV_PROJECT_ENVIRONMENT=str(PLACE / "theirs" / turn))
        return time.perf_counter() - began

    async def second(self) -> Bytes:
        """Two generations of which the second has one small package more, byte code and all."""
        folder = PLACE / "two"
        generations = Generations(folder, self._cache, {"uv": self._kind})
        seen: set[int] = set()
        sizes = []
        for packages in ((), (SMALL,)):
            await generations.build(await self.lock(*packages), ignore)
            await self._kind.settle()
            sizes.append(_new_bytes(folder, seen))
        return Bytes(*sizes)

    async def close(self) -> None:
        await self._kind.close()
        shutil.rmtree(PLACE, ignore_errors=True)

    def _uv(self, command: str, **variables: str) -> None:
        env = {**os.environ, "UV_CACHE_DIR": str(self._cache / "uv"), "UV_NO_PROGRESS": "1", **variables}
        subprocess.run(
            [_UV, command, "--quiet", "--python", sys.executable], cwd=self._project, env=env, check=True, timeout=600
        )


def _new_bytes(folder: Path, seen: set[int]) -> int:
    """Bytes on disk of files and folders not seen before; `seen` grows."""
    total = 0
    for path in folder.rglob("*"):
        status = path.lstat()
        if status.st_ino not in seen:
            seen.add(status.st_ino)
            total += status.st_blocks * 512
    return total
