"""A uv lock's text: every package with its exact version and its files' hashes, and nothing of where they come from.

One form for all sources, sorted by name, so that equal environments have equal text.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

_OPTION = re.compile(r"\s+--hash[= ](\S+)")
_HASH = re.compile(r"[a-z0-9]+:[0-9a-f]+")


@dataclass(frozen=True)
class Pin:
    """Exactly one version (`version`, or the file at `url`), and the hashes any of which its file must have."""

    name: str
    version: str
    url: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """It without its hashes."""
        return f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"

    @property
    def text(self) -> str:
        return " \\\n    ".join([self.head, *(f"--hash={each}" for each in sorted(self.hashes))])


def split_hashes(line: str) -> tuple[str, tuple[str, ...]]:
    """A requirement line without its `--hash` options, and those. Raises `ValueError` where one is malformed."""
    hashes = tuple(_OPTION.findall(line))
    for each in hashes:
        if not _HASH.fullmatch(each):
            raise ValueError(f"{each} is not a hash")
    return _OPTION.sub("", line).strip(), hashes


def pinned(requirement: Requirement, hashes: tuple[str, ...]) -> Pin | None:
    """The pin that this requirement is, or None where it leaves a choice."""
    name = canonicalize_name(requirement.name)
    if requirement.url:
        return Pin(name, "", requirement.url, hashes)
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "===") or "*" in specifiers[0].version:
        return None
    return Pin(name, specifiers[0].version, "", hashes)


def marker_environment(python: str) -> dict[str, str]:
    """What environment markers are judged by for CPython `python` (such as 3.12.4) on this machine."""
    short = ".".join(python.split(".")[:2])
    return {
        **cast("dict[str, str]", default_environment()),
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
        "python_full_version": python,
        "python_version": short,
        "platform_machine": platform.machine(),
    }


def version_in(url: str) -> str:
    """The version that a file's name says; empty where it says none."""
    name = unquote(url.partition("#")[0].rsplit("/", 1)[-1])
    try:
        return str(parse_wheel_filename(name)[1] if name.endswith(".whl") else parse_sdist_filename(name)[1])
    except ValueError:
        return ""


def parse(text: str, python: str | None = None) -> tuple[Pin, ...]:
    """The pins of a requirements text that uv or this module wrote, sorted by name.

    With `python`, those whose markers do not apply there are left out. Raises `ValueError` for anything else.
    """
    environment = marker_environment(python) if python else None
    found: dict[str, Pin] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        head, hashes = split_hashes(bare)
        try:
            requirement = Requirement(head)
        except InvalidRequirement as error:
            raise ValueError(f"{head!r} is not a pinned package") from error
        if environment and requirement.marker and not requirement.marker.evaluate(environment):
            continue
        pin = pinned(requirement, hashes)
        if pin is None:
            raise ValueError(f"{head!r} is not a pinned package")
        found[pin.name] = pin
    return tuple(found[name] for name in sorted(found))


def render(pins: Iterable[Pin]) -> str:
    return "".join(f"{pin.text}\n" for pin in sorted(pins, key=lambda pin: pin.name))
