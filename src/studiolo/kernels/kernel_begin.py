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

# What a kernel has imported once it answers; a version that lacks one of them does without. Not the modules that do
# something with the shell when they are imported, such as matplotlib_inline.backend_inline.
MODULES = (
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "ipykernel.debugger", "ipykernel.datapub"),
    *("IPython.core.debugger", "IPython.core.completer", "IPython.core.historyapp", "IPython.core.magics"),
    *("comm", "sqlite3", "unittest.mock", "pdb", "debugpy.server.api"),
)


def show_a_shell() -> None:
    kind = importlib.import_module("ipykernel.zmqshell").ZMQInteractiveShell
    shell = kind.__new__(kind)
    shell.config = importlib.import_module("traitlets.config").Config({"IPKernelApp": {"connection_file": ""}})

    def show_none() -> None:
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
