"""`studiolo.yaml` and block files to documents. All that is wrong is raised at once, as `WrongInput`.

From a file, a problem's `where` is `file:line:column` and its message begins with the field path; from data of the API
`where` is the field path itself. `LoadedWorkspace.positions.located` turns the latter into the former.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from studiolo.problem import WrongInput
from studiolo.spec.check import checked, refuse, refuse_hostile
from studiolo.spec.document import Compute, DataSource, Document, Environment, Name, Param, Workspace
from studiolo.spec.params import fill, typed
from studiolo.spec.yaml import Positions, Tree, read_yaml

__all__ = [
    "Block",
    "BlockKind",
    "LoadedWorkspace",
    "Positions",
    "Tree",
    "check_block",
    "check_workspace",
    "load_block",
    "load_workspace",
    "read_yaml",
]

BlockKind = Literal["environment", "data", "compute"]
Block = Environment | DataSource | Compute

_Doc = TypeVar("_Doc", bound=Document)


@dataclass(frozen=True)
class LoadedWorkspace:
    """A checked file. `data` is the file's plain tree before parameters: what the API is sent, with them beside it."""

    document: Workspace
    data: dict[str, Any]
    positions: Positions


class _EnvironmentFile(Environment):
    name: Name


class _ComputeFile(Compute):
    name: Name


def load_workspace(text: str | bytes, file: str, given: Mapping[str, str]) -> LoadedWorkspace:
    """Read and check a `studiolo.yaml`. `given` are the parameters as `-P` gave them."""
    tree = read_yaml(text, file)
    try:
        document = check_workspace(tree.data, given)
    except WrongInput as error:
        raise _located(error, tree.positions) from None
    return LoadedWorkspace(document, tree.data, tree.positions)


def check_workspace(data: Mapping[str, Any], given: Mapping[str, str]) -> Workspace:
    """The same for plain data, such as the API's JSON."""
    refuse_hostile(data)
    refuse_hostile({"params": given})
    declared = _declared(data.get("params"))
    values, problems = typed(declared, given)
    filled = fill(data, declared, values)
    document, wrong = checked(Workspace, filled.data, frozenset(filled.failed))
    refuse([*problems, *filled.problems, *wrong])
    assert document is not None, "where nothing is wrong there is a document"
    return document


def load_block(kind: BlockKind, text: str | bytes, file: str) -> tuple[str, Block]:
    """Read and check a block's file: its `name` and its fields."""
    tree = read_yaml(text, file)
    try:
        return check_block(kind, tree.data)
    except WrongInput as error:
        raise _located(error, tree.positions) from None


def check_block(kind: BlockKind, data: Mapping[str, Any]) -> tuple[str, Block]:
    """The same for plain data."""
    refuse_hostile(data)
    match kind:
        case "environment":
            environment = _checked(_EnvironmentFile, data)
            return environment.name, Environment.model_validate(environment.model_dump(exclude={"name"}))
        case "compute":
            compute = _checked(_ComputeFile, data)
            return compute.name, Compute.model_validate(compute.model_dump(exclude={"name"}))
        case "data":
            source = _checked(DataSource, data)
            return source.name, source


def _checked(model: type[_Doc], data: Mapping[str, Any]) -> _Doc:
    document, problems = checked(model, data)
    refuse(problems)
    assert document is not None, "where nothing is wrong there is a document"
    return document


def _declared(section: Any) -> dict[str, Param | None]:
    """The parameters, None for one that is declared wrongly: that is told with the rest of the document."""
    if not isinstance(section, Mapping):
        return {}
    declared: dict[str, Param | None] = {}
    for name, param in section.items():
        alone, _ = checked(Workspace, {"params": {name: param}})
        declared[name] = alone.params[name] if alone else None
    return declared


def _located(error: WrongInput, positions: Positions) -> WrongInput:
    """From top to bottom of the file; what has no place comes last."""
    inorder = sorted(error.problems, key=lambda problem: (problem.where == "", positions.spot(problem.where)))
    return WrongInput(*(positions.located(problem) for problem in inorder))
