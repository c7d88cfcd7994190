"""Removing from an npm tree what only building, debugging or other machines need."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

_PLATFORM = re.compile(
    r"(?:^|-)(darwin|win32|linux|freebsd|openbsd|android|aix|sunos)-([\w+]+?)(?:-(musl|glibc|gnu|msvc))?$"
)
_BUILD_ONLY = {"obj.target", ".deps", "obj"}
# source maps, what a linker joins, and programs of another system. Type declarations stay: editors read them.
_SUFFIXES = {".map", ".pdb", ".a"} | (set() if sys.platform == "win32" else {".exe", ".dll"})
_MACHINES = {"x86_64": "x64", "aarch64": "arm64", "armv7l": "arm", "i686": "ia32"}


def prune(folder: Path) -> int:
    """Remove source maps, object files and other platforms' binaries below `folder`. Returns how many bytes went.

    Makefiles of finished builds go too: they hold the path of the folder that they were made in.
    """
    freed = 0
    for at, folders, files in os.walk(folder):
        here = Path(at)
        for name in list(folders):
            path = here / name
            if not path.is_symlink() and (_is_foreign(path) or _is_intermediate(path)):
                freed += sum(each.lstat().st_size for each in path.rglob("*"))
                shutil.rmtree(path)
                folders.remove(name)
        made_by_gyp = "config.gypi" in files and here.name == "build"
        for name in files:
            path = here / name
            if (path.suffix in _SUFFIXES or (made_by_gyp and path.suffix != ".node")) and not path.is_symlink():
                freed += path.lstat().st_size
                path.unlink()
    return freed


def _is_intermediate(path: Path) -> bool:
    """What node-gyp leaves beside the finished module in build/Release."""
    return path.name in _BUILD_ONLY and path.parent.name in ("Release", "Debug") and path.parent.parent.name == "build"


def _is_foreign(path: Path) -> bool:
    """A folder of ready-made binaries for another machine: prebuilds/win32-x64 and the like."""
    match = _PLATFORM.search(path.name)
    if match is None or path.parent.name not in ("prebuilds", "bin", "vendor", "build"):
        return False
    system, machine, _ = match.groups()
    return system != sys.platform or machine not in (_MACHINES.get(platform.machine(), platform.machine()), "universal")
