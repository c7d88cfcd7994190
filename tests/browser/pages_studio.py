"""A small Studio behind the real pages, on a real server: its workspaces are data and change when a test says so."""

from __future__ import annotations

import asyncio
import hmac
import math
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pages_environments import BY_HAND, FakeEnvironments, a_generation, a_long_line, contents
from studiolo.control.access import Account
from studiolo.problem import Conflict, Denied, NotFound, Problem
from studiolo.resources import (
    AppStatus,
    Block,
    BlockKind,
    Event,
    Machine,
    MachineUse,
    Phase,
    PidStatus,
    Reason,
    Stage,
    Status,
    UsagePoint,
    Workspace,
    WorkspaceCreate,
)
from studiolo.server import problems
from studiolo.server.api import sse
from studiolo.server.auth import SignedOut
from studiolo.server.pages.render import STATIC, render, sign_in_page
from studiolo.server.pages.router import router
from studiolo.spec.builtin import builtin_blocks
from studiolo.spec.document import Blocks
from studiolo.spec.load import check_block, check_workspace
from studiolo.spec.resolve import resolve

ADA = Account("a1", "ada", "owner")
CSRF = "0123456789abcdef0123456789abcdef"
HTMX = {"Accept": "text/html", "HX-Request": "true", "X-CSRF": CSRF}
GIB = 1024**3
# Stricter than what the server sends: pages must not need more.
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def form(**fields: Any) -> dict[str, Any]:
    """What a form sends."""
    return {"csrf": CSRF, **fields}


@dataclass(frozen=True)
class Line:
    app: str
    text: str


def an_app(workspace: str, name: str, state: str, reason: str = "") -> AppStatus:
    return AppStatus(
        name=name, kind=name, url=f"http://{name}--{workspace}--ada.localhost:8800/", state=state, reason=reason
    )


def a_workspace(name: str, phase: Phase, **changes: Any) -> Workspace:
    state = {"running": "ready", "starting": "starting", "building": "starting"}.get(phase, "stopped")
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "id": f"id-{name}",
        "name": name,
        "owner": "ada",
        "project": "default",
        "backend": "local",
        "phase": phase,
        "desired": "stopped" if phase in ("stopped", "stopping") else "running",
        "apps": (an_app(name, "jupyterlab", state), an_app(name, "vscode", state)),
        "generation": "9f41c2d07be35a18",
        "environment": "Python 3.12.8, 48 packages, from uv.lock",
        "repository": f"https://github.com/ada/{name}",
        "home": f"/home/ada/.local/share/studiolo/workspaces/id-{name}/home",
        "document": {
            "name": name,
            "repository": f"https://github.com/ada/{name}",
            "apps": [{"name": "jupyterlab", "kind": "jupyterlab"}, {"name": "vscode", "kind": "vscode"}],
            "compute": {"cpu": 2.0, "memory": 8 * GIB},
            "data": [{"name": "tide-gauges", "folder": "/srv/tide-gauges", "path": "data/gauges"}],
            "idle": {"after": 3600.0},
        },
        "stages": (
            Stage(name="locked", seconds=0.21, message="uv.lock"),
            Stage(name="built", seconds=6.4, message="48 packages"),
            Stage(name="started", seconds=0.35, message="jupyterlab, vscode"),
            Stage(name="ready", seconds=1.9, message="jupyterlab"),
        ),
        "created": now - timedelta(days=3),
        "started": now - timedelta(hours=2, minutes=14) if phase == "running" else None,
        "usage": UsagePoint(at=now, cpu=0.62, memory=int(1.4 * GIB), disk=int(2.2 * GIB))
        if phase == "running"
        else None,
    }
    return Workspace(**{**given, **changes})


def the_usual() -> list[Workspace]:
    """One in each state a person meets."""
    return [
        a_workspace("tides", "running"),
        a_workspace(
            "birdsong",
            "running",
            apps=(
                an_app("birdsong", "jupyterlab", "ready"),
                an_app("birdsong", "vscode", "installing", "120 of 165 packages"),
            ),
            environment="Python 3.11.2, 112 packages, from pyproject.toml",
            generation="c07d5512aa90ee31",
        ),
        a_workspace(
            "glacier-melt",
            "building",
            stages=(Stage(name="locked", seconds=2.4, message="pyproject.toml"),),
            progress="installing pandas, 31 of 48 packages",
            environment="",
            generation=None,
        ),
        a_workspace(
            "census",
            "failed",
            stages=(),
            environment="",
            generation=None,
            reason=Reason(
                code="package-unknown",
                message="there is no package named pandsa, which requirements.txt:3 asks for",
                hint="did you mean pandas? Correct the file, then start again",
            ),
        ),
        a_workspace("herbarium", "stopped", repository="/home/ada/work/herbarium"),
        a_workspace(
            "moraine",
            "running",
            pinned=None,
            trouble=Reason(
                code="build-failed",
                message="cartopy 0.26.0 could not be built: its build asks for GEOS 3.8, which is not there",
                hint="ask for cartopy<0.26 in pyproject.toml:14, then restart",
                log=(
                    "Building cartopy==0.26.0",
                    "  × Failed to build `cartopy==0.26.0`",
                    "  ├─▶ The build backend returned an error",
                    "  ╰─▶ Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)",
                    "      lib/cartopy/trace.cpp:1221:10: fatal error: geos_c.h: No such file or directory",
                    "      compilation terminated.",
                    "      error: command '/usr/bin/g++' failed with exit code 1",
                ),
            ),
        ),
    ]


