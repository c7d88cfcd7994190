"""Parameters: `-P name=value` strings become typed values, `${params.NAME}` becomes the value.

A text that is exactly one reference takes the value with its type; elsewhere the value is written out. Substitution
looks at values, never at keys and never at the section `params` itself, and what was filled in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studiolo.problem import Problem
from studiolo.spec.check import MOST_CHARACTERS
from studiolo.spec.document import Param
from studiolo.spec.value import Value, as_text, parse_value
from studiolo.spec.wording import FieldPath, did_you_mean, dotted, quoted

_REFERENCE = re.compile(r"\$\{params\.([^}]*)\}")


@dataclass
class Filled:
    """A tree with its references replaced; `failed` are the paths where that could not be done."""

    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    failed: set[FieldPath] = field(default_factory=set)


def typed(params: Mapping[str, Param | None], given: Mapping[str, str]) -> tuple[dict[str, Value], list[Problem]]:
    """The value of each parameter, and what is wrong with those that have none. A parameter that is None is declared
    wrongly, so nothing more is said of it."""
    values: dict[str, Value] = {}
    problems = [_unknown(name, params, "params") for name in given if name not in params]
    for name, param in params.items():
        if param is None:
            continue
        where = dotted(("params", name))
        if name in given:
            try:
                values[name] = parse_value(param.type, given[name])
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                problems.append(Problem("wrong-param", message, hint, where))
        elif param.default is not None:
            values[name] = param.default
        else:
            hint = f"give it with -P {name}=VALUE"
            problems.append(Problem("missing-param", f"the parameter {name} has no value", hint, where))
    return values, problems


def fill(data: Mapping[str, Any], declared: Mapping[str, Param | None], values: Mapping[str, Value]) -> Filled:
    """Replace the references in `data`. One to a declared parameter without a value fails without a problem of its
    own, because that has been told where the parameter is declared."""
    filled = Filled()
    room = MOST_CHARACTERS

    def replaced(value: Any, path: FieldPath) -> Any:
        if isinstance(value, Mapping):
            return {key: replaced(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [replaced(item, (*path, index)) for index, item in enumerate(value)]
        return text(value, path) if isinstance(value, str) and "${params." in value else value

    def text(value: str, path: FieldPath) -> Any:
        nonlocal room
        names = _REFERENCE.findall(value)
        for name in dict.fromkeys(names):
            if name not in values:
                filled.failed.add(path)
            if name not in declared:
                filled.problems.append(_unknown(name, declared, dotted(path)))
        if path in filled.failed or not names:
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return values[whole[1]]
        room -= sum(len(as_text(values[name])) for name in names)
        if room < 0:
            filled.failed.add(path)
            filled.problems.append(Problem("too-large", "the parameters' values make it too large", "", dotted(path)))
            return value
        return _REFERENCE.sub(lambda match: as_text(values[match[1]]), value)

    filled.data = {key: item if key == "params" else replaced(item, (key,)) for key, item in data.items()}
    return filled


def _unknown(name: str, params: Mapping[str, Param | None], where: str) -> Problem:
    right = [known for known, param in params.items() if param is not None]
    hint = did_you_mean(name, right, f"declared are {', '.join(right)}" if right else "declare it in params")
    return Problem("unknown-param", f"there is no parameter {quoted(name)}", hint, where)
