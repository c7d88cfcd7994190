"""Making a home ready: seed files and mounts. A home that is full or read-only must not stop a start, so what cannot be
made is told in a note."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from studiolo.backends.backend import Launch, Mount, SeedFile


def prepare(launch: Launch) -> Iterator[str]:
    """Write the seeds, link the mounts; yields a note for each thing that could not be done. Idempotent."""
    home = Path(launch.home)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        yield f"the home {home} cannot be made: {error.strerror}"
    for seed in launch.seeds:
        try:
            _write(seed)
        except OSError as error:
            yield f"{seed.path} could not be written: {error.strerror}"
    for mount in launch.mounts:
        yield from _link(home, mount)


def _write(seed: SeedFile) -> None:
    path = Path(seed.path)
    if seed.keep and os.path.lexists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.studiolo")
    try:
        draft.write_text(seed.text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _link(home: Path, mount: Mount) -> Iterator[str]:
    path = home / mount.path
    if not Path(mount.source).exists():
        yield f"{mount.path}: the folder {mount.source} does not exist"
    try:
        if path.is_symlink():
            if str(path.readlink()) == mount.source:
                return
            path.unlink()
        elif path.exists():
            yield f"{mount.path}: not linked to {mount.source}, because the home has its own {mount.path} there"
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(mount.source)
    except OSError as error:
        yield f"{mount.path}: cannot be linked to {mount.source}: {error.strerror}"