def the_machine() -> Machine:
    return Machine(
        host="walnut",
        cores=8,
        memory=32 * GIB,
        memory_used=int(11.3 * GIB),
        disk=500 * GIB,
        disk_used=463 * GIB,
        load=2.31,
        limits={"cpu": "enforced (cgroup v2)", "memory": "not enforced: no cgroup is delegated to this user"},
        generations=7,
        generations_disk=int(5.8 * GIB),
        uses=(
            MachineUse(workspace="tides", owner="ada", cpu=0.62, memory=int(1.4 * GIB), disk=int(2.2 * GIB)),
            MachineUse(workspace="birdsong", owner="ada", cpu=1.7, memory=int(3.1 * GIB), disk=None),
        ),
    )


def the_status() -> Status:
    return Status(
        version="0.1.0",
        url="http://localhost:8800",
        home="/home/ada/.local/share/studiolo",
        control_plane=PidStatus(pid=4121, running=True),
        host_agent=PidStatus(pid=4130, running=True),
        edge=PidStatus(pid=4133, running=True),
        relay=PidStatus(pid=None, running=False),
        workspaces={"running": 2, "building": 1, "failed": 1, "stopped": 1},
        tools={"jupyterlab": "ready", "vscode": "installing: 120 of 165 packages"},
    )


