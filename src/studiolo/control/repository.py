"""Where a workspace's code lies: a folder of the host, or a clone in its home."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from studiolo.names import as_name
from studiolo.problem import Problem, StudioloError
from studiolo.process import ProgramFailed, run

# Seconds. A clone that takes longer is stuck.
_CLONE_TIMEOUT = 900.0
_ASK_TIMEOUT = 20.0

# A repository is data, not configuration: no hooks or filters of the host's, no prompts, HTTPS alone.
_SAFELY = ("-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "core.askPass=")


def folder_of(repository: str | None, home: Path) -> Path | None:
    """Where the repository is, or will be once cloned. Pure."""
    if repository is None:
        return None
    if "://" in repository:
        return home / as_name(repository.rstrip("/").rpartition("/")[2].removesuffix(".git"), "repository")
    return Path(repository)


async def ensure(repository: str | None, home: Path) -> Path | None:
    """The repository's folder; a Git address is cloned where it is not there yet.

    Raises `StudioloError`: a folder that is gone, a clone that failed. A failed clone leaves nothing behind.
    """
    folder = folder_of(repository, home)
    if repository is None or folder is None:
        return None
    if "://" not in repository:
        if not folder.is_dir():
            raise StudioloError(
                Problem(
                    "repository-missing",
                    f"the folder {folder} does not exist any more",
                    "put it back, or make the workspace anew with `studiolo run` where it is now",
                )
            )
        return folder
    if folder.exists():
        return folder
    if shutil.which("git") is None:
        raise StudioloError(
            Problem("git-missing", "git is not installed, so the repository cannot be cloned", "apt-get install git")
        )
    draft = folder.with_name(f".cloning-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        await run(
            ["git", *_SAFELY, "clone", "--recurse-submodules", "--", repository, draft],
            env=_git_environment(home),
            timeout=_CLONE_TIMEOUT,
        )
        draft.rename(folder)
    except ProgramFailed as error:
        cause = error.completed.last_lines if error.completed else error.problem.message
        raise StudioloError(
            Problem(
                "clone-failed",
                f"{repository} cannot be cloned: {cause.splitlines()[-1] if cause else 'git gave no reason'}",
                "check the address and the network, then `studiolo restart`",
            )
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


async def head_of(repository: str, home: Path) -> str | None:
    """The commit that a clone made now would begin with; None where nobody says."""
    return await _ask(["ls-remote", "--", repository, "HEAD"], home, home)


async def head_in(folder: Path, home: Path) -> str | None:
    """The commit that a clone is at; None where it has none."""
    return await _ask(["rev-parse", "HEAD"], folder, home)


async def _ask(words: list[str], folder: Path, home: Path) -> str | None:
    try:
        said = await run(
            ["git", *_SAFELY, *words],
            cwd=folder,
            env=_git_environment(home),
            timeout=_ASK_TIMEOUT,
            stdout_only=True,
            background=True,
        )
    except ProgramFailed:
        return None
    return said.output.split()[0] if said.output.strip() else None


def _git_environment(home: Path) -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
        or name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    }
    return {**passed, "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
