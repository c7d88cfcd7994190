"""A devcontainer's local features: folders of the repository with an `install.sh`, run as root on top of an image.

As containers.dev/implementors/features describes them: options become variables, left-out ones have the defaults that
`devcontainer-feature.json` gives, and its `containerEnv` is added to the image.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studiolo.environments import image_context
from studiolo.environments.image_ignore import Patterns
from studiolo.environments.repository_file import read_text
from studiolo.problem import Problem, WrongInput
from studiolo.spec.jsonc import read_jsonc

_AT = "/tmp/studiolo-feature"  # noqa: S108  in the image that is being built, and removed from it
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST = 50


@dataclass(frozen=True)
class Feature:
    """`folder` is relative to the repository; `options` are the variables of its `install.sh`, `env` those it adds."""

    folder: str
    options: Mapping[str, str]
    env: Mapping[str, str]


def resolve(
    repository: Path, asked: Sequence[tuple[str, Mapping[str, str | bool], str]]
) -> tuple[tuple[Feature, ...], list[image_context.Entry], tuple[str, ...]]:
    """What features (folder, options, place in the file) come to: themselves, their files, and their places. Raises
    `WrongInput`."""
    if len(asked) > _MOST:
        raise WrongInput(Problem("feature-wrong", f"there are more than {_MOST} features", "", asked[_MOST][2]))
    features: list[Feature] = []
    entries: list[image_context.Entry] = []
    for index, (folder, options, where) in enumerate(asked):
        at = repository / folder
        if not (at / "install.sh").is_file():
            raise WrongInput(
                Problem("feature-missing", f"there is no install.sh in {folder}", "name a folder that has one", where)
            )
        about = at / "devcontainer-feature.json"
        shown = f"{folder}/{about.name}"
        described = read_jsonc(read_text(repository, about, where), shown).data if about.is_file() else {}
        defaults = {
            name: option["default"]
            for name, option in _mapping(described.get("options")).items()
            if isinstance(option, dict) and isinstance(option.get("default"), str | bool)
        }
        env = {name: value for name, value in _mapping(described.get("containerEnv")).items() if isinstance(value, str)}
        for name, value in env.items():
            if not _VARIABLE.fullmatch(name) or "\n" in value or "\r" in value:
                raise WrongInput(
                    Problem("feature-wrong", f"containerEnv.{name[:40]!r} is no variable on one line", "", shown)
                )
        given = {_name(name): _text(value) for name, value in {**defaults, **options}.items()}
        features.append(Feature(folder, {name: value for name, value in given.items() if name}, env))
        found = image_context.collect(repository, at, Patterns(()), None)
        entries += [replace(entry, path=f"{index}/{entry.path}") for entry in found]
    return tuple(features), entries, tuple(where for _, _, where in asked)


def dockerfile(features: Sequence[Mapping[str, Any]], image: str, user: str) -> tuple[str, list[int | None]]:
    """The Dockerfile that adds them to `image`, whose `user` it leaves as it was, and for which feature each line
    is."""
    of: list[int | None] = [None, None]
    lines = [f"FROM {image}", "USER root"]
    for index, feature in enumerate(features):
        at = f"{_AT}-{index}"
        known = {**feature["options"], "_REMOTE_USER": user or "root", "_CONTAINER_USER": user or "root"}
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(known.items()))
        script = f"cd {at} && chmod +x install.sh && env {variables} ./install.sh && rm -rf {at}"
        lines.append(f"COPY {index}/ {at}/")
        lines.append(f"RUN {json.dumps(['/bin/sh', '-c', script])}")
        for name, value in sorted(feature["env"].items()):
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'ENV {name}="{quoted}"')
        of += [index] * (len(lines) - len(of))
    return "\n".join([*lines, f"USER {user or 'root'}"]) + "\n", [*of, None]


def as_data(features: Sequence[Feature]) -> list[dict[str, Any]]:
    return [asdict(feature) for feature in features]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(option: str) -> str:
    """The variable of an option, as containers.dev lays down."""
    return re.sub(r"^[\d_]+", "_", re.sub(r"[^\w_]", "_", option, flags=re.ASCII)).upper()


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()
