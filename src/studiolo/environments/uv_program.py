"""Driving uv: one way to run it, and its failures in our words."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from uv import find_uv_bin

from studiolo.environments.inherited import inherited
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput
from studiolo.process import Completed, ProgramFailed, run

_NETWORK = re.compile(
    r"error sending request|dns error|Connection refused|operation timed out"
    r"|Could not connect|Network connectivity is disabled|network was disabled|HTTP status (?:client|server) error",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"(?:Because|and) (\S+) was not found in the (?:package registry|cache|provided package locations)"
)
_BUILD = re.compile(r"Failed to (?:build|download and build) [`']?([^\s`']+)")
_HASH = re.compile(r"Hash mismatch for [`']?([^\s`']+)")
_QUOTE = 900
"""Characters of a program's explanation that are shown: it can be pages long."""

# A dead network must be told apart from a slow one within seconds; the owner's own settings win.
_PATIENCE = {"UV_HTTP_RETRIES": "2", "UV_HTTP_CONNECT_TIMEOUT": "5"}


class Uv:
    """uv with a cache of Studiolo's own, deaf to the folder it runs in. `cache` is Studiolo's cache folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "uv"
        self._scratch = cache / "scratch"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder that is gone afterwards."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            # uv looks upwards for settings; the first it finds is this: none but the owner's
            (folder / "uv.toml").touch()
            yield folder

    async def run(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> Completed:
        """Run uv. Raises `ProgramFailed` as `process.run` does."""
        extra = {"UV_CACHE_DIR": str(self._cache), "UV_NO_PROGRESS": "1", "NO_COLOR": "1", **(env or {})}
        if path is not None:
            extra["PATH"] = path
        return await run(
            [find_uv_bin(), *arguments],
            cwd=cwd,
            env=inherited(extra, _PATIENCE),
            timeout=timeout,
            on_line=on_line,
        )

    async def run_with_cache(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        unreachable: Callable[[], None],
    ) -> Completed:
        """Like `run`; where the index cannot be reached, tells `unreachable` and uses what was downloaded before."""
        try:
            return await self.run(arguments, cwd=cwd, timeout=timeout, on_line=on_line)
        except ProgramFailed as error:
            if error.completed is None or not _NETWORK.search(error.completed.output):
                raise
            first = error
        unreachable()
        try:
            return await self.run([*arguments, "--offline"], cwd=cwd, timeout=timeout, on_line=on_line)
        except ProgramFailed as again:
            if again.completed is not None and "No space left" in again.completed.output:
                raise
            raise first from again


def explain(error: ProgramFailed, where: Mapping[str, str]) -> StudioloError:
    """What uv's failure means. `where` says for each package's name who asked for it."""
    if error.completed is None:
        return error
    output = error.completed.output
    words = quote(output)
    if "No space left on device" in output or "os error 28" in output:
        return disk_full()
    if (missing := _MISSING.search(output)) is not None:
        name = missing[1]
        return WrongInput(
            Problem(
                "package-not-found",
                f"there is no package {name} in the package index",
                "check its spelling; a private package needs its index: UV_INDEX set before `studiolo up`",
                where.get(name, ""),
            )
        )
    if (changed := _HASH.search(output)) is not None:
        return StudioloError(
            Problem(
                "hash-mismatch",
                f"the files of {changed[1]} in the package index are not those that were locked",
                "somebody may have tampered with them, or the lock is mistaken: lock again only if you trust the index",
            )
        )
    if _NETWORK.search(output) or error.problem.code == "program-timeout":
        return Unavailable(
            Problem(
                "index-unreachable",
                f"the package index cannot be reached: {_last_cause(words)}",
                "check the network, or HTTPS_PROXY and UV_DEFAULT_INDEX; then try again",
            )
        )
    if "No solution found" in output:
        return WrongInput(
            Problem(
                "packages-conflict",
                f"no versions satisfy all that is asked for: {words}",
                "loosen one of these requirements",
                next((place for name, place in where.items() if re.search(rf"\b{re.escape(name)}\b", words)), ""),
            )
        )
    if (broken := _BUILD.search(output)) is not None:
        return StudioloError(
            Problem(
                "package-build-failed",
                f"{broken[1].rstrip('`')} has no ready-made files for this machine and cannot be built here: {words}",
                "install what its build asks for, or choose another version",
            )
        )
    return StudioloError(Problem("environment-failed", f"uv failed: {words}", ""))


def disk_full() -> StudioloError:
    return StudioloError(
        Problem(
            "disk-full",
            "the disk is full, so the environment cannot be built",
            "free some space, or set STUDIOLO_HOME to a larger disk",
        )
    )


def quote(output: str) -> str:
    """uv's explanation on one line, without its markings, at most as long as a person reads."""
    found = output[output.find("error:") :] if "error:" in output else output
    lines = [re.sub(r"^(?:error|cause|hint):\s*", "", line.strip(" \t│├╰─▶×")) for line in found.splitlines()]
    words = ": ".join(
        re.sub(r"\s+", " ", line).rstrip(".:") for line in lines if line and "No solution found" not in line
    )
    return words if len(words) <= _QUOTE else words[: _QUOTE // 2] + " … " + words[-_QUOTE // 2 :]


def _last_cause(words: str) -> str:
    return words.rsplit(": ", 1)[-1] if words else "no answer"
