"""A parameter's value: text, a whole number, a number, true or false. Written as text, kept with its type."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from studiolo.spec.wording import quoted

Value = str | int | float | bool
Type = Literal["str", "int", "float", "bool"]

LONGEST = 4096
_HUGE = 10**100
_INT = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")


def parse_value(kind: Type, given: Any) -> Value:
    """What `given` (text, or a JSON scalar) means as `kind`. Raises ValueError in plain words."""
    text = as_text(given)
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    match kind:
        case "int" if _INT.fullmatch(text) and not isinstance(given, bool):
            return int(text)
        case "int":
            raise ValueError(f"{quoted(text)} is not a whole number; write 4")
        case "float" if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        case "float":
            raise ValueError(f"{quoted(text)} is not a number; write 0.5")
        case "bool" if text in ("true", "false"):
            return text == "true"
        case "bool":
            raise ValueError(f"{quoted(text)} is not true or false; write true or false")
        case "str":
            return text


def as_text(value: Any) -> str:
    """How a scalar is written in YAML. Raises ValueError for a list or a mapping."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= _HUGE:
        raise ValueError("is a huge number; write it as text")
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"must be text or a number, not {quoted(value)}")
