"""What uv's failures mean, in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from studiolo.environments import package_index
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput
from studiolo.process import ProgramFailed

_NETWORK = re.compile(
    r"error sending request|dns error|Connection refused|operation timed out"
    r"|Could not connect|Network connectivity is disabled|network was disabled|HTTP status (?:client|server) error"
    r"|due to network timeout|error decoding response body|connection closed|Failed to read from zip file",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"(?:Because|and) (\S+) was not found in the (?:package registry|cache|provided package locations)"
)
_DOWNLOAD = re.compile(r"Failed to (?:download|fetch)(?: distribution)?:? `([^`/\s]+)`")
_BUILD = re.compile(r"Failed to (?:build|download and build) [`']?([^\s`']+)")
_BACKEND = "build backend returned an error"
_LOGIN = re.compile(
    r"An index(?: URL)? \((\S+)\) (?:could not be queried due to a lack of valid auth|returned a 403)"
    r"|HTTP status client error \(40[13][^)]*\) for url \((\S+)\)"
)
_PARTIAL = re.compile(r"The structure of `(\S+)` \(v(\S+)\) was invalid")
_LATER_INDEX = re.compile(r"`(\S+)` was found on (\S+), but not at the requested version")
_HASH = re.compile(r"Hash mismatch for [`']?([^\s`']+)")
_QUOTE = 900
"""Characters of a program's explanation that are shown: it can be pages long."""


def is_network(output: str) -> bool:
    """Whether uv failed because something could not be fetched."""
    return _NETWORK.search(output) is not None


def is_disk_full(output: str) -> bool:
    """Whether uv could not write something for lack of space."""
    return "No space left on device" in output or "os error 28" in output


def is_login(output: str) -> bool:
    """Whether an index has refused whom it does not know."""
    return _LOGIN.search(output) is not None


def explain(error: ProgramFailed, where: Mapping[str, str]) -> StudioloError:
    """What uv's failure means. `where` says for each package's name who asked for it."""
    if error.completed is None:
        return error
    output = error.completed.output
    words = quote(output)
    if is_disk_full(output):
        return disk_full()
    if (denied := _LOGIN.search(output)) is not None:
        return login_wanted(denied[1] or denied[2])
    if (changed := _HASH.search(output)) is not None:
        return StudioloError(
            Problem(
                "hash-mismatch",
                f"the files of {changed[1]} in the package index are not those that were locked",
                "somebody may have tampered with them, or the lock is mistaken: lock again only if you trust the index",
            )
        )
    broken = _BUILD.search(output)
    if broken is not None and _BACKEND in output:  # what it printed is its own, whatever it reads like
        return _unbuildable(broken[1], words, where)
    if (partial := _PARTIAL.search(output)) is not None:
        return _unreachable(f"the file of {partial[1]} {partial[2]} did not arrive whole from the package index")
    if is_network(output) or error.problem.code == "program-timeout":
        failed = _DOWNLOAD.search(output)
        while_ = f" while {failed[1]} was being downloaded" if failed else ""
        return _unreachable(f"the package index cannot be reached{while_}: {_last_cause(words)}")
    if broken is not None:
        return _unbuildable(broken[1], words, where)
    if (missing := _MISSING.search(output)) is not None:
        return WrongInput(
            Problem(
                "package-not-found",
                f"there is no package {missing[1]} in the package index",
                "check its spelling; a private package needs its index in environment.indexes",
                where.get(missing[1], ""),
            )
        )
    if "No solution found" in output:
        named = (place for name, place in where.items() if re.search(rf"\b{re.escape(name)}\b", words))
        return WrongInput(
            Problem(
                "packages-conflict",
                f"no versions satisfy all that is asked for: {words}",
                _way_out(output),
                next(named, ""),
            )
        )
    return StudioloError(Problem("environment-failed", f"uv failed: {words}", ""))


def login_wanted(url: str) -> StudioloError:
    return WrongInput(
        Problem(
            "index-login",
            f"the package index at {package_index.host(url)} wants a login, or refuses the one it got",
            "keep `user:password` with `studiolo secret set NAME`, and name it as that index's secret in "
            "environment.indexes",
        )
    )


def disk_full() -> StudioloError:
    return StudioloError(
        Problem(
            "disk-full",
            "the disk is full, so the environment cannot be built",
            "free some space, or set STUDIOLO_HOME to a larger disk",
        )
    )


def quote(output: str) -> str:
    """uv's explanation on one line, without its markings and hints, at most as long as a person reads. Of what a
    package's build printed, the end says most."""
    found = output[output.find("error:") :] if "error:" in output else output
    found = found.partition("\nhint:")[0]
    lines = [re.sub(r"^(?:error|cause|hint):\s*", "", line.strip(" \t│├╰─▶×")) for line in found.splitlines()]
    words = ": ".join(
        re.sub(r"\s+", " ", line).rstrip(".:") for line in lines if line and "No solution found" not in line
    )
    if len(words) <= _QUOTE:
        return words
    head = _QUOTE // 4 if _BACKEND in output else _QUOTE // 2
    return words[:head] + " … " + words[head - _QUOTE :]


def _unreachable(message: str) -> StudioloError:
    return Unavailable(
        Problem("index-unreachable", message, "check the network, or HTTPS_PROXY and UV_DEFAULT_INDEX; then try again")
    )


def _unbuildable(package: str, words: str, where: Mapping[str, str]) -> StudioloError:
    name = package.rstrip("`").partition("==")[0]
    return StudioloError(
        Problem(
            "package-build-failed",
            f"{package.rstrip('`')} has no ready-made files for this machine and cannot be built here: {words}",
            "install what its build asks for, or choose another version",
            where.get(name, ""),
        )
    )


def _way_out(output: str) -> str:
    if (later := _LATER_INDEX.search(output)) is not None:
        return f"{later[1]} is taken from {package_index.host(later[2])}, the first index that has it, and no other"
    if "was yanked" in output:
        return "a yanked version is only taken where it is asked for exactly, with =="
    return "loosen one of these requirements"


def _last_cause(words: str) -> str:
    return words.rsplit(": ", 1)[-1] if words else "no answer"
