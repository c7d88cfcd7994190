"""What every kernel begins with: run by the zygote they are forked from, before other modules are imported ahead.

Libraries find out while they are imported whether they are in a notebook: how pandas shows a table, where plotly draws.
So they are shown a shell that has not begun. One that wants more of it than that cannot be imported ahead, which costs
speed only. In a child there is none, until it has its own.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import sys
from typing import Any

# What a kernel has imported once it answers; a version that lacks one of them does without. Not the modules that do
# something with the shell when they are imported, such as matplotlib_inline.backend_inline.
MODULES = (
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "ipykernel.debugger", "ipykernel.datapub"),
    *("IPython.core.debugger", "IPython.core.completer", "IPython.core.historyapp", "IPython.core.magics"),
    *("IPython.core.logger", "IPython.core.completerlib", "IPython.extensions.storemagic", "tornado.platform.asyncio"),
    *("comm", "sqlite3", "unittest.mock", "pdb", "debugpy.server.api"),
)

# It takes in which terminal there is, for its window's title; a kernel has none, whichever terminal it is wanted from.
ANEW = ("IPython.utils.terminal",)


class _File:
    """As much of a module as is asked for."""

    __slots__ = ("__file__",)
    __file__: str


class _Sys:
    """`sys`, with other `modules` for who looks at them first: see `show_its_own_files`."""

    def __init__(self, place: Any, files: dict[str, _File]) -> None:
        self._place = place
        self._files = files

    def __getattr__(self, name: str) -> Any:
        if name != "modules":
            return getattr(sys, name)
        self._place.sys = sys
        return self._files


def show_its_own_files() -> None:
    """A kernel asks each module for its file once, as it starts: those are its own, which a debugger need not show.

    What was imported ahead is not. And to look at an object is to write to it (its count of references), so asking them
    all would copy 12 MB of shared memory. So it finds the files of what it begins with, side by side, and from then on
    everything as ever.
    """
    place = importlib.import_module("ipykernel.ipkernel")
    files = {}
    for name, module in sys.modules.items():
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path:
            files[name] = _File()
            files[name].__file__ = path[:1] + path[1:]
    place.sys = _Sys(place, files)  # type: ignore[attr-defined]


def show_a_shell() -> None:
    kind = importlib.import_module("ipykernel.zmqshell").ZMQInteractiveShell
    shell = kind.__new__(kind)
    shell.config = importlib.import_module("traitlets.config").Config({"IPKernelApp": {"connection_file": ""}})

    def show_none() -> None:
        # Kernels inherit this, and fork as well: by then they have one of their own.
        if kind._instance is shell:
            kind.clear_instance()
            vars(builtins).pop("get_ipython", None)

    for each in kind._walk_mro():
        each._instance = shell
    vars(builtins)["get_ipython"] = lambda: shell
    os.register_at_fork(after_in_child=show_none)


if __name__ == "zygote":
    for name in MODULES:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    show_a_shell()
    show_its_own_files()
