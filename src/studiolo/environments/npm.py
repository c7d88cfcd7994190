"""Tools written for Node: locked by npm's package-lock.json and built with the Node that comes with Studiolo.

The generation holds `bin/node` and `node_modules`, so it runs on its own. Install scripts run for the packages that
are named in the lock as having some: these are Studiolo's own tools, chosen by it and pinned by hash.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studiolo.environments import npm_prune
from studiolo.environments.build_log import BuildLog
from studiolo.environments.inherited import inherited
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
from studiolo.environments.nodejs import Node
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput
from studiolo.process import Completed, ProgramFailed, run

_LOCK_TIMEOUT = 300.0
_BUILD_TIMEOUT = 3600.0
_PACKAGE = re.compile(r"(@[a-z0-9-~][a-z0-9-._~]*/)?[a-z0-9-~][a-z0-9-._~]*@[0-9A-Za-z.^~<>=*+|\- ]+")
_FETCH = re.compile(r"npm http fetch GET 200 \S+?\.tgz")

# What native modules are built with: a program or a pkg-config module, and the Debian package that has it.
_PROGRAMS = {"g++": "g++", "make": "make", "python3": "python3", "pkg-config": "pkg-config"}
_LIBRARIES = {
    "code-server": {
        "krb5-gssapi": "libkrb5-dev",
        "x11": "libx11-dev",
        "xkbfile": "libxkbfile-dev",
        "libsecret-1": "libsecret-1-dev",
    }
}


class NpmKind:
    """`Request.packages` are `name@version`. Recognises no folder: it is for Studiolo's own tools."""

    name = "npm"
    in_place = False
    exports: tuple[ExportFormat, ...] = ()
    unlike: tuple[str, ...] = ("build.log", "build.json")

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "npm"
        self._scratch = cache / "scratch"

    def detect(self, folder: Path) -> Detection | None:
        return None

    def inputs(self, request: Request) -> Mapping[str, str]:
        return {}

    async def lock(self, request: Request, report: Report) -> Lock:
        node = Node.shipped()
        wanted = dict(_split(package) for package in request.packages)
        report(Progress(f"resolving {', '.join(wanted)}"))
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            _write_package(folder, wanted, ())
            arguments = ("install", "--package-lock-only", "--ignore-scripts", "--omit-lockfile-registry-resolved")
            await self._npm(node, arguments, folder, _LOCK_TIMEOUT, None)
            document = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
        for entry in document["packages"].values():
            # where it was downloaded from is the machine's business; what it must be is in `integrity`
            entry.pop("resolved", None)
        document.pop("name", None)
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        return Lock(self.name, text, f"node-{node.version}", sysconfig.get_platform(), {"node": node.version})

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        node = Node.shipped()
        if lock.interpreter != f"node-{node.version}":
            raise StudioloError(
                Problem(
                    "node-version",
                    f"these tools are locked for {lock.interpreter}, and Studiolo comes with node-{node.version}",
                    "lock them again",
                )
            )
        document = json.loads(lock.text)
        packages: Mapping[str, Any] = document["packages"]
        scripted = [_name(path) for path, entry in packages.items() if path and entry.get("hasInstallScript")]
        await _check_build_tools(scripted)
        _write_package(folder, packages[""].get("dependencies", {}), scripted)
        (folder / "package-lock.json").write_text(lock.text, encoding="utf-8")
        progress = _BuildProgress(BuildLog(folder), report, len(packages) - 1)
        progress.say("downloading")
        await self._npm(node, ("ci", "--foreground-scripts", "--loglevel=http"), folder, _BUILD_TIMEOUT, progress)
        report(Progress("removing what is only needed to build"))
        await asyncio.to_thread(npm_prune.prune, folder / "node_modules")
        await asyncio.to_thread(node.install, folder)

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as cache:
            await NpmKind(Path(cache)).build(lock, folder, report, indexes)

    def activate(self, lock: Lock, folder: Path) -> Activation:
        return Activation(path=(str(folder / "bin"), str(folder / "node_modules" / ".bin")))

    async def forget(self, lock: Lock) -> None:
        """All of it lies in its folder."""

    async def close(self) -> None:
        """Nothing goes on after a build."""

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        raise StudioloError(Problem("export-unknown", f"npm tools cannot be exported as {form}"))

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        packages = json.loads(lock.text)["packages"]
        found = {(_name(path), str(entry.get("version", ""))) for path, entry in packages.items() if path}
        return tuple(Package(name, version) for name, version in sorted(found))

    async def _npm(
        self, node: Node, arguments: tuple[str, ...], folder: Path, timeout: float, progress: _BuildProgress | None
    ) -> Completed:
        """Run npm in `folder`, on the cache alone where the registry cannot be reached."""
        with node.on_path(self._scratch) as programs:
            env = inherited(
                {
                    "npm_config_cache": str(self._cache),
                    # native modules are built against this node's headers, not against another node's or a download
                    "npm_config_nodedir": str(node.root),
                    "npm_config_update_notifier": "false",
                    "JOBS": str(os.cpu_count() or 1),  # for node-gyp's make
                    "CI": "1",
                },
                # a dead network must be told apart from a slow one within seconds; the owner's own settings win
                {"npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "60000"},
            )
            env["PATH"] = f"{programs}:{env.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
            argv: list[str | Path] = [node.binary, node.npm, *arguments, "--no-audit", "--no-fund", "--prefer-offline"]
            try:
                return await run(
                    argv,
                    cwd=folder,
                    env=env,
                    timeout=timeout,
                    on_line=progress.hear if progress else None,
                    # minutes of compiling, while somebody types in a notebook already
                    background=progress is not None,
                )
            except ProgramFailed as error:
                raise _explain(error) from error


class _BuildProgress:
    """Turns npm's chatter into progress. One package's own install script may bring hundreds more packages."""

    def __init__(self, log: BuildLog, report: Report, total: int) -> None:
        self._log = log
        self._report = report
        self._total = total
        self._done = 0
        self._phase = ""

    def say(self, phase: str) -> None:
        self._phase = phase
        self._tell()

    def hear(self, line: str) -> None:
        self._log.add(line)
        if _FETCH.search(line):
            self._done += 1
            self._tell()
        elif match := re.match(r"> (\S+) (?:post)?install$", line):
            self.say(f"setting up {match[1].rsplit('@', 1)[0]}")
        elif match := re.match(r"\s*(?:CXX|SOLINK_MODULE)\(target\) \S*?([\w.-]+)$", line):
            self.say(f"compiling {match[1]}")

    def _tell(self) -> None:
        more = f", {self._done} packages" if self._done > self._total else ""
        counted = (self._done, self._total) if not more else (None, None)
        self._report(Progress(f"{self._phase}{more}", *counted))


def _split(package: str) -> tuple[str, str]:
    if not _PACKAGE.fullmatch(package):
        raise WrongInput(
            Problem("requirement-syntax", f"{package[:120]!r} is not an npm package", "write it such as name@1.2.3")
        )
    name, _, version = package.rpartition("@")
    return name, version


def _name(path: str) -> str:
    """`node_modules/a/node_modules/@b/c` is the package @b/c."""
    return path.rpartition("node_modules/")[2]


def _write_package(folder: Path, wanted: Mapping[str, str], scripted: list[str] | tuple[str, ...]) -> None:
    document = {"private": True, "dependencies": dict(wanted), "allowScripts": dict.fromkeys(sorted(scripted), True)}
    (folder / "package.json").write_text(json.dumps(document), encoding="utf-8")


async def _check_build_tools(scripted: list[str]) -> None:
    """Say beforehand what compiling will need: the failure after two minutes names none of it."""
    if not scripted:
        return
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    for name in scripted:
        for module, package in _LIBRARIES.get(name, {}).items():
            if "pkg-config" in missing or not (await run(["pkg-config", "--exists", module], check=False)).ok:
                missing.append(package)
    if missing:
        raise StudioloError(
            Problem(
                "build-tools-missing",
                f"{', '.join(scripted)} must be compiled on this machine, which lacks {', '.join(missing)}",
                f"sudo apt-get install {' '.join(missing)}",
            )
        )


def _explain(error: ProgramFailed) -> StudioloError:
    if error.completed is None:
        return error
    output = error.completed.output
    lines = [line for line in output.splitlines() if line.startswith("npm error") and "npm-cache" not in line]
    words = "; ".join(line.removeprefix("npm error").strip() for line in lines if "complete log of" not in line)[:900]
    if "ENOSPC" in output or "No space left on device" in output:
        return StudioloError(
            Problem(
                "disk-full",
                "the disk is full, so the tools cannot be built",
                "free some space, or set STUDIOLO_HOME to a larger disk",
            )
        )
    if re.search(r"npm error code (?:E404|ETARGET)", output):
        return WrongInput(Problem("package-not-found", f"there is no such npm package: {words}", "check its name"))
    network = (
        r"npm error code (?:ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENOTCACHED|E5\d\d|ERR_SOCKET_TIMEOUT)"
    )
    if re.search(network, output):
        return Unavailable(
            Problem(
                "index-unreachable",
                f"the npm registry cannot be reached: {words}",
                "check the network, or HTTPS_PROXY and npm_config_registry; then try again",
            )
        )
    return StudioloError(Problem("environment-failed", f"npm failed: {words or error.completed.last_lines}"))
