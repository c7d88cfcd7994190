"""What a `jupyter_client` needs to have its kernels forked: `studiolo_kernels.py`, as files of an installed package.

They are copied to where the Python of JupyterLab's tools and those of environments look for packages, and are not
imported by Studiolo itself.
"""

from __future__ import annotations

import hashlib
from importlib import resources

PROVISIONER = "studiolo"
"""What it is called in kernel specs and in the configuration of servers."""
DISTRIBUTION = "studiolo-kernels"
"""What it is called among installed packages."""

_GROUP = "jupyter_client.kernel_provisioners"


def files() -> dict[str, str]:
    """Their text, by path relative to a folder of packages. Pure but for reading Studiolo's own files."""
    module = "studiolo_kernels"
    text = resources.files(__package__).joinpath(f"{module}.py").read_text(encoding="utf-8")
    # Its version is its content: whoever has it has this text.
    version = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    info = f"{module}-{version}.dist-info"
    return {
        f"{module}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n",
        f"{info}/entry_points.txt": f"[{_GROUP}]\n{PROVISIONER} = {module}:ForkingProvisioner\n",
        f"{info}/INSTALLER": "studiolo\n",
    }
