"""What the programs of a build printed, kept with what they built: `build.log` in the generation."""

from __future__ import annotations

from pathlib import Path

NAME = "build.log"


class BuildLog:
    """Appends lines to `folder/build.log`. Each line is on its way to the file when `add` returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def add(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
