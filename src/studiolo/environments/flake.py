"""Environments that a repository's flake.nix describes, locked and built by Nix.

The lock holds flake.lock and the name of one derivation. A derivation's name is a hash over all that goes into it, down
to the sources, so the same lock always means the same result, and a change elsewhere in the repository does not make
another. Evaluating the flake has put the derivation and all it needs into the Nix store; building begins there and
needs neither the repository nor a copy of it. `flake.lock` in the repository is never written.

A generation holds a real Nix profile, `profile`, and the variables of its development shell. It is built in its place,
because Nix remembers by their path what garbage collection has to leave alone; once the generation is removed, the
next garbage collection takes what only it used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from studiolo.environments import flake_contents, flake_shell, flake_source
from studiolo.environments.build_log import BuildLog
from studiolo.environments.flake_program import STORE, Nix, explain, find, system, terminal_settings
from studiolo.environments.flake_source import FLAKE, LOCK, Flake
from studiolo.environments.kind import (
    Activation,
    Detection,
    ExportFormat,
    Index,
    Lock,
    Package,
    Progress,
    Report,
    Request,
)
from studiolo.environments.repository_file import read_text
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.process import ProgramFailed, run

_PROFILE = "profile"
_DERIVATION = "derivation"
_ENVIRONMENT = "environment.json"
_NO_INPUTS: Mapping[str, Any] = {"nodes": {"root": {}}, "root": "root", "version": 7}
_KERNEL_TIMEOUT = 60.0
_SYSTEM_PROGRAMS = ("/usr/local/bin", "/usr/bin", "/bin")


class FlakeKind:
    """`cache` is Studiolo's cache folder."""

    name = "flake"
    in_place = True
    exports: tuple[ExportFormat, ...] = ("flake",)
    unlike: tuple[str, ...] = ("build.log", "build.json")

    def __init__(self, cache: Path) -> None:
        self._nix = Nix(cache)
        self._kept = cache / "scratch"

    def detect(self, folder: Path) -> Detection | None:
        file = flake_source.declared_by(folder)
        if file is None:
            return None
        says = ".envrc says `use flake` (direnv)" if file == flake_source.ENVRC else f"{file} found"
        return Detection(self.name, says, file)

    def inputs(self, request: Request) -> Mapping[str, str]:
        return flake_source.digests(flake_source.locate(request))

    async def lock(self, request: Request, report: Report) -> Lock:
        if request.packages or request.python or request.indexes:
            raise WrongInput(
                Problem(
                    "flake-packages",
                    "a flake says by itself which packages",
                    f"put them into {FLAKE}, or use another kind",
                    "environment",
                )
            )
        find()
        flake = flake_source.locate(request)
        with self._nix.scratch() as scratch:
            source = scratch / "source"
            source.mkdir()
            report(Progress(f"reading {flake.file}"))
            await flake_source.copy(flake, source)
            try:
                return await self._lock(flake, source, request, report)
            except ProgramFailed as error:
                raise explain(error, source) from error

    async def _lock(self, flake: Flake, source: Path, request: Request, report: Report) -> Lock:
        nix = self._nix
        place = source / flake.inside
        locked = place / LOCK
        if not locked.exists() and request.previous is not None and request.previous.kind == self.name:
            _write_lock(locked, json.loads(request.previous.text)["flake.lock"])
        fresh = []
        if request.upgrade is not None:
            _forget(locked, request.upgrade.packages)
            fresh = ["--refresh"]  # what was downloaded an hour ago is not the newest
        _refuse_local_inputs(_read_lock(locked))
        # for Nix the copy is a repository of its own, in which flakes may lie in any folder
        await run(["git", "-c", "init.defaultBranch=master", "init", "--quiet"], cwd=source, env=_git())
        await run(["git", "add", "--force", "--all", "--intent-to-add"], cwd=source, env=_git())
        reference = f"git+{source.as_uri()}" + (f"?dir={quote(flake.inside)}" if flake.inside else "")
        report(Progress("locking the flake's inputs"))
        await nix.evaluate(["flake", "lock", *fresh, reference], cwd=source)
        document = _read_lock(locked)
        _refuse_local_inputs(document)
        report(Progress("evaluating the flake"))
        attribute, found = await self._evaluate(flake, reference, source)
        kept = self._kept / f"flake-{hashlib.sha256(found.derivation.encode()).hexdigest()[:16]}"
        # until it is built; what lies in this folder goes after a week
        await asyncio.to_thread(kept.mkdir, parents=True, exist_ok=True)
        os.utime(kept)
        await nix.keep(found.derivation, kept / _DERIVATION)
        text = {
            "attribute": attribute,
            "derivation": found.derivation,
            "output": found.output,
            "packages": [dict(each) for each in found.packages],
            "flake.lock": document,
        }
        facts = {"source": flake.file, FLAKE: read_text(source, place / FLAKE)}
        python = next((each["version"] for each in found.packages if each["name"] == "python3"), "")
        rendered = json.dumps(text, indent=1, sort_keys=True) + "\n"
        return Lock(self.name, rendered, python, sysconfig.get_platform(), facts)

    async def _evaluate(self, flake: Flake, reference: str, cwd: Path) -> tuple[str, flake_contents.Contents]:
        """The first attribute that is there, as `nix develop` and then `nix build` look for it."""
        here, name = system(), flake.attribute
        wanted = (
            [f"devShells.{here}.{name}", f"packages.{here}.{name}", name]
            if name
            else [f"devShells.{here}.default", f"devShell.{here}", f"packages.{here}.default", f"defaultPackage.{here}"]
        )
        for attribute in wanted:
            arguments = ["eval", "--json", "--no-update-lock-file", f"{reference}#{attribute}"]
            try:
                completed = await self._nix.evaluate([*arguments, "--apply", flake_contents.QUESTION], cwd=cwd)
            except ProgramFailed as error:
                if error.completed is not None and "does not provide attribute" in error.completed.output:
                    continue
                raise
            if (found := flake_contents.parse(completed.output, _is_shell(attribute))) is not None:
                return attribute, found
            raise WrongInput(
                Problem("flake-attribute", f"{attribute} is no derivation", f"make it one in {FLAKE}", flake.where)
            )
        raise WrongInput(
            Problem(
                "flake-attribute",
                f"the flake has none of {', '.join(wanted)}",
                f"add devShells.{here}.{name or 'default'} to {FLAKE}",
                flake.where,
            )
        )

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        wanted = json.loads(lock.text)
        await self._nix.keep(wanted["derivation"], folder / _DERIVATION)
        BuildLog(folder).add(f"{wanted['attribute']}: {wanted['derivation']}")
        derivation, profile = STORE / wanted["derivation"], folder / _PROFILE
        if _is_shell(wanted["attribute"]):
            await self._nix.build(["print-dev-env", "--profile", profile, derivation], cwd=folder, report=report)
            document = await self._nix.read(["print-dev-env", "--json", profile], cwd=folder)
        else:
            await self._nix.build(["build", "--no-link", derivation], cwd=folder, report=report)
            output = STORE / wanted["output"]
            await self._nix.build(["build", "--no-link", "--profile", profile, output], cwd=folder, report=report)
            document = None
        await _write_environment(folder, document)

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        """All that was built on this machine, and not downloaded, is built again and compared by Nix; what was
        downloaded is what its signature says."""
        await self.build(lock, folder, report)
        profile = (folder / _PROFILE).resolve()
        rows = await self._nix.read(["path-info", "--recursive", "--json", folder / _PROFILE], cwd=folder)
        listed = rows if isinstance(rows, list) else [{"path": path, **row} for path, row in rows.items()]
        built = {
            row["path"]: row["deriver"]
            for row in listed
            if row.get("ultimate") and not row.get("ca") and row.get("deriver") and Path(row["deriver"]).exists()
        }
        shell = built.pop(str(profile), None) if _is_shell(json.loads(lock.text)["attribute"]) else None
        if built:
            again = sorted(set(built.values()))
            await self._nix.build(["build", "--no-link", *again], cwd=folder, report=report)
            await self._nix.build(["build", "--no-link", "--rebuild", *again], cwd=folder, report=report)
        if shell is not None:
            await self._rebuild_shell(shell, profile, folder, report)

    async def _rebuild_shell(self, deriver: str, output: Path, folder: Path, report: Report) -> None:
        """The variables of a shell, made again. Nix notes the time among them, so two makings are never alike to it;
        what a workspace takes over of them is."""
        other = output.with_name(f"{output.name}.check")
        try:
            # makes Nix keep what differs, at `other`; which program looks at it stays unset
            again = ["build", "--no-link", "--rebuild", "--option", "run-diff-hook", "true", deriver]
            await self._nix.build(again, cwd=folder, report=report)
        except StudioloError as error:
            if error.problem.code != "not-reproducible":
                raise
            if not other.is_file():  # a daemon takes that option only from those it trusts
                BuildLog(folder).add("the variables of the shell could not be compared")
                return
            await _write_environment(folder, json.loads(other.read_text(encoding="utf-8")))
        finally:
            with contextlib.suppress(OSError):
                other.unlink()

    def activate(self, lock: Lock, folder: Path) -> Activation:
        environment = json.loads((folder / _ENVIRONMENT).read_text(encoding="utf-8"))
        path = [str(folder / part) for part in environment["path"]]
        with contextlib.suppress(StudioloError):
            programs = str(find().parent)
            if programs not in _SYSTEM_PROGRAMS:
                path.append(programs)
        interpreter = environment["interpreter"]
        return Activation(
            path=tuple(path),
            env={"NIX_CONFIG": terminal_settings(), **environment["variables"]},
            interpreter=str(folder / interpreter) if interpreter else None,
        )

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        return flake_contents.packages(json.loads(lock.text)["packages"])

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        document = json.loads(lock.text)["flake.lock"]
        return {FLAKE: lock.facts[FLAKE], LOCK: json.dumps(document, indent=2, sort_keys=True) + "\n"}

    async def forget(self, lock: Lock) -> None:
        """All of it lies in its folder."""

    async def close(self) -> None:
        """Nothing goes on after a build."""


