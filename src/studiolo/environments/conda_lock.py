"""A conda lock's text: each package with its exact file and that file's hash, what pip adds, and variables.

    # platform linux-64
    numpy 2.1.0 py312h58c1407_0 linux-64 numpy-2.1.0-py312h58c1407_0.conda sha256:... conda-forge
    # variables
    DATA="data/raw"
    # pip
    iniconfig==2.0.0 \\
        --hash=sha256:...

Channels are named as the person wrote them. Equal environments have equal text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote as escaped
from urllib.parse import urlencode

from studiolo.environments import pins
from studiolo.environments.pins import Pin

_PLATFORM, _VARIABLES, _PIP = "# platform ", "# variables", "# pip"
_WORD = re.compile(r"[^\s/\\]+")
_FILE = re.compile(r"[^\s/\\]+(?:\.conda|\.tar\.bz2)")
_HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")


@dataclass(frozen=True)
class CondaPackage:
    """One file of a channel. `hash` is `sha256:...`, or `md5:...` where the channel knows no better."""

    name: str
    version: str
    build: str
    subdir: str
    file: str
    hash: str
    channel: str

    def __post_init__(self) -> None:
        """Raises `ValueError` where a word could be taken for something else: channels may come from anybody."""
        words = (self.name, self.version, self.build, self.subdir)
        if not all(_WORD.fullmatch(word) for word in words) or ".." in (self.subdir, self.name):
            raise ValueError(f"{self.name[:80]!r} is not a conda package's name, version and build")
        if not _FILE.fullmatch(self.file) or not _HASH.fullmatch(self.hash) or re.search(r"\s", self.channel):
            raise ValueError(f"{self.name} has no file with a hash that it could be locked by")

    @property
    def text(self) -> str:
        return " ".join((self.name, self.version, self.build, self.subdir, self.file, self.hash, self.channel))

    @property
    def purl(self) -> str:
        channel = {} if "://" in self.channel else {"channel": self.channel}
        kind = "conda" if self.file.endswith(".conda") else "tar.bz2"
        facts = urlencode({"build": self.build, **channel, "subdir": self.subdir, "type": kind}, quote_via=escaped)
        return f"pkg:conda/{escaped(self.name)}@{escaped(self.version)}?{facts}"


@dataclass(frozen=True)
class CondaLock:
    """What a lock's text says. `platform` is conda's word for it: linux-64."""

    platform: str
    packages: tuple[CondaPackage, ...]
    pip: tuple[Pin, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        lines = [f"{_PLATFORM}{self.platform}"]
        lines += [each.text for each in sorted(self.packages, key=lambda each: each.name)]
        if self.variables:
            lines.append(_VARIABLES)
            lines += [f"{name}={json.dumps(value)}" for name, value in sorted(self.variables.items())]
        return "".join(f"{line}\n" for line in lines) + (f"{_PIP}\n{pins.render(self.pip)}" if self.pip else "")

    @property
    def python(self) -> str:
        """The version of Python in it, empty where there is none."""
        return next((each.version for each in self.packages if each.name == "python"), "")

    @classmethod
    def parse(cls, text: str) -> CondaLock:
        """Raises `ValueError` for what this module did not write."""
        head, _, pip = text.partition(f"\n{_PIP}\n")
        lines = head.splitlines()
        if not lines or not lines[0].startswith(_PLATFORM):
            raise ValueError("it is not a lock of conda packages")
        split = lines.index(_VARIABLES) if _VARIABLES in lines else len(lines)
        try:
            packages = tuple(CondaPackage(*line.split(" ")) for line in lines[1:split])
        except TypeError as error:
            raise ValueError("it is not a lock of conda packages") from error
        variables = {
            name: str(json.loads(value)) for name, _, value in (each.partition("=") for each in lines[split + 1 :])
        }
        return cls(lines[0].removeprefix(_PLATFORM), packages, pins.parse(pip), variables)
