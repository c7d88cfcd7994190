"""Where a folder says which Python packages it needs: the file somebody chose, else the first of five that does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studiolo.environments import uv_lockfile, uv_project, uv_script
from studiolo.environments.interpreter import Wish
from studiolo.environments.kind import Index, Request
from studiolo.environments.repository_file import read_text, read_toml
from studiolo.environments.requirement import Wanted
from studiolo.environments.requirements_file import RequirementsFile
from studiolo.environments.uv_settings import Origin
from studiolo.problem import Problem, WrongInput

_PYTHON_VERSION = re.compile(r"^(?:cpython-|python-?)?(3(?:\.\d+){0,2})$")
_REQUIREMENTS = re.compile(r".*\.(?:txt|in|lock)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """The file `folder/name` in the repository `root`."""

    root: Path
    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def shown(self) -> str:
        return os.path.relpath(self.path, self.root)

    @property
    def is_script(self) -> bool:
        return self.name.endswith(".py")

    @property
    def is_uv_lock(self) -> bool:
        """uv's own lock decides: of a project, or of a script that has one beside it."""
        return self.name == "uv.lock" or (self.is_script and (self.folder / f"{self.name}.lock").is_file())


@dataclass(frozen=True)
class Declared:
    """What a file asks for, before anything is resolved. `locked`: it leaves nothing open. `files` are all that were
    read to know it."""

    wanted: tuple[Wanted, ...] = ()
    constraints: tuple[Wanted, ...] = ()
    indexes: tuple[Index, ...] = ()
    origins: tuple[Origin, ...] = ()
    python: Wish | None = None
    locked: bool = False
    files: tuple[Path, ...] = ()


def find(folder: Path) -> str | None:
    """The file to go by: uv.lock, requirements.lock, pyproject.toml with dependencies, requirements.txt, or the one
    script that says what it needs."""
    if (folder / "uv.lock").is_file() and (folder / "pyproject.toml").is_file():
        return "uv.lock"
    if (folder / "requirements.lock").is_file():
        return "requirements.lock"
    if uv_project.declares_dependencies(folder / "pyproject.toml"):
        return "pyproject.toml"
    return "requirements.txt" if (folder / "requirements.txt").is_file() else uv_script.find(folder)


def choose(request: Request) -> Place | None:
    """The file that a request is about; None where nothing declares anything. Raises `WrongInput` where the chosen
    folder or file is not there, or is none of ours."""
    root = request.folder
    if root is None:
        return None
    folder = root
    if request.project is not None:
        folder = root / request.project
        if not folder.resolve().is_relative_to(root.resolve()) or not folder.is_dir():
            raise _no_project(f"there is no folder {request.project} in the repository")
    if request.file is not None:
        return _chosen(root, folder, request.file)
    name = find(folder)
    if name is None and request.project is not None:
        raise _no_project(f"{request.project} does not say which packages it needs")
    return Place(root, folder, name) if name is not None else None


def read(place: Place, *, python: bool = True) -> Declared:
    """What the file asks for; with `python`, also which Python. Raises `WrongInput` with all its problems at once."""
    root = place.root
    wish, looked_at = _python_wish(place) if python else (None, ())
    if place.is_uv_lock:
        own = uv_lockfile.settings(root, place.path)
        files = uv_lockfile.files(root, place.path)
        found = Declared(indexes=own.indexes, origins=own.origins, locked=True, files=files)
    elif place.is_script:
        wanted, settings = uv_project.of_script(uv_script.metadata(root, place.path), place.shown)
        found = Declared(wanted, settings.constraints, settings.indexes, settings.origins, files=(place.path,))
    elif place.name == "pyproject.toml":
        found = _of_project(root, place.path)
    else:
        found = _of_requirements(place)
    return replace(found, python=wish, files=tuple(dict.fromkeys((*found.files, *looked_at))))


def _of_requirements(place: Place) -> Declared:
    file = RequirementsFile.read(place.root, place.path)
    project = place.folder / "pyproject.toml"
    own = Declared()
    if file.itself and not file.locked and uv_project.declares_dependencies(project):
        own = _of_project(place.root, project)
    return Declared(
        (*file.wanted, *own.wanted),
        (*file.constraints, *own.constraints),
        (*file.indexes, *own.indexes),
        own.origins,
        locked=file.locked,
        files=(*file.files, *own.files),
    )


def _of_project(root: Path, path: Path) -> Declared:
    wanted, settings = uv_project.of_project(read_toml(root, path), os.path.relpath(path, root))
    return Declared(wanted, settings.constraints, settings.indexes, settings.origins, files=(path,))


def _python_wish(place: Place) -> tuple[Wish | None, tuple[Path, ...]]:
    """The repository's own word on Python, and the files that were read for it: a script's, else `.python-version`,
    else the `requires-python` of pyproject.toml."""
    looked_at: list[Path] = []
    if place.is_script:
        looked_at.append(place.path)
        if (text := uv_project.requires_python(uv_script.metadata(place.root, place.path))) is not None:
            return Wish(text, f"{place.shown}: requires-python"), tuple(looked_at)
    for folder in dict.fromkeys((place.folder, place.root)):
        path = folder / ".python-version"
        if path.is_file():
            looked_at.append(path)
            for line in read_text(place.root, path).splitlines():
                if match := _PYTHON_VERSION.match(line.strip()):
                    return Wish(match[1], os.path.relpath(path, place.root)), tuple(looked_at)
    path = place.folder / "pyproject.toml"
    if not place.is_script and path.is_file():
        looked_at.append(path)
        project: Any = read_toml(place.root, path).get("project")
        if isinstance(project, dict) and (text := uv_project.requires_python(project)) is not None:
            where = f"{os.path.relpath(path, place.root)}: project.requires-python"
            return Wish(text, where), tuple(looked_at)
    return None, tuple(looked_at)


def _chosen(root: Path, folder: Path, file: str) -> Place:
    path = folder / file
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        raise WrongInput(
            Problem(
                "file-missing", f"there is no file {file} in the repository", "name one that is", "environment.file"
            )
        )
    name = path.name
    if name == "uv.lock" and not (path.parent / "pyproject.toml").is_file():
        raise WrongInput(
            Problem("file-missing", f"{file} has no pyproject.toml beside it", "commit both", "environment.file")
        )
    if name in ("uv.lock", "pyproject.toml") or name.endswith(".py") or _REQUIREMENTS.fullmatch(name):
        return Place(root, path.parent, name)
    raise WrongInput(
        Problem(
            "file-unknown",
            f"{file} is nothing that uv takes packages from",
            "name a requirements file, a script with inline metadata, pyproject.toml or uv.lock",
            "environment.file",
        )
    )


def _no_project(message: str) -> WrongInput:
    return WrongInput(
        Problem(
            "project-missing",
            message,
            "name a folder with a uv.lock, requirements.lock, pyproject.toml with dependencies, requirements.txt "
            "or one script with inline metadata",
            "environment.project",
        )
    )
