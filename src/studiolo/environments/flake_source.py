"""Which flake a folder declares, and what of the repository Nix sees of it.

A flake may come from anybody: nothing outside the repository is read, and no more than a bounded amount is copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from studiolo.environments.inherited import inherited
from studiolo.environments.kind import Request
from studiolo.environments.repository_file import read_text
from studiolo.problem import Problem, WrongInput
from studiolo.process import ProgramFailed, run

FLAKE = "flake.nix"
LOCK = "flake.lock"
ENVRC = ".envrc"
FILES_LIMIT = 50_000
SIZE_LIMIT = 512 << 20
"""Bytes. Nix copies the whole source into its store, where it stays until garbage is collected."""

_READ = (".nix", ".toml", ".lock")
"""What flakes read when they are evaluated."""
_DIGESTS_LIMIT = 2000
_GIT_TIMEOUT = 60.0

_USE = re.compile(r"^(?:[^#\n]*?(?:;|&&|\|\||\bthen)\s*)?[ \t]*use[ _]flake(?![\w-])([^\n;&|]*)", re.MULTILINE)
_NOT_HONOURED = {"--impure", "--override-input", "--inputs-from", "--arg", "--argstr", "--expr", "--file", "-f"}
"""Options that change what a flake is. Others, such as `--show-trace`, make no difference to what comes out."""


@dataclass(frozen=True)
class Flake:
    """`folder`, inside the repository `root`, holds flake.nix; `attribute` is what stands behind `#`, empty where
    nothing does. `file` is what declares it, and `where` the place in it, both relative to the repository."""

    root: Path
    folder: Path
    file: str
    where: str
    attribute: str = ""

    @property
    def inside(self) -> str:
        """The folder relative to the repository; empty where it is the repository."""
        path = os.path.relpath(self.folder, self.root)
        return "" if path == "." else path


@dataclass(frozen=True)
class _Use:
    """`use flake` in an .envrc: the local flake it names (None: it lies elsewhere), and what is asked of Nix beside."""

    line: int
    reference: str
    folder: str | None
    attribute: str
    options: tuple[str, ...]


def declared_by(folder: Path) -> str | None:
    """The name of the file by which this folder declares a flake, if it does. Raises nothing."""
    try:
        use = _use(folder, folder)
    except WrongInput:
        use = None
    if use is not None and use.folder is not None and (folder / use.folder / FLAKE).is_file():
        return ENVRC
    return FLAKE if (folder / FLAKE).is_file() else None


def locate(request: Request) -> Flake:
    """The flake that is asked for. Raises `WrongInput` where there is none."""
    root = request.folder
    if root is None:
        raise WrongInput(
            Problem("flake-missing", "a flake lies in a repository, and there is none", "name a repository")
        )
    folder = root / (request.project or ".")
    if not folder.is_dir() or not _within(root, folder):
        raise WrongInput(
            Problem(
                "project-missing",
                f"there is no folder {request.project} in the repository",
                f"name a folder that holds a {FLAKE}",
                "environment.project",
            )
        )
    name = FLAKE
    if request.file is not None:
        # relative to the project, or, as it may also be written, to the repository
        place = next((at for at in (folder, root) if (at / request.file).is_file()), folder) / request.file
        folder, name = place.parent, place.name
        if name not in (FLAKE, ENVRC):
            raise WrongInput(
                Problem("flake-missing", f"{name} is no flake", f"name a {FLAKE} or an {ENVRC}", "environment.file")
            )
    use = _use(root, folder) if request.file is None or name == ENVRC else None
    if use is None:
        found = Flake(root, folder, os.path.relpath(folder / name, root), os.path.relpath(folder / name, root))
    else:
        found = _used(root, folder, use)
    if not (found.folder / FLAKE).is_file():
        at = "environment.file" if request.file else found.where
        raise WrongInput(Problem("flake-missing", f"there is no {FLAKE} there", "`studiolo env init --flake`", at))
    return found


def digests(flake: Flake) -> Mapping[str, str]:
    """SHA-256 of the files that say what the flake is, by their path relative to the repository.

    Of a flake that also packs the repository's other files, a change in those alone is not seen.
    """
    paths = [flake.root / flake.file, *_read_by(flake.folder)]
    return {
        os.path.relpath(path, flake.root): hashlib.sha256(read_text(flake.root, path).encode()).hexdigest()
        for path in paths
    }


async def copy(flake: Flake, target: Path) -> None:
    """Copy what Nix sees of the repository into the empty folder `target`: the files that Git tracks, or, without Git,
    all. Links that lead outside are left out. Raises `WrongInput` (flake-too-large, flake-not-tracked)."""
    tracked = await _tracked(flake.root)
    if tracked is not None and os.path.join(flake.inside, FLAKE) not in tracked:  # noqa: PTH118  a name, not a place
        raise WrongInput(
            Problem(
                "flake-not-tracked",
                f"{FLAKE} is not known to Git, so Nix does not see it",
                f"git add --intent-to-add {FLAKE}",
                flake.where,
            )
        )
    await asyncio.to_thread(_copy, flake.root, target, _all(flake.root) if tracked is None else tracked)


def _use(root: Path, folder: Path) -> _Use | None:
    path = folder / ENVRC
    if not path.is_file():
        return None
    text = read_text(root, path)
    match = _USE.search(text)
    if match is None:
        return None
    try:
        words = shlex.split(match[1])
    except ValueError:
        words = match[1].split()
    comment = next((index for index, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[:comment]
    reference = words.pop(0) if words and not words[0].startswith("-") else "."
    place, _, attribute = reference.partition("#")
    place = place.removeprefix("path:") or "."
    local = re.fullmatch(r"\.{1,2}(?:/[^$`?]*)?", place) is not None
    line = text.count("\n", 0, match.start(1)) + 1
    return _Use(line, reference, place if local else None, attribute, tuple(words))


def _used(root: Path, folder: Path, use: _Use) -> Flake:
    file = os.path.relpath(folder / ENVRC, root)
    where = f"{file}:{use.line}"
    if use.folder is None:
        raise WrongInput(
            Problem(
                "flake-elsewhere",
                f"`use flake {use.reference}` names a flake outside the repository",
                f"make it an input of a {FLAKE} in the repository, which then is locked with it",
                where,
            )
        )
    refused = [option for option in use.options if option in _NOT_HONOURED]
    if refused:
        raise WrongInput(
            Problem(
                "flake-option",
                f"`use flake` asks for {', '.join(refused)}, and what comes out would not be locked",
                f"write what it is for into {FLAKE}",
                where,
            )
        )
    target = Path(os.path.normpath(folder / use.folder))
    if not _within(root, target):
        raise WrongInput(
            Problem(
                "file-outside-repository",
                f"{use.folder} lies outside the repository, so it is not read",
                "keep the flake inside the repository",
                where,
            )
        )
    return Flake(root, target, file, where, use.attribute)


def _read_by(folder: Path) -> Iterator[Path]:
    count = 0
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        for name in sorted(files):
            path = Path(at, name)
            if name.endswith(_READ) and path.is_file() and _within(folder, path):
                yield path
                count += 1
                if count == _DIGESTS_LIMIT:
                    return


async def _tracked(root: Path) -> frozenset[str] | None:
    """The files below `root` that Git tracks, relative to it; None where Git knows nothing of it."""
    try:
        # a repository's own settings may name programs to run
        settings = ["-c", "core.fsmonitor=false", "-c", f"safe.directory={root.resolve()}", "-c", "core.quotePath=true"]
        listing = await run(
            ["git", *settings, "ls-files", "--cached"],
            cwd=root,
            env=inherited({"LC_ALL": "C"}),
            timeout=_GIT_TIMEOUT,
            check=False,
            stdout_only=True,
        )
    except ProgramFailed as error:
        if error.problem.code == "program-missing":
            return None
        raise
    if not listing.ok:
        return None
    return frozenset(_unquoted(line) for line in listing.output.splitlines())


def _unquoted(line: str) -> str:
    if not line.startswith('"'):
        return line
    return os.fsdecode(line[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1"))


def _all(root: Path) -> Iterator[str]:
    for at, folders, files in os.walk(root):
        links = [name for name in folders if Path(at, name).is_symlink()]
        folders[:] = [name for name in folders if name != ".git" and name not in links]
        for name in [*files, *links]:
            yield os.path.relpath(Path(at, name), root)


def _copy(root: Path, target: Path, names: Iterable[str]) -> None:
    inside: dict[Path, bool] = {}
    size = 0
    for count, name in enumerate(names):
        path, copied = root / name, target / name
        if path.parent not in inside:
            # a folder may have become a link since Git saw it
            inside[path.parent] = _within(root, path.parent)
        try:
            status = path.lstat()
        except OSError:
            continue  # deleted, but still in Git's index
        if not inside[path.parent]:
            continue
        size += status.st_size
        if count >= FILES_LIMIT or size > SIZE_LIMIT:
            raise WrongInput(
                Problem(
                    "flake-too-large",
                    f"Nix copies all files of a flake, and there are more than {FILES_LIMIT} of them here "
                    f"or more than {SIZE_LIMIT >> 20} MiB",
                    "keep the flake in Git, and data out of it: Nix then sees only what Git tracks",
                )
            )
        copied.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(status.st_mode):
            link = path.readlink()
            if not link.is_absolute() and _within(root, path):
                copied.symlink_to(link)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(path, copied)


def _copy_file(path: Path, copied: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as source:
        mode = os.fstat(handle).st_mode
        with copied.open("xb") as sink:
            while chunk := source.read(1 << 20):
                sink.write(chunk)
    copied.chmod(0o755 if mode & 0o100 else 0o644)


def _within(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())
