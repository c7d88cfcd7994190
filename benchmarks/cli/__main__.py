"""`python -m benchmarks.cli [--runs 10]`: `studiolo --help` and `studiolo ps` from fork to exit, with one workspace."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from benchmarks import installation
from benchmarks.figures import Row, summary, write

TARGETS = {"--help": 0.3, "ps": 0.5}


async def measure(runs: int) -> None:
    samples: dict[str, list[float]] = {argument: [] for argument in TARGETS}
    async with installation.running() as studiolo:
        await studiolo.create("bench")
        for turn in range(runs + 1):
            for argument, seconds in samples.items():
                began = time.perf_counter()
                installation.studiolo(argument)
                if turn > 0:  # the first one warms the disk's cache
                    seconds.append(time.perf_counter() - began)
    rows = [
        Row(
            figure=f"`studiolo {argument}`, {runs} runs",
            ours=summary(seconds),
            against="",
            ratio="",
            target=f"below {TARGETS[argument]} s",
            met=statistics.median(seconds) < TARGETS[argument],
        )
        for argument, seconds in samples.items()
    ]
    write("cli", rows, dict(samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
