"""Usage as lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from studiolo.resources import UsagePoint
from studiolo.server.pages import charts
from test_pages_words import workspace

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def points(*figures: tuple[float, float]) -> list[UsagePoint]:
    """(seconds before now, cores)"""
    return [UsagePoint(at=NOW - timedelta(seconds=before), cpu=cpu, memory=2**30) for before, cpu in figures]


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def test_nothing_measured_draws_nothing() -> None:
    drawn = charts.usage(workspace("running"), [], NOW)
    assert (drawn.cpu.line, drawn.cpu.area, drawn.cpu.last) == ("", "", None)


def test_time_runs_from_left_to_right_and_more_is_higher() -> None:
    drawn = charts.usage(workspace("running"), points((60, 0.5), (30, 1.0), (0, 0.2)), NOW, minutes=1)
    found = coordinates(drawn.cpu.line)
    assert [x for x, _ in found] == [0.0, 300.0, 600.0]
    assert found[1][1] < found[0][1] < found[2][1]
    assert drawn.cpu.last == 0.2
    assert drawn.cpu.peak == 1.0


def test_a_line_stays_in_its_box_also_above_the_limit() -> None:
    limited = workspace("running").model_copy(update={"document": {"compute": {"cpu": 1.0}}})
    drawn = charts.usage(limited, points((50, 0.0), (20, 1.7), (0, 1.0)), NOW)
    assert drawn.cpu.limit
    assert drawn.cpu.ceiling == 1.7
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in coordinates(drawn.cpu.line))


def test_a_pause_stays_a_gap() -> None:
    drawn = charts.usage(workspace("running"), points((1000, 1), (990, 1), (100, 1), (90, 1)), NOW)
    assert drawn.cpu.line.count("M") == 2


def test_what_is_older_is_left_out() -> None:
    drawn = charts.usage(workspace("running"), points((7200, 9.0), (10, 0.1)), NOW)
    assert drawn.cpu.peak == 0.1


def test_a_long_series_is_thinned_and_keeps_its_peak() -> None:
    many = points(*((3600 - step, 4.0 if step == 1801 else 0.1) for step in range(3600)))
    drawn = charts.usage(workspace("running"), many, NOW)
    found = coordinates(drawn.cpu.line)
    assert len(found) <= charts.POINTS
    assert min(y for _, y in found) == round(charts.HEIGHT - 4 / 5 * (charts.HEIGHT - 2) - 1, 1)
