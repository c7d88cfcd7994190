"""What people install themselves, `pip install` in a terminal or `%pip install` in a notebook, over a generation.

A generation is immutable and shared, so such packages go to an overlay in the home, which outlives restarts and
generations. It is a virtual environment whose search path goes on in the generation's: pip takes what is there as
installed, adds only what is missing, and what the overlay has wins. It is written by hand, in milliseconds, from what
lies on disk, so that it works over a virtual environment, a conda prefix and a read-only Nix store alike.

    <home>/.studiolo/overlay/
      pyvenv.cfg  bin/python  bin/pip
      lib/python3.X/site-packages/   one per Python that the workspace has had; only the present one is active
      lib/.../zz-studiolo.pth        leads to the generation's packages, then to pip
      commands/                      the generation's own commands (pytest, ipython), run by the overlay's Python
"""

from __future__ import annotations

import contextlib
import csv
import glob
import importlib.metadata
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.utils import canonicalize_name

FOLDER = Path(".studiolo/overlay")
"""Relative to the home."""

# The last name among .pth files: what those of the overlay add goes before the generation's packages.
_PTH = "zz-studiolo.pth"
_VERSION = re.compile(r"python3\.(\d{1,2})")
_SCRIPT_HEAD = 512
_RECORD_LIMIT = 32 << 20
_MOST = 5000
_LONGEST = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
# Commands of the generation that the overlay has its own of, or that are about one virtual environment only.
_NOT_COMMANDS = re.compile(r"(?:python|pip|activate|deactivate)[\d.]*(?:\..*)?")

# `--user` is what many a README says; pip refuses it in a virtual environment, and this one is its user's own already.
_PIP = """#!/bin/sh
for word; do shift; [ "$word" = --user ] || set -- "$@" "$word"; done
exec {python} -m pip "$@"
"""


@dataclass(frozen=True)
class Overlay:
    """How a process enters it: `path` goes in front of the generation's, `env` over the generation's."""

    folder: Path
    interpreter: str
    path: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class OverlayPackage:
    """`requested`: somebody asked for it by name, rather than another package. `python` such as 3.11; one of another
    Python than the present one is not `active`. `origin` is the address or folder that it was installed from, empty
    for one from an index; `editable` where it is run from there."""

    name: str
    version: str
    requested: bool
    python: str
    active: bool
    editable: bool = False
    origin: str = ""


@dataclass(frozen=True)
class _Base:
    """The Python behind a generation: `program` is what to run, `home` the folder that its standard library is found
    from, `minor` such as 11, `packages` the generation's site-packages."""

    program: Path
    home: Path
    minor: int
    packages: Path


def prepare(home: Path, interpreter: str, pip: Path) -> Overlay:
    """Make the overlay in `home` fit the generation of this interpreter, whatever was there before. Idempotent.

    `pip` is what `ensure_pip` returned. Packages of another minor version of Python stay, but are not active. What is
    no overlay (a file, a link that leads elsewhere) is moved aside, to `overlay.broken-<n>`. Raises `OSError` where
    the home cannot be written, or the interpreter is none that has packages. Takes milliseconds; use a thread.
    """
    base = _base(Path(interpreter))
    folder = home / FOLDER
    with contextlib.suppress(NotADirectoryError, IsADirectoryError, FileExistsError):
        return _prepare(folder, base, Path(interpreter), pip)
    _set_aside(folder if _is_folder(folder.parent) else folder.parent)
    return _prepare(folder, base, Path(interpreter), pip)


