"""Starts JupyterLab in a quarter of the time `python -m jupyterlab` takes; the command line is the same.

A copy of this file is run by the Python of JupyterLab's own tools, where nothing of ours can be imported.
"""

import gc
import importlib
import sys

# Optional to jsonschema, which would use it to check international URIs. Importing it compiles a grammar, which takes
# 1.7 of the 2.4 s of CPU time of a start; the server's schemas have no such URIs. None here means: cannot be imported.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

if __name__ == "__main__":
    # What is imported stays for good: looking for garbage meanwhile, or in it later, finds nothing.
    gc.disable()
    lab = importlib.import_module("jupyterlab.labapp")
    gc.freeze()
    gc.enable()
    sys.exit(lab.main())
