"""Driving Nix: one way to run it, and its failures in our words."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from studiolo.environments.build_log import BuildLog
from studiolo.environments.flake_progress import BuildProgress, store_name
from studiolo.environments.flake_source import FLAKE
from studiolo.environments.inherited import inherited
from studiolo.environments.kind import Report
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput
from studiolo.process import Completed, ProgramFailed, run

STORE = Path("/nix/store")

_EVALUATE_TIMEOUT = 900.0
_BUILD_TIMEOUT = 4 * 3600.0
_QUOTE = 900
"""Characters of a program's explanation that are shown: it can be pages long."""

_PLACES = ("/nix/var/nix/profiles/default/bin", "/run/current-system/sw/bin", "~/.nix-profile/bin")
_DERIVATION = re.compile(r"(?:[0-9a-df-np-sv-z]{32})-[0-9A-Za-z+._?=-]+\.drv")

_DENIED = re.compile(
    r"/nix\b[^\n]*: (?:Permission denied|Read-only file system|Operation not permitted)"
    r"|cannot connect to (?:socket|daemon)[^\n]*"
)
_FULL = re.compile(r"No space left on device|database or disk is full")
_FAILED_BUILD = re.compile(
    r"(?:[Bb]uilder for|[Cc]annot build|hash mismatch in fixed-output derivation|required to build) '([^']+)'"
)
_UNREACHABLE = re.compile(
    r"unable to download|program 'git' failed|Could not resolve host|unable to access '|Failed to open archive"
    r"|[Cc]onnection (?:refused|timed out)|Couldn't connect"
)
_GONE = re.compile(r"HTTP error 40[0-9]")
_PLACE = re.compile(r"/nix/store/[0-9a-z]{32}-source/([^\n:]+):(\d+):(\d+)")


class Nix:
    """Nix with a cache of Studiolo's own for what it evaluates. `cache` is Studiolo's cache folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "nix"
        self._scratch = cache / "scratch"

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder that is gone afterwards. Nix 2.8 takes no local repository whose path has other characters
        than these: then it lies with the system's temporary files."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        place = self._scratch if re.fullmatch(r"[\w/.+-]+", str(self._scratch), re.ASCII) else None
        with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as name:
            yield Path(name)

    async def evaluate(self, arguments: Sequence[str | Path], *, cwd: Path, json_only: bool = False) -> Completed:
        """Run `nix` to read a flake or the store. Raises `ProgramFailed`."""
        return await self._run(
            "nix", arguments, cwd=cwd, timeout=_EVALUATE_TIMEOUT, on_line=None, stdout_only=json_only
        )

    async def read(self, arguments: Sequence[str | Path], *, cwd: Path) -> Any:
        """What `nix` answers as JSON."""
        return json.loads((await self.evaluate(arguments, cwd=cwd, json_only=True)).output)

    async def build(self, arguments: Sequence[str | Path], *, cwd: Path, report: Report) -> None:
        """Run `nix` to build, telling of its progress, with its log in `cwd`. Raises `StudioloError`."""
        progress = BuildProgress(BuildLog(cwd), report)
        command, *rest = arguments
        try:
            await self._run(
                "nix",
                [command, "--log-format", "internal-json", *rest],
                cwd=cwd,
                timeout=_BUILD_TIMEOUT,
                on_line=progress.hear,
            )
        except ProgramFailed as error:
            raise explain(error, progress=progress) from error

    async def keep(self, derivation: str, link: Path) -> None:
        """Make `link` a link to this derivation (a name in the store), which garbage collection then leaves alone."""
        path = STORE / derivation
        if not _DERIVATION.fullmatch(derivation) or not path.exists():
            raise StudioloError(
                Problem(
                    "derivation-missing",
                    f"what was locked, {store_name(f'/{derivation}')}, is no longer in the Nix store",
                    "lock it again: `studiolo env update`",
                )
            )
        # a value that has been evaluated already: only nix-instantiate can root a derivation without building it
        value = f'{{ type = "derivation"; name = "kept"; outputName = "out"; outPath = ""; drvPath = "{path}"; }}'
        try:
            await self._run(
                "nix-instantiate",
                ["--add-root", link, "--expr", value],
                cwd=link.parent,
                timeout=_EVALUATE_TIMEOUT,
                on_line=None,
            )
        except ProgramFailed as error:
            raise explain(error) from error

    async def _run(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        timeout: float,
        on_line: Callable[[str], None] | None,
        stdout_only: bool = False,
    ) -> Completed:
        extra = {
            **{name: value for name, value in os.environ.items() if name.startswith("NIX_") and name != "NIX_PATH"},
            "NIX_CONFIG": "\n".join([*_settings(), os.environ.get("NIX_CONFIG", "")]),
            "XDG_CACHE_HOME": str(self._cache),
            "NO_COLOR": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        }
        return await run(
            [find().with_name(program), *arguments],
            cwd=cwd,
            env=inherited(extra),
            timeout=timeout,
            on_line=on_line,
            stdout_only=stdout_only,
        )


def find() -> Path:
    """The `nix` program. Raises `StudioloError` where there is none."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *(str(Path(each).expanduser()) for each in _PLACES)])
    found = shutil.which("nix", path=places)
    if found is None:
        raise StudioloError(
            Problem(
                "nix-missing",
                "this environment is a flake, which the program `nix` builds, and it is not installed",
                "sudo apt-get install nix-bin",
            )
        )
    return Path(found)


