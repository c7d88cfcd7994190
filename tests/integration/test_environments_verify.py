"""Whether a lock builds the same again, on real trees and with the real uv."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from studiolo.environments import verify as verifying
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Index, Lock, Progress, Report, Request
from studiolo.environments.uv import UvKind
from studiolo.environments.verify import Comparison, FileDifference, compare, verify
from studiolo.problem import Problem, StudioloError


def ignore(_: Progress) -> None: ...


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "original"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_text(f"#!{folder}/bin/python\nprint()\n")
    (folder / "bin/tool").chmod(0o755)
    (folder / "bin/link").symlink_to(f"{folder}/bin/tool")
    (folder / "lib/__pycache__").mkdir(parents=True)
    (folder / "lib/__pycache__/a.pyc").write_text("1")
    (folder / "lib/a.py").write_text("a = 1\n")
    return folder


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    """The same, built elsewhere, at a path of another length."""
    folder = tmp_path / "elsewhere/copy"
    shutil.copytree(tree, folder, symlinks=True)
    (folder / "bin/tool").write_text(f"#!{folder}/bin/python\nprint()\n")
    (folder / "bin/link").unlink()
    (folder / "bin/link").symlink_to(f"{folder}/bin/tool")
    return folder


UNLIKE = ("*/__pycache__/*",)


def test_equal_trees(tree: Path, copy: Path) -> None:
    shutil.rmtree(copy / "lib/__pycache__")
    (copy / "lib/a.py").chmod(0o444)
    os.utime(copy / "lib/a.py", (0, 0))
    assert compare(tree, copy, UNLIKE) == Comparison(3, True, ())
    assert compare(copy, tree, UNLIKE) == Comparison(3, True, ())


def _remove(path: Path) -> None:
    (path / "lib/a.py").unlink()


def _add(path: Path) -> None:
    (path / "lib/b").mkdir()


def _write(path: Path) -> None:
    (path / "lib/a.py").write_text("a = 2\n")


def _grow(path: Path) -> None:
    (path / "lib/a.py").write_text("a = 10\n")


def _allow(path: Path) -> None:
    (path / "lib/a.py").chmod(0o755)


def _lead(path: Path) -> None:
    (path / "bin/link").unlink()
    (path / "bin/link").symlink_to("/bin/sh")


def _turn(path: Path) -> None:
    (path / "lib/a.py").unlink()
    (path / "lib/a.py").symlink_to("b.py")


def _compile(path: Path) -> None:
    (path / "lib/__pycache__/a.pyc").write_text("2")


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        (_remove, "lib/a.py", "only in the original"),
        (_add, "lib/b", "only in the rebuilt one"),
        (_write, "lib/a.py", "other content"),
        (_grow, "lib/a.py", "other content, 7 bytes instead of 6"),
        (_allow, "lib/a.py", "mode 0500 instead of 0400"),
        (_lead, "bin/link", "leads to /bin/sh instead of <itself>/bin/tool"),
        (_turn, "lib/a.py", "a link instead of a file"),
    ],
)
def test_each_difference_is_named(tree: Path, copy: Path, change: Callable[[Path], None], path: str, what: str) -> None:
    change(copy)
    assert compare(tree, copy, UNLIKE) == Comparison(3, False, (FileDifference(path, what),))


def test_only_what_is_excluded_may_differ(tree: Path, copy: Path) -> None:
    _compile(copy)
    assert compare(tree, copy, UNLIKE).same
    assert compare(tree, copy, ()).differences == (FileDifference("lib/__pycache__/a.pyc", "other content"),)


def test_a_path_in_the_middle_of_a_large_file(tree: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the chunks end."""
    for root in (tree, copy):
        (root / "large").write_bytes((b"x" * 100 + os.fsencode(root) + b"/lib\0") * 20)
    for size in (1, 2, 7, len(str(tree)), 64, 1000):
        monkeypatch.setattr(verifying, "_CHUNK", size)
        assert compare(tree, copy, UNLIKE).same
    with (copy / "large").open("r+b") as file:
        file.seek(500)
        file.write(b"y")
    assert not compare(tree, copy, UNLIKE).same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture
async def kind(folder: Path) -> AsyncIterator[UvKind]:
    kind = UvKind(folder / "cache")
    yield kind
    await kind.close()


async def test_uv_builds_the_same_again_but_for_what_was_damaged(kind: UvKind, folder: Path) -> None:
    lock = await kind.lock(Request(packages=("six",)), ignore)
    built = await Generations(folder / "generations", folder / "cache", {"uv": kind}).build(lock, ignore)
    (damaged,) = built.folder.glob("lib/python3.*/site-packages/six.py")
    damaged.unlink()  # not written to: the download cache has the same file
    damaged.write_text("broken")
    scratch = folder / "cache/scratch"
    found = await verify(kind, lock, built.folder, scratch, ignore)
    assert [each.path for each in found.differences] == [str(damaged.relative_to(built.folder))]
    assert not found.same
    assert found.files > 500
    assert list(scratch.iterdir()) == []


class _InPlaceKind(UvKind):
    """Holds its own path, as conda's environments do."""

    in_place = True

    def __init__(self, cache: Path) -> None:
        super().__init__(cache)
        self.at = Path()
        self.begun = asyncio.Event()

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        self.at = folder
        (folder / "half").touch()
        self.begun.set()
        if lock.text == "fail":
            raise StudioloError(Problem("index-unreachable", "no network"))
        await asyncio.Event().wait()


@pytest.mark.parametrize("text", ["fail", "wait"])
async def test_nothing_is_left_of_one_that_fails_or_is_given_up(tmp_path: Path, text: str) -> None:
    kind = _InPlaceKind(tmp_path / "cache")
    folder = tmp_path / "generations/0123456789abcdef"
    folder.mkdir(parents=True)
    task = asyncio.create_task(verify(kind, Lock("uv", text), folder, tmp_path / "scratch", ignore))
    await kind.begun.wait()
    assert kind.at.parent == folder.parent
    assert kind.at.name.startswith(".verify-")
    assert len(kind.at.name) == len(folder.name)
    if text == "wait":
        task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, StudioloError if text == "fail" else asyncio.CancelledError)
    assert list(folder.parent.iterdir()) == [folder]
