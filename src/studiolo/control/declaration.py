"""What a folder declares, without a running Studiolo: which environment, and what its devcontainer.json asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studiolo.environments.flake_template import template
from studiolo.environments.kind import Detection
from studiolo.environments.kinds import ON_HOST, candidates
from studiolo.environments.repository_file import read_text
from studiolo.problem import NotFound, Problem, WrongInput
from studiolo.spec.document import Environment
from studiolo.spec.importers.devcontainer import Imported, read

_FOLDER = ".devcontainer"
_DEVCONTAINER = "devcontainer.json"


@dataclass(frozen=True)
class Passed:
    """Something that was found and not chosen."""

    file: str
    kind: str
    why: str


@dataclass(frozen=True)
class Choice:
    """`kind` is None where a stored environment is named, which only a running Studiolo knows."""

    kind: str | None
    file: str
    reason: str
    passed: tuple[Passed, ...]
    runnable: bool = True
    """Whether a workspace of this machine can be in it."""


def detect(folder: Path, asked: Environment | str) -> Choice:
    """What a workspace in this folder would use. `asked` is what its document says of the environment."""
    # Not before it is needed: with the store behind it, it takes a while to import.
    from studiolo.control.renewal import choose

    if isinstance(asked, str):
        passed = tuple(Passed(each.file, each.kind, "studiolo.yaml decides") for each in candidates(folder))
        return Choice(None, "", f"studiolo.yaml names the stored environment {asked}", passed)
    chosen = choose(asked, folder)
    found = candidates(folder / (asked.project or ""))
    file = chosen.file or next((each.file for each in found if each.kind == chosen.kind and not asked.image), "")
    passed = tuple(
        Passed(each.file, each.kind, _why_not(each, chosen, asked))
        for each in found
        if (each.kind, each.file) != (chosen.kind, file)
    )
    return Choice(chosen.kind, file, chosen.reason, passed, chosen.kind in ON_HOST)


def _why_not(found: Detection, chosen: Detection, asked: Environment) -> str:
    if asked.kind is not None or asked.image is not None or asked.file is not None:
        return "studiolo.yaml decides"
    if found.kind not in ON_HOST:
        return "it needs a backend that runs containers; workspaces of this machine are processes"
    if found.kind == "flake" and (asked.packages or asked.python or asked.indexes):
        return "studiolo.yaml asks for packages, and a flake says by itself which"
    return f"{chosen.file} comes first"


@dataclass(frozen=True)
class Devcontainer:
    """`file` is relative to the repository; `shown` is what the problems call it, from where the command was given."""

    file: str
    shown: str
    imported: Imported


def devcontainer(folder: Path) -> Devcontainer | None:
    """The folder's devcontainer.json, where containers.dev says that it lies; None where there is none.

    Raises `WrongInput` where it cannot be read, or where there are several.
    """
    for place in (folder / _FOLDER / _DEVCONTAINER, folder / f".{_DEVCONTAINER}"):
        if place.is_file():
            return devcontainer_at(place)
    several = sorted(folder.glob(f"{_FOLDER}/*/{_DEVCONTAINER}"))
    if len(several) > 1:
        names = ", ".join(str(each.relative_to(folder)) for each in several)
        raise WrongInput(Problem("devcontainer-ambiguous", f"there are several: {names}", "name one of them"))
    return devcontainer_at(several[0]) if several else None


def devcontainer_at(path: Path) -> Devcontainer:
    """The one at this path; its repository is the folder that `.devcontainer` lies in."""
    above = path.absolute().parent
    root = next((each.parent for each in (above, above.parent) if each.name == _FOLDER), above)
    file = str(path.absolute().relative_to(root))
    return Devcontainer(file, str(path), read(read_text(root, path), file, str(path)))


def required(folder: Path) -> Devcontainer:
    """The folder's devcontainer.json. Raises `NotFound` where there is none."""
    found = devcontainer(folder)
    if found is None:
        looked = f"{_FOLDER}/{_DEVCONTAINER} nor .{_DEVCONTAINER}"
        raise NotFound(Problem("no-devcontainer", f"there is neither {looked} in {folder}", "name the file itself"))
    return found


def flake(name: str, *, cpp: bool) -> Mapping[str, str]:
    """The files of a small flake for a repository that has none."""
    return template("cpp" if cpp else "python", name)
