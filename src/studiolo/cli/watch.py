"""Following a workspace to the phase that was asked for, and telling its stages as they happen.

Level-triggered: events only say that it is time to look again, so one that was missed costs a moment and no more.
"""

from __future__ import annotations

from typing import Literal

from studiolo.cli.output import Live
from studiolo.client import Client
from studiolo.problem import Conflict, NotFound, Problem, StudioloError
from studiolo.resources import Stage, Workspace

Goal = Literal["running", "stopped"]

_LOOK_AGAIN = 2.0
"""Seconds without an event after which we look anyway."""


def follow(client: Client, asked: Workspace, goal: Goal, live: Live, *, fresh: bool = False) -> Workspace:
    """Wait until the workspace is in phase `goal`; `asked` is the answer to the request that will lead there.

    Stages that `asked` had ended already are not told again, unless it is `fresh` (just made). Raises `StudioloError`
    with the reason where a start fails; one that has failed needs no stopping.
    """
    told: set[str] = set() if fresh else {stage.name for stage in asked.stages if stage.seconds is not None}
    workspace = asked
    last: int | None = None
    try:
        while not _settled(workspace, goal):
            for event in client.events(workspace=asked.id, after=last, quiet=_LOOK_AGAIN):
                last = event.id
                if event.kind == "progress":
                    live.now(f"{asked.name}: {event.message}")
                    continue
                workspace = client.workspace(asked.id)
                told = _tell(workspace, told, live)
                if _settled(workspace, goal):
                    break
            else:
                workspace = client.workspace(asked.id)
                told = _tell(workspace, told, live)
    finally:
        live.clear()
    if workspace.phase == "failed" and goal == "running":
        reason = workspace.reason
        raise StudioloError(
            Problem(reason.code, f"{asked.name} failed: {reason.message}", reason.hint)
            if reason is not None
            else Problem("workspace-failed", f"{asked.name} failed", f"studiolo logs {asked.name}")
        )
    if _overruled(workspace, goal):
        raise Conflict(Problem("overruled", f"meanwhile {asked.name} was asked to be {workspace.desired}"))
    return workspace


def follow_renewal(client: Client, asked: Workspace, live: Live) -> Workspace:
    """Wait until the environment that was asked for is there, and a workspace that is to run runs in it.

    Raises `StudioloError` where it cannot be had; the workspace then is on the generation it had. Raises `Conflict`
    where somebody stops the workspace, which gives the build up.
    """
    workspace = asked
    last: int | None = None
    try:
        while workspace.renewing:
            for event in client.events(workspace=asked.id, after=last, quiet=_LOOK_AGAIN):
                last = event.id
                if event.kind != "progress":
                    break
                live.now(f"{asked.name}: {event.message}")
            workspace = client.workspace(asked.id)
            if workspace.desired not in (asked.desired, "running"):
                raise Conflict(Problem("overruled", f"meanwhile {asked.name} was asked to be {workspace.desired}"))
    finally:
        live.clear()
    if workspace.desired == "running" and workspace.phase != "running":
        workspace = follow(client, workspace, "running", live)
    refuse_trouble(workspace)
    return workspace


def refuse_trouble(workspace: Workspace) -> None:
    """Raise what stood in the way of the environment that was asked for, with the end of the build's log."""
    trouble = workspace.trouble
    if trouble is None:
        return
    kept = f"\n{workspace.name} stays in the environment it had" if workspace.generation else ""
    log = "".join(f"\n  | {line}" for line in trouble.log)
    raise StudioloError(Problem(trouble.code, f"{trouble.message}{log}{kept}", trouble.hint))


def follow_deletion(client: Client, asked: Workspace) -> None:
    """Wait until the workspace is gone. Raises `StudioloError` with the reason where deleting fails."""
    # One that had failed before says so until its deletion has begun.
    workspace = asked
    while workspace.phase != "failed" or workspace.reason == asked.reason:
        try:
            for event in client.events(workspace=asked.id, quiet=_LOOK_AGAIN):
                if event.kind != "progress":
                    break
            workspace = client.workspace(asked.id)
        except NotFound:
            return
    message = workspace.reason.message if workspace.reason is not None else "its log may say why"
    raise StudioloError(Problem("delete-failed", f"{asked.name} could not be deleted: {message}"))


def _settled(workspace: Workspace, goal: Goal) -> bool:
    return workspace.phase in (goal, "failed") or _overruled(workspace, goal)


def _overruled(workspace: Workspace, goal: Goal) -> bool:
    """Whether somebody asked for something else meanwhile."""
    return workspace.desired != goal


def _tell(workspace: Workspace, told: set[str], live: Live) -> set[str]:
    for stage in workspace.stages:
        if stage.seconds is not None and stage.name not in told:
            live.line(_words(stage))
    if workspace.progress:
        live.now(f"{workspace.name}: {workspace.progress}")
    return told | {stage.name for stage in workspace.stages if stage.seconds is not None}


def _words(stage: Stage) -> str:
    return f"  {stage.name:<8}{stage.seconds:>6.1f} s" + (f"  {stage.message}" if stage.message else "")
