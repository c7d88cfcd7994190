"""Control groups: one per workspace, which holds its processes, limits them and adds up what they use.

Version 2 is used where a group was delegated to us with the cpu and memory controllers (systemd does that for a
user's own services), or where we are root in the machine's root group. Version 1 is used as root. Groups are
`studiolo/<installation>/<workspace>`. What cannot be had is explained in words, never silently left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PERIOD = 100_000  # microseconds: the kernel's own default
_CONTROLLERS_V1 = ("cpu", "cpuacct", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """Where workspaces' groups can be made. `folders` maps a controller to the folder that holds our groups; in
    version 2 they are all the same folder."""

    version: int
    folders: dict[str, Path]
    explanation: str = ""

    @property
    def limits_cpu(self) -> bool:
        return "cpu" in self.folders

    @property
    def limits_memory(self) -> bool:
        return "memory" in self.folders

    def group(self, workspace: str) -> Group:
        return Group(self.version, {name: folder / workspace for name, folder in self.folders.items()})

    def workspaces(self) -> set[str]:
        """The workspaces that have a group now."""
        folders = [folder for folder in set(self.folders.values()) if folder.is_dir()]
        return {entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()}

    def tidy(self) -> None:
        """Remove our folder where no workspace has a group in it. `Group.create` makes it again."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()
                folder.parent.rmdir()

    @classmethod
    def absent(cls, explanation: str) -> Hierarchy:
        return cls(0, {}, explanation)

    @classmethod
    def find(cls, installation: str) -> Hierarchy:
        """The best this machine allows. Makes our folder in it. Never raises."""
        mounts = _mounts()
        second = _delegated(mounts.get("", ()), installation)
        if {"cpu", "memory"} <= second.folders.keys():
            return second
        first = _version_1(mounts, installation)
        if first.folders:
            return first
        return second


@dataclass(frozen=True)
class Group:
    """One workspace's group. All methods are harmless where the group does not exist."""

    version: int
    folders: dict[str, Path]

    def create(self, cpu: float | None, memory: int | None) -> None:
        """Make it and set its limits (cores, bytes; None: no limit). Idempotent. Raises `OSError`."""
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        if (counted := self._of("cpu")) is not None:
            self._limit_cpu(counted, cpu)
        if (counted := self._of("memory")) is not None:
            self._limit_memory(counted, memory)
        if (counted := self._of("pids")) is not None:
            _write(counted / "pids.max", "max")

    def _limit_cpu(self, folder: Path, cpu: float | None) -> None:
        quota = max(1000, int(cpu * _PERIOD)) if cpu is not None else None
        if self.version == 2:
            _write(folder / "cpu.max", f"{quota or 'max'} {_PERIOD}")
        else:
            _write(folder / "cpu.cfs_period_us", str(_PERIOD))
            _write(folder / "cpu.cfs_quota_us", str(quota or -1))

    def _limit_memory(self, folder: Path, memory: int | None) -> None:
        if self.version == 2:
            _write(folder / "memory.max", str(memory or "max"))
            with_swap, swap = folder / "memory.swap.max", "0" if memory else "max"
        else:
            # Memory with swap may never be limited below memory alone, so it is lifted first and lowered last.
            with_swap, swap = folder / "memory.memsw.limit_in_bytes", str(memory or -1)
            if with_swap.exists():
                _write(with_swap, "-1")
            _write(folder / "memory.limit_in_bytes", str(memory or -1))
        if with_swap.exists():
            _write(with_swap, swap)

    def leave_precedence(self) -> None:
        """From now on it computes when nobody else wants to. Raises `OSError`."""
        if (folder := self._of("cpu")) is not None:
            _write(folder / ("cpu.weight" if self.version == 2 else "cpu.shares"), "1" if self.version == 2 else "2")

    def add(self, pid: int) -> None:
        """Put a process in; its future children are born there. Raises `OSError`."""
        for folder in set(self.folders.values()):
            _write(folder / "cgroup.procs", str(pid))

    @property
    def pids(self) -> set[int]:
        found: set[int] = set()
        for folder in set(self.folders.values()):
            for listing in folder.rglob("cgroup.procs"):  # groups made inside it belong to it too
                with contextlib.suppress(OSError):
                    found.update(int(line) for line in listing.read_text().split())
        return found

    @property
    def oom_kills(self) -> int:
        """How many processes the kernel has ended here for want of memory."""
        folder = self._of("memory")
        if folder is None:
            return 0
        return _field(folder / ("memory.events" if self.version == 2 else "memory.oom_control"), "oom_kill")

    @property
    def cpu_seconds(self) -> float | None:
        """All CPU time spent in the group, also by processes that have ended; None where it is not counted."""
        folder = self._of("cpu" if self.version == 2 else "cpuacct")
        try:
            if folder is None:
                return None
            if self.version == 2:
                return _field(folder / "cpu.stat", "usage_usec") / 1e6
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        except OSError:
            return None

    @property
    def memory(self) -> int | None:
        """Bytes that its processes hold: anonymous and shared memory, each page once, without the file cache, which
        the kernel takes back when it needs to. None where it is not counted."""
        folder = self._of("memory")
        if folder is None or not folder.exists():
            return None
        stat = folder / "memory.stat"
        if self.version == 2:
            return _field(stat, "anon") + _field(stat, "shmem")
        return _field(stat, "total_rss") + _field(stat, "total_shmem")

    def forbid_forks(self) -> None:
        """From now on nothing in it can start a process, so that killing its members comes to an end."""
        if (folder := self._of("pids")) is not None:
            with contextlib.suppress(OSError):
                _write(folder / "pids.max", "0")

    def remove(self) -> bool:
        """Whether it is gone. It cannot go while a process is in it."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                for below in sorted(folder.rglob("*"), reverse=True):  # groups that a program inside has made
                    if below.is_dir():
                        below.rmdir()
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders.values())

    def _of(self, controller: str) -> Path | None:
        return self.folders.get(controller)


def _mounts() -> dict[str, tuple[Path, Path]]:
    """Controller name ("" for version 2) -> where it is mounted, and the group of that mount's root."""
    found: dict[str, tuple[Path, Path]] = {}
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, where = before.split(" ")[3:5]
        if kind == "cgroup2":
            found[""] = (Path(where), Path(root))
        elif kind == "cgroup":
            found.update({name: (Path(where), Path(root)) for name in options.split(",") if name in _CONTROLLERS_V1})
    return found


