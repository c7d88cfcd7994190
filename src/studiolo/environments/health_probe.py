"""Run by an environment's own Python, of any version: does its kernel work, can these modules be imported?

`python health_probe.py RESULT SECONDS MODULE...` writes {"kernel": ["ok", ""], "preload": {"pandas": ""}} to the file
RESULT. Whatever it has started has ended when it ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"
KEPT = 65536
"""Bytes of what a program has printed, from its end."""


def kernel(folder: Path, until: float) -> tuple[str, str]:
    """ok, none or failed; and why. `until` is monotonic time."""
    for name in ("ipykernel", "jupyter_client"):
        if importlib.util.find_spec(name) is None:
            return "none", f"it has no {name}, so notebooks cannot run in it"
    try:
        from jupyter_client.blocking.client import BlockingKernelClient
        from jupyter_client.connect import write_connection_file
    except Exception as error:  # whatever a broken installation raises
        return "failed", f"jupyter_client cannot be imported: {in_short(error)}"
    connection = str(folder / "kernel.json")
    write_connection_file(connection)
    log = folder / "kernel.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", connection],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
        )
    client = BlockingKernelClient(connection_file=connection)
    client.load_connection_file()
    client.start_channels(iopub=False, stdin=False, hb=False, control=False)

    def answer(sent: str) -> dict[str, object] | None:
        while child.poll() is None and time.monotonic() < until:
            try:
                reply: dict[str, dict[str, object]] = client.get_shell_msg(timeout=0.2)
            except queue.Empty:
                continue
            if reply["parent_header"].get("msg_id") == sent:
                return reply["content"]
        return None

    try:
        content = answer(client.kernel_info())
        if content is not None:
            content = answer(client.execute("", store_history=False, user_expressions={"sum": "1+1"}))
        if content is not None:
            return ("ok", "") if "'2'" in repr(content.get("user_expressions")) else ("failed", f"1+1 is {content}")
        if child.poll() is None:
            return "failed", "the kernel does not answer"
        return "failed", f"the kernel ended: {last_line(log.read_bytes()) or ended(child.returncode)}"
    finally:
        client.stop_channels()
        child.kill()
        child.wait()


def importable(module: str, until: float) -> str:
    """Why this module cannot be imported; empty where it can."""
    # A file rather than a pipe: what the module may have started could keep that open.
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [sys.executable, "-c", IMPORT, module], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            status = child.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return "importing it takes too long"
        output.seek(-min(output.tell(), KEPT), os.SEEK_END)
        return "" if status == 0 else last_line(output.read()) or ended(status)


def ended(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def last_line(output: bytes) -> str:
    lines = [line.strip() for line in output[-KEPT:].decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def in_short(error: Exception) -> str:
    return last_line(f"{type(error).__name__}: {error}".replace("\n", " ").encode())


def main(result: str, seconds: str, *modules: str) -> None:
    until = time.monotonic() + float(seconds)
    path = Path(result)
    with ThreadPoolExecutor(2) as pool:
        preload = {module: pool.submit(importable, module, until) for module in modules}
        try:
            state = kernel(path.parent, until)
        except Exception as error:
            state = "failed", in_short(error)
        found = {"kernel": state, "preload": {module: future.result() for module, future in preload.items()}}
    path.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    del sys.path[0]  # this program's own folder
    try:
        main(*sys.argv[1:])
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
