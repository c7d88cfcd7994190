"""Sizes, cores and durations as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.spec.quantity import format_size, parse_cores, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 2**30),
        ("8Gi", 8 * 2**30),
        ("8GB", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("512MiB", 2**29),
        ("1.5GiB", 3 * 2**29),
        ("1024", 1024),
        ("100B", 100),
        (" 1KiB ", 1024),
        (4096, 4096),
        (4096.0, 4096),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("8 GB", "write 8GiB"),
        ("8 gb", "write 8GiB"),
        ("8gb", "write 8GiB"),
        ("512 mib", "write 512MiB"),
        ("1.5g", "write 1.5GiB"),
        ("lots", "write 8GiB"),
        ("-1GiB", "write 8GiB"),
        ("0", "write 8GiB"),
        ("0.5", "write 8GiB"),
        ("", "write 8GiB"),
        ("2000000TiB", "write 8GiB"),
        ("٣GiB", "write 8GiB"),
        ("9" * 400, "write 8GiB"),
        (-1, "write 8GiB"),
        (10**400, "write 8GiB"),
        (float("inf"), "write 8GiB"),
        (float("nan"), "write 8GiB"),
        (True, "a number with a unit"),
        ([], "a number with a unit"),
    ],
)
def test_what_is_no_size_is_refused_with_a_right_spelling(text: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "cores"), [("2", 2), ("0.5", 0.5), ("500m", 0.5), ("1m", 0.001), (4, 4), (0.25, 0.25)]
)
def test_cores(text: Any, cores: float) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize(
    "text", ["0", "0m", "-1", "two", "1e3", "20000", "", "0.0001", 0, -2, 10**400, float("nan"), None]
)
def test_what_is_no_number_of_cores_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_cores(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("30min", 1800), ("1h30m", 5400), ("2d", 172800), ("0s", 0), ("1.5h", 5400), (90, 90)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "h", "1h 30m", "-5m", "11y", "4000d", "9" * 30 + "d", -1, float("nan"), float("inf"), 10**400, True],
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|longer than ten years|unit"):
        parse_duration(text)


def test_a_bare_number_is_asked_for_its_unit() -> None:
    with pytest.raises(ValueError, match="write 30s or 30m"):
        parse_duration("30")


@pytest.mark.timeout(20)
@given(st.text(max_size=2000) | st.from_regex(r"([0-9]+[smhd]?)*x", fullmatch=True))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (parse_size, parse_cores, parse_duration):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert len(str(error)) < 300  # noqa: PT017  both outcomes are right


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (8 * 2**30, "8.0 GiB"),
        (2**45, "32.0 TiB"),
        (20 * 2**20, "20 MiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text
