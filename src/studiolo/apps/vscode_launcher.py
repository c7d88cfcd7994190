"""Becomes code-server, and has a child ask an extension registry for extensions once the server listens.

A registry that cannot be reached, or an extension that does not exist, never delays or stops a start: it is one line in
the log. Standard library only, as it runs in the workspace's own process session.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

# Seconds for one extension, and for the server to listen.
_PATIENCE = 300
_START = 120
_UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT")


def main() -> None:
    parser = argparse.ArgumentParser(prog="studiolo.apps.vscode_launcher")
    parser.add_argument("--extension", action="append", default=[], help="the id of one to ask for")
    parser.add_argument("--extensions-dir", type=Path, required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--installer", action="append", default=[], help="a word of the command that installs")
    parser.add_argument("server", nargs="+")
    given = parser.parse_args()
    missing = [name for name in given.extension if not _installed(given.extensions_dir, name)]
    if missing:
        _beside(given.installer, missing, given.socket)
    os.execv(given.server[0], given.server)


def _installed(folder: Path, name: str) -> bool:
    return any(folder.glob(f"{name.lower()}-[0-9]*"))


def _beside(installer: Sequence[str], names: Sequence[str], path: str) -> None:
    """In a grandchild, of which nobody is left a zombie. It stays in the session, so it ends with the app."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    elif os.fork():
        os._exit(0)
    else:
        try:
            os.nice(10)
            if _listens(path):
                _install(installer, names)
        finally:
            os._exit(0)


def _listens(path: str) -> bool:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as attempt:
            if attempt.connect_ex(path) == 0:
                return True
        time.sleep(0.2)
    return False


def _install(installer: Sequence[str], names: Sequence[str]) -> None:
    for name in names:
        try:
            done = subprocess.run(
                [*installer, "--install-extension", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
            failed, said = done.returncode != 0, done.stdout
        except subprocess.TimeoutExpired:
            failed, said = True, "ETIMEDOUT"
        if failed and any(word in said for word in _UNREACHABLE):
            print(f"no extension registry can be reached, so {', '.join(names)} stay away", flush=True)  # noqa: T201
            return
        if failed:
            reason = ([line for line in said.splitlines() if name.lower() in line.lower()] or [said.strip()])[-1]
            print(f"the extension {name} could not be installed: {reason}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
