"""A small conda channel made on the spot: real packages, indexed by rattler, with a Python that runs."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACEHOLDER = "/opt/placeholder" + "_placeholder" * 18
"""What packages are made with in place of the prefix; long, because a binary keeps its length."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[platform.machine()]


@dataclass
class Recipe:
    """One package. A file's content that holds `PLACEHOLDER` is patched when it is installed."""

    name: str
    version: str = "1.0"
    depends: Sequence[str] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    noarch: str = ""
    licence: str = "BSD-3-Clause"
    entry_points: Sequence[str] = ()

    @property
    def subdir(self) -> str:
        return "noarch" if self.noarch else SUBDIR

    def write(self, channel: Path) -> Path:
        """The package's archive in `channel`, replacing one of the same version."""
        index: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": "0",
            "build_number": 0,
            "subdir": self.subdir,
            "depends": list(self.depends),
            "license": self.licence,
            "timestamp": 1700000000000,
        }
        if self.noarch:
            index["noarch"] = self.noarch
        entries: list[dict[str, Any]] = []
        for path, content in self.files.items():
            entry: dict[str, Any] = {
                "_path": path,
                "path_type": "hardlink",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_in_bytes": len(content),
            }
            if PLACEHOLDER.encode() in content:
                mode = "binary" if b"\0" in content else "text"
                entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": mode}
            entries.append(entry)
        entries += [{"_path": path, "path_type": "softlink"} for path in self.links]
        info = {
            "info/index.json": json.dumps(index),
            "info/paths.json": json.dumps({"paths": entries, "paths_version": 1}),
            "info/about.json": json.dumps({"license": self.licence}),
        }
        if self.noarch == "python":
            info["info/link.json"] = json.dumps(
                {"noarch": {"type": "python", "entry_points": list(self.entry_points)}, "package_metadata_version": 1}
            )
        target = channel / self.subdir / f"{self.name}-{self.version}-0.tar.bz2"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
            for path, text in info.items():
                _add(archive, path, text.encode())
            for path, content in self.files.items():
                _add(archive, path, content, 0o755 if "bin/" in path else 0o644)
            for path, pointed in self.links.items():
                link = tarfile.TarInfo(path)
                link.type, link.linkname = tarfile.SYMTYPE, pointed
                archive.addfile(link)
        return target


def make_channel(channel: Path, *recipes: Recipe) -> Path:
    """A channel folder with these packages beside those it has, indexed."""
    import rattler

    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        recipe.write(channel)
    asyncio.run(rattler.index.index_fs(channel, write_zst=False, write_shards=False, force=True))
    return channel


def python(version: str = platform.python_version()) -> Recipe:
    """An interpreter with its own site-packages: this machine's program, beside links to its standard library."""
    base = Path(sys.base_prefix)
    library = base / "lib" / f"python{PYTHON}"
    links = {
        f"lib/python{PYTHON}/{each.name}": str(each)
        for each in library.iterdir()
        if each.name not in ("site-packages", "__pycache__")
    }
    for shared in base.glob("lib/libpython*.so*"):
        links[f"lib/{shared.name}"] = str(shared)
    links |= {"bin/python": f"python{PYTHON}", "bin/python3": f"python{PYTHON}"}
    files = {
        f"bin/python{PYTHON}": (base / "bin" / f"python{PYTHON}").resolve().read_bytes(),
        f"lib/python{PYTHON}/site-packages/README.txt": b"packages go here\n",
    }
    return Recipe("python", version, files=files, links=links, licence="PSF-2.0")


def module(name: str, version: str = "1.0", depends: Sequence[str] = ("python",), text: str = "") -> Recipe:
    """A noarch Python package of one module, with what pip would know it by."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"site-packages/{name}.py": (text or f"VERSION = {version!r}\n").encode(),
        f"site-packages/{name}-{version}.dist-info/METADATA": metadata.encode(),
        f"site-packages/{name}-{version}.dist-info/INSTALLER": b"conda\n",
    }
    return Recipe(name, version, depends, files, noarch="python")


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
