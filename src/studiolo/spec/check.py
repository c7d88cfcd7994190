"""From data to a document, or to all that is wrong with it in words a person can act on.

Problems found here carry a field path (`compute.memory`) as `where`; `Positions.located` puts the place in a file
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from studiolo.problem import Problem, WrongInput
from studiolo.spec.document import IN_PLACE, NAMED, Document
from studiolo.spec.wording import FieldPath, did_you_mean, dotted, quoted

MOST_NODES = 10_000
MOST_CHARACTERS = 256 * 1024
DEEPEST = 32
_MOST_PROBLEMS = 50

_NAMEABLE = "a name, or a mapping with the block's fields"
_Doc = TypeVar("_Doc", bound=Document)


def checked(
    model: type[_Doc], data: Any, ignored: frozenset[FieldPath] = frozenset()
) -> tuple[_Doc | None, list[Problem]]:
    """The document, or None and the problems. Problems at or below an `ignored` path are not told."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems = []
        for details in error.errors(include_url=False):
            path = _field_path(details["loc"], data)
            if not any(path[:length] in ignored for length in range(len(path) + 1)):
                problems.append(_problem(model, path, details, data))
        return None, problems


def refuse(problems: list[Problem]) -> None:
    """Raise them all at once, each once, if there are any."""
    if problems:
        unique = list(dict.fromkeys(problems))
        rest = len(unique) - _MOST_PROBLEMS
        more = [Problem("more", f"and {rest} more problems")] if rest > 0 else []
        raise WrongInput(*unique[:_MOST_PROBLEMS], *more)


def refuse_hostile(data: Any) -> None:
    """Refuse what is no small plain tree (`WrongInput`): too many or too deep values, text that cannot be passed on."""
    todo: list[tuple[FieldPath, Any]] = [((), data)]
    seen = characters = 0
    while todo:
        path, value = todo.pop()
        seen += 1
        if seen > MOST_NODES:
            raise WrongInput(Problem("too-large", f"the document holds more than {MOST_NODES} values"))
        if len(path) > DEEPEST:
            raise WrongInput(Problem("too-deep", f"the document is nested more than {DEEPEST} levels deep"))
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise WrongInput(Problem("wrong-value", f"the key {quoted(key)} is not text", where=dotted(path)))
                todo += [((*path, key), key), ((*path, key), item)]
        elif isinstance(value, list | tuple):
            todo += [((*path, index), item) for index, item in enumerate(value)]
        elif isinstance(value, str):
            characters += len(value)
            if characters > MOST_CHARACTERS:
                raise WrongInput(Problem("too-large", f"the document holds more than {MOST_CHARACTERS // 1024} KiB"))
            if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise WrongInput(
                    Problem("wrong-value", "holds a character that no program can be given", where=dotted(path))
                )


def _field_path(location: tuple[int | str, ...], data: Any) -> FieldPath:
    """The path in the person's own document: without the steps Pydantic adds for unions and keys."""
    path: list[int | str] = []
    for step in location:
        inside = isinstance(step, str) and isinstance(data, Mapping) and step in data
        if inside or (isinstance(step, int) and isinstance(data, list | tuple)):
            data = data[step]
        elif step in (NAMED, IN_PLACE, "[key]"):
            continue
        else:
            data = None
        path.append(step)
    return tuple(path)


def _problem(model: type[Document], path: FieldPath, details: ErrorDetails, data: Any) -> Problem:
    where, value = dotted(path), details["input"]
    match details["type"]:
        case "extra_forbidden":
            key, parent = str(path[-1]), path[:-1]
            known = _keys(model, parent)
            message = f"unknown key {_ticked(key)}" + (f" in {dotted(parent)}" if parent else "")
            return Problem("unknown-key", message, did_you_mean(key, known, f"known are {_listed(known)}"), where)
        case "missing":
            return Problem("missing-key", f"`{path[-1]}` is missing", f"write {path[-1]}: ...", where)
        case "value_error":
            message, _, hint = str(details["ctx"]["error"]).partition("; ")
            return Problem("wrong-value", message, hint, where)
        case "literal_error":
            choices = [choice.strip("'") for choice in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return Problem(
                "wrong-value",
                f"{quoted(value)} is not one of {', '.join(choices)}",
                did_you_mean(str(value), choices),
                where,
            )
        case "tuple_type" | "list_type":
            hint = f"write [{value}]" if isinstance(value, str) and value.isprintable() and len(value) < 60 else ""
            return Problem("wrong-value", f"must be a list, not {quoted(value)}", hint, where)
        case "dict_type" | "model_type" | "model_attributes_type":
            wanted = _NAMEABLE if IN_PLACE in details["loc"] else "a mapping"
            return Problem("wrong-value", f"must be {wanted}, not {quoted(value)}", "", where)
        case "string_type" | "string_unicode":
            return Problem("wrong-value", f"must be text, not {quoted(value)}", "", where)
        case _:
            return Problem("wrong-value", f"{quoted(value)}: {details['msg']}", "", where)


def _keys(model: type[Document], path: FieldPath) -> list[str]:
    """The known keys of the mapping at `path`."""
    steps = iter(path)
    for step in steps:
        field = model.model_fields.get(str(step))
        inner = next(_documents(field.annotation), None) if field else None
        if field is None or inner is None:
            return []
        if _many(field.annotation):
            next(steps, None)
        model = inner
    return list(model.model_fields)


def _documents(annotation: Any) -> Iterator[type[Document]]:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        yield annotation
    for argument in get_args(annotation):
        yield from _documents(argument)


def _many(annotation: Any) -> bool:
    """Whether it is a list or a mapping of documents, which takes one more step in a path."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(_many(argument) for argument in get_args(annotation))
    return origin in (tuple, dict)


def _listed(words: list[str]) -> str:
    return ", ".join(words)


def _ticked(key: str) -> str:
    return f"`{key}`" if key.isprintable() and len(key) <= 60 else quoted(key)
