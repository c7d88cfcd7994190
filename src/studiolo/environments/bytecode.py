"""Compile the modules of an environment, each once for all environments.

Run by the environment's own Python, which may be another version than Studiolo's, in the environment's folder:
`python -I -S bytecode.py STORE`. What has been compiled is kept in the folder STORE, by the module's path and content,
and hard-linked into every environment that has the same module: byte code is a fifth of an environment, and compiling
it takes longer than installing it.

Paths are relative to the environment, which may be renamed meanwhile. What does not compile (a template, another
Python's syntax) is nobody's mistake; tests are left out, being half of the time. Nothing changes in an environment any
more, so byte code need not be checked against its source: without the source's time in it, it is the same every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import py_compile
import re
import sys
from pathlib import Path

_TESTS = re.compile(r"/tests?/")
_HEADER = 16
"""Bytes. What is not longer was being written when the power went."""


def compile_all(top: str, store: Path) -> None:
    """Compile every module below `top`. Idempotent; may be killed at any time."""
    ours = store / importlib.util.MAGIC_NUMBER.hex()
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            path = f"{folder}/{name}"
            if name.endswith(".py") and not _TESTS.search(path):
                with contextlib.suppress(
                    OSError, SyntaxError, ValueError, RecursionError, MemoryError, py_compile.PyCompileError
                ):
                    _link(_compiled(path, ours), Path(importlib.util.cache_from_source(path)))


def _compiled(path: str, store: Path) -> Path:
    """The byte code of a module in the store, compiled if it is not there."""
    digest = hashlib.sha256(path.encode() + b"\0" + Path(path).read_bytes()).hexdigest()
    kept = store / digest[:2] / f"{digest}.pyc"
    if not kept.exists() or kept.stat().st_size <= _HEADER:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(path, str(kept), dfile=path, doraise=True, invalidation_mode=mode)
        kept.chmod(0o444)  # it is everybody's
    return kept


def _link(kept: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    if place.exists() and place.samefile(kept):
        return
    draft = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        os.link(kept, draft)
    except OSError:  # another disk, or too many links
        draft.write_bytes(kept.read_bytes())
        draft.chmod(0o444)
    draft.replace(place)


if __name__ == "__main__":
    compile_all("lib", Path(sys.argv[1]))
