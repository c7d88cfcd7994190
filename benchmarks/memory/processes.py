"""All processes of the installation, and what each takes of the machine's memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
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


def everything() -> dict[int, Memory]:
    """By its pid, each process that names the data folder in its command line or variables, and all that descend from
    them."""
    found = {}
    named = [process for process in psutil.process_iter() if process.pid != os.getpid() and _names(process.pid)]
    for process in _with_children(named):
        with contextlib.suppress(OSError):  # it has just ended
            found[process.pid] = Memory.of(process.pid)
    return found


def total(memory: Mapping[int, Memory]) -> float:
    """Megabytes."""
    return sum(each.share for each in memory.values())


def grown(before: Mapping[int, Memory], after: Mapping[int, Memory]) -> list[str]:
    """What has changed, in words: every process that takes a megabyte more or less than before."""
    found = []
    for pid in sorted(before.keys() | after.keys()):
        old, new = before.get(pid, Memory(0, 0)), after.get(pid, Memory(0, 0))
        if abs(new.share - old.share) >= 1:
            change = f"{old.share:6.1f} -> {new.share:6.1f} MB, private {old.private:6.1f} -> {new.private:6.1f} MB"
            found.append(f"{change}: {_command(pid)}")
    return found


def _command(pid: int) -> str:
    try:
        words = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return f"{pid}, which has ended"
    return words.replace(str(HOME), "~")[:120]


def _with_children(processes: Iterable[psutil.Process]) -> Iterable[psutil.Process]:
    for process in processes:
        yield process
        with contextlib.suppress(psutil.NoSuchProcess):
            yield from process.children(recursive=True)


def _names(pid: int) -> bool:
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{pid}")
        return os.fsencode(HOME) in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
    return False
