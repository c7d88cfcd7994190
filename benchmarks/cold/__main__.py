"""`python -m benchmarks.cold [--runs 10]`: the first start after `up`, against a plain start of the same JupyterLab.

Studiolo is taken down and brought up before each turn, and the request for `/lab` is sent as soon as `up` has returned,
while whatever it prepares is only being prepared. The plain start is the same program without Studiolo around it
(`benchmarks/by_hand.py`): from starting the process to the first 200 on its own socket. So ours has its edge, its check
of the token and its control plane counted against it. The first turn is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from benchmarks import installation
from benchmarks.by_hand import Program
from benchmarks.figures import Row, summary, write

TARGET = 1.0


async def measure(runs: int) -> None:
    cold: list[float] = []
    plain: list[float] = []
    async with installation.running() as studiolo:
        await studiolo.create("bench")
        program = Program.of("bench", "jupyterlab")
        await studiolo.stop("bench")
        for turn in range(runs + 1):
            other = await program.seconds("/lab", "jupyter-config-data")
            await studiolo.again()
            mine = await (await studiolo.door("bench")).seconds()
            await studiolo.stop("bench")
            counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
            print(f"{counted}: first after up {mine:.2f} s, plain {other:.2f} s", flush=True)
            if turn > 0:
                cold.append(mine)
                plain.append(other)
    ratio = statistics.median(cold) / statistics.median(plain)
    row = Row(
        figure=f"first request after `up` to JupyterLab's first answer, {runs} runs",
        ours=summary(cold),
        against=f"the same JupyterLab started by hand: {summary(plain)}",
        ratio=f"{ratio:.2f}",
        target=f"at most {TARGET:.2f}",
        met=ratio <= TARGET,
    )
    write("cold", [row], {"first after up": cold, "by hand": plain})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
