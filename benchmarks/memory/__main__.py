"""`python -m benchmarks.memory [--workspaces 10]`: resident memory of Studiolo's own processes with that many running,
and what one more idle workspace adds to the memory of all processes.

For the first, the workspaces run a `command` app that is nearly nothing, since their own memory is not what is asked;
resident is what the kernel calls RSS, of each process with its children. For the second, they run JupyterLab, whose
page has been loaded once, at first without a kernel, then with one in which a cell has been run. What is summed is PSS,
over everything that is Studiolo's, before and after each of them; one with a kernel is there from the start.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping
from itertools import pairwise

import psutil

from benchmarks import installation
from benchmarks.figures import Row, megabytes, write
from benchmarks.installation import Door, Installation
from benchmarks.kernel import notebook
from benchmarks.memory import processes

TARGET = 120
WITHOUT, WITH = 35, 60
_SETTLED = 5.0  # seconds between two looks
_STEADY = 0.5  # megabytes: between two looks of idle processes, all together change less
_PATIENCE = 180.0
_APP = {
    "name": "files",
    "kind": "command",
    "command": ["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"],
    "ready": "/",
}
_PARTS = {"control_plane": "control plane", "host_agent": "host agent", "edge": "nginx", "relay": "relay"}


async def measure(count: int) -> None:
    async with installation.running() as studiolo:
        used = await own(studiolo, count)
        await studiolo.remove_all()
        without, kernels = await added(studiolo, count)
    both = [one + other for one, other in zip(without, kernels, strict=True)]
    rows = [
        *(
            Row(
                figure=f"resident memory with {count} workspaces: {words}",
                ours=f"{used[part]:.0f} MB",
                against="",
                ratio="",
                target=f"below {TARGET} MB" if part == "control_plane" else "",
                met=part != "control_plane" or used[part] < TARGET,
            )
            for part, words in _PARTS.items()
        ),
        _more("JupyterLab", without, WITHOUT),
        _more("JupyterLab and a kernel", both, WITH),
    ]
    parts = {part: [taken] for part, taken in used.items()}
    write("memory", rows, {**parts, "without a kernel": without, "with a kernel": both})


def _more(what: str, samples: list[float], target: float) -> Row:
    median = statistics.median(samples)
    figure = f"memory that one more idle workspace takes, {what}, {len(samples)} workspaces"
    return Row(figure, megabytes(samples), "", "", f"at most {target} MB", median <= target)


async def own(studiolo: Installation, count: int) -> dict[str, float]:
    """Megabytes of each part of Studiolo."""
    names = [f"memory-{number}" for number in range(count)]
    for name in names:
        document = {"name": name, "environment": "data-science", "apps": [_APP]}
        (await studiolo.api.post("/workspaces", json={"document": document})).raise_for_status()
    for name in names:
        await studiolo.phase(name, "running", 300)
        (await studiolo.api.post(f"/workspaces/{name}/tokens", json={})).raise_for_status()
    # As in use: somebody looks at the list for a while.
    for _ in range(200):
        (await studiolo.api.get("/workspaces")).raise_for_status()
    status = await studiolo.status()
    return {part: resident(status[part]["pid"]) for part in _PARTS}


def resident(pid: int) -> float:
    """Megabytes. nginx is a master and its workers, so children count; the agent's children are the workspaces'."""
    process = psutil.Process(pid)
    members = [process]
    if process.name().startswith("nginx"):
        members += process.children(recursive=True)
    return float(sum(member.memory_info().rss for member in members)) / 1e6


async def added(studiolo: Installation, count: int) -> tuple[list[float], list[float]]:
    """Megabytes by which all together grow with each workspace, and then with the kernel in each."""
    await _with_kernel(await _opened(studiolo, "first"))
    seen = [await _settled()]
    doors = []
    for number in range(count):
        doors.append(await _opened(studiolo, f"more-{number}"))
        seen.append(await _settled())
    for door in doors:
        await _with_kernel(door)
        seen.append(await _settled())
    # To see where it goes.
    print("with the last workspace:", *processes.grown(seen[count - 1], seen[count]), sep="\n    ", flush=True)
    print("with the last kernel:", *processes.grown(seen[-2], seen[-1]), sep="\n    ", flush=True)
    print("with all of them:", *processes.grown(seen[0], seen[-1]), sep="\n    ", flush=True)
    totals = [processes.total(memory) for memory in seen]
    more = [after - before for before, after in pairwise(totals)]
    return more[:count], more[count:]


async def _settled() -> Mapping[int, processes.Memory]:
    """What each process takes once all are idle: what is prepared in the background grows for a while."""
    until = time.monotonic() + _PATIENCE
    memory = processes.everything()
    while time.monotonic() < until:
        await asyncio.sleep(_SETTLED)
        before, memory = memory, processes.everything()
        if abs(processes.total(memory) - processes.total(before)) < _STEADY:
            return memory
    raise TimeoutError(f"after {_PATIENCE:.0f} s something still grows")


async def _opened(studiolo: Installation, name: str) -> Door:
    await studiolo.create(name)
    door = await studiolo.door(name)
    await door.seconds()
    return door


async def _with_kernel(door: Door) -> None:
    """Start a kernel, which stays."""
    async with door.http() as http:
        await notebook.run(door, await notebook.start(http, "python3"), "1 + 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=10)
    asyncio.run(measure(parser.parse_args().workspaces))


if __name__ == "__main__":
    main()
