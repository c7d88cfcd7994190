"""`env detect`, `env init`, `env import`: what a folder's own files declare. No Studiolo has to run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studiolo.cli.options import Json, Yes, examples
from studiolo.cli.output import confirm, note, print_fields, print_json, print_table
from studiolo.problem import Problem, WrongInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studiolo.control.declaration import Devcontainer
    from studiolo.spec.document import Environment

commands = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="[PATH]", help="The repository; default: this folder.")]
_HERE = Path()
_NEEDS_CONTAINERS = "only a backend that runs containers can start it; workspaces of this machine are processes"


@commands.command(epilog=examples("studiolo env detect", "studiolo env detect ~/analysis --json"))
def detect(
    path: Folder = _HERE,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", metavar="NAME=VALUE", help="A parameter of studiolo.yaml.")
    ] = None,
    json: Json = False,
) -> None:
    """Say which environment a folder declares and why, and what else was found."""
    from studiolo.control import declaration

    folder = _folder(path)
    found = declaration.detect(folder, _asked(folder, param or []))
    if json:
        print_json(found)
        return
    print_fields([("kind", found.kind or "not known"), ("file", found.file), ("because", found.reason)])
    if found.passed:
        print()
        print_table(("ALSO FOUND", "KIND", "NOT CHOSEN"), ((each.file, each.kind, each.why) for each in found.passed))
    if not found.runnable:
        note(f"an environment of kind {found.kind}: {_NEEDS_CONTAINERS}")


def _asked(folder: Path, pairs: list[str]) -> Environment | str:
    """What the folder's studiolo.yaml says of the environment."""
    from studiolo.cli.run import FILE, load, params
    from studiolo.spec.document import Environment

    file = folder / FILE
    return load(file, params(pairs)).document.environment if file.is_file() else Environment()


@commands.command(
    epilog=examples(
        "studiolo env init --flake", "studiolo env init --flake --cpp", "studiolo env init --flake ~/analysis --yes"
    )
)
def init(
    path: Folder = _HERE,
    flake: Annotated[bool, typer.Option("--flake", help="Write flake.nix, and .envrc for direnv.")] = False,
    cpp: Annotated[bool, typer.Option("--cpp", help="For C++, not for Python.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Give a repository a declaration of its own: a small, readable flake. Asks before it overwrites anything."""
    from studiolo.control import declaration

    if not flake:
        raise WrongInput(Problem("wrong-usage", "it has not been said what to write", "studiolo env init --flake"))
    folder = _folder(path).resolve()
    files = declaration.flake(folder.name, cpp=cpp)
    written = _write(folder, files, yes=yes)
    if json:
        print_json({"folder": str(folder), "written": written})
        return
    for name in files:
        print(f"{folder / name}" if name in written else f"{folder / name} is so already")
    note("next:")
    if any((each / ".git").exists() for each in (folder, *folder.parents)):
        note(f"  git add {' '.join(files)}    Nix sees only what Git tracks")
    note("  studiolo run" if path == _HERE else f"  studiolo run {path}")


def _write(folder: Path, files: Mapping[str, str], *, yes: bool) -> list[str]:
    """Write what is not so already, after asking for what would be overwritten; the names of what was written."""
    there = {name: _text(folder / name) for name in files if (folder / name).exists() or (folder / name).is_symlink()}
    differing = [name for name, text in there.items() if text != files[name]]
    if differing:
        confirm(f"Overwrite {' and '.join(differing)} in {folder}?", yes=yes)
    wanted = [name for name in files if name not in there or name in differing]
    for name in wanted:
        _put(folder / name, files[name])
    return wanted


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8") if file.is_file() and not file.is_symlink() else None
    except (OSError, UnicodeDecodeError):
        return None


def _put(file: Path, text: str) -> None:
    """Atomically, and in place of a link rather than through it. Raises `WrongInput` where it cannot be written."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("x", encoding="utf-8") as opened:
            opened.write(text)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise WrongInput(Problem("not-written", f"{file} cannot be written: {error.strerror}")) from None


@commands.command(
    "import",
    epilog=examples(
        "studiolo env import",
        "studiolo env import -o studiolo.yaml",
        "studiolo env import .devcontainer/gpu/devcontainer.json --json",
    ),
)
def import_(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="The repository, or a devcontainer.json; default: this folder.")
    ] = _HERE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; default: print it.")
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Turn a devcontainer.json into a studiolo.yaml. What cannot be honoured is listed, each with its place."""
    from studiolo.control import declaration
    from studiolo.spec.writing import as_yaml

    found = declaration.devcontainer_at(path) if path.is_file() else declaration.required(_folder(path))
    text = as_yaml(found.imported.document, _heading(found))
    if output is not None:
        _write(output.absolute().parent, {output.name: text}, yes=yes)
    if json:
        print_json(_as_data(found))
        return
    print(text if output is None else f"{output}\n", end="")
    for problem in found.imported.unhonoured:
        note(f"not honoured: {problem}")
    if _is_image(found):
        note(f"its environment is an image: {_NEEDS_CONTAINERS}; leave `environment` out to have it detected")


def _heading(found: Devcontainer) -> list[str]:
    lines = [f"Made from {found.file} by `studiolo env import`."]
    if found.imported.unhonoured:
        places = (f"{found.file}{each.where.removeprefix(found.shown)}" for each in found.imported.unhonoured)
        listed = (replace(each, where=at) for each, at in zip(found.imported.unhonoured, places, strict=True))
        lines += ["", "Not honoured:", *(f"- {each}" for each in listed)]
    if _is_image(found):
        lines += ["", f"The environment is an image: {_NEEDS_CONTAINERS}.", "Left out, it is detected."]
    return lines


def _is_image(found: Devcontainer) -> bool:
    return "environment" in found.imported.document


def _as_data(found: Devcontainer) -> dict[str, Any]:
    imported = found.imported
    return {
        "file": found.file,
        "document": imported.document,
        "image": imported.image,
        "build": imported.build,
        "features": imported.features,
        "unhonoured": imported.unhonoured,
    }


def _folder(path: Path) -> Path:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise WrongInput(Problem("no-folder", f"{path} {what}", "name the folder of a repository"))
    return path