def _is_shell(attribute: str) -> bool:
    return attribute.startswith("devShell")


def _git() -> Mapping[str, str]:
    """Nobody's own settings: they may name filters and hooks."""
    return {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def _read_lock(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return _NO_INPUTS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["nodes"][document["root"]], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WrongInput(
            Problem("lock-unreadable", f"{LOCK} is none", "`nix flake lock` writes it anew", LOCK)
        ) from error
    return dict(document)


def _write_lock(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _forget(path: Path, names: Sequence[str]) -> None:
    """Take these inputs (none: all) out of flake.lock, so that Nix looks for their newest."""
    document = json.loads(json.dumps(_read_lock(path)))
    root = document["nodes"][document["root"]]
    inputs = root.get("inputs", {})
    if unknown := [name for name in names if name not in inputs]:
        raise WrongInput(
            Problem(
                "package-not-found",
                f"the flake has no input {', '.join(unknown)}",
                f"its inputs are {', '.join(sorted(inputs))}" if inputs else "it has none at all",
            )
        )
    root["inputs"] = {name: node for name, node in inputs.items() if names and name not in names}
    _write_lock(path, document)


def _refuse_local_inputs(document: Mapping[str, Any]) -> None:
    """Whoever wrote the flake could have any file of this machine put into the store, which everybody can read."""
    for name, node in document["nodes"].items():
        for reference in (node.get("original", {}), node.get("locked", {})):
            place = str(reference.get("path", "") if reference.get("type") == "path" else reference.get("url", ""))
            if place.startswith(("/", "file:")) and not place.startswith(f"{STORE}/"):
                raise WrongInput(
                    Problem(
                        "flake-input-local",
                        f"the input {name} is {place[:200]}, a place on one machine",
                        f"keep it in the repository (path:./{name}), or name its Git address",
                        FLAKE,
                    )
                )


async def _write_environment(folder: Path, document: Mapping[str, Any] | None) -> None:
    """What `activate` needs; `document` describes the development shell, None where the profile is all."""
    if document is None:
        shell = flake_shell.Shell((f"{_PROFILE}/bin",), {})
    else:
        shell = flake_shell.read(document)
        if shell.hook:
            BuildLog(folder).add("the shellHook is not run; `nix develop` in a terminal runs it")
    python = next((at for part in shell.path if (folder / (at := f"{part}/python3")).exists()), None)
    if python is not None and not await _has_kernel(folder, python, shell):
        BuildLog(folder).add(f"{python} cannot import ipykernel, so notebooks do not run on it")
        python = None
    environment = {"path": shell.path, "variables": shell.variables, "interpreter": python}
    (folder / _ENVIRONMENT).write_text(json.dumps(environment, indent=1, sort_keys=True) + "\n", encoding="utf-8")


async def _has_kernel(folder: Path, python: str, shell: flake_shell.Shell) -> bool:
    path = ":".join([*(str(folder / part) for part in shell.path), *_SYSTEM_PROGRAMS])
    # compiled modules have no place in the store
    env = {**shell.variables, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        tried = await run(
            [folder / python, "-c", "import ipykernel"], cwd=folder, env=env, timeout=_KERNEL_TIMEOUT, check=False
        )
    except ProgramFailed:
        return False
    return tried.ok
