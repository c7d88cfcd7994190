"""Starting and ending the control plane from outside it: the only things that cannot go through the API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from studiolo import daemon
from studiolo.client import Client
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError, Unavailable

PARTS = ("control", "agent", "edge", "relay")
_PATIENCE = 60.0
"""Seconds for the control plane to end everything in order, before what is left is ended from here."""
_GRACE = 5.0


@dataclass(frozen=True)
class Ready:
    """The control plane answers at `url`; `already`: it did before."""

    url: str
    already: bool


def bring_up(layout: Layout, port: int | None, on_stage: Callable[[str], None]) -> Ready:
    """Start the control plane, detached, and return once it answers; finds out by itself that one runs already.

    Without a port it takes the one used last. Raises `StudioloError` with what the control plane reports.
    """
    layout.prepare()
    arguments = ("--port", str(port)) if port is not None else ()
    log = layout.logs / "control-plane.log"
    with log.open("ab") as stderr:
        # Not daemon.spawn: until it is up it reports on its standard output.
        child = subprocess.Popen(
            daemon.python_module("studiolo.server", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "STUDIOLO_HOME": str(layout.home)},
            cwd=layout.home,
            start_new_session=True,
        )
    try:
        ready = _report(child, on_stage)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if ready is None:
        status = child.wait()
        lines = log.read_text(errors="replace").splitlines()[-8:]
        raise StudioloError(
            Problem(
                "start-failed",
                "\n".join((f"the control plane ended with status {status} before it was up:", *lines)),
                f"its log is {log}",
            )
        )
    if ready.already:
        child.wait()
    return ready


def _report(child: subprocess.Popen[bytes], on_stage: Callable[[str], None]) -> Ready | None:
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            match json.loads(line):
                case {"stage": str(stage)}:
                    on_stage(stage)
                case {"ready": {"url": str(url), "already": bool(already)}}:
                    return Ready(url, already)
                case {"problem": {"code": str(code), "message": str(message), "hint": str(hint)}}:
                    raise StudioloError(Problem(code, message, hint))
    return None


def running_parts(layout: Layout) -> dict[str, daemon.Identity]:
    """Which of our long-lived processes run, by their pid files."""
    found = {part: daemon.read_pid_file(layout.run / f"{part}.pid") for part in PARTS}
    return {part: identity for part, identity in found.items() if identity is not None}


def shut_down(layout: Layout, *, workspaces: bool, on_stage: Callable[[str], None]) -> bool:
    """End the control plane and, with `workspaces`, all workspaces and the other parts. False: nothing ran.

    Only a control plane ends workspaces in order. So where it is dead, and a host agent is not, one is started for it.
    """
    running = running_parts(layout)
    ending = {part: identity for part, identity in running.items() if workspaces or part == "control"}
    if not ending:
        return False
    if "control" not in running and "agent" in ending:
        on_stage("the control plane is gone; starting it to stop the workspaces in order")
        try:
            bring_up(layout, None, lambda stage: None)
        except StudioloError as error:
            on_stage(f"it does not start ({error.problem.message}), so the rest is ended without it")
        else:
            running = running_parts(layout)
            ending = dict(running)
    patience = 0.0
    try:
        with Client.local(layout) as client:
            client.shutdown(workspaces=workspaces)
        patience = _PATIENCE
    except Unavailable:
        pass  # it is not there, or does not answer: it is ended like the others
    if patience and workspaces:
        on_stage("stopping the workspaces")
    asyncio.run(_gone(ending, patience))
    return True


async def _gone(ending: dict[str, daemon.Identity], patience: float) -> None:
    await daemon.wait_until(lambda: not any(identity.alive for identity in ending.values()), patience)
    for part in PARTS:
        if part in ending:
            await daemon.terminate(ending[part], _GRACE)