def ensure_pip(cache: Path) -> Path:
    """A folder of `cache` with nothing but pip in it, shared by all overlays: a copy of Studiolo's own. Idempotent."""
    found = importlib.metadata.distribution("pip")
    target = cache / f"pip-{found.version}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".pip-", ignore_cleanup_errors=True) as scratch:
        copy = Path(scratch, "pip")
        for name in ("pip", f"pip-{found.version}.dist-info"):
            shutil.copytree(str(found.locate_file(name)), copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            copy.rename(target)
        except OSError:
            if not target.is_dir():  # else somebody else was faster
                raise
    return target


def packages(home: Path) -> tuple[OverlayPackage, ...]:
    """What the overlay has, by name. Reads what installers wrote down and runs nothing; what cannot be read is left
    out."""
    present = _settings(_read(home / FOLDER / "pyvenv.cfg")).get("version", "")
    found = []
    for record in _records(home):
        head = Parser().parsestr(_read(record / "METADATA").partition("\n\n")[0], headersonly=True)
        name, version = head.get("Name"), head.get("Version")
        if not name or not version or not _NAME.fullmatch(name) or not _is_one_line(version):
            continue
        try:
            direct = json.loads(_read(record / "direct_url.json") or "{}")
            origin, editable = str(direct.get("url", "")), bool(direct.get("dir_info", {}).get("editable"))
        except (ValueError, AttributeError, RecursionError):
            origin, editable = "", False
        python = record.parts[-3].removeprefix("python")
        requested = os.path.lexists(record / "REQUESTED")
        origin = origin if _is_one_line(origin) else ""
        found.append(OverlayPackage(name, version, requested, python, python == present, editable, origin))
    return tuple(sorted(found, key=lambda each: (canonicalize_name(each.name), each.python)))


def remove(home: Path, names: Collection[str]) -> None:
    """Remove these packages, of every Python, by the list of files that came with each; never one outside the overlay.

    Names that are not there are passed over. Raises `OSError` where a file cannot be removed.
    """
    root = home / FOLDER
    wanted = {canonicalize_name(name) for name in names}
    for record in _records(home):
        if canonicalize_name(record.name.partition("-")[0]) not in wanted:
            continue
        folders = set()
        for row in _rows(_read(record / "RECORD", _RECORD_LIMIT)):
            path = Path(os.path.normpath(record.parent / row[0])) if row and "\0" not in row[0] else root
            if not path.is_relative_to(root) or not _is_really_below(root, path.parent):
                continue
            compiled = (
                (path.parent / "__pycache__").glob(f"{glob.escape(path.stem)}.*.pyc") if path.suffix == ".py" else ()
            )
            for each in (path, *compiled):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    each.unlink()
            folders |= {path.parent, path.parent / "__pycache__"}
        shutil.rmtree(record)
        _remove_empty(folders, keep={root, root / "bin", record.parent})


def _rows(record: str) -> list[list[str]]:
    try:
        return list(csv.reader(record.splitlines()))
    except csv.Error:
        return []


def _is_one_line(text: str) -> bool:
    """It comes from anybody's package and is shown to people."""
    return text.isprintable() and len(text) <= _LONGEST


def _records(home: Path) -> Iterator[Path]:
    """Each installed package's .dist-info folder."""
    count = 0
    for packages in sorted((home / FOLDER).glob("lib/python3.*/site-packages")):
        if not _is_really_below(home / FOLDER.parent, packages):
            continue
        for entry in sorted(os.scandir(packages), key=lambda entry: entry.name):
            if entry.name.endswith(".dist-info") and entry.is_dir(follow_symlinks=False) and count < _MOST:
                count += 1
                yield Path(entry.path)


def _is_really_below(root: Path, path: Path) -> bool:
    """Whether it is reached from `root` without a link."""
    return path.is_relative_to(root) and all(
        _is_folder(each) for each in (path, *path.parents) if each.is_relative_to(root)
    )


def _remove_empty(folders: Collection[Path], keep: Collection[Path]) -> None:
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        for each in (folder, *folder.parents):
            if each in keep:
                break
            try:
                each.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                break  # something of another package, or of the person


def _base(interpreter: Path) -> _Base:
    """What stands behind an interpreter, from the files around it. Raises `FileNotFoundError` where that is unclear."""
    prefix = interpreter.parents[1]
    settings = _settings(_read(prefix / "pyvenv.cfg"))
    if "home" in settings:
        home = Path(settings["home"])
        version = re.match(r"3\.(\d{1,2})", settings.get("version_info") or settings.get("version", ""))
        minor = int(version[1]) if version else _minor(interpreter, prefix)
        program = home / f"python3.{minor}"
        if not program.exists():
            program = Path(os.path.realpath(interpreter))
        return _Base(program, home, minor, prefix / f"lib/python3.{minor}/site-packages")
    if not any(prefix.glob("lib/python3.*/os.py")):
        # A lone link to a Python, as in a folder of programs that Nix makes.
        interpreter = Path(os.path.realpath(interpreter, strict=True))
        prefix = interpreter.parents[1]
    minor = _minor(interpreter, prefix)
    return _Base(interpreter, interpreter.parent, minor, prefix / f"lib/python3.{minor}/site-packages")


def _minor(interpreter: Path, prefix: Path) -> int:
    if named := _VERSION.fullmatch(os.path.basename(os.path.realpath(interpreter))):  # noqa: PTH119
        return int(named[1])
    found = [int(match[1]) for each in prefix.glob("lib/python3.*/os.py") if (match := _VERSION.match(each.parts[-2]))]
    if not found:
        raise FileNotFoundError(f"{interpreter} has no library beside it")
    return max(found)  # conda has a link python3.1 beside python3.11


def _settings(text: str) -> dict[str, str]:
    """The keys of a pyvenv.cfg."""
    lines = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, mark, value in lines if mark}


