"""Who wakes a workspace, and what becomes of a request for an app that does not answer. Pure.

A page that is left open goes on asking (JupyterLab for its kernels, VS Code for its connection). If that woke a
workspace, none would ever rest. So what wakes is what a person does, and what a program does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from studiolo.problem import Problem
from studiolo.resources import Workspace

Intent = Literal["opens", "acts", "polls"]
"""A person opens a page; a person or a program does something; a page asks in the background."""

PATIENCE: Mapping[Intent, float] = {"opens": 0.8, "acts": 60.0, "polls": 60.0}
"""Seconds a request is held at most. Who opens a page sees how far it is after that; others are told why not."""

WEBSOCKET = "WEBSOCKET"
"""Stands for the method of a request that asks for a WebSocket."""
_READS = ("GET", "HEAD")
_CHANGES_NOTHING = (*_READS, "OPTIONS", WEBSOCKET)


def intent(method: str, headers: Mapping[str, str]) -> Intent:
    """What is behind a request. `headers` by their names in small letters.

    Browsers say what a request is for in `Sec-Fetch-*`, but only to origins they trust (https, and localhost); to
    others they are known by `User-Agent`, and a page that is opened by `Accept`. There are HTTP libraries that send
    `Sec-Fetch-Mode` too, but none that sends `Sec-Fetch-Site`.
    """
    fetching = "sec-fetch-site" in headers
    mode = headers.get("sec-fetch-mode") if fetching else None
    ahead = f"{headers.get('sec-purpose', '')} {headers.get('purpose', '')} {headers.get('x-moz', '')}"
    if "prefetch" in ahead or "prerender" in ahead:
        return "polls"  # a browser loads what somebody might open next
    if method in _READS and (mode == "navigate" or (mode is None and "text/html" in headers.get("accept", ""))):
        return "opens"
    if not fetching and not headers.get("user-agent", "").startswith("Mozilla/"):
        return "acts"
    if method in _CHANGES_NOTHING:
        return "polls"
    return "polls" if mode == "no-cors" else "acts"  # a beacon: the last thing a page sends when it is closed


@dataclass(frozen=True)
class GoOn:
    """The app answers: the request may go to it."""


@dataclass(frozen=True)
class Wake:
    """It was stopped, and this request starts it."""


@dataclass(frozen=True)
class Wait:
    """It is on its way."""


@dataclass(frozen=True)
class Refuse:
    """It will not answer this request. `again` is after how many seconds another try may go better; None: a person
    must do something first."""

    problem: Problem
    again: int | None = None
    status: int = 503


Answer = GoOn | Wake | Wait | Refuse


def answer(what: Intent, workspace: Workspace, app: str, *, waited: bool = False) -> Answer:
    """What to do with a request for an app of this workspace, as it is now.

    `waited`: it has been looked at for this request before. What is stopped now was stopped since, and whoever did
    that meant it.
    """
    if workspace.desired == "deleted":
        return Refuse(Problem("deleting", f"{workspace.name} is being deleted"), status=404)
    if workspace.desired == "stopped" and what == "polls":
        return Refuse(_stopped(workspace), 30)
    if workspace.desired == "stopped":
        return Refuse(_stopped_meanwhile(workspace)) if waited else Wake()
    if workspace.phase == "failed":
        return Refuse(_failed(workspace))
    found = next(status for status in workspace.apps if status.name == app)
    if found.state == "ready":
        return GoOn()
    if found.state == "failed":
        return Refuse(
            Problem(
                "app-failed",
                f"{app} of {workspace.name} does not run: {found.reason}",
                f"studiolo logs {workspace.name}; then studiolo restart {workspace.name}",
            )
        )
    return Wait()


def too_late(workspace: Workspace, app: str, seconds: float) -> Refuse:
    """It is still on its way after so many seconds."""
    found = next(status for status in workspace.apps if status.name == app)
    doing = workspace.progress or found.reason or found.state
    return Refuse(
        Problem(
            "still-waking",
            f"{app} of {workspace.name} does not answer yet, after {seconds:g} s: {doing}",
            "send the request again; `studiolo show` says how far it is",
        ),
        2,
    )


def too_many(name: str) -> Refuse:
    """So many requests wait already that this one cannot."""
    return Refuse(Problem("too-many-waiting", f"too many requests wait for {name} already", "send it again later"), 5)


def _stopped(workspace: Workspace) -> Problem:
    return Problem(
        "stopped",
        f"{workspace.name} is stopped, and what a page asks in the background does not start it",
        f"open its page anew, or studiolo start {workspace.name}",
    )


def _stopped_meanwhile(workspace: Workspace) -> Problem:
    return Problem(
        "stopped",
        f"{workspace.name} was stopped while this request waited for it",
        f"send it again, or studiolo start {workspace.name}",
    )


def _failed(workspace: Workspace) -> Problem:
    reason = workspace.reason
    why = reason.message if reason is not None else "it could not be started"
    return Problem(
        "workspace-failed",
        f"{workspace.name} has failed, and a request does not start it again: {why}",
        (reason.hint if reason is not None else "") or f"studiolo restart {workspace.name}",
    )