def system() -> str:
    """This machine, in Nix's words: x86_64-linux."""
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    return f"{machine}-{sys.platform}"


def terminal_settings() -> str:
    """NIX_CONFIG with which `nix build` and `nix develop` work without options."""
    return "\n".join(_needed())


def _settings() -> list[str]:
    # a dead network must be told apart from a slow one within seconds
    return [*_needed(), "connect-timeout = 5", "warn-dirty = false", "allow-dirty = true"]


def _needed() -> list[str]:
    needed = ["extra-experimental-features = nix-command flakes"]
    if os.getuid() == 0 and not _build_users():
        # root without a daemon and without the users that an installer makes, as in containers
        needed.append("build-users-group =")
    return needed


def _build_users() -> list[str]:
    try:
        return grp.getgrnam("nixbld").gr_mem
    except KeyError:
        return []


def explain(error: ProgramFailed, source: Path | None = None, progress: BuildProgress | None = None) -> StudioloError:
    """What Nix's failure means. `source` is the copied repository, for the place in a file."""
    if error.completed is None:
        return error
    output = progress.said if progress is not None else error.completed.output
    if error.problem.code == "program-timeout":
        return Unavailable(Problem("flake-timeout", error.problem.message, "try again"))
    if _FULL.search(output) or (progress and (failed := _FAILED_BUILD.search(output)) and _full(progress, failed[1])):
        return StudioloError(
            Problem(
                "disk-full",
                "the disk is full, so the environment cannot be built",
                "free some space; `nix-collect-garbage` frees what no environment uses any more",
            )
        )
    if denied := _DENIED.search(output):
        return StudioloError(
            Problem(
                "nix-store-denied",
                f"Nix may not write to its store here, and no Nix daemon answers: {denied[0]}",
                "have the daemon started (`sudo systemctl start nix-daemon`) and be allowed to use it "
                "(`sudo usermod --append --groups nix-users $USER`)",
            )
        )
    if failed := _FAILED_BUILD.search(output):
        name = store_name(failed[1])
        tail = progress.tail(name) if progress else ""
        words = _quote(output[: output.find("\n", failed.end())] if "\n" in output[failed.end() :] else output)
        return StudioloError(
            Problem(
                "package-build-failed",
                f"{name} cannot be built: {words}" + (f"\n{tail}" if tail else ""),
                f"`nix log {failed[1]}` in a terminal shows all of it" if tail else "",
            )
        )
    if "may not be deterministic" in output:
        return StudioloError(
            Problem("not-reproducible", f"it does not come out the same when built again: {_quote(output)}", "")
        )
    if _UNREACHABLE.search(output):
        if _GONE.search(output):
            return WrongInput(
                Problem(
                    "flake-input-missing",
                    f"an input of the flake is not there: {_quote(output)}",
                    f"check its address in {FLAKE}",
                )
            )
        return Unavailable(
            Problem(
                "flake-input-unreachable",
                f"an input of the flake cannot be fetched: {_quote(output)}",
                "check the network, or HTTPS_PROXY; then try again",
            )
        )
    return WrongInput(Problem("flake-evaluation", _quote(output), "", _place(output, source)))


def _full(progress: BuildProgress, derivation: str) -> bool:
    return _FULL.search(progress.tail(store_name(derivation))) is not None


def _place(output: str, source: Path | None) -> str:
    """Where in the repository Nix met it: the place next to the last error, else the last one that leads there."""
    own = [found for found in _PLACE.finditer(output) if source is not None and (source / found[1]).is_file()]
    if not own:
        return ""
    last = output.rfind("error:")
    found = next((each for each in own if each.start() > last), own[-1])
    return f"{found[1]}:{found[2]}:{found[3]}"


def _quote(output: str) -> str:
    """Nix's explanation without the lines of code it shows, at most as long as a person reads."""
    text = output[output.rfind("error:") :].removeprefix("error:") if "error:" in output else output
    if "fatal:" in output and "program 'git' failed" in text:
        text = output[output.rfind("fatal:") :].splitlines()[0].removeprefix("fatal:")
    text = re.sub(r"/nix/store/[0-9a-z]{32}-source/", "", text)
    text = re.sub(r"/nix/store/[0-9a-z]{32}-", "", text)
    lines = [line.strip() for line in text.splitlines()]
    kept = [
        line for line in lines if line and not re.match(r"\d*\||at .*:\d+:$|\(use '--show-trace'|last \d+ log|>", line)
    ]
    words = re.sub(r"\s+", " ", " ".join(kept)).strip().rstrip(".;:")
    return words if len(words) <= _QUOTE else words[: _QUOTE // 2] + " … " + words[-_QUOTE // 2 :]
