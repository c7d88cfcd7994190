"""Driving rattler, conda's engine: solving and installing in a process of its own, and its failures in our words."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from studiolo.environments.conda_file import Spec
from studiolo.environments.conda_lock import CondaPackage
from studiolo.environments.inherited import inherited
from studiolo.environments.kind import Progress, Report
from studiolo.environments.uv_failure import disk_full, quote
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput
from studiolo.process import ProgramFailed, run

_SOLVE_TIMEOUT = 900.0
_INSTALL_TIMEOUT = 3600.0
_OWNERS = re.compile(r"CONDA_CHANNEL_ALIAS|CONDA_OVERRIDE_\w+|RATTLER_AUTH_FILE")
"""The owner's settings, in conda's and rattler's words: where channels are, what the machine is taken for, log-ins."""

_NETWORK = re.compile(
    r"error sending request|dns error|tcp connect error|error (?:decoding|reading a) (?:response )?body"
    r"|Request failed after|HTTP status (?:client|server) error|operation timed out|connection (?:closed|reset)",
    re.IGNORECASE,
)
_PACKAGE = re.compile(r"failed to (?:fetch|link) (\S+?)(?:\.conda|\.tar\.bz2)?\s*$", re.MULTILINE)
_NO_CHANNEL = re.compile(r"could not find subdir '[^']*' in channel '([^']*)'")
_GONE = re.compile(r"HTTP status client error \((?:404|410)|No such file or directory")
_REFUSED = re.compile(r"HTTP status client error \((?:401|403)")


@dataclass(frozen=True)
class Solution:
    """`python_packages` are the versions of those that Python imports, by conda's name; `kernel` says why ipykernel
    could not be added, and is empty where it was or need not be."""

    platform: str
    packages: tuple[CondaPackage, ...]
    python_packages: Mapping[str, str]
    kernel: str


