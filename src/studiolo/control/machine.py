"""The machine that Studiolo runs on: what there is and what is used."""

from __future__ import annotations

import platform
import shutil

import psutil

from studiolo.layout import Layout
from studiolo.resources import Machine, MachineUse


def describe(
    layout: Layout, limits: dict[str, str], generations: tuple[int, int], uses: tuple[MachineUse, ...]
) -> Machine:
    """Capacity now. `generations` is how many there are and their bytes."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(layout.home)
    return Machine(
        host=platform.node(),
        cores=psutil.cpu_count() or 1,
        memory=memory.total,
        memory_used=memory.total - memory.available,
        disk=disk.total,
        disk_used=disk.used,
        load=round(psutil.getloadavg()[0], 2),
        limits=limits,
        generations=generations[0],
        generations_disk=generations[1],
        uses=uses,
    )
