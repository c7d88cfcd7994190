"""`python -m benchmarks.environments [--runs 10]`: what it takes to build, share and change environments.

Building is measured against `uv sync` of the same packages, in turn, with the same uv and the same cache of downloads;
the first turn fills the cache and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence

from benchmarks import installation
from benchmarks.environments import workspaces
from benchmarks.environments.generations import Builds
from benchmarks.figures import Row, summary, write

BUILD, SHARE, STEP, SWITCH = 1.2, 0.15, 0.05, 1.0


async def measure(runs: int) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    builds = Builds()
    try:
        lock = await builds.lock()
        builds.prepare_theirs(lock)
        for turn in range(runs + 1):
            mine = await builds.ours(lock, str(turn))
            other = builds.theirs(str(turn))
            counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
            print(f"{counted}: Studiolo {mine:.2f} s, uv sync {other:.2f} s", flush=True)
            if turn > 0:
                ours.append(mine)
                theirs.append(other)
        disk = await builds.second()
    finally:
        await builds.close()
    async with installation.running() as studiolo:
        steps = await workspaces.second_workspace(studiolo, runs)
        switches = await workspaces.switching(studiolo, runs)
    ratio = statistics.median(ours) / statistics.median(theirs)
    share = disk.added / disk.first
    rows = [
        Row(
            figure=f"build of the example's lock, warm cache, {runs} runs",
            ours=summary(ours),
            against=f"`uv sync` of the same packages: {summary(theirs)}",
            ratio=f"{ratio:.2f}",
            target=f"at most {BUILD}",
            met=ratio <= BUILD,
        ),
        Row(
            figure="disk that a generation with one small package more takes",
            ours=f"{disk.added / 1e6:.0f} MB",
            against=f"the first one: {disk.first / 1e6:.0f} MB",
            ratio=f"{share:.3f}",
            target=f"below {SHARE}",
            met=share < SHARE,
        ),
        _limit("environment step of a second workspace with the same lock", steps, STEP),
        _limit("switching the generation, without the app's restart", switches, SWITCH),
    ]
    samples: dict[str, Sequence[float]] = {
        "build": ours,
        "uv sync": theirs,
        "second workspace": steps,
        "switching": switches,
    }
    write("environments", rows, samples)


def _limit(figure: str, samples: list[float], target: float) -> Row:
    median = statistics.median(samples)
    return Row(f"{figure}, {len(samples)} runs", summary(samples), "", "", f"below {target:g} s", median < target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
