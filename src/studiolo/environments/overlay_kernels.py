"""The kernels that Jupyter programs see which the overlay's Python runs: papermill, nbclient, a person's own server.

They look below that Python's prefix, so what the generation has is offered there: its own kernel, run by the overlay's
Python and forked where that can be done, and links to its other kernels.

    <overlay>/kernel.json                  what python3 is
              share/jupyter/kernels/<name>/  links to it, and to the generation's files

Such links are Studiolo's. Anything else there is somebody's own, and stays and wins.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from studiolo import kernels
from studiolo.environments import overlay_files as files

_KERNELS = Path("share/jupyter/kernels")
_OWN = "python3"
_SPEC = "kernel.json"
_LINK = Path("../../../..", _SPEC)  # from the folder of a kernel
# The first jupyter_client that lets somebody else make its kernels; it would not find those of an earlier one.
_FIRST = Version("7")


def can_be_forked(packages: Path) -> bool:
    """Whether a generation with this site-packages has a kernel, and a jupyter_client that can have it forked."""
    found = packages.glob("jupyter_client-*.dist-info")
    versions = [path.name.removesuffix(".dist-info").partition("-")[2] for path in found]
    with contextlib.suppress(InvalidVersion):
        return (packages / "ipykernel").is_dir() and any(Version(version) >= _FIRST for version in versions)
    return False


def offer(overlay: Path, python: Path, generation: Path, before: Path, forked: bool) -> None:
    """Offer the kernels of `generation`, a prefix, and no longer those of `before`. `forked`: its own among them.
    Idempotent."""
    own = generation / _KERNELS / _OWN
    wanted = {each.name: _links(each) for each in _folders(generation / _KERNELS) if each.name != _OWN}
    if forked:
        files.write(overlay / _SPEC, json.dumps(_spec(own, python), indent=1) + "\n")
        wanted[_OWN] = {**_links(own), _SPEC: _LINK}
    else:
        (overlay / _SPEC).unlink(missing_ok=True)
    ours = (str(before / _KERNELS) + os.sep, str(generation / _KERNELS) + os.sep)
    for folder in _folders(overlay / _KERNELS):
        _take_back(folder, wanted.get(folder.name, {}), ours)
    for name, links in wanted.items():
        # Where something else is in the way, that is somebody's own.
        with contextlib.suppress(NotADirectoryError):
            for depth in range(len(_KERNELS.parts)):
                files.make_folder(overlay.joinpath(*_KERNELS.parts[: depth + 1]))
            files.make_folder(overlay / _KERNELS / name)
            _put(overlay / _KERNELS / name, links)


def _spec(own: Path, python: Path) -> dict[str, Any]:
    """As the generation's own kernel describes itself, but for how it is started."""
    described: Any = {}
    with contextlib.suppress(ValueError, OSError):
        described = json.loads((own / _SPEC).read_text(encoding="utf-8"))
    spec: dict[str, Any] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    if isinstance(described, dict) and isinstance(described.get("metadata", {}), dict):
        spec |= described
    return {
        **spec,
        "argv": [str(python), "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "metadata": {**spec.get("metadata", {}), "kernel_provisioner": {"provisioner_name": kernels.PROVISIONER}},
    }


def _folders(path: Path) -> list[Path]:
    return [each for each in sorted(path.iterdir()) if each.is_dir()] if path.is_dir() else []


def _links(kernel: Path) -> dict[str, Path]:
    """What leads to each file of a kernel."""
    return {each.name: each for each in kernel.iterdir()} if kernel.is_dir() else {}


def _take_back(folder: Path, wanted: Mapping[str, Path], ours: tuple[str, ...]) -> None:
    """Remove the links of ours that are no longer right."""
    removed = False
    for path, target in list(_found(folder)):
        if wanted.get(path.name) != target and (target == _LINK or str(target).startswith(ours)):
            path.unlink()
            removed = True
    if removed:
        with contextlib.suppress(OSError):  # it has other files
            folder.rmdir()


def _found(folder: Path) -> Iterator[tuple[Path, Path]]:
    for path in folder.iterdir():
        if path.is_symlink():
            yield path, path.readlink()


def _put(folder: Path, links: Mapping[str, Path]) -> None:
    """All or nothing: a kernel of somebody's own gets no files of ours."""
    present = dict(_found(folder))
    if any(os.path.lexists(folder / name) and present.get(folder / name) != to for name, to in links.items()):
        return
    for name, target in links.items():
        files.link(target, folder / name)
