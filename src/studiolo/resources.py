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
    """Why a workspace failed, or its environment could not be had, and what to do."""

    code: str
    message: str
    hint: str = ""
    log: tuple[str, ...] = ()
    """The last lines of the build's log, where something was built."""


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


class Pool(Resource):
    """Starts kept ready for further workspaces made from a document."""

    wanted: int
    ready: int = 0
    memory: int = 0
    """Bytes that they use."""
    reason: str = ""
    """Why there are fewer than wanted."""


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
    """The environment generation's id, once built."""
    pinned: int | None = None
    """The number of the generation it stays on."""
    rescue: bool = False
    """It runs, or is to run, in the minimal environment."""
    renewing: bool = False
    """Its environment is being looked at anew."""
    trouble: Reason | None = None
    """Why the environment that was asked for last is not the one in use."""
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
    pool: Pool | None = None
    """What its document keeps ready (`warm`)."""


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


class Generation(Resource):
    """One numbered environment of a workspace or a template."""

    number: int
    id: str
    kind: str
    state: Literal["good", "bad", "left"]
    """`bad`: its kernel does not start; `left`: rolled back from."""
    reason: str = ""
    current: bool = False
    pinned: bool = False
    built: bool
    """Its files are there; otherwise going to it builds it again."""
    at: datetime
    """When it got its number."""
    by: str
    source: str
    """What it was made from: a file's name, or words."""
    inputs: dict[str, str] = {}
    """SHA-256 of the files it was locked from."""
    interpreter: str = ""
    platform: str = ""
    packages: int
    seconds: float | None = None
    """How long its build took."""
    builder: str = ""
    """The version of Studiolo that built it."""


class Package(Resource):
    name: str
    version: str
    licence: str = ""
    purl: str = ""


class GenerationDetail(Generation):
    contents: tuple[Package, ...]
    exports: tuple[str, ...] = ()
    """What its lock can be written as for other tools."""
    kernel: str = ""
    """`ok`, `none`, `failed`; empty where nobody looked."""
    preload: dict[str, str] = {}
    """Modules to import ahead, each with why it is left out (`not yet`: it will be there soon); empty where it is not.
    """
    notes: tuple[str, ...] = ()


class Change(Resource):
    name: str
    before: str
    after: str
    licence_before: str = ""
    licence_after: str = ""


class OverlayPackage(Resource):
    """What somebody installed by hand; `active` where it is for the Python in use."""

    name: str
    version: str
    requested: bool
    active: bool


class Difference(Resource):
    """From one generation to another; with `after` None to what is in use: the current one and the overlay on top."""

    before: int
    after: int | None
    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    changed: tuple[Change, ...] = ()
    overlay: tuple[OverlayPackage, ...] = ()


class Exported(Resource):
    """A lock for other tools: text by file name."""

    files: dict[str, str]


class FileDifference(Resource):
    path: str
    what: str


class Verification(Resource):
    """What came of building a generation again: a line of progress, or (`done`) the result."""

    progress: str = ""
    done: bool = False
    problem: Reason | None = None
    """Why it could not be built again."""
    same: bool = False
    files: int = 0
    differences: tuple[FileDifference, ...] = ()
    seconds: float = 0.0


class Adopted(Resource):
    """What was taken from the overlay into the declaration."""

    requirements: tuple[str, ...]
    workspace: Workspace


class Collected(Resource):
    """Generations removed, or with `dry_run` those that would be."""

    generations: tuple[str, ...]
    freed: int
    """Bytes."""
    shared: int
    """Bytes of theirs that other generations or the downloads hold too."""
    kept: int
    """How many generations stay."""
    dry_run: bool


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
    spare: bool = False
    """It is a start kept ready for workspaces made from the same document as `workspace`."""


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
