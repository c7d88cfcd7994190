"""From a bare machine to a running Studiolo, with nothing but the standard library: `make` calls this.

    python3 bootstrap.py install          .venv with what Studiolo needs to run, exactly as locked
    python3 bootstrap.py install --dev    ... and what its tests, linters and benchmarks need
    python3 bootstrap.py up               install, start, make the first workspace, print one sign-in link

Every step is idempotent and says what it does; a step whose inputs have not changed takes no time. What is installed
is recorded in `.venv/studiolo-install.json`, by digest of the locks, the interpreter and the place of the checkout.

What only root can do (system packages) is done when root runs this, and otherwise named and left out: Studiolo runs
without it, VS Code's tools may not build. `sudo` is never called.
"""

# ruff: noqa: T201  (a program that talks to the person before it)

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STUDIOLO = VENV / "bin/studiolo"
RECORD = VENV / "studiolo-install.json"
RUNTIME_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
BUILD_LOCK = ROOT / "requirements-build.lock"
EXAMPLE = ROOT / "examples/penguins"

# Debian package -> a program it brings (None: only dpkg knows whether it is there).
RUN_PACKAGES: dict[str, str | None] = {
    "ca-certificates": None,
    "git": "git",  # cloning a repository into a workspace
    # Building VS Code's native modules (node-gyp):
    "g++": "g++",
    "make": "make",
    "pkg-config": "pkg-config",
    "python3": "python3",
    "libkrb5-dev": None,
    "libx11-dev": None,
    "libxkbfile-dev": None,
    "libsecret-1-dev": None,
}
DEV_PACKAGES: dict[str, str | None] = {
    "chromium": "chromium",  # browser tests
    "busybox-static": "busybox",  # environments that are images
    "docker.io": "dockerd",
    "docker-registry": "docker-registry",
    "podman": "podman",
    "mmdebstrap": "mmdebstrap",
    "nix-bin": "nix",  # environments that are flakes
    "wrk": "wrk",  # benchmarks/edge
}


class Failed(Exception):
    """A step did not work; the message says which, and what to do."""


