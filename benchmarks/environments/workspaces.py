"""The environment's part of a start, through a real installation: as the histories of its workspaces tell it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.installation import Installation

_PATIENCE = 120.0


async def second_workspace(studiolo: Installation, runs: int) -> list[float]:
    """Seconds of the environment step of workspaces whose lock another one has built already."""
    await studiolo.create("first")
    await studiolo.stop("first")
    samples = []
    for turn in range(runs):
        name = f"second-{turn}"
        await studiolo.create(name)
        samples.append(await _step(studiolo, name, 0))
        await studiolo.stop(name)
    return samples


async def switching(studiolo: Installation, runs: int) -> list[float]:
    """Seconds from asking a running workspace to go to its other generation, back and forth, until its apps are told to
    stop for it; their restart comes on top, and is what `benchmarks.start` measures."""
    for packages in (["six"], ["six", "iniconfig"]):
        document = {"name": "switch", "environment": {"packages": packages}, "apps": ["jupyterlab"]}
        (await studiolo.api.post("/workspaces", json={"document": document, "replace": True})).raise_for_status()
        await studiolo.phase("switch", "running", 600)
        await _event(studiolo, "switch", "running", 0)
    samples = []
    for turn in range(runs):
        last = (await _history(studiolo, "switch"))[-1]["id"]
        asked = datetime.now(UTC)
        answer = await studiolo.api.post("/workspaces/switch/rollback", json={"number": 1 + turn % 2})
        answer.raise_for_status()
        stopping = await _event(studiolo, "switch", "stopping", last)
        samples.append((datetime.fromisoformat(stopping["at"]) - asked).total_seconds())
        await _event(studiolo, "switch", "running", last)
    await studiolo.stop("switch")
    return samples


async def _event(studiolo: Installation, name: str, kind: str, after: int) -> dict[str, Any]:
    """The first event of this kind after the event `after`."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        for each in await _history(studiolo, name):
            if each["id"] > after and each["kind"] == kind:
                return each
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{name}: no event {kind} within {_PATIENCE:g} s")


async def _step(studiolo: Installation, name: str, after: int) -> float:
    """Locking and building together, the first time after the event `after`."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        took = {
            each["kind"]: each["seconds"]
            for each in await _history(studiolo, name)
            if each["id"] > after and each["seconds"] is not None
        }
        if "built" in took:
            return float(took["locked"] + took["built"])
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{name} has built nothing within {_PATIENCE:g} s")


async def _history(studiolo: Installation, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await studiolo.api.get(f"/workspaces/{name}/history")).raise_for_status().json()
    return sorted(found, key=lambda each: each["id"])