def _prepare(folder: Path, base: _Base, interpreter: Path, pip: Path) -> Overlay:
    programs, commands = folder / "bin", folder / "commands"
    packages = folder / f"lib/python3.{base.minor}/site-packages"
    for each in (folder.parent, folder, programs, folder / "lib", packages.parent, packages):
        _make_folder(each)
    python = programs / "python"
    _link(base.program, python)
    names = {"python3", f"python3.{base.minor}"}
    for old in programs.glob("python3*"):
        if old.name not in names and _VERSION.fullmatch(old.name) and old.is_symlink():
            old.unlink()
    for name in names:
        _link(Path("python"), programs / name)
    _link(Path("lib"), folder / "lib64")
    lines = (
        # Plain lines are folders to add; this one also heeds the .pth files in there.
        f"import site; site.addsitedir({str(base.packages)!r})",
        str(pip),
    )
    _write(packages / _PTH, "".join(f"{line}\n" for line in lines))
    for name in ("pip", "pip3"):
        _write(programs / name, _PIP.format(python=shlex.quote(str(python))), 0o755)
    # Last, as what is here makes it a virtual environment; but commands need not be listed again where it is the same.
    settings = (
        f"home = {base.home}\ninclude-system-site-packages = false\nversion = 3.{base.minor}\n"
        f"prompt = studiolo\ngeneration = {interpreter.parent}\n"
    )
    if _read(folder / "pyvenv.cfg") != settings or not _is_folder(commands):
        _write_commands(commands, interpreter.parent, python)
        _write(folder / "pyvenv.cfg", settings)
    return Overlay(
        folder,
        str(python),
        (str(programs), str(commands)),
        {"VIRTUAL_ENV": str(folder), "VIRTUAL_ENV_PROMPT": "studiolo", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


def _write_commands(commands: Path, programs: Path, python: Path) -> None:
    """The generation's Python scripts, under the overlay's Python: theirs would not see what has been installed."""
    if os.path.lexists(commands):
        if not _is_folder(commands):
            raise NotADirectoryError(str(commands))
        shutil.rmtree(commands)
    commands.mkdir()
    runner = f'#!/bin/sh\nexec {shlex.quote(str(python))} {shlex.quote(str(programs))}/"${{0##*/}}" "$@"\n'
    _write(commands / ".run", runner, 0o755)
    for entry in os.scandir(programs):
        if not _NOT_COMMANDS.fullmatch(entry.name) and not entry.name.startswith(".") and _is_script(Path(entry.path)):
            (commands / entry.name).symlink_to(".run")


def _is_script(path: Path) -> bool:
    """Whether it is a script that a Python runs, by itself or, as installers write where paths are long, through sh."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) or not os.access(path, os.X_OK):
            return False
        with path.open("rb") as file:
            first, _, rest = file.read(_SCRIPT_HEAD).partition(b"\n")
    except OSError:
        return False
    through_sh = first.startswith(b"#!/bin/sh") and rest.startswith(b"'''exec'")
    return through_sh or (first.startswith(b"#!") and b"python" in first)


def _make_folder(path: Path) -> None:
    """Raises `NotADirectoryError` for anything else that is there, a link to a folder too."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if not _is_folder(path):
        raise NotADirectoryError(str(path))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _read(path: Path, limit: int = 1 << 16) -> str:
    """The beginning of a file; empty where there is none."""
    try:
        # Without waiting for a named pipe's other end, and following no link.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _link(target: Path, path: Path) -> None:
    """Make `path` a link, whatever file was there; never half."""
    if path.is_symlink() and path.readlink() == target:
        return
    with _beside(path) as fresh:
        fresh.symlink_to(target)
        fresh.replace(path)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Make `path` a file, whatever file or link was there; never half, never through a link."""
    if _read(path) == text:
        return
    with _beside(path) as fresh:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(text)
        fresh.replace(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    """Give it a name that says it is broken, so that nothing of the person's is lost."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.broken-{number}")):
        number += 1
    path.rename(aside)