class Conda:
    """Rattler with a cache of Studiolo's own. `cache` is Studiolo's cache folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "conda"
        self._scratch = cache / "scratch"

    async def solve(
        self, channels: Iterable[str], specs: Iterable[Spec], previous: Iterable[CondaPackage], *, kernel: bool
    ) -> Solution:
        """What `specs` amount to on this machine, keeping `previous` where it still fits; with `kernel`, ipykernel
        beside a Python wherever that can be. Raises `StudioloError` (package-not-found, packages-conflict, ...)."""
        wanted = list(specs)
        request = {
            "operation": "solve",
            # a channel that a package is asked for from is looked at too, last
            "channels": list(dict.fromkeys([*channels, *(spec.channel for spec in wanted if spec.channel)])),
            "specs": [asdict(spec) for spec in wanted],
            "previous": [astuple(package) for package in previous],
            "kernel": kernel,
        }
        answer = await self._ask(request, _SOLVE_TIMEOUT, lambda _: None, lambda _: None)
        if "failed" in answer:
            raise explain(answer, wanted)
        try:
            packages = tuple(CondaPackage(*each) for each in answer["packages"])
        except ValueError as error:
            raise StudioloError(Problem("channel-broken", f"a channel is not in order: {error}")) from error
        return Solution(answer["platform"], packages, answer["python_packages"], _short(answer["kernel"]))

    async def install(
        self, packages: Iterable[CondaPackage], prefix: Path, report: Report, log: Callable[[str], None]
    ) -> None:
        """Download, check and link into `prefix`. Raises `StudioloError` (hash-mismatch, index-unreachable, ...)."""
        request = {
            "operation": "install",
            "packages": [astuple(package) for package in packages],
            "prefix": str(prefix),
        }
        answer = await self._ask(request, _INSTALL_TIMEOUT, report, log)
        if "failed" in answer:
            log(answer["words"])
            raise explain(answer, ())

    async def _ask(
        self, request: Mapping[str, Any], timeout: float, report: Report, log: Callable[[str], None]
    ) -> dict[str, Any]:
        def hear(line: str) -> None:
            if line.startswith('{"message": '):
                report(Progress(**json.loads(line)))
            else:
                log(line)

        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as name:
            path = Path(name) / "request"
            path.write_text(json.dumps({**request, "cache": str(self._cache)}), encoding="utf-8")
            owners = {name: value for name, value in os.environ.items() if _OWNERS.fullmatch(name)}
            try:
                await run(
                    [sys.executable, "-P", "-m", "studiolo.environments.conda_worker", path],
                    cwd=Path(name),
                    env=inherited({**owners, "NO_COLOR": "1"}),
                    timeout=timeout,
                    on_line=hear,
                )
            except ProgramFailed as error:
                if error.problem.code == "program-timeout":
                    raise _unreachable("it does not answer in time") from error
                # It answers whatever happens in it, but where it is ended from outside or has no room for the answer.
                if error.completed is not None and "No space left on device" in error.completed.output:
                    raise disk_full() from error
                raise
            answer: dict[str, Any] = json.loads(path.with_name("request.answer").read_text(encoding="utf-8"))
            return answer


def explain(answer: Mapping[str, str], specs: Iterable[Spec]) -> StudioloError:
    """What rattler's failure means, as conda_worker answered it. `specs` say who asked for what."""
    words = answer["words"]
    short = _short(words)
    if "No space left on device" in words or "os error 28" in words:
        return disk_full()
    if answer["failed"] == "spec":
        return WrongInput(
            Problem("requirement-syntax", f"not a conda package: {short}", "write it such as numpy>=2", answer["where"])
        )
    if answer["failed"] == "solve":
        return _unsolved(answer, short, list(specs))
    if channel := _NO_CHANNEL.search(words):
        return WrongInput(
            Problem(
                "channel-not-found",
                f"there is no conda channel at {channel[1]}",
                "check its name in `channels:`; the owner sets CONDA_CHANNEL_ALIAS before `studiolo up`",
            )
        )
    package = found[1] if (found := _PACKAGE.search(words)) else "a package"
    if "hash mismatch" in words:
        return StudioloError(
            Problem(
                "hash-mismatch",
                f"the file of {package} in its conda channel is not the one that was locked",
                "somebody may have tampered with it, or the lock is mistaken: lock again only if you trust the channel",
            )
        )
    if _GONE.search(words):
        return StudioloError(
            Problem(
                "package-gone",
                f"{package} is not in its conda channel any more",
                "lock again: `studiolo env update`",
            )
        )
    if _NETWORK.search(words):
        return _unreachable(short.rsplit(": ", 1)[-1], refused=bool(_REFUSED.search(words)))
    return StudioloError(Problem("environment-failed", f"conda's engine failed: {short}"))


def _unsolved(answer: Mapping[str, str], short: str, specs: list[Spec]) -> StudioloError:
    def place(name: str) -> str:
        return next((spec.where for spec in specs if re.match(rf"{re.escape(name)}(?![\w.-])", spec.text)), "")

    missing, near = answer.get("missing", ""), answer.get("near", "")
    if missing and place(missing):
        return WrongInput(
            Problem(
                "package-not-found",
                f"there is no package {missing} in these conda channels",
                f"did you mean `{near}`?" if near else "check its spelling, and that its channel is in `channels:`",
                place(missing),
            )
        )
    named = (place(word) for word in re.findall(r"[A-Za-z0-9_][\w.-]*", short))
    return WrongInput(
        Problem(
            "packages-conflict",
            f"no versions satisfy all that is asked for: {short}",
            "loosen one of these requirements",
            next((where for where in named if where), ""),
        )
    )


def _unreachable(why: str, *, refused: bool = False) -> Unavailable:
    return Unavailable(
        Problem(
            "index-unreachable",
            f"the conda channel cannot be reached: {why}",
            "the owner of this machine keeps log-ins in the file that RATTLER_AUTH_FILE names"
            if refused
            else "check the network, or HTTPS_PROXY and CONDA_CHANNEL_ALIAS; then try again",
        )
    )


def _short(words: str) -> str:
    """Rattler's explanation on one line, without the branches of its tree."""
    bare = re.sub(r"^[\s│├└─╰]+", "", words, flags=re.MULTILINE)
    bare = bare.replace("Cannot solve the request because of: ", "").replace("Caused by: ", "")
    return quote(bare)
