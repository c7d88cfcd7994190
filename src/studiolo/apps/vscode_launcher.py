"""Starts code-server in this process, and beside it, once, asks an extension registry for extensions.

A registry that cannot be reached, or an extension that does not exist, never delays or stops a start. Standard library
only, as it runs in the workspace's own process session.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Seconds.
_PATIENCE = 300
_SERVER_FIRST = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="studiolo.apps.vscode_launcher")
    parser.add_argument("--extensions", default="")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = [word for index, word in enumerate(given.command) if index or word != "--"]
    wanted = [name for name in given.extensions.split(",") if name]
    installer = command[: command.index("--socket")]
    folder = Path(installer[installer.index("--extensions-dir") + 1])
    missing = [name for name in wanted if not _installed(folder, name)]
    # The child belongs to the same session, so it ends with the app; the parent becomes the server.
    if missing and os.fork() == 0:
        os.environ.pop("PORT", None)
        _install(installer, missing)
    os.execv(command[0], command)


def _installed(folder: Path, name: str) -> bool:
    return any(folder.glob(f"{name.lower()}-[0-9]*"))


def _install(installer: Sequence[str], names: Sequence[str]) -> None:
    time.sleep(_SERVER_FIRST)
    for name in names:
        try:
            done = subprocess.run(
                [*installer, "--install-extension", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            print(f"the extension {name} could not be installed; the editor works without it", file=sys.stderr)  # noqa: T201
            break  # the registry cannot be reached: the next one would fail the same way
    os._exit(0)


if __name__ == "__main__":
    main()
