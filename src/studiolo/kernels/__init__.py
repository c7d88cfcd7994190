"""What kernels are forked with, in Pythons that are not Studiolo's, so that it imports none of it itself.

`studiolo_kernels.py` is what a `jupyter_client` asks with. It is copied, as the files of an installed package, to where
the Python of JupyterLab's tools and those of environments look for packages. `kernel_begin.py` is run by their zygotes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

PROVISIONER = "studiolo"
"""What it is called in kernel specs and in the configuration of servers."""
DISTRIBUTION = "studiolo-kernels"
"""What it is called among installed packages."""

BEGIN = Path(__file__).with_name("kernel_begin.py")
"""What a zygote of kernels runs first."""
_GROUP = "jupyter_client.kernel_provisioners"


def files() -> dict[str, str]:
    """Their text, by path relative to a folder of packages. Pure but for reading Studiolo's own files."""
    module = "studiolo_kernels"
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    # Its version is its content: whoever has it has this text.
    version = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    info = f"{module}-{version}.dist-info"
    return {
        f"{module}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n",
        f"{info}/entry_points.txt": f"[{_GROUP}]\n{PROVISIONER} = {module}:ForkingProvisioner\n",
        f"{info}/INSTALLER": "studiolo\n",
    }
