"""The kinds of environment there are, and which one a folder declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from studiolo.environments.conda import CondaKind
from studiolo.environments.flake import FlakeKind
from studiolo.environments.image import ImageKind
from studiolo.environments.kind import Detection, Kind
from studiolo.environments.npm import NpmKind
from studiolo.environments.uv import DEFAULT_PACKAGES, UvKind

DEFAULT_REASON = (
    f"nothing was found that says which packages, so {', '.join(DEFAULT_PACKAGES[:-1])} and " + (DEFAULT_PACKAGES[-1])
)


ON_HOST = frozenset({"uv", "flake", "conda"})
"""The kinds that processes of the host can enter. An image needs a backend that runs containers."""


def kinds(cache: Path) -> Mapping[str, Kind]:
    """Every kind by its name. `cache` is Studiolo's cache folder."""
    every: tuple[Kind, ...] = (UvKind(cache), FlakeKind(cache), CondaKind(cache), ImageKind(cache), NpmKind(cache))
    return {kind.name: kind for kind in every}


def candidates(folder: Path) -> tuple[Detection, ...]:
    """All that this folder declares, in the order in which it is chosen (documented in docs/environments.md):

    1. `.envrc` that says `use flake`        5. pyproject.toml with dependencies    8. devcontainer.json
    2. uv.lock                               6. requirements.txt                    9. Dockerfile, Containerfile
    3. requirements.lock                     7. flake.nix                          10. one script with inline metadata
    4. environment.yml
    """
    found = [detection for kind in kinds(Path()).values() if (detection := kind.detect(folder)) is not None]
    return tuple(sorted(found, key=lambda detection: _rank(detection.file)))


def detect(folder: Path | None, runnable: Collection[str] | None = None) -> Detection:
    """What to use for a folder, and why: the first candidate of a kind that is `runnable` (None: all are). Never fails:
    where nothing is found, the default environment."""
    for detection in candidates(folder) if folder is not None else ():
        if runnable is None or detection.kind in runnable:
            return detection
    return Detection(UvKind.name, DEFAULT_REASON)


def kind_of_file(name: str) -> str:
    """Which kind a declaring file is of, going by its name alone."""
    last = Path(name).name
    if last.endswith((".yml", ".yaml")):
        return "conda"
    if last in ("flake.nix", ".envrc"):
        return "flake"
    return "image" if last.startswith(("Dockerfile", "Containerfile")) or "devcontainer" in last else UvKind.name


_ORDER = (".envrc", "uv.lock", "requirements.lock", "environment.yml", "environment.yaml", "pyproject.toml",
          "requirements.txt", "flake.nix", "devcontainer.json", "Dockerfile", "Containerfile")  # fmt: skip


def _rank(file: str) -> int:
    name = "devcontainer.json" if "devcontainer" in file else Path(file).name
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
