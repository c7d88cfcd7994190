"""All processes of the installation, and what each takes of the machine's memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.installation import HOME


@dataclass(frozen=True)
class Memory:
    """Megabytes. `share`: its own pages, and of those that several processes map its part (PSS); over all processes
    that sums to what they really take. `private`: what would be free if only this process ended."""

    share: float
    private: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Raises `OSError` where it has ended."""
        kilobytes = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            kilobytes[name] = int(rest.split()[0])
        private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
        return cls(kilobytes["Pss"] * 1024 / 1e6, private * 1024 / 1e6)


def total() -> float:
    """Megabytes that the installation takes, workspaces and all."""
    found = 0.0
    for pid in everything():
        with contextlib.suppress(OSError):  # it has just ended
            found += Memory.of(pid).share
    return found


def everything() -> set[int]:
    """Processes that name the data folder in their command line or variables, and all that descend from them."""
    named = [process for process in psutil.process_iter() if process.pid != os.getpid() and _names(process.pid, HOME)]
    return {process.pid for process in _with_children(named)}


def workspace(workspace_id: str) -> list[int]:
    """Those of one workspace, the oldest first: its home or its state is in their command line or variables."""
    folder = HOME / "workspaces" / workspace_id
    found = [psutil.Process(pid) for pid in everything() if _names(pid, folder)]
    return [process.pid for process in sorted(found, key=lambda each: each.create_time())]


def _with_children(processes: Iterable[psutil.Process]) -> Iterable[psutil.Process]:
    for process in processes:
        yield process
        with contextlib.suppress(psutil.NoSuchProcess):
            yield from process.children(recursive=True)


def _names(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{pid}")
        return os.fsencode(folder) in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
    return False