def _version_1(mounts: dict[str, tuple[Path, Path]], installation: str) -> Hierarchy:
    folders: dict[str, Path] = {}
    missing: list[str] = []
    for controller in _CONTROLLERS_V1:
        if controller not in mounts:
            missing.append(f"this machine has no {controller} control group")
            continue
        folder = mounts[controller][0] / "studiolo" / installation
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folders[controller] = folder
        except OSError as error:
            missing.append(f"{folder.parent.parent} cannot be written: {error.strerror}")
    if set(folders) & {"cpu", "memory"}:
        lacking = [text for text in missing if "cpuacct" not in text and "pids" not in text]
        return Hierarchy(1, folders, "; ".join(lacking))
    return Hierarchy.absent("; ".join(missing))


def _delegated(mount: tuple[Path, ...], installation: str) -> Hierarchy:
    """A version 2 group of ours with the controllers, in the nearest group above this process that allows it."""
    if not mount:
        return Hierarchy.absent("this machine has no control groups")
    top, root = mount
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        return Hierarchy.absent(f"/proc/self/cgroup cannot be read: {error.strerror}")
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    with contextlib.suppress(ValueError):
        own = str(Path(own).relative_to(root))
    here = top / own.lstrip("/")
    if not here.is_relative_to(top) or not here.is_dir():
        return Hierarchy.absent("this process's control group is outside what can be seen from here")
    for parent in (here, *here.parents):
        if not parent.is_relative_to(top):
            break
        if not (os.access(parent, os.W_OK) and os.access(parent / "cgroup.procs", os.W_OK)):
            break
        folders = _enabled(parent, parent == here and parent != top, installation)
        if folders:
            return Hierarchy(2, folders)
    return Hierarchy.absent(
        "no control group with the cpu and memory controllers is delegated to you; "
        "start Studiolo with `systemd-run --user --scope -p Delegate=yes studiolo up`"
    )


def _enabled(parent: Path, occupied: bool, installation: str) -> dict[str, Path]:
    wanted = ("cpu", "memory", "pids")
    if not {"cpu", "memory"} <= _words(parent / "cgroup.controllers"):
        return {}
    try:
        if occupied and b"1" in _delegation(parent):
            # Processes may live only in leaves. The group was given to us to divide, so its processes move down.
            leaf = parent / "studiolo-own"
            leaf.mkdir(exist_ok=True)
            for pid in (parent / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    _write(leaf / "cgroup.procs", pid)
        folder = parent / "studiolo" / installation
        folder.mkdir(parents=True, exist_ok=True)
        for group in (parent, folder.parent, folder):
            _enable(group, wanted)
    except OSError:
        return {}
    return {name: folder for name in wanted if name in _words(folder / "cgroup.subtree_control")}


def _enable(group: Path, wanted: Iterable[str]) -> None:
    lacking = [name for name in wanted if name not in _words(group / "cgroup.subtree_control")]
    for name in lacking:
        if name in _words(group / "cgroup.controllers"):
            _write(group / "cgroup.subtree_control", f"+{name}")


def _delegation(group: Path) -> bytes:
    with contextlib.suppress(OSError):
        return os.getxattr(group, "user.delegate")
    with contextlib.suppress(OSError):
        return os.getxattr(group, "trusted.delegate")
    return b""


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _field(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