def say(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bootstrap.py", description="Install and start Studiolo from its checkout.")
    commands = parser.add_subparsers(dest="command", required=True)
    install_parser = commands.add_parser("install", help="make or refresh .venv from the locks")
    install_parser.add_argument("--dev", action="store_true", help="with what tests and linters need")
    up_parser = commands.add_parser("up", help="install, start and make the first workspace")
    up_parser.add_argument("--port", help="the dashboard's port")
    up_parser.add_argument("--detach", action="store_true", help="return once everything runs")
    options = parser.parse_args(argv)
    share_network_settings(os.environ)
    try:
        if options.command == "install":
            install(dev=options.dev)
            return 0
        install(dev=False)
        return up(port=options.port, detach=options.detach)
    except Failed as failure:
        print(f"make: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130


def share_network_settings(environment: os._Environ[str] | dict[str, str]) -> None:
    """What one program was told of the network holds for all: pip fetches uv, uv the rest, npm VS Code."""
    for_uv = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    for_pip = environment.get("PIP_INDEX_URL")
    if for_uv and not for_pip:
        environment["PIP_INDEX_URL"] = for_uv
    elif for_pip and not for_uv:
        environment["UV_DEFAULT_INDEX"] = for_pip
    certificates = environment.get("SSL_CERT_FILE")
    if certificates:
        environment.setdefault("PIP_CERT", certificates)
        environment.setdefault("NODE_EXTRA_CA_CERTS", certificates)


# Installing ---------------------------------------------------------------------------------------------------------


def install(*, dev: bool) -> None:
    """Bring `.venv` and, where root runs this, the system packages to what the locks ask. Idempotent.

    A `.venv` that has the development tools keeps them, so `make up` after `make test` takes nothing away.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  (any Python may be asked to run this)
        raise Failed(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    with only_one_installer(), system_packages(RUN_PACKAGES | (DEV_PACKAGES if dev else {})):
        installed = read_record()
        dev = dev or installed.get("dev") is True
        place = f"{ROOT} {sys.version}"  # a moved checkout or a new Python breaks what a .venv refers to
        wanted = {"dev": dev, "place": place, "digest": digest(dev=dev)}
        if installed == wanted and PYTHON.exists() and STUDIOLO.exists():
            return
        started = time.monotonic()
        if not PYTHON.exists() or installed.get("place", place) != place:
            make_venv()
        RECORD.write_text(json.dumps(wanted | {"digest": "interrupted"}))
        lock = DEV_LOCK if dev else RUNTIME_LOCK
        say(f"== installing {lock.name} into .venv")
        install_uv()
        uv("sync", "--require-hashes", "--compile-bytecode", str(lock))
        uv("install", "--no-deps", "--build-constraints", str(BUILD_LOCK), "--editable", str(ROOT))
        run([str(PYTHON), "-m", "compileall", "-q", str(ROOT / "src")])
        RECORD.write_text(json.dumps(wanted))
        say(f"== installed in {time.monotonic() - started:.0f} s")


def digest(*, dev: bool) -> str:
    """Changes when a new installation is due."""
    sums = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", RUNTIME_LOCK, BUILD_LOCK, *([DEV_LOCK] if dev else [])):
        sums.update(path.read_bytes())
    return sums.hexdigest()


def read_record() -> dict[str, object]:
    """What is installed in `.venv`; empty where nothing, or something else, is."""
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def make_venv() -> None:
    say(f"== making .venv with Python {sys.version.split()[0]}")
    base = getattr(sys, "_base_executable", sys.executable)
    if run([base, "-m", "venv", "--clear", str(VENV)], check=False) != 0:
        raise Failed("python3 cannot make virtual environments; as root: apt-get install python3-venv")


def install_uv() -> None:
    """uv itself by pip, pinned and hashed like the rest: the lock's own entry for it."""
    entries = RUNTIME_LOCK.read_text().replace("\\\n", " ").splitlines()
    entry = next((line for line in entries if line.startswith("uv==")), None)
    if entry is None:
        raise Failed(f"{RUNTIME_LOCK.name} has no entry for uv; `make lock` makes a new one")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(entry + "\n")
        only_uv.flush()
        pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run([*pip, "--require-hashes", "--no-deps", "-r", only_uv.name])


def uv(verb: str, *arguments: str) -> None:
    run([str(VENV / "bin/uv"), "pip", verb, "--python", str(PYTHON), *arguments])


def run(command: Sequence[str], *, check: bool = True) -> int:
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if check and status != 0:
        raise Failed(f"`{' '.join(command)}` ended with status {status}; its last lines above say why")
    return status


@contextlib.contextmanager
def only_one_installer() -> Iterator[None]:
    """Two `make` at once: the second waits and then finds everything done. The checkout's folder is the lock."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("== waiting for another installation of this checkout")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


# System packages ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def system_packages(wanted: dict[str, str | None]) -> Iterator[None]:
    """Install what is missing with apt-get while the body goes on, where we may; otherwise say what root must do.

    Never fails: a notebook needs none of them.
    """
    missing = missing_packages(wanted)
    if not missing:
        yield
        return
    by_hand = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        say(f"== missing system packages (for VS Code, Git and tests). Only root can add them:\n     {by_hand}")
        yield
        return
    say(f"== installing system packages beside it: {' '.join(missing)}")
    failed: list[str] = []
    worker = threading.Thread(target=apt_install, args=(missing, failed))
    worker.start()
    try:
        yield
    finally:
        if worker.is_alive():
            say("== waiting for the system packages")
        worker.join()
    if failed:
        say(f"== the system packages could not be installed; the rest goes on. By hand, as root:\n     {by_hand}")


def missing_packages(wanted: dict[str, str | None]) -> list[str]:
    present: set[str] = set()
    if shutil.which("dpkg-query"):
        query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *wanted]
        listed = subprocess.run(query, check=False, capture_output=True, text=True).stdout
        present = {line.split()[1] for line in listed.splitlines() if line.startswith("installed ")}
    return [
        package
        for package, program in wanted.items()
        if package not in present and (program is None or shutil.which(program) is None)
    ]


def apt_install(packages: Sequence[str], failed: list[str]) -> None:
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]):
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(("Get:", "Need to get", "Setting up", "Err:", "E:", "W:")):
                say(f"   apt: {line.rstrip()}")
        if process.wait() != 0:
            failed.append(command[-1])
            return


# Starting -----------------------------------------------------------------------------------------------------------


def up(*, port: str | None, detach: bool) -> int:
    """Start, make the first workspace once, print a link; then return, or stay with `studiolo up` until it ends."""
    command = [str(STUDIOLO), "up", "--no-browser", "--no-link", *(["--port", port] if port else [])]
    if detach:
        return run([*command, "--detach"], check=False) or welcome(told=False)
    with subprocess.Popen(command) as foreground:  # leaving this waits for it
        signal.signal(signal.SIGTERM, lambda number, frame: foreground.terminate())
        status = 1
        with contextlib.suppress(KeyboardInterrupt):
            if is_up(foreground):
                status = welcome(told=foreground.poll() is None)
        # Ctrl-C reaches both of us; `studiolo up` is the one that ends things in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return foreground.wait() or status


def is_up(foreground: subprocess.Popen[bytes]) -> bool:
    """Wait until the control plane answers; False where it ended with an error before."""
    while foreground.poll() is None:
        if subprocess.run([str(STUDIOLO), "status", "--json"], check=False, capture_output=True).returncode == 0:
            return True
        time.sleep(0.1)
    return foreground.returncode == 0


def welcome(*, told: bool) -> int:
    """Make the first workspace, if this is the first time, and print one link that signs in.

    It is the shipped example, once per data folder: who removed it, or made another first, does not get it again.
    `told`: what happens is shown already, by `studiolo up` in front.
    """
    marker = Path(str(ask("status")["home"])) / "first-workspace"
    status, link = 0, None
    if not marker.exists():
        if all(workspace["name"] == EXAMPLE.name for workspace in ask("ps")):
            say(f"== making a first workspace from {EXAMPLE.relative_to(ROOT)}")
            try:
                link = ask("run", str(EXAMPLE), "--name", EXAMPLE.name, "--no-browser", quiet=told)["link"]
            except Failed as failure:  # the next `make up` tries again; meanwhile the dashboard says why
                print(f"make: {failure}", file=sys.stderr, flush=True)
                status = 1
        if status == 0:
            marker.touch()
    link = link or ask("link")["url"]
    say(f"== open this link to sign in; it works once\n{link}")
    return status


def ask(*command: str, quiet: bool = False):  # type: ignore[no-untyped-def]  # whatever JSON it prints
    errors = subprocess.PIPE if quiet else None
    answer = subprocess.run(
        [str(STUDIOLO), *command, "--json"], check=False, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    if answer.returncode != 0:
        words = f"{answer.stderr or ''}{answer.stdout}".strip()
        raise Failed(f"`studiolo {' '.join(command)}` ended with status {answer.returncode}:\n{words}")
    return json.loads(answer.stdout)


if __name__ == "__main__":
    sys.exit(main())