@dataclass
class FakeStudio:
    """Facts in lists. `change` and `write` may be called from any thread: they wake who listens."""

    found: dict[str, Workspace] = field(default_factory=dict)
    own: dict[tuple[BlockKind, str], Block] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    listeners: int = 0
    signed_in: bool = True
    stopped: bool = False
    """What the waking page is told."""
    broken: Exception | None = None
    refusal: Exception | None = None
    loop: asyncio.AbstractEventLoop | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    environments: FakeEnvironments = field(init=False)

    def __post_init__(self) -> None:
        self.environments = FakeEnvironments(self)

    def change(
        self, workspace: Workspace | None, kind: str, message: str, seconds: float | None = None, *, name: str = ""
    ) -> None:
        """A workspace is now like this (None: gone), and this event tells of it."""
        known = workspace or self.found[name]
        if workspace is None:
            del self.found[name]
        else:
            self.found[workspace.name] = workspace
        now = datetime.now(UTC)
        self.told.append(
            Event(
                id=len(self.told) + 1,
                at=now,
                workspace=known.id,
                workspace_name=known.name,
                kind=kind,
                message=message,
                seconds=seconds,
            )
        )
        self._wake()

    def write(self, app: str, text: str) -> None:
        self.lines.append(Line(app, text))
        self._wake()

    def _wake(self) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def known(self, ref: str) -> Workspace:
        if self.broken is not None:
            raise self.broken
        for workspace in self.found.values():
            if ref in (workspace.name, workspace.id):
                return workspace
        raise NotFound(
            Problem("workspace-unknown", f"there is no workspace named {ref}", "studiolo ps shows those there are")
        )

    async def workspaces(self, account: Account) -> Sequence[Workspace]:
        if self.broken is not None:
            raise self.broken
        return list(self.found.values())

    async def workspace(self, account: Account, ref: str) -> Workspace:
        return self.known(ref)

    async def expect(self, account: Account, ref: str) -> None:
        self.known(ref)

    async def create(self, account: Account, wish: WorkspaceCreate) -> Workspace:
        document = check_workspace(wish.document, wish.params)
        resolved = resolve(document, self._blocks(), name=wish.name, repository=wish.repository)
        if resolved.name in self.found:
            raise Conflict(
                Problem("name-taken", f"there is a workspace named {resolved.name} already", "choose another name")
            )
        made = a_workspace(
            resolved.name,
            "pending",
            document=resolved.model_dump(mode="json", exclude_defaults=True),
            repository=resolved.repository,
            stages=(),
        )
        self.change(made, "created", "made in project default")
        return made

    def _blocks(self) -> Blocks:
        tree = builtin_blocks().model_dump(mode="json")
        for (kind, name), block in self.own.items():
            tree[kind][name] = block.document
        return Blocks.model_validate(tree)

    async def start(self, account: Account, ref: str, *, rescue: bool = False) -> Workspace:
        return self._ask("rescue" if rescue else "start", ref, "starting")

    async def stop(self, account: Account, ref: str) -> Workspace:
        return self._ask("stop", ref, "stopping")

    async def restart(self, account: Account, ref: str) -> Workspace:
        return self._ask("restart", ref, "pending")

    def _ask(self, verb: str, ref: str, phase: Phase) -> Workspace:
        workspace = self.known(ref)
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((verb, workspace.name))
        changed = workspace.model_copy(update={"phase": phase, "reason": None})
        self.change(changed, "asked", f"asked to {verb}")
        return changed

    async def delete(self, account: Account, ref: str, purge: bool) -> Workspace:
        workspace = self.known(ref)
        self.asked.append(("purge" if purge else "delete", workspace.name))
        self.change(None, "deleted", "deleted", name=workspace.name)
        return workspace

    async def history(self, account: Account, ref: str, after: int = 0, limit: int = 200) -> Sequence[Event]:
        identifier = self.known(ref).id
        return [event for event in self.told if event.workspace == identifier and event.id > after][-limit:]

    async def usage(self, account: Account, ref: str) -> Sequence[UsagePoint]:
        workspace = self.known(ref)
        if workspace.phase not in ("running", "stopped"):
            return []
        now = datetime.now(UTC)
        seed = sum(workspace.name.encode())
        return [
            UsagePoint(
                at=now - timedelta(seconds=10 * (330 - step)),
                cpu=round(abs(math.sin((step + seed) / 23)) ** 6 * 1.3 + 0.05 + (step * seed % 7) / 60, 3),
                memory=int((0.7 + 0.5 * math.tanh((step - 120) / 60) + step / 1400) * GIB),
            )
            for step in range(331 if workspace.phase == "running" else 150)
            if not 130 < step < 160
        ]

    async def blocks(self, account: Account, kind: BlockKind) -> Sequence[Block]:
        builtin = [
            Block(kind=kind, name=name, builtin=True, document=document.model_dump(mode="json", exclude_defaults=True))
            for name, document in sorted(getattr(builtin_blocks(), kind).items())
        ]
        return builtin + [block for (of, _), block in sorted(self.own.items()) if of == kind]

    async def put_block(self, account: Account, kind: BlockKind, name: str, document: dict[str, Any]) -> Block:
        _, checked = check_block(kind, {"name": name, **document})
        stored = checked.model_dump(mode="json", exclude_defaults=True)
        self.own[kind, name] = Block(kind=kind, name=name, builtin=False, document=stored)
        return self.own[kind, name]

    async def delete_block(self, account: Account, kind: BlockKind, name: str) -> None:
        del self.own[kind, name]

    async def machine(self, account: Account) -> Machine:
        return the_machine()

    async def status(self, account: Account) -> Status:
        return the_status()

    async def logs(self, account: Account, ref: str, app: str | None, follow: bool, tail: int) -> AsyncIterator[Line]:
        workspace = self.known(ref)
        if app is not None and app not in [each.name for each in workspace.apps]:
            raise NotFound(Problem("app-unknown", f"{workspace.name} has no app named {app}"))
        seen = max(0, len(self.lines) - tail)
        while True:
            news = self.news
            for line in self.lines[seen:]:
                if app in (None, line.app):
                    yield line
            seen = len(self.lines)
            if not follow:
                return
            await news.wait()

    async def events(self, account: Account, after: int | None, workspace: str | None) -> AsyncIterator[Event]:
        seen = len(self.told) if after is None else after
        self.listeners += 1
        try:
            while True:
                news = self.news
                for event in self.told[seen:]:
                    if workspace in (None, event.workspace):
                        yield event
                seen = len(self.told)
                await news.wait()
        finally:
            self.listeners -= 1


class _Policy:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, with_policy)


