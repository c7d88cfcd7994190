"""`python -m benchmarks.kernel [--runs 10]`: from run pressed to the first cell done, forked and in the ordinary way.

In a workspace of the penguins example, the cell imports what that notebook does. Time runs from asking for a kernel to
the end of the cell, through the edge. The ordinary kernel is the same one, started by the same server, but its
kernelspec names the provisioner of `jupyter_client` itself. Both take turns; the first of each is not counted, so the
disk's cache is as warm for one as for the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
from pathlib import Path

from benchmarks import installation
from benchmarks.figures import Row, summary, write
from benchmarks.installation import HOME, Door
from benchmarks.kernel.notebook import first_cell

SECONDS, TIMES = 0.6, 9
EXAMPLE = Path("examples/penguins").absolute()
PLACE = Path(".benchmarks/penguins").absolute()
CELL = """
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
"""


async def measure(runs: int) -> None:
    forked: list[float] = []
    ordinary: list[float] = []
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(EXAMPLE, PLACE)
    async with installation.running() as studiolo:
        await studiolo.create("bench", repository=PLACE)
        door = await studiolo.door("bench")
        await ordinary_kernel(studiolo, door)
        for turn in range(runs + 1):
            mine = await first_cell(door, "python3", CELL)
            await asyncio.sleep(1)  # what a kernel's end takes is not the next one's
            other = await first_cell(door, "ordinary", CELL)
            await asyncio.sleep(1)
            counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
            print(f"{counted}: kernel {mine:.2f} s, ordinary kernel {other:.2f} s", flush=True)
            if turn > 0:
                forked.append(mine)
                ordinary.append(other)
    seconds = statistics.median(forked)
    times = statistics.median(ordinary) / seconds
    row = Row(
        figure=f"run pressed to the first cell done (pandas, scikit-learn, matplotlib), {runs} runs",
        ours=summary(forked),
        against=f"the same kernel, not forked: {summary(ordinary)}",
        ratio=f"{times:.1f} times faster",
        target=f"at most {SECONDS} s, {TIMES} times faster",
        met=seconds <= SECONDS and times >= TIMES,
    )
    write("kernel", [row], {"forked": forked, "ordinary": ordinary})


async def ordinary_kernel(studiolo: installation.Installation, door: Door) -> None:
    """Have the workspace's own python3 a second time, as `ordinary`, which the ordinary provisioner starts."""
    workspace = (await studiolo.api.get("/workspaces/bench")).raise_for_status().json()
    async with door.http() as http:
        spec = (await http.get("/api/kernelspecs/python3")).raise_for_status().json()["spec"]
    spec["metadata"] = {**spec["metadata"], "kernel_provisioner": {"provisioner_name": "local-provisioner"}}
    folder = HOME / "workspaces" / workspace["id"] / "home/.local/share/jupyter/kernels/ordinary"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(spec))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
