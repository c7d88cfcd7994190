"""`python -m benchmarks.memory [--workspaces 10]`: resident memory of Studiolo's own processes with that many running.

The workspaces run a `command` app that is nearly nothing, since their own memory is not what is asked; resident is
what the kernel calls RSS, of each process with its children.
"""

from __future__ import annotations

import argparse
import asyncio

import psutil

from benchmarks import installation
from benchmarks.figures import Row, write

TARGET = 120
_APP = {
    "name": "files",
    "kind": "command",
    "command": ["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"],
    "ready": "/",
}
_PARTS = {"control_plane": "control plane", "host_agent": "host agent", "edge": "nginx", "relay": "relay"}


async def measure(count: int) -> None:
    async with installation.running() as studiolo:
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
        used = {part: resident(status[part]["pid"]) for part in _PARTS}
    rows = [
        Row(
            figure=f"resident memory with {count} workspaces: {words}",
            ours=f"{used[part]:.0f} MB",
            against="",
            ratio="",
            target=f"below {TARGET} MB" if part == "control_plane" else "",
            met=part != "control_plane" or used[part] < TARGET,
        )
        for part, words in _PARTS.items()
    ]
    write("memory", rows, {part: [megabytes] for part, megabytes in used.items()})


def resident(pid: int) -> float:
    """Megabytes. nginx is a master and its workers, so children count; the agent's children are the workspaces'."""
    process = psutil.Process(pid)
    members = [process]
    if process.name().startswith("nginx"):
        members += process.children(recursive=True)
    return float(sum(member.memory_info().rss for member in members)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=10)
    asyncio.run(measure(parser.parse_args().workspaces))


if __name__ == "__main__":
    main()
