"""Whether an environment works is found out by running it: real ones, whole and broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import built
from studiolo.environments import health
from studiolo.environments.health import Health, examine
from studiolo.environments.kind import Activation


@pytest.fixture(scope="module")
def generation() -> Path:
    return built.environment("uv", "six", "ipywidgets")


@pytest.fixture
def broken(generation: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(generation, tmp_path / "copy", symlinks=True, copy_function=os.link))


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No process, no file."""
    yield
    until = time.monotonic() + 10
    while left := running(tmp_path):
        assert time.monotonic() < until, left
        time.sleep(0.02)  # what has been killed takes a moment to go
    assert list((tmp_path / "scratch").glob("*")) == []


def running(folder: Path) -> list[str]:
    """What has anything of this folder in its arguments or variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if f"{folder}/".encode() in said:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def enter(folder: Path) -> Activation:
    return Activation((str(folder / "bin"),), {"VIRTUAL_ENV": str(folder)}, str(folder / "bin/python"))


def replace(path: Path, text: str) -> None:
    """Not through the link that the copy shares with the generation. Byte code there is believed without a look."""
    path.unlink()
    path.write_text(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()


async def test_a_good_one(generation: Path, tmp_path: Path) -> None:
    found = await examine(enter(generation), ("six", "ipywidgets", "xml.dom"), tmp_path / "scratch")
    assert found == Health("ok", "", {"six": "", "ipywidgets": "", "xml.dom": ""})
    assert found.good


async def test_what_cannot_be_imported_is_named(generation: Path, tmp_path: Path) -> None:
    found = await examine(enter(generation), ("six", "no_such", "six.no_such"), tmp_path / "scratch")
    assert found.kernel == "ok"
    assert found.preload["six"] == ""
    assert found.preload["no_such"] == "ModuleNotFoundError: No module named 'no_such'"
    assert found.preload["six.no_such"].startswith("ModuleNotFoundError: ")
    assert not found.good


async def test_a_module_that_crashes_python_or_starts_others(broken: Path, tmp_path: Path) -> None:
    site = next(broken.glob("lib/python3.*/site-packages"))
    (site / "crash.py").write_text("import os\nos.abort()")
    (site / "starts.py").write_text("import subprocess\nsubprocess.Popen(['sleep', '1000'])")
    found = await examine(enter(broken), ("crash", "starts"), tmp_path / "scratch")
    assert found == Health("ok", "", {"crash": "ended by SIGABRT", "starts": ""})


async def test_a_kernel_that_cannot_be_imported(broken: Path, tmp_path: Path) -> None:
    replace(next(broken.glob("lib/python3.*/site-packages/ipykernel/__init__.py")), "raise ImportError('bad luck')")
    found = await examine(enter(broken), ("six",), tmp_path / "scratch")
    assert found == Health("failed", "the kernel ended: ImportError: bad luck", {"six": ""})
    assert not found.good


async def test_a_broken_library_below_the_kernel(broken: Path, tmp_path: Path) -> None:
    replace(next(broken.glob("lib/python3.*/site-packages/zmq/__init__.py")), "raise OSError('libzmq.so.5 is missing')")
    found = await examine(enter(broken), (), tmp_path / "scratch")
    assert found.kernel == "failed"
    assert found.reason == "jupyter_client cannot be imported: OSError: libzmq.so.5 is missing"


async def test_a_kernel_that_never_answers(broken: Path, tmp_path: Path) -> None:
    replace(next(broken.glob("lib/python3.*/site-packages/ipykernel/__init__.py")), "import time\ntime.sleep(1000)")
    found = await examine(enter(broken), (), tmp_path / "scratch", limit=4)
    assert found == Health("failed", "the kernel does not answer", {})


async def test_a_python_that_does_not_even_start(broken: Path, tmp_path: Path) -> None:
    (broken / "bin/python").unlink()
    found = await examine(enter(broken), ("six",), tmp_path / "scratch")
    assert found.kernel == "failed"
    assert found.reason == "its Python does not work: python cannot be started: No such file or directory"
    (broken / "bin/python").write_text("#!/bin/sh\necho 'no libc' >&2\nexit 1\n")
    (broken / "bin/python").chmod(0o755)
    found = await examine(enter(broken), ("six",), tmp_path / "scratch")
    assert found.reason == "its Python does not work: no libc"
    assert found.preload == {"six": found.reason}


async def test_without_a_kernel_or_a_python(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", plain], check=True)
    found = await examine(enter(plain), ("json",), tmp_path / "scratch")
    assert found == Health("none", "it has no ipykernel, so notebooks cannot run in it", {"json": ""})
    found = await examine(Activation(), ("json",), tmp_path / "scratch")
    assert found == Health("none", "it has no Python, so notebooks cannot run in it", {"json": "it has no Python"})
    assert not found.good
    assert (await examine(Activation(), (), tmp_path / "scratch")).good


async def test_it_can_be_cancelled(broken: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    replace(
        next(broken.glob("lib/python3.*/site-packages/ipykernel/__init__.py")),
        f"import time, pathlib\npathlib.Path({str(started)!r}).touch()\ntime.sleep(1000)",
    )
    task = asyncio.create_task(examine(enter(broken), (), tmp_path / "scratch"))
    async with asyncio.timeout(health.LIMIT):
        while not started.exists():
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