def application(studio: FakeStudio) -> FastAPI:
    """The pages as the server puts them together, with an account that is simply there."""

    async def signed_in(request: Request) -> Account:
        if not studio.signed_in:
            raise SignedOut
        request.state.csrf = CSRF
        if request.method != "GET":
            given = request.headers.get("x-csrf") or str((await request.form()).get("csrf", ""))
            if not hmac.compare_digest(given, CSRF):
                raise Denied(Problem("csrf", "this request did not come from a page of Studiolo", "reload the page"))
        return ADA

    app = FastAPI()
    app.add_middleware(_Policy)
    problems.install(app)
    app.include_router(router(studio, signed_in))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.mount("/.studiolo/static", StaticFiles(directory=STATIC))

    @app.get("/sign-in")
    async def sign_in(request: Request, late: bool = False) -> Response:
        spent = Problem(
            "ticket-spent", "this link has been used already, or is too old", "`studiolo open` prints a new one"
        )
        return sign_in_page(request, spent if late else None)

    @app.get("/wake/{name}/{of}")
    async def wake(request: Request, name: str, of: str) -> Response:
        workspace = studio.found[name]
        if any(each.name == of and each.state == "ready" for each in workspace.apps):
            return Response("<!doctype html><title>The app</title><h1>The app itself</h1>", media_type="text/html")
        return render(
            "waking.html",
            request,
            status=503,
            assets="/.studiolo/static",
            workspace=workspace,
            app=of,
            dashboard=f"http://localhost:8800/workspaces/{name}",
            elapsed=4.2,
        )

    @app.get("/.studiolo/ready")
    async def ready() -> Response:
        code = "stopped" if studio.stopped else "still-waking"
        return problems.as_json(503, Problem(code, "it does not answer yet"))

    @app.get("/.studiolo/progress")
    async def progress() -> Response:
        return sse(studio.events(ADA, None, None))

    return app


@contextmanager
def serving(studio: FakeStudio) -> Iterator[str]:
    """The pages on a free port of the loopback; the address."""
    server = uvicorn.Server(
        uvicorn.Config(application(studio), port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    )
    started = threading.Event()

    async def serve() -> None:
        studio.loop = asyncio.get_running_loop()
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        started.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(20), "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        studio.loop = None


def a_full_house() -> FakeStudio:
    """Workspaces in all states, with a history, logs and blocks of one's own."""
    studio = FakeStudio()
    for workspace in the_usual():
        studio.found[workspace.name] = workspace
    tides, census = studio.found["tides"], studio.found["census"]
    begun = datetime.now(UTC) - timedelta(hours=2, minutes=15)
    past: list[tuple[Workspace, str, str, float | None]] = [
        (tides, "created", "made in project default", None),
        (tides, "locked", "uv.lock", 0.21),
        (tides, "built", "48 packages", 6.4),
        (tides, "running", "ready to be used", None),
        (tides, "idle", "unused for 1 h: no kernel was busy, no terminal at work, the last input was 61 min ago", None),
        (tides, "stopped", "nothing runs; the files are kept", None),
        (tides, "asked", "its link was opened", None),
        (tides, "started", "jupyterlab, vscode", 0.35),
        (tides, "running", "ready to be used", None),
        (census, "created", "made in project default", None),
        (census, "failed", "there is no package named pandsa, which requirements.txt:3 asks for", None),
    ]
    for at, (workspace, kind, message, seconds) in enumerate(past):
        studio.told.append(
            Event(
                id=at + 1,
                at=begun + timedelta(minutes=11 * at),
                workspace=workspace.id,
                workspace_name=workspace.name,
                kind=kind,
                message=message,
                seconds=seconds,
            )
        )
    studio.lines = [
        Line("jupyterlab", f"[I 2026-11-21 08:{31 + at // 60:02d}:{at % 60:02d}.000 ServerApp] {text}")
        for at, text in enumerate(
            [
                "jupyter_lsp | extension was successfully linked.",
                "jupyterlab | extension was successfully loaded.",
                "Serving notebooks from local directory: /home/ada/tides",
                "Jupyter Server 2.18.0 is running at: http+unix://jupyterlab.sock/",
                "\x1b[32mKernel started: 2b1d9c1e-8a8f-4b52-a0ad-6d1a1d3dbb7f\x1b[0m",
                "Saving file at /notebooks/spring-tide.ipynb",
            ]
            * 4
        )
    ]
    lines, log = studio.environments.lines, studio.environments.written
    lines["tides"], studio.environments.by_hand["tides"] = a_long_line(), BY_HAND
    for name in ("birdsong", "herbarium", "moraine"):
        lines[name] = [a_generation(1, contents(), current=True)]
        log[name] = ["Resolved 26 packages in 12ms", "Installed 26 packages in 88ms"]
    log["moraine"] = list(studio.found["moraine"].trouble.log)  # type: ignore[union-attr]
    log["tides"] = ["Resolved 26 packages in 12ms", "\x1b[32mPrepared\x1b[0m 3 packages in 1.2s"]
    studio.own["compute", "night-run"] = Block(
        kind="compute", name="night-run", builtin=False, document={"cpu": 6.0, "memory": 24 * GIB}
    )
    studio.own["data", "tide-gauges"] = Block(
        kind="data", name="tide-gauges", builtin=False, document={"name": "tide-gauges", "folder": "/srv/tide-gauges"}
    )
    return studio
