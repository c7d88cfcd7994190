"""`python -m benchmarks.crowd [--workspaces 100] [--runs 10]`: very many links of stopped workspaces used at once.

Each request goes to another workspace, is held at the edge until JupyterLab answers it, and fails where anything else
comes than a 200. They are sent in a known order, all by one person; fair is that they are answered in about that order
(between people the queue takes turns, which its own tests show). All are stopped between runs; the first run, in which
each looks at its environment for the first time, is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

from benchmarks import installation
from benchmarks.figures import Row, percentile, summary, write

SLOWEST = 30


@dataclass(frozen=True)
class Run:
    """Seconds of each request that was answered, in the order in which they were sent, and why the others were not."""

    seconds: list[float]
    failures: list[str]

    @property
    def order(self) -> float:
        """Rank correlation between sent and answered: 1 is the same order."""
        sent = range(len(self.seconds))
        answered = sorted(sent, key=lambda each: self.seconds[each])
        place = {each: rank for rank, each in enumerate(answered)}
        return statistics.correlation([float(each) for each in sent], [float(place[each]) for each in sent])


async def measure(count: int, runs: int) -> None:
    measured: list[Run] = []
    async with installation.running() as studiolo:
        await studiolo.create("first")  # builds the environment that all share
        await studiolo.stop("first")
        names = [f"crowd-{number:03}" for number in range(count)]
        for name in names:
            document = {"name": name, "environment": "data-science", "apps": ["jupyterlab"]}
            (await studiolo.api.post("/workspaces", json={"document": document, "start": False})).raise_for_status()
        doors = [await studiolo.door(name) for name in names]
        for turn in range(runs + 1):
            run = await at_once(doors)
            measured += [run] if turn else []
            print(
                f"{turn or 'warm-up':>2} of {runs}: slowest {max(run.seconds):.1f} s, order {run.order:.3f}, "
                f"{len(run.failures)} failures {run.failures[:1]}",
                flush=True,
            )
            for name in names:
                (await studiolo.api.post(f"/workspaces/{name}/stop")).raise_for_status()
            for name in names:
                await studiolo.phase(name, "stopped", 120)
    slowest = [max(run.seconds) for run in measured]
    orders = [run.order for run in measured]
    failures = sum(len(run.failures) for run in measured)
    every = [seconds for run in measured for seconds in run.seconds]
    title = f"{count} starts at once, {runs} runs"
    rows = [
        Row(f"{title}: failures", str(failures), "", "", "none", failures == 0),
        Row(
            f"{title}: the slowest", summary(slowest), "", "", f"below {SLOWEST} s", percentile(slowest, 0.95) < SLOWEST
        ),
        Row(f"{title}: each", summary(every), "", "", "", True),
        Row(
            f"{title}: rank correlation of asked and answered",
            f"{statistics.median(orders):.3f} (lowest {min(orders):.3f})",
            "",
            "",
            "",
            True,
        ),
    ]
    write("crowd", rows, {f"run {turn + 1}": run.seconds for turn, run in enumerate(measured)})


async def at_once(doors: list[installation.Door]) -> Run:
    """Ask at all of them. Time runs from the moment when the first one is asked."""
    began = time.perf_counter()
    failures: list[str] = []

    async def ask(door: installation.Door) -> float | None:
        try:
            await door.seconds()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
            return None
        return time.perf_counter() - began

    answered = await asyncio.gather(*(ask(door) for door in doors))
    return Run([seconds for seconds in answered if seconds is not None], failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=100)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.workspaces, arguments.runs))


if __name__ == "__main__":
    main()
