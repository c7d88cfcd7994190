"""Usage as lines: from points in time to paths of an SVG. Pure.

A path is drawn in a box of `WIDTH` by `HEIGHT` that the page stretches; gaps longer than `GAP` (the workspace was
stopped, or nobody measured) stay gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from studiolo.resources import UsagePoint, Workspace

WIDTH = 600.0
HEIGHT = 100.0
GAP = timedelta(seconds=90)
# Beyond this many points a screen shows no more.
POINTS = 240


@dataclass(frozen=True)
class Line:
    """One series. `line` and `area` are SVG path data, empty where there is nothing to draw; `ceiling` is the top of
    the box and `limit` whether that is a limit somebody set."""

    line: str
    area: str
    last: float | None
    peak: float
    ceiling: float
    limit: bool


@dataclass(frozen=True)
class Usage:
    """CPU (cores) and memory (bytes) over the last `minutes`."""

    cpu: Line
    memory: Line
    minutes: int


def usage(workspace: Workspace, points: Sequence[UsagePoint], now: datetime, minutes: int = 60) -> Usage:
    compute = workspace.document.get("compute")
    limits = compute if isinstance(compute, dict) else {}
    start = now - timedelta(minutes=minutes)
    shown = [point for point in points if point.at >= start]
    return Usage(
        _line(shown, "cpu", start, now, _limit(limits.get("cpu")), 0.25),
        _line(shown, "memory", start, now, _limit(limits.get("memory")), 256 * 1024**2),
        minutes,
    )


def _limit(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _line(
    points: Sequence[UsagePoint],
    field: Literal["cpu", "memory"],
    start: datetime,
    end: datetime,
    limit: float | None,
    least: float,
) -> Line:
    values = [float(getattr(point, field)) for point in points]
    peak = max(values, default=0.0)
    ceiling = max(limit, peak) if limit is not None else max(peak * 1.25, least)
    seconds = (end - start).total_seconds()
    line: list[str] = []
    area: list[str] = []
    run: list[tuple[float, float]] = []
    before: datetime | None = None

    def finish() -> None:
        if not run:
            return
        if len(run) == 1:
            run.insert(0, (max(0.0, run[0][0] - 2), run[0][1]))
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in run)
        line.append(f"M{path}")
        area.append(f"M{run[0][0]:.1f} {HEIGHT:.0f} L{path} L{run[-1][0]:.1f} {HEIGHT:.0f} Z")
        run.clear()

    for at, value in _thinned(points, values):
        if before is not None and at - before > GAP:
            finish()
        x = min(WIDTH, (at - start).total_seconds() / seconds * WIDTH)
        run.append((x, HEIGHT - value / ceiling * (HEIGHT - 2) - 1))
        before = at
    finish()
    return Line(" ".join(line), " ".join(area), values[-1] if values else None, peak, ceiling, limit is not None)


def _thinned(points: Sequence[UsagePoint], values: Sequence[float]) -> list[tuple[datetime, float]]:
    """At most `POINTS`, each the highest of those it stands for, so that peaks stay."""
    step = max(1, -(-len(points) // POINTS))
    return [
        (points[min(at + step, len(points)) - 1].at, max(values[at : at + step])) for at in range(0, len(points), step)
    ]
