"""`python -m benchmarks.start [--runs 10]`: how long until a stopped workspace shows JupyterLab, ours and JupyterHub's.

Both run the same version of JupyterLab on this machine and are asked in turn, so that both see the same weather. Time
runs from the request to the first 200 of `/lab` through each one's own proxy, with its own check of the token. Ours is
one request for that page, held until it can be answered; JupyterHub is asked to start the server, then for the page.
The first start of each side warms caches and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from benchmarks import installation, jupyterhub
from benchmarks.figures import Row, summary, write

SECONDS, TIMES = 0.30, 12


async def measure(runs: int) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    async with installation.running() as studiolo:
        await studiolo.create("bench")
        await studiolo.stop("bench")
        door = await studiolo.door("bench")
        jupyterhub.install(installation.jupyterlab_version())
        async with jupyterhub.running() as hub:
            for turn in range(runs + 1):
                mine = await door.seconds()
                await studiolo.stop("bench")
                other = await hub.start()
                await hub.stop()
                counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
                print(f"{counted}: Studiolo {mine:.2f} s, JupyterHub {other:.2f} s", flush=True)
                if turn > 0:
                    ours.append(mine)
                    theirs.append(other)
    seconds = statistics.median(ours)
    times = statistics.median(theirs) / seconds
    row = Row(
        figure=f"request to JupyterLab's first answer, {runs} runs",
        ours=summary(ours),
        against=f"JupyterHub 6.1, `simple` spawner: {summary(theirs)}",
        ratio=f"{times:.1f} times faster",
        target=f"at most {SECONDS:.2f} s, {TIMES} times faster",
        met=seconds <= SECONDS and times >= TIMES,
    )
    write("start", [row], {"studiolo": ours, "jupyterhub": theirs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
