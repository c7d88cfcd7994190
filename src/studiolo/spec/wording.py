"""How problems in documents are worded: values quoted and cut short, field paths, the nearest right spelling."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FieldPath = tuple[str | int, ...]

_LONGEST = 60


def quoted(value: Any) -> str:
    """The value in double quotes on one line, at most some 60 characters; `a list`, `a mapping`, `nothing`."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    if isinstance(value, bool):
        return f'"{str(value).lower()}"'
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return "a huge number"
    text = str(value)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    # JSON escapes line breaks and terminal control characters; a lone surrogate could not even be printed.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def dotted(path: FieldPath) -> str:
    """`apps[0].command`: the field path people and the API read."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            step = step if step.isprintable() and len(step) <= _LONGEST else json.dumps(step[:_LONGEST])
            text += f".{step}" if text else step
    return text


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant, None where nothing is near."""
    near = difflib.get_close_matches(word[:_LONGEST].lower(), list(choices), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else otherwise
