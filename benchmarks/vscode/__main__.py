"""`python -m benchmarks.vscode [--runs 10]`: a request to a stopped workspace until VS Code's first page, against its
own program started by hand (`benchmarks/by_hand.py`), in turn. The first turn is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from benchmarks import installation
from benchmarks.by_hand import Program
from benchmarks.figures import Row, summary, write


async def measure(runs: int) -> None:
    ours: list[float] = []
    alone: list[float] = []
    async with installation.running() as studiolo:
        await studiolo.create("bench", apps=("vscode",))
        program = Program.of("bench", "vscode")
        await studiolo.stop("bench")
        door = await studiolo.door("bench", "vscode")
        for turn in range(runs + 1):
            mine = await door.seconds("/")
            await studiolo.stop("bench")
            other = await program.seconds("/", "vscode-workbench-web-configuration")
            counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
            print(f"{counted}: through Studiolo {mine:.2f} s, alone {other:.2f} s", flush=True)
            if turn > 0:
                ours.append(mine)
                alone.append(other)
    more = statistics.median(ours) - statistics.median(alone)
    row = Row(
        figure=f"request to VS Code's first page, {runs} runs",
        ours=summary(ours),
        against=f"the same code-server started by hand: {summary(alone)}",
        ratio=f"{more:.2f} s more",
        target="",
        met=True,
    )
    write("vscode", [row], {"through Studiolo": ours, "alone": alone})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
