"""What workspaces use: sampled, kept for a day, shown as charts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete, select

from studiolo.backends.backend import Backend
from studiolo.control.subject import Subject
from studiolo.layout import Layout
from studiolo.resources import UsagePoint
from studiolo.store.database import Store
from studiolo.store.tables import UsageRow

# Seconds.
SAMPLE_EVERY = 10.0
DISK_EVERY = 300.0
KEPT = 24 * 3600.0


@dataclass
class _Last:
    run: str
    cpu_seconds: float
    at: float


class UsageSampler:
    def __init__(
        self, store: Store, layout: Layout, backends: Mapping[str, Backend], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._layout = layout
        self._backends = backends
        self._clock = clock
        self._last: dict[str, _Last] = {}
        self._disk: dict[str, tuple[float, int]] = {}
        self.latest: dict[str, UsagePoint] = {}

    async def sample(self, running: list[Subject]) -> None:
        """One point for each running workspace. Rates are taken over the monotonic clock, so a clock that is set back
        gives no nonsense."""
        points: list[UsageRow] = []
        now = self._clock()
        for subject in running:
            usage = await self._backends[subject.backend].usage(subject.id)
            if usage is None:
                continue
            at = asyncio.get_running_loop().time()
            last = self._last.get(subject.id)
            self._last[subject.id] = _Last(subject.run, usage.cpu_seconds, at)
            cpu = 0.0
            if last is not None and last.run == subject.run and at > last.at:
                cpu = max(0.0, usage.cpu_seconds - last.cpu_seconds) / (at - last.at)
            disk = await self._disk_of(subject.id, at)
            point = UsageRow(workspace_id=subject.id, at=now, cpu=round(cpu, 3), memory=usage.memory, disk=disk)
            points.append(point)
            self.latest[subject.id] = as_point(point)
        for gone in self.latest.keys() - {subject.id for subject in running}:
            del self.latest[gone]
            self._last.pop(gone, None)
        if points:
            async with self._store.write() as session:
                for point in points:
                    await session.merge(point)
                await session.execute(delete(UsageRow).where(UsageRow.at < now - KEPT))

    async def points(self, workspace_id: str, since: float) -> list[UsagePoint]:
        query = select(UsageRow).where(UsageRow.workspace_id == workspace_id, UsageRow.at >= since)
        async with self._store.read() as session:
            return [as_point(row) for row in await session.scalars(query.order_by(UsageRow.at))]

    async def _disk_of(self, workspace_id: str, at: float) -> int:
        known = self._disk.get(workspace_id)
        if known is None or at - known[0] > DISK_EVERY:
            known = (at, await asyncio.to_thread(disk_usage, self._layout.workspace_home(workspace_id)))
            self._disk[workspace_id] = known
        return known[1]


def disk_usage(folder: Path) -> int:
    """Bytes allocated below a folder, on its own file system, each hard-linked file once; links are not followed."""
    total = 0
    seen: set[int] = set()
    pending = [os.fspath(folder)]
    device: int | None = None
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    device = device or status.st_dev
                    if status.st_dev != device or status.st_ino in seen:
                        continue
                    if status.st_nlink > 1:
                        seen.add(status.st_ino)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue  # gone in the meantime, or not ours to read
    return total


def as_point(row: UsageRow) -> UsagePoint:
    return UsagePoint(at=datetime.fromtimestamp(row.at, UTC), cpu=row.cpu, memory=row.memory, disk=row.disk)
