"""Which Python an environment gets: as asked for, else as the repository says, else the one Studiolo runs on."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from studiolo.environments.uv_failure import quote
from studiolo.environments.uv_program import Uv
from studiolo.problem import Problem, WrongInput
from studiolo.process import ProgramFailed

_FIND_TIMEOUT = 60.0
_DOWNLOAD_TIMEOUT = 240.0


@dataclass(frozen=True)
class Interpreter:
    """A CPython on this machine. `version` is complete: 3.12.4."""

    version: str
    path: Path


@dataclass(frozen=True)
class Wish:
    """Which versions will do: a version (`3.12`, `3.12.4`) or a range (`>=3.11,<3.14`), and who says so."""

    text: str
    where: str

    @property
    def range(self) -> SpecifierSet:
        """Raises `WrongInput` where the text is neither."""
        text = self.text.strip()
        if re.fullmatch(r"\d+(?:\.\d+)?", text):
            text = f"=={text}.*"
        elif re.fullmatch(r"\d+\.\d+\.\d+", text):
            text = f"=={text}"
        try:
            return SpecifierSet(text)
        except InvalidSpecifier as error:
            raise WrongInput(
                Problem("python-version", f"{self.text!r} is not a Python version", "write it such as 3.12", self.where)
            ) from error


class Interpreters:
    """The Pythons of this machine, and those uv can download. Downloads happen only where nothing here will do."""

    def __init__(self, uv: Uv) -> None:
        self._uv = uv

    async def choose(self, wish: Wish | None, downloading: Callable[[], None]) -> Interpreter:
        """The one Studiolo runs on if it will do, else the newest that does. `downloading` is told before a download.

        Raises `WrongInput` (python-not-found) saying what is here; without a network within seconds.
        """
        own = _own()
        if wish is None:
            wish = Wish(own.version, "the Python that Studiolo runs on")
        wanted = wish.range
        if own.path.exists() and wanted.contains(own.version, prereleases=True):
            return own  # without asking around, which takes seconds where there are many
        installed = await self.installed()
        if found := _best(installed, wanted):
            return found
        reason = "downloads of Python are turned off"
        if os.environ.get("UV_PYTHON_DOWNLOADS", "automatic") not in ("never", "manual"):
            downloading()
            try:
                await self._download(wish)
            except ProgramFailed as error:
                reason = quote(error.completed.output).rsplit(": ", 1)[-1] if error.completed else error.problem.message
            else:
                if found := _best(await self.installed(), wanted):
                    return found
                reason = "the downloaded one does not fit"
        versions = sorted({each.version for each in installed}, key=Version)
        raise WrongInput(
            Problem(
                "python-not-found",
                f"Python {wish.text} is not on this machine, which has {', '.join(versions) or 'none'}; "
                f"it cannot be downloaded: {reason}",
                "install it, or ask for one that is here in environment.python",
                wish.where,
            )
        )

    async def installed(self) -> tuple[Interpreter, ...]:
        """All plain CPythons: on PATH, of pyenv, of uv, and the one under Studiolo, which comes first."""
        with self._uv.scratch() as scratch:
            try:
                completed = await self._uv.run(
                    ["python", "list", "--only-installed", "--all-versions", "--output-format", "json", "--quiet"],
                    cwd=scratch,
                    timeout=_FIND_TIMEOUT,
                    path=_search_path(),
                )
                rows = json.loads(completed.output)
            except (ProgramFailed, ValueError):
                rows = []  # the one under Studiolo is there all the same
        own = _own()
        found = [own] if own.path.exists() else []
        found += [
            Interpreter(row["version"], Path(row["path"]))
            for row in rows
            if row["implementation"] == "cpython" and row["variant"] == "default" and row["path"]
        ]
        return tuple(found)

    async def _download(self, wish: Wish) -> None:
        with self._uv.scratch() as scratch:
            await self._uv.run(
                ["python", "install", "--no-bin", wish.text],
                cwd=scratch,
                timeout=_DOWNLOAD_TIMEOUT,
                env={"UV_HTTP_RETRIES": "1"},
            )


def _own() -> Interpreter:
    return Interpreter(platform.python_version(), Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))


def _best(installed: tuple[Interpreter, ...], wanted: SpecifierSet) -> Interpreter | None:
    fitting = [each for each in installed if wanted.contains(each.version, prereleases=False)]
    return max(fitting, key=lambda each: Version(each.version), default=None)


def _search_path() -> str:
    """PATH without pyenv's shims, which answer for one version only, and with what is behind them."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    parts = [part for part in os.environ.get("PATH", os.defpath).split(":") if Path(part) != root / "shims"]
    return ":".join([*parts, *(str(folder) for folder in sorted(root.glob("versions/*/bin")))])
