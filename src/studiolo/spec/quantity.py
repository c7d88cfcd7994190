"""Quantities as people write them: `8GiB` of memory (bytes), `500m` cores, `2h` (seconds)."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

# IEC 80000-13 binary prefixes and SI decimal ones, and the short forms Kubernetes uses.
_SIZE_UNITS = {
    "": 1, "B": 1,
    "k": 10**3, "kB": 10**3, "KB": 10**3, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9, "T": 10**12, "TB": 10**12,
    "Ki": 2**10, "KiB": 2**10, "Mi": 2**20, "MiB": 2**20, "Gi": 2**30, "GiB": 2**30, "Ti": 2**40, "TiB": 2**40,
}  # fmt: skip
_TIME_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
_CORES = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:min|[smhd]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(min|[smhd])")


def parse_size(value: Any) -> int:
    """Bytes. Raises ValueError with the nearest right spelling."""
    text = _text(value)
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZE_UNITS:
        near = text.replace(" ", "")
        loose = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt])i?b?", near, re.IGNORECASE)
        suggestion = f"{loose[1]}{loose[2].upper()}iB" if loose else "8GiB"
        raise ValueError(f'"{value}" is not a size; write {suggestion}')
    size = int(float(match[1]) * _SIZE_UNITS[match[2]])
    if size < 1:
        raise ValueError(f'"{value}" is not a size; it must be more than nothing, such as 8GiB')
    return size


def parse_cores(value: Any) -> float:
    """Cores. `500m` is half a core."""
    match = _CORES.fullmatch(_text(value))
    cores = float(match[1]) / (1000 if match[2] else 1) if match else 0.0
    if not 0 < cores <= 10_000:
        raise ValueError(f'"{value}" is not a number of cores; write 2, 0.5 or 500m')
    return cores


def parse_duration(value: Any) -> float:
    """Seconds. `1h30m`, `90s`, `2d`; `0s` is none."""
    text = _text(value)
    if not _DURATION.fullmatch(text):
        hint = f"{text}s or {text}m" if text.isdigit() else "30m, 2h or 1h30m"
        raise ValueError(f'"{value}" is not a duration; write {hint}')
    seconds = sum(float(number) * _TIME_UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if not math.isfinite(seconds) or seconds > 10 * 365 * 86400:
        raise ValueError(f'"{value}" is longer than ten years')
    return seconds


def format_size(size: float) -> str:
    """`1536 * 2**20` bytes as `1.5 GiB`, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a number with a unit")
    return str(value).strip()


def _parsed_duration(value: Any) -> Any:
    return value if isinstance(value, float) else parse_duration(value)


# What is already a number of base units (a document read back from the store) passes through unchanged.
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
    BeforeValidator(_parsed_duration),
    WithJsonSchema({"type": "string", "examples": ["30m", "1h30m"]}),
    Field(ge=0),
]
