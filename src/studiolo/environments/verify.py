"""Whether a lock builds the same again: a second tree, made from nothing, compared file by file with the first."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from studiolo.environments.kind import Index, Kind, Lock, Report

BOOKKEEPING = ("lock.json", "build.json", "verdict.json", "build.log")
"""What Studiolo writes beside what was built."""

_CHUNK = 1 << 20
# Stands for a tree's own path. A path holds no NUL, so none can come about where this meets what is around it.
_ITSELF = b"\0itself\0"


@dataclass(frozen=True)
class FileDifference:
    """`path` is relative to the tree, `what` says what is different in the rebuilt one."""

    path: str
    what: str


@dataclass(frozen=True)
class Comparison:
    """`files` is how many files and links the original has, without those that may differ."""

    files: int
    same: bool
    differences: tuple[FileDifference, ...]


async def verify(
    kind: Kind, lock: Lock, folder: Path, scratch: Path, report: Report, indexes: Sequence[Index] = ()
) -> Comparison:
    """Build `lock` again, using nothing that is left from before, and compare with the generation at `folder`.

    It is built in `scratch`; where what is built holds its own path, beside the generation instead, at a path as long
    as its own, so that programs are patched alike. What was built is removed, however this ends. Raises
    `StudioloError` as `kind.build` does, and `OSError` where a tree cannot be read.
    """
    parent, digits = (folder.parent, len(folder.name) - len(".verify-")) if kind.in_place else (scratch, 8)
    rebuilt = parent / f".verify-{secrets.token_hex(digits)[:digits]}"
    await asyncio.to_thread(rebuilt.mkdir, parents=True)
    try:
        await kind.rebuild(lock, rebuilt, report, indexes)
        return await asyncio.to_thread(compare, folder, rebuilt, (*kind.unlike, *BOOKKEEPING))
    finally:
        # shielded: a second cancellation leaves nothing half removed
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, rebuilt, ignore_errors=True))


def compare(original: Path, rebuilt: Path, unlike: Sequence[str]) -> Comparison:
    """File by file: type, whether its owner may read and run it, a link's target, content. Not times, owners, or what
    else the umask of whoever built it decided.

    Paths that match a pattern of `unlike` (fnmatch; `*` also matches `/`) are passed over, folders with all that is in
    them. A tree's own path, in a file or a link, is the same as the other's. Takes seconds: use a thread.
    """
    trees = [dict(_walk(root, unlike)) for root in (original, rebuilt)]
    differences = [
        FileDifference(path, what)
        for path in sorted(trees[0].keys() | trees[1].keys())
        if (what := _difference(trees[0].get(path), trees[1].get(path), original, rebuilt))
    ]
    files = sum(1 for entry in trees[0].values() if not entry.is_dir(follow_symlinks=False))
    return Comparison(files, not differences, tuple(differences))


_Entry = os.DirEntry[str]


def _walk(root: Path, unlike: Sequence[str]) -> Iterator[tuple[str, _Entry]]:
    """Everything below, by its path relative to `root`, without what may differ."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(root / above) as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                is_folder = entry.is_dir(follow_symlinks=False)
                # `cache/*` is about the folder `cache` too: it may be there or not
                spellings = (path, f"{path}/") if is_folder else (path,)
                if any(fnmatch.fnmatchcase(each, pattern) for pattern in unlike for each in spellings):
                    continue
                yield path, entry
                if is_folder:
                    waiting.append(f"{path}/")


def _difference(one: _Entry | None, other: _Entry | None, original: Path, rebuilt: Path) -> str:
    """What is different; empty where nothing is."""
    if one is None or other is None:
        return "only in the original" if other is None else "only in the rebuilt one"
    modes = [entry.stat(follow_symlinks=False).st_mode for entry in (one, other)]
    types = [_type(mode) for mode in modes]
    if types[0] != types[1]:
        return f"a {types[1]} instead of a {types[0]}"
    if types[0] == "link":
        targets = [
            os.readlink(entry).replace(str(root), "<itself>")  # noqa: PTH115
            for entry, root in ((one, original), (other, rebuilt))
        ]
        return "" if targets[0] == targets[1] else f"leads to {targets[1]} instead of {targets[0]}"
    allowed = [stat.S_IMODE(mode) & 0o500 for mode in modes]
    if allowed[0] != allowed[1]:
        return f"mode {allowed[1]:04o} instead of {allowed[0]:04o}"
    if types[0] == "file" and _digest(one, original) != _digest(other, rebuilt):
        sizes = [entry.stat(follow_symlinks=False).st_size for entry in (one, other)]
        return "other content" + (f", {sizes[1]} bytes instead of {sizes[0]}" if sizes[0] != sizes[1] else "")
    return ""


def _type(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISLNK(mode):
        return "link"
    return "folder" if stat.S_ISDIR(mode) else "special file"


def _digest(entry: _Entry, root: Path) -> bytes:
    """SHA-256 of a file in which the tree's own path is no particular one."""
    own = os.fsencode(root)
    found = hashlib.sha256()
    rest = b""
    with open(entry.path, "rb") as file:  # noqa: PTH123
        while chunk := file.read(_CHUNK):
            data = (rest + chunk).replace(own, _ITSELF)
            # the path may begin in this chunk and end in the next
            keep = len(data) - len(own) + 1
            found.update(data[: max(keep, 0)])
            rest = data[max(keep, 0) :]
    found.update(rest)
    return found.digest()
