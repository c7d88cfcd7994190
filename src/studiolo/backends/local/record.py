"""What the agent must remember about one run so that the next agent can take it over: one small JSON file, written
whole or not at all, before a program may run and after it has ended.

It lies in the run folder, mode 0600 (a launch's environment may hold secrets), and means nothing after a reboot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studiolo.backends.backend import AppState, Launch
from studiolo.backends.local.procfs import boot_id
from studiolo.backends.local.wire import launch_from
from studiolo.daemon import Identity


@dataclass
class AppRecord:
    """One app. Times are `time.monotonic()`, which all processes of one boot share."""

    state: AppState = "starting"
    process: Identity | None = None
    """The session leader of its present or latest attempt."""
    bridge: Identity | None = None
    port: int | None = None
    since: float = 0.0
    """When this attempt began or, once it is ready, when it became so."""
    log_start: int = 0
    """How long its log was when this attempt began."""
    restarts: int = 0
    failures: int = 0
    """Endings without a minute of health in between."""
    unready: int = 0
    """Endings in a row without having become ready."""
    reason: str = ""

    @property
    def leaders(self) -> Iterator[Identity]:
        for process in (self.process, self.bridge):
            if process is not None:
                yield process


@dataclass
class KernelRecord:
    """A kernel that was forked for one of the workspace's own programs, and that program: the kernel ends with it."""

    process: Identity
    asker: Identity


@dataclass
class Record:
    """One run of a workspace."""

    launch: Launch
    apps: dict[str, AppRecord]
    prepared: bool = False
    """Its files have been written; the launch's seeds are forgotten then."""
    stop_by: float | None = None
    """Monotonic: it is being stopped, and from then on killed."""
    cpu_seconds: float = 0.0
    """Of processes that have ended, where no control group counts."""
    oom_kills: int = 0
    """How many of its group's kills for want of memory have been reported."""
    notes: list[str] = field(default_factory=list)
    kernels: list[KernelRecord] = field(default_factory=list)
    group_version: int = 0
    group_folders: dict[str, str] = field(default_factory=dict)
    """Its control group. Recorded, because where groups can be made depends on where the agent itself was started."""

    @classmethod
    def new(cls, launch: Launch) -> Record:
        return cls(launch, {app.name: AppRecord() for app in launch.apps})

    @property
    def leaders(self) -> list[Identity]:
        """The session leaders of all its apps, living or not."""
        return [leader for app in self.apps.values() for leader in app.leaders]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Records:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = boot_id()

    def save(self, record: Record) -> None:
        """Raises `OSError` where it cannot be kept."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(record.launch.id)
        draft = path.with_suffix(".draft")
        try:
            draft.write_text(json.dumps({"boot": self._boot, **dataclasses.asdict(record)}))
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise

    def forget(self, workspace: str) -> None:
        self._path(workspace).unlink(missing_ok=True)

    def load(self) -> Iterator[Record]:
        """All runs of this boot. What is from before it, or unreadable, is removed."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                data = json.loads(path.read_text())
                record = _record_from(data) if data.pop("boot") == self._boot else None
            except (ValueError, KeyError, TypeError, OSError):
                record = None
            if record is None:
                path.unlink(missing_ok=True)
            else:
                yield record

    def _path(self, workspace: str) -> Path:
        return self._folder / f"{workspace}.json"


def _record_from(data: dict[str, Any]) -> Record:
    apps = {
        name: AppRecord(**{**app, "process": _identity(app["process"]), "bridge": _identity(app["bridge"])})
        for name, app in data["apps"].items()
    }
    kernels = [
        KernelRecord(Identity(**kernel["process"]), Identity(**kernel["asker"])) for kernel in data.get("kernels", ())
    ]
    return Record(**{**data, "launch": launch_from(data["launch"]), "apps": apps, "kernels": kernels})


def _identity(data: dict[str, int] | None) -> Identity | None:
    return Identity(**data) if data else None
