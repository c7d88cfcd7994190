"""What a build may copy from: the repository's files as one archive that is the same for the same files.

Sorted, without times and owners, with two modes only, and without what `.dockerignore` names or what no instruction
copies: editing a notebook does not make a new image. A symbolic link stays one. Archives are kept by their hash, for a
lock outlives the state of the repository that it was made from.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studiolo.environments.image_ignore import Names, Pattern, Patterns
from studiolo.problem import Problem, StudioloError, WrongInput

LARGEST = 2 << 30
"""Bytes of one context."""

_MOST_FILES = 100_000
_KEPT = 20 << 30
"""Bytes of all contexts kept together: the ones used longest ago go first."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RULES = (".dockerignore", ".containerignore")
"""Left out, because they have been obeyed already and engines would obey them again."""


@dataclass(frozen=True)
class Entry:
    path: str
    at: Path
    status: os.stat_result


def collect(
    repository: Path, folder: Path, ignored: Patterns, sources: tuple[str, ...] | None, limit: int = LARGEST
) -> list[Entry]:
    """The files below `folder` that a build can ask for, sorted. Raises `WrongInput` where they are too many or too
    large, or the folder is not in the repository."""
    shown = os.path.relpath(folder, repository)
    if not folder.resolve().is_relative_to(repository.resolve()) or not folder.is_dir():
        raise WrongInput(
            Problem("context-outside-repository", f"the build context {shown} is no folder in the repository")
        )
    wanted = None
    if sources is not None and not any(_through_link(folder, source) for source in sources):
        try:
            wanted = Patterns([Pattern.parse(source) for source in sources])
        except (ValueError, re.error):
            wanted = None
    found: list[Entry] = []
    size = 0
    for entry in _walk(folder, ignored, wanted):
        if wanted is not None and stat.S_ISLNK(entry.status.st_mode):
            # what it leads to is copied in its place, wherever in the context that is
            return collect(repository, folder, ignored, None, limit)
        found.append(entry)
        size += entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
        if size > limit or len(found) > _MOST_FILES:
            what = f"{limit >> 20} MiB" if size > limit else f"{_MOST_FILES} files"
            raise WrongInput(
                Problem(
                    "context-too-large",
                    f"what the image is built from holds more than {what}; most of it is in {_largest(found)}",
                    "name what the image does not need in .dockerignore",
                    shown,
                )
            )
    return sorted(found, key=lambda entry: os.fsencode(entry.path))


def digest(entries: list[Entry]) -> str:
    """The archive's SHA-256, without writing it."""
    into = _Hashing(None)
    _write(entries, into)
    return into.hash.hexdigest()


def keep(entries: list[Entry], folder: Path) -> str:
    """Write the archive to `folder/<sha256>.tar` and return its SHA-256. Idempotent."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{secrets.token_hex(8)}"
    try:
        with part.open("xb") as file:
            into = _Hashing(file)
            _write(entries, into)
        name = into.hash.hexdigest()
        part.replace(folder / f"{name}.tar")
    except OSError as error:
        full = error.errno in _FULL
        raise StudioloError(
            Problem(
                "disk-full" if full else "context-unwritable",
                f"the files that the image is built from cannot be kept: {error.strerror or error}",
                "free some space, or set STUDIOLO_HOME to a larger disk" if full else "",
                str(folder),
            )
        ) from error
    finally:
        part.unlink(missing_ok=True)
    _tidy(folder, name)
    return name


def kept(folder: Path, name: str) -> Path:
    """Where the archive lies. Raises `StudioloError` where it does not any more."""
    path = folder / f"{name}.tar"
    try:
        os.utime(path)
    except OSError as error:
        raise StudioloError(
            Problem(
                "context-missing",
                "the files that this image was to be built from are not kept any more",
                "lock the environment again: studiolo env update",
            )
        ) from error
    return path


def file_entry(name: str, data: bytes) -> bytes:
    """One more file in front of an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        archive.addfile(info, io.BytesIO(data))
        length = archive.offset
    return buffer.getvalue()[:length]


def _walk(folder: Path, ignored: Patterns, wanted: Patterns | None) -> Iterator[Entry]:
    visited = 0
    waiting: list[tuple[Names, tuple[bool, ...], tuple[bool, ...]]] = [
        ((), ignored.start(), wanted.start() if wanted else ())
    ]
    while waiting:
        names, above, above_wanted = waiting.pop()
        for each in _list(folder.joinpath(*names), "/".join(names)):
            visited += 1
            if visited > 20 * _MOST_FILES:
                raise WrongInput(
                    Problem(
                        "context-too-large",
                        "the folder that the image is built from holds too many files",
                        "name what the image does not need in .dockerignore",
                    )
                )
            path = (*names, each.name)
            if not names and each.name in _RULES:
                continue
            matched = ignored.step(path, above)
            out = ignored.chosen(matched)
            matched_wanted = wanted.step(path, above_wanted) if wanted else ()
            taken = wanted is None or wanted.chosen(matched_wanted)
            status = each.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            below = wanted is not None and wanted.may_choose_below(path)
            if is_folder and (not out or ignored.has_exceptions) and (taken or below):
                waiting.append((path, matched, matched_wanted))
            if out or not (stat.S_ISREG(status.st_mode) or is_folder or stat.S_ISLNK(status.st_mode)):
                continue
            if taken or (below and stat.S_ISLNK(status.st_mode)):
                yield Entry("/".join(path), folder.joinpath(*path), status)


def _list(folder: Path, shown: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise WrongInput(
            Problem("context-unreadable", f"{shown or 'the folder'} cannot be read: {error.strerror}", "", shown)
        ) from error


class _Hashing(io.RawIOBase):
    def __init__(self, file: io.BufferedWriter | None) -> None:
        self.hash = hashlib.sha256()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.hash.update(data)
        if self._file is not None:
            self._file.write(data)
        return len(data)


def _write(entries: list[Entry], into: _Hashing) -> None:
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            mode = entry.status.st_mode
            try:
                if stat.S_ISLNK(mode):
                    info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(entry.at.readlink()), 0o777
                    archive.addfile(info)
                elif stat.S_ISDIR(mode):
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(info)
                else:
                    info.mode = 0o755 if mode & 0o100 else 0o644
                    # not following a link that has taken the file's place meanwhile, nor waiting for a pipe
                    handle = os.open(entry.at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    with os.fdopen(handle, "rb") as file:
                        info.size = entry.status.st_size
                        archive.addfile(info, file)
            except OSError as error:
                if error.errno in _FULL:
                    raise
                raise WrongInput(
                    Problem(
                        "context-unreadable",
                        f"{entry.path} cannot be read: {error.strerror or 'it changed meanwhile'}",
                        "try again; or name it in .dockerignore where the image does not need it",
                        entry.path,
                    )
                ) from error


def _through_link(folder: Path, source: str) -> bool:
    """Whether a path in the context leads through a symbolic link."""
    at = folder
    for name in source.split("/"):
        at = at / name
        if at.is_symlink():
            return True
    return False


def _largest(entries: list[Entry]) -> str:
    sizes: dict[str, int] = {}
    for entry in entries:
        top = entry.path.split("/")[0]
        sizes[top] = sizes.get(top, 0) + entry.status.st_size + 1
    return max(sizes, key=lambda top: sizes[top])


def _tidy(folder: Path, but: str) -> None:
    archives = sorted(folder.glob("*.tar"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in archives)
    for path in archives:
        if total <= _KEPT:
            return
        if path.stem != but:
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
