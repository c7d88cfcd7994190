"""Starts JupyterLab in a quarter of the time `python -m jupyterlab` takes; the command line is the same.

A copy of this file is run by the Python of JupyterLab's own tools, where nothing of ours can be imported. A zygote runs
it under another name, to do once what every start has in common.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

# Optional to jsonschema, which would use it to check international URIs. Importing it compiles a grammar, which takes
# 1.7 of the 2.4 s of CPU time of a start; the server's schemas have no such URIs. None here means: cannot be imported.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


ANEW = ("send2trash.plat_other", "jupyterlab.labapp")
"""The modules that take the home, or variables that are another for every server, in while they are imported."""


_LATER = (
    *("jupyter_core.migrate", "tornado.platform.asyncio", "jinja2.ext", "jupyter_server.kernelspecs.handlers"),
    *("jupyter_server.nbconvert.handlers", "jupyter_server.view.handlers"),
    *("IPython", "ipykernel.kernelspec", "anyio._backends._asyncio", "babel.dates", "babel.numbers", "psutil"),
)


def extensions() -> list[str]:
    """The server's extensions that are installed in the tools."""
    found = []
    for file in sorted(Path(sys.prefix, "etc/jupyter/jupyter_server_config.d").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found += json.loads(file.read_text(encoding="utf-8"))["ServerApp"]["jpserver_extensions"]
    return found


def import_all() -> None:
    """Import what a server has imported once it answers."""
    importlib.import_module("jupyterlab.labapp")
    services = importlib.import_module("jupyter_server.services")
    handlers = (f"{each.name}.handlers" for each in pkgutil.iter_modules(services.__path__, f"{services.__name__}."))
    for name in (*_LATER, *handlers, *extensions()):
        with contextlib.suppress(Exception):  # the server itself will say what is wrong with it
            importlib.import_module(name)


def import_anew() -> None:
    """Import what is another for every server again."""
    commands: Any = sys.modules["jupyterlab.commands"]
    lab: Any = sys.modules["jupyterlab.labapp"]
    version, ask = lab.app_version, commands.get_app_version
    # The same for all, and asking for it runs Node, which takes longer than all the rest.
    commands.get_app_version = lambda: version
    for name in ANEW:
        importlib.reload(sys.modules[name])
    commands.get_app_version = lab.get_app_version = ask


if __name__ == "__main__":
    # What makes kernels, beside the copy.
    sys.path.append(str(Path(__file__).with_name("path")))
    if "jupyterlab.labapp" in sys.modules:  # from the zygote
        import_anew()
    # What is imported stays for good: looking for garbage meanwhile, or in it later, finds nothing.
    gc.disable()
    lab = importlib.import_module("jupyterlab.labapp")
    gc.freeze()
    gc.enable()
    sys.exit(lab.main())
elif __name__ == "zygote":
    os.environ["JUPYTER_PLATFORM_DIRS"] = "0"  # as it is for every server: taken in when jupyter_core is imported
    import_all()
