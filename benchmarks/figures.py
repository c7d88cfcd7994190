"""Samples, and what is said of them. Each script leaves one JSON file in `.benchmarks/results`, of which `all` makes
the table in `benchmarks/README.md`."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(".benchmarks/results")


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, ours, the peer's or the limit, and whether that is good enough.

    Nothing is said of that where there is no target.
    """

    figure: str
    ours: str
    against: str
    ratio: str
    target: str
    met: bool

    def markdown(self) -> str:
        verdict = "" if not self.target else "met" if self.met else "**missed**"
        return f"| {self.figure} | {self.ours} | {self.against} | {self.ratio} | {self.target} | {verdict} |"


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was seen, never an interpolation."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(samples: Sequence[float]) -> str:
    """`0.52 s (p95 0.61)`, of seconds."""
    return f"{statistics.median(samples):.2f} s (p95 {percentile(samples, 0.95):.2f})"


def megabytes(samples: Sequence[float]) -> str:
    """`34.1 MB (p95 36.0)`, of megabytes."""
    return f"{statistics.median(samples):.1f} MB (p95 {percentile(samples, 0.95):.1f})"


def write(name: str, rows: Sequence[Row], samples: dict[str, Sequence[float]]) -> None:
    """Keep rows and raw samples, and show the rows."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    document = {"rows": [asdict(row) for row in rows], "samples": samples}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1))
    for row in rows:
        print(row.markdown(), flush=True)
