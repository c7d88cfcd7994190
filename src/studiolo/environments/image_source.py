"""What a repository, or a person, says about an image: its name, or the Dockerfile to build it from.

A devcontainer.json says either, and which of the repository's folders are installed on top.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from studiolo.environments import image_context, image_features
from studiolo.environments.image_dockerfile import Dockerfile
from studiolo.environments.image_ignore import Patterns
from studiolo.environments.kind import Request
from studiolo.environments.repository_file import read_text
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.spec.importers import devcontainer

_DEVCONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")
_FILES = ("Dockerfile", "Containerfile")


@dataclass(frozen=True)
class Source:
    """Either `image` or `dockerfile` is set. `shown` is what people are told it was made from, `where` the place of its
    name; `digests` are of the files that were read."""

    shown: str
    where: str
    image: str = ""
    repository: Path | None = None
    context: Path | None = None
    dockerfile: Dockerfile | None = None
    name: str = ""
    """What the Dockerfile is called in the context; one from outside gets a name there."""
    ignored: Patterns = field(default_factory=lambda: Patterns(()))
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    features: tuple[devcontainer.Feature, ...] = ()

    @classmethod
    def of(cls, request: Request) -> Source:
        """Read what declares it. Raises `WrongInput`."""
        if request.image is not None:
            return cls(request.image, "environment.image", request.image)
        if request.folder is None:
            raise WrongInput(
                Problem("image-undeclared", "nothing says which image", "name one: environment.image: python:3.12-slim")
            )
        folder = request.folder / (request.project or "")
        file = request.file or find(folder)
        if file is None:
            raise WrongInput(
                Problem(
                    "image-undeclared",
                    f"there is neither a {' nor a '.join(_FILES)} in {request.project or 'the repository'}",
                    "add one, or name an image: environment.image: python:3.12-slim",
                    "environment.kind",
                )
            )
        if "devcontainer" in Path(file).name:
            return _from_devcontainer(request.folder, folder / file)
        return _from_dockerfile(request.folder, folder / file, folder, {}, "")

    @property
    def shown_context(self) -> str:
        assert self.context is not None
        assert self.repository is not None
        return os.path.relpath(self.context, self.repository) + "/"

    def entries(self) -> list[image_context.Entry]:
        """The files that the build may ask for."""
        assert self.context is not None
        assert self.repository is not None
        assert self.dockerfile is not None
        found = image_context.collect(self.repository, self.context, self.ignored, self.dockerfile.sources)
        # the lock has its text, and the engine gets it with pinned images
        return [entry for entry in found if entry.path != self.name]

    def added(self) -> tuple[tuple[image_features.Feature, ...], list[image_context.Entry], tuple[str, ...]]:
        """The features to install on top, their files, and their places in the devcontainer.json."""
        assert self.repository is not None
        asked = [(each.folder or "", each.options, each.where) for each in self.features]
        return image_features.resolve(self.repository, asked)


def find(folder: Path) -> str | None:
    """The file in this folder that declares an image. Raises nothing."""
    declaring = (name for name in _DEVCONTAINERS if _names_software(folder, folder / name))
    return next(declaring, None) or next((name for name in _FILES if (folder / name).is_file()), None)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _names_software(folder: Path, path: Path) -> bool:
    """Whether a devcontainer.json says which image. One that cannot be read may: whoever locks it is told why not."""
    if not path.is_file():
        return False
    try:
        return bool(_from_devcontainer(folder, path))
    except StudioloError as error:
        return error.problem.code != "image-undeclared"


def _from_devcontainer(repository: Path, path: Path) -> Source:
    text = read_text(repository, path)
    shown = os.path.relpath(path, repository)
    imported = devcontainer.read(text, shown)
    if imported.build is not None:
        build = imported.build
        found = _from_dockerfile(
            repository, repository / build.dockerfile, repository / build.context, build.args, build.target
        )
    else:
        if imported.image is None:
            raise WrongInput(
                Problem(
                    "image-undeclared",
                    "it names neither an image nor a Dockerfile that can be used",
                    "add an image, such as python:3.12-slim, or name a Dockerfile in build.dockerfile",
                    shown,
                )
            )
        found = Source(shown, shown, imported.image, repository)
    return replace(found, shown=shown, digests={**found.digests, shown: sha256(text)}, features=imported.features)


def _from_dockerfile(repository: Path, path: Path, context: Path, arguments: Mapping[str, str], target: str) -> Source:
    text = read_text(repository, path)
    shown = os.path.relpath(path, repository)
    digests = {shown: sha256(text)}
    # without .git, as where an engine builds a repository itself: it changes with each commit
    ignored = Patterns.ignoring("", "", (".git",))
    for rules in (path.with_name(f"{path.name}.dockerignore"), context / ".containerignore", context / ".dockerignore"):
        if rules.is_file():
            name = os.path.relpath(rules, repository)
            content = read_text(repository, rules)
            digests[name] = sha256(content)
            ignored = Patterns.ignoring(content, name, (".git",))
            break
    dockerfile = Dockerfile.parse(text, shown, arguments)
    name = os.path.relpath(path, context)
    name = ".studiolo.Dockerfile" if name.startswith("../") else name
    return Source(shown, shown, "", repository, context, dockerfile, name, ignored, arguments, target, digests)
