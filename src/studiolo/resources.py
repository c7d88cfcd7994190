"""What the API says and hears: the resources of `/api/v1`, shared by the server and the Python client.

Times are ISO 8601 with a zone, durations are seconds, memory and disk are bytes, CPU is cores.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Phase = Literal["pending", "building", "starting", "running", "stopping", "stopped", "failed", "deleting"]
BlockKind = Literal["environment", "data", "compute"]


class Resource(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemDetails(Resource):
    """RFC 9457, with our problems as an extension member."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = ""
    hint: str = ""
    problems: tuple[dict[str, str], ...] = ()


class AppStatus(Resource):
    name: str
    kind: str
    url: str
    state: str
    """starting, ready, restarting, failed, stopped; `installing` while its tools are being installed."""
    reason: str = ""
    restarts: int = 0


class Reason(Resource):
    """Why a workspace failed, and what to do."""

    code: str
    message: str
    hint: str = ""


class UsagePoint(Resource):
    at: datetime
    cpu: float
    """Cores used on average since the point before."""
    memory: int
    disk: int | None = None


class Stage(Resource):
    """One stage of the latest start, with its seconds once it has ended."""

    name: Literal["locked", "built", "started", "ready"]
    seconds: float | None = None
    message: str = ""


class Workspace(Resource):
    id: str
    name: str
    owner: str
    project: str
    backend: str
    phase: Phase
    desired: Literal["running", "stopped", "deleted"]
    reason: Reason | None = None
    apps: tuple[AppStatus, ...]
    generation: str | None = None
    """The environment generation's id, once locked."""
    environment: str = ""
    """In words: `Python 3.11, 48 packages, from uv.lock`."""
    repository: str | None = None
    home: str
    document: dict[str, Any]
    """The resolved `studiolo.yaml`."""
    stages: tuple[Stage, ...] = ()
    progress: str = ""
    """What it is doing right now, in words; empty when it is doing nothing."""
    notes: tuple[str, ...] = ()
    created: datetime
    started: datetime | None = None
    """When the present run became ready."""
    usage: UsagePoint | None = None


class Event(Resource):
    """A line of a workspace's history. `id` grows; a reader goes on after the last one it saw."""

    id: int
    at: datetime
    workspace: str | None
    """The workspace's id."""
    workspace_name: str | None = None
    kind: str
    """created, locking, locked, building, built, starting, started, app-ready, ready, stopping, stopped, failed,
    waking, idle, deleted, adopted, app-restarted, progress, ..."""
    message: str
    seconds: float | None = None


class Block(Resource):
    kind: BlockKind
    name: str
    builtin: bool
    document: dict[str, Any]


class WorkspaceCreate(Resource):
    """Make a workspace and start it. `document` is a `studiolo.yaml` as data; `name` overrides its name."""

    document: dict[str, Any] = {}
    name: str | None = None
    project: str = "default"
    repository: str | None = None
    """A folder of the host or an https:// Git URL; overrides the document's."""
    params: dict[str, str] = {}
    replace: bool = False
    """If a workspace of this name exists: take the new document and restart where something changed."""
    start: bool = True


class Secret(Resource):
    """A secret that an account keeps. Its value is never shown."""

    name: str
    created: datetime
    """When its value was set."""


class Token(Resource):
    """Lets a program in: send `Authorization: token <token>` to `url`."""

    app: str
    url: str
    token: str
    expires: datetime | None = None


class Link(Resource):
    """Signs one person in, once, and leads to the app or the dashboard."""

    url: str
    expires: datetime


class PidStatus(Resource):
    pid: int | None
    running: bool


class Status(Resource):
    version: str
    url: str
    home: str
    control_plane: PidStatus
    host_agent: PidStatus
    edge: PidStatus
    relay: PidStatus
    workspaces: dict[str, int]
    """How many in each phase."""
    tools: dict[str, str]
    """App kind -> `ready`, `installing: 120 of 165 packages`, `failed: why`, `not installed`."""


class MachineUse(Resource):
    workspace: str
    owner: str
    cpu: float
    memory: int
    disk: int | None


class Machine(Resource):
    host: str
    cores: int
    memory: int
    memory_used: int
    disk: int
    disk_used: int
    load: float
    limits: dict[str, str]
    """cpu and memory: `enforced (cgroup v2)`, or why not."""
    generations: int
    generations_disk: int
    uses: tuple[MachineUse, ...]


class Account(Resource):
    name: str
    role: str
