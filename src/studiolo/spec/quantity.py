"""Quantities as people write them: `8GiB` of memory (bytes), `500m` cores, `2h` (seconds).

A number (not text) is already in base units: that is how documents are stored and read back.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from studiolo.spec.wording import quoted

# IEC 80000-13 binary prefixes and SI decimal ones, and the short forms Kubernetes uses.
_SIZE_UNITS = {
    "": 1, "B": 1,
    "k": 10**3, "kB": 10**3, "KB": 10**3, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9, "T": 10**12, "TB": 10**12,
    "Ki": 2**10, "KiB": 2**10, "Mi": 2**20, "MiB": 2**20, "Gi": 2**30, "GiB": 2**30, "Ti": 2**40, "TiB": 2**40,
}  # fmt: skip
_TIME_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)"
_SIZE = re.compile(_NUMBER + r"([A-Za-z]*)")
_LOOSE_SIZE = re.compile(_NUMBER + r"([kmgt])i?b?", re.IGNORECASE)
_CORES = re.compile(_NUMBER + r"(m?)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:min|[smhd]))+")
_DURATION_PART = re.compile(_NUMBER + r"(min|[smhd])")

_LARGEST_SIZE = 2**60
_LEAST_CORES, _MOST_CORES = 0.001, 10_000
_LONGEST = 10 * 365 * 86400


def parse_size(value: Any) -> int:
    """Bytes. Raises ValueError with the nearest right spelling."""
    if _is_number(value):
        size = Fraction(value) if isinstance(value, int) or math.isfinite(value) else Fraction(0)
    else:
        text = _text(value)
        match = _SIZE.fullmatch(text)
        if match is None or match[2] not in _SIZE_UNITS:
            loose = _LOOSE_SIZE.fullmatch(text.replace(" ", ""))
            raise ValueError(f"{quoted(value)} is not a size; write {_spelled(loose) if loose else '8GiB'}")
        size = Fraction(match[1]) * _SIZE_UNITS[match[2]]
    if not 1 <= size <= _LARGEST_SIZE:
        raise ValueError(f"{quoted(value)} is not a size of 1 byte to 1 EiB; write 8GiB")
    return int(size)


def parse_cores(value: Any) -> float:
    """Cores. `500m` is half a core."""
    if _is_number(value):
        cores = float(value) if -1 < value <= _MOST_CORES else math.nan
    else:
        match = _CORES.fullmatch(_text(value))
        cores = float(match[1]) / (1000 if match[2] else 1) if match else math.nan
    if not _LEAST_CORES <= cores <= _MOST_CORES:
        raise ValueError(f"{quoted(value)} is not a number of cores; write 2, 0.5 or 500m")
    return cores


def parse_duration(value: Any) -> float:
    """Seconds. `1h30m`, `90s`, `2d`; `0s` is none."""
    if _is_number(value):
        seconds = float(value) if -1 < value <= _LONGEST + 1 else (-1.0 if value < 0 else math.inf)
    else:
        text = _text(value)
        if not _DURATION.fullmatch(text):
            short = text.isascii() and text.isdigit() and len(text) < 10
            raise ValueError(
                f"{quoted(value)} is not a duration; write {f'{text}s or {text}m' if short else '30m, 2h or 1h30m'}"
            )
        seconds = math.fsum(float(number) * _TIME_UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{quoted(value)} is not a duration; write 30m, 2h or 1h30m")
    if seconds > _LONGEST:
        raise ValueError(f"{quoted(value)} is longer than ten years; write 30m, 2h or 1h30m")
    return seconds


def format_size(size: float) -> str:
    """`1536 * 2**20` bytes as `1.5 GiB`, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _spelled(loose: re.Match[str]) -> str:
    return f"{loose[1]}{loose[2].upper()}iB"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a number with a unit, not {quoted(value)}")
    return value.strip()


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "examples": ["8GiB"]}]}),
]
Cores = Annotated[
    float,
    BeforeValidator(parse_cores),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "examples": ["500m"]}]}),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "examples": ["30m", "1h30m"]}),
]
