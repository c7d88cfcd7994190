"""What people install themselves, `pip install` in a terminal or `%pip install` in a notebook, over a generation.

A generation is immutable and shared, so such packages go to an overlay in the home, which outlives restarts and
generations. It is a virtual environment whose search path goes on in the generation's: pip takes what is there as
installed, adds only what is missing, and what the overlay has wins. It is written by hand, in milliseconds, from what
lies on disk, so that it works over a virtual environment, a conda prefix and a read-only Nix store alike.

    <home>/.studiolo/overlay/
      pyvenv.cfg  bin/python  bin/pip
      lib/python3.X/site-packages/   one per Python that the workspace has had; only the present one is active
      lib/.../zz-studiolo.pth        leads to the generation's packages, then to pip and what has kernels forked
      commands/                      the generation's own commands (pytest, ipython), run by the overlay's Python
      kernel.json  share/jupyter/    the generation's kernels (overlay_kernels)
"""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.utils import canonicalize_name

from studiolo import kernels
from studiolo.environments import overlay_files as files
from studiolo.environments import overlay_kernels

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
# `jupyter x` runs the `jupyter-x` beside itself first, which would be the generation's; like this it looks along PATH.
_RUN = """#!/bin/sh
[ "${{0##*/}}" != jupyter ] || exec {python} -m jupyter_core "$@"
exec {python} {programs}/"${{0##*/}}" "$@"
"""


@dataclass(frozen=True)
class Overlay:
    """How a process enters it: `path` goes in front of the generation's, `env` over the generation's."""

    folder: Path
    interpreter: str
    path: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Shared:
    """Folders of packages that all overlays have in common."""

    pip: Path
    kernels: Path
    """What a jupyter_client needs to have kernels forked."""


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


def prepare(home: Path, interpreter: str, shared: Shared) -> Overlay:
    """Make the overlay in `home` fit the generation of this interpreter, whatever was there before. Idempotent.

    `shared` is what `ensure_shared` returned. Packages of another minor version of Python stay, but are not active.
    What is no overlay (a file, a link that leads elsewhere) is moved aside, to `overlay.broken-<n>`. Raises `OSError`
    where the home cannot be written, or the interpreter is none that has packages. Takes milliseconds; use a thread.
    """
    base = _base(Path(interpreter))
    folder = home / FOLDER
    with contextlib.suppress(NotADirectoryError, IsADirectoryError, FileExistsError):
        return _prepare(folder, base, Path(interpreter), shared)
    files.set_aside(folder if files.is_folder(folder.parent) else folder.parent)
    return _prepare(folder, base, Path(interpreter), shared)


def ensure_shared(cache: Path) -> Shared:
    """What all overlays share, in folders of `cache` that are named after what they hold. Idempotent."""
    pip = importlib.metadata.distribution("pip")
    ours = kernels.files()
    content = hashlib.sha256(json.dumps(ours).encode()).hexdigest()[:16]

    def copy_pip(target: Path) -> None:
        """Studiolo's own, and nothing but it."""
        for name in ("pip", f"pip-{pip.version}.dist-info"):
            shutil.copytree(str(pip.locate_file(name)), target / name, ignore=shutil.ignore_patterns("__pycache__"))

    def write_ours(target: Path) -> None:
        for name, text in ours.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text, encoding="utf-8")

    cache.mkdir(parents=True, exist_ok=True)
    return Shared(_ensure(cache / f"pip-{pip.version}", copy_pip), _ensure(cache / f"kernels-{content}", write_ours))


def _ensure(target: Path, fill: Callable[[Path], None]) -> Path:
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-", ignore_cleanup_errors=True) as scratch:
        fresh = Path(scratch, target.name)
        fresh.mkdir()
        fill(fresh)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # else somebody else was faster
                raise
    return target


def packages(home: Path) -> tuple[OverlayPackage, ...]:
    """What the overlay has, by name. Reads what installers wrote down and runs nothing; what cannot be read is left
    out."""
    present = _settings(files.read(home / FOLDER / "pyvenv.cfg")).get("version", "")
    found = []
    for record in _records(home):
        head = Parser().parsestr(files.read(record / "METADATA").partition("\n\n")[0], headersonly=True)
        name, version = head.get("Name"), head.get("Version")
        if not name or not version or not _NAME.fullmatch(name) or not _is_one_line(version):
            continue
        try:
            direct = json.loads(files.read(record / "direct_url.json") or "{}")
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
        for row in _rows(files.read(record / "RECORD", _RECORD_LIMIT)):
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
        files.is_folder(each) for each in (path, *path.parents) if each.is_relative_to(root)
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
    settings = _settings(files.read(prefix / "pyvenv.cfg"))
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


def _prepare(folder: Path, base: _Base, interpreter: Path, shared: Shared) -> Overlay:
    programs, commands = folder / "bin", folder / "commands"
    packages = folder / f"lib/python3.{base.minor}/site-packages"
    for each in (folder.parent, folder, programs, folder / "lib", packages.parent, packages):
        files.make_folder(each)
    python = programs / "python"
    files.link(base.program, python)
    names = {"python3", f"python3.{base.minor}"}
    for old in programs.glob("python3*"):
        if old.name not in names and _VERSION.fullmatch(old.name) and old.is_symlink():
            old.unlink()
    for name in names:
        files.link(Path("python"), programs / name)
    files.link(Path("lib"), folder / "lib64")
    forked = overlay_kernels.can_be_forked(base.packages)
    lines = (
        # Plain lines are folders to add; this one also heeds the .pth files in there.
        f"import site; site.addsitedir({str(base.packages)!r})",
        str(shared.pip),
        *((str(shared.kernels),) if forked else ()),
    )
    files.write(packages / _PTH, "".join(f"{line}\n" for line in lines))
    for name in ("pip", "pip3"):
        files.write(programs / name, _PIP.format(python=shlex.quote(str(python))), 0o755)
    before = Path(_settings(files.read(folder / "pyvenv.cfg")).get("generation", "")).parent
    overlay_kernels.offer(folder, python, interpreter.parents[1], before, forked)
    # Last, as what is here makes it a virtual environment; but commands need not be listed again where it is the same.
    settings = (
        f"home = {base.home}\ninclude-system-site-packages = false\nversion = 3.{base.minor}\n"
        f"prompt = studiolo\ngeneration = {interpreter.parent}\n"
    )
    if files.read(folder / "pyvenv.cfg") != settings or not files.is_folder(commands):
        _write_commands(commands, interpreter.parent)
    run = _RUN.format(python=shlex.quote(str(python)), programs=shlex.quote(str(interpreter.parent)))
    files.write(commands / ".run", run, 0o755)
    files.write(folder / "pyvenv.cfg", settings)
    return Overlay(
        folder,
        str(python),
        (str(programs), str(commands)),
        {
            "VIRTUAL_ENV": str(folder),
            "VIRTUAL_ENV_PROMPT": "studiolo",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # What `pip freeze` lists must be there elsewhere too.
            "PIP_EXCLUDE": kernels.DISTRIBUTION,
        },
    )


def _write_commands(commands: Path, programs: Path) -> None:
    """The generation's Python scripts, under the overlay's Python: theirs would not see what has been installed."""
    if os.path.lexists(commands):
        if not files.is_folder(commands):
            raise NotADirectoryError(str(commands))
        shutil.rmtree(commands)
    commands.mkdir()
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
