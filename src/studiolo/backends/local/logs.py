"""Log files: written by the programs themselves, rotated by copying and truncating, read across rotations.

A program holds its log open for appending and depends on nobody: no pipe breaks when the agent ends. So the file
cannot be renamed from under it; it is copied to `<app>.log.1` and cut to nothing. What is written in the instant
between is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from pathlib import Path

LIMIT = 10 << 20
KEPT = 3
POLL = 0.1  # seconds between looks at a log that is followed
_BLOCK = 1 << 16


def open_log(path: Path) -> int:
    """A descriptor that appends, made private. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def rotate(path: Path, limit: int = LIMIT) -> bool:
    """Rotate a log that has grown past `limit` bytes; whether it was. On a full disk its content is given up rather
    than left to grow. Never raises."""
    try:
        if path.stat().st_size <= limit:
            return False
        draft = path.with_name(f"{path.name}.draft")
        try:
            with path.open("rb") as source, draft.open("wb") as copy:
                shutil.copyfileobj(source, copy, _BLOCK)
            for number in range(KEPT - 1, 0, -1):
                if _older(path, number).exists():
                    _older(path, number).replace(_older(path, number + 1))
            draft.replace(_older(path, 1))
        except OSError:
            draft.unlink(missing_ok=True)
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_lines(path: Path, start: int = 0, count: int = 12) -> str:
    """The last lines with something in them, written after byte `start`, for a reason: at most 4 kB of them."""
    end = size(path)
    begin = max(start if start <= end else 0, end - 4096)
    try:
        with path.open("rb") as log:
            log.seek(begin)
            text = log.read(end - begin).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-count:])


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines, oldest first, also from before rotations."""
    lines: list[str] = []
    for file in reversed(_files(path)):
        if len(lines) >= count:
            break
        with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace", newline="\n") as log:
            lines = [*deque((line.rstrip("\r\n") for line in log), maxlen=count - len(lines)), *lines]
    return lines


class Follower:
    """Reads what is written from now on (or `from_start`), across rotations."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._offset = 0 if from_start else size(path)
        self._copy = self._last_copy()
        self._partial = b""

    def new_lines(self) -> list[str]:
        """The lines completed since the last look."""
        copy = self._last_copy()
        if copy != self._copy:
            if copy is None or self._not_yet_cut():
                return []  # in the middle of a rotation
            self._copy = copy
            self._take(_older(self._path, 1))
            self._offset = 0
        elif size(self._path) < self._offset:  # cut without a copy: by a full disk, or by hand
            self._offset = 0
        self._take(self._path)
        *complete, self._partial = self._partial.split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in complete]

    def _take(self, file: Path) -> None:
        with contextlib.suppress(OSError), file.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
            self._offset += len(data)
            self._partial += data

    def _not_yet_cut(self) -> bool:
        """In the instant between the copy and the cut, the log is the copy: to read on now would be to read twice."""
        copy = _older(self._path, 1)
        return size(self._path) >= size(copy) and _head(self._path) == _head(copy)

    def _last_copy(self) -> tuple[int, int] | None:
        """Changes with every rotation."""
        try:
            status = _older(self._path, 1).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as log:
            return log.read(4096)
    except OSError:
        return b""


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _files(path: Path) -> list[Path]:
    """The log and what was rotated, oldest first."""
    return [*(_older(path, number) for number in range(KEPT, 0, -1)), path]
