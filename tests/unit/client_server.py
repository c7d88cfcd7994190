"""A small real server that speaks `/api/v1` over a Unix socket, to see what the client and the command make of it.

Its `State` is the test's: what is in it is answered, and what was asked is kept in it. Workspaces change phase at once
when asked, by way of the stages a test puts in `starts`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

from studiolo.layout import Layout
from studiolo.problem import Denied, NotFound, Problem, StudioloError
from studiolo.resources import (
    AppStatus,
    Block,
    Event,
    Link,
    PidStatus,
    ProblemDetails,
    Reason,
    Stage,
    Status,
    Token,
    Workspace,
    WorkspaceCreate,
)

TOKEN = "the-token"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def workspace(name: str, **more: Any) -> Workspace:
    values: dict[str, Any] = {
        "id": f"id-{name}",
        "name": name,
        "owner": "ada",
        "project": "default",
        "backend": "local",
        "phase": "running",
        "desired": "running",
        "apps": (AppStatus(name="jupyterlab", kind="jupyterlab", url="http://lab.localhost/", state="ready"),),
        "home": f"/homes/{name}",
        "document": {},
        "created": NOW,
    }
    return Workspace(**values | more)


@dataclass
class State:
    workspaces: dict[str, Workspace] = field(default_factory=dict)
    blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    log: list[str] = field(default_factory=lambda: ["one", "two"])
    starts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What a start goes through: an event's kind, and what changes in the workspace."""
    refuses: StudioloError | None = None
    """What the next request to make a workspace is answered with."""
    asked: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def find(self, ref: str) -> Workspace:
        for found in self.workspaces.values():
            if ref in (found.id, found.name):
                return found
        raise NotFound(Problem("workspace-unknown", f"there is no workspace {ref}", "run `studiolo ps`"))

    def tell(self, ref: str, kind: str, message: str = "") -> None:
        found = self.find(ref)
        self.events.append(
            Event(
                id=len(self.events) + 1,
                at=NOW,
                workspace=found.id,
                workspace_name=found.name,
                kind=kind,
                message=message or kind,
            )
        )
        self.changed.set()
        self.changed = asyncio.Event()

    def change(self, ref: str, **more: Any) -> Workspace:
        found = self.find(ref)
        self.workspaces[found.name] = found.model_copy(update=more)
        return self.workspaces[found.name]

    async def go(self, ref: str) -> None:
        """Start: from one step to the next as the server's loop comes round."""
        for kind, changes in self.starts:
            await asyncio.sleep(0)
            self.change(ref, **changes)
            self.tell(ref, kind, str(changes.get("progress", "")))


STAGES: list[tuple[str, dict[str, Any]]] = [
    ("progress", {"progress": "downloading 3 of 9"}),
    ("locked", {"stages": (Stage(name="locked", seconds=1.25),)}),
    (
        "ready",
        {
            "stages": (Stage(name="locked", seconds=1.25), Stage(name="ready", seconds=3.0, message="jupyterlab")),
            "phase": "running",
        },
    ),
]
FAILS: list[tuple[str, dict[str, Any]]] = [
    ("failed", {"phase": "failed", "reason": Reason(code="no-such-package", message="nope-1 is not there", hint="H")})
]


def application(state: State) -> FastAPI:
    app = FastAPI()
    going: set[asyncio.Task[None]] = set()

    def details(error: StudioloError) -> ProblemDetails:
        return ProblemDetails(
            title="Problem",
            status=error.http_status,
            detail=error.problem.message,
            code=error.problem.code,
            hint=error.problem.hint,
            problems=tuple(vars(problem) for problem in error.problems),
        )

    @app.exception_handler(StudioloError)
    async def refuse(request: Request, error: StudioloError) -> JSONResponse:
        return JSONResponse(details(error).model_dump(), error.http_status, media_type="application/problem+json")

    @app.middleware("http")
    async def signed_in(request: Request, call_next: Any) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return await refuse(request, Denied(Problem("signed-out", "sign in first")))
        answer: Response = await call_next(request)
        return answer

    @app.get("/api/v1/me")
    async def me() -> dict[str, str]:
        return {"name": "ada", "role": "owner"}

    @app.get("/api/v1/status")
    async def status() -> Status:
        up = PidStatus(pid=4711, running=True)
        counts: dict[str, int] = {}
        for each in state.workspaces.values():
            counts[each.phase] = counts.get(each.phase, 0) + 1
        return Status(
            version="0.1.0",
            url="http://localhost:8800",
            home="/data",
            control_plane=up,
            host_agent=up,
            edge=up,
            relay=up,
            workspaces=counts,
            tools={"vscode": "ready"},
        )

    @app.get("/api/v1/broken")
    async def broken() -> Response:
        return Response("<html>bad gateway</html>", 502)

    @app.get("/api/v1/workspaces")
    async def workspaces() -> list[Workspace]:
        return list(state.workspaces.values())

    @app.post("/api/v1/workspaces", status_code=201)
    async def create(wish: WorkspaceCreate) -> Workspace:
        state.asked.append(wish)
        if state.refuses is not None:
            raise state.refuses
        name = wish.name or "unnamed"
        if not state.starts:
            state.workspaces.setdefault(name, workspace(name, repository=wish.repository))
            return state.workspaces[name]
        state.workspaces[name] = workspace(name, phase="pending", repository=wish.repository)
        asked = state.workspaces[name]
        begin(name)
        return asked

    def begin(ref: str) -> None:
        task = asyncio.create_task(state.go(ref))
        going.add(task)
        task.add_done_callback(going.discard)

    @app.get("/api/v1/workspaces/{ref}")
    async def show(ref: str) -> Workspace:
        return state.find(ref)

    @app.delete("/api/v1/workspaces/{ref}", status_code=202)
    async def delete(ref: str, purge: bool = False) -> Workspace:
        found = state.find(ref)
        state.asked.append(("delete", ref, purge))
        del state.workspaces[found.name]
        return found.model_copy(update={"phase": "deleting", "desired": "deleted"})

    @app.post("/api/v1/workspaces/{ref}/{verb}", status_code=202)
    async def change(ref: str, verb: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Any:
        found = state.find(ref)
        state.asked.append((verb, found.name))
        if verb == "tokens":
            return Token(app=(body or {}).get("app") or "jupyterlab", url="http://lab.localhost/", token="secret")
        if verb == "stop":
            return state.change(ref, phase="stopped", desired="stopped")
        asked = state.change(ref, phase="pending", desired="running")
        begin(ref)
        return asked

    @app.get("/api/v1/workspaces/{ref}/logs")
    async def logs(ref: str, app: str | None = None, follow: bool = False, tail: int = 200) -> StreamingResponse:
        state.find(ref)
        state.asked.append(("logs", ref, app, follow, tail))

        async def lines() -> AsyncIterator[str]:
            for text in state.log:
                yield json.dumps({"app": "jupyterlab", "text": text}, ensure_ascii=False) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.get("/api/v1/events")
    async def events(after: int | None = None, workspace: str | None = None) -> StreamingResponse:
        found = state.find(workspace).id if workspace else None

        async def messages() -> AsyncIterator[str]:
            yield ": open\n\n"
            # From the beginning where no id is given: the real one begins now, but a test's start may be over by then.
            seen = after or 0
            while True:
                changed = state.changed
                for event in state.events[seen:]:
                    if found in (None, event.workspace):
                        yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
                seen = len(state.events)
                await changed.wait()

        return StreamingResponse(messages(), media_type="text/event-stream")

    @app.post("/api/v1/links", status_code=201)
    async def links(body: Annotated[dict[str, Any], Body()]) -> Link:
        state.asked.append(("link", body["workspace"], body["app"]))
        if body["workspace"] is not None:
            state.find(body["workspace"])
        return Link(url="http://localhost:8800/sign-in/once", expires=NOW + timedelta(minutes=5))

    @app.get("/api/v1/blocks/{kind}")
    async def blocks(kind: str) -> list[Block]:
        return [block for (of, _), block in state.blocks.items() if of == kind]

    @app.get("/api/v1/blocks/{kind}/{name}")
    async def block(kind: str, name: str) -> Block:
        if (kind, name) not in state.blocks:
            raise NotFound(Problem("block-unknown", f"there is no {kind} {name}"))
        return state.blocks[kind, name]

    @app.put("/api/v1/blocks/{kind}/{name}")
    async def put_block(kind: Any, name: str, document: Annotated[dict[str, Any], Body()]) -> Block:
        state.blocks[kind, name] = Block(kind=kind, name=name, builtin=False, document=document)
        return state.blocks[kind, name]

    @app.delete("/api/v1/blocks/{kind}/{name}", status_code=204)
    async def delete_block(kind: str, name: str) -> None:
        del state.blocks[kind, name]

    @app.websocket("/api/v1/workspaces/{ref}/exec")
    async def execute(socket: WebSocket, ref: str) -> None:
        """Answers `cat` with its input, `size` with its terminal's sizes, anything else as a failing program."""
        await socket.accept()
        asked = await socket.receive_json()
        try:
            state.find(ref)
        except StudioloError as error:
            await socket.send_json({"problem": details(error).model_dump()})
            await socket.close()
            return
        argv, status = asked["argv"], 0
        if argv == ["cat"]:
            while data := (await socket.receive())["bytes"]:
                await socket.send_bytes(b"\x01" + data)
        elif argv == ["size"]:
            await socket.send_bytes(b"\x01" + json.dumps(asked["tty"]).encode())
            await socket.send_bytes(b"\x01" + (await socket.receive_text()).encode())
        elif argv == ["vanish"]:
            await socket.close()
            return
        else:
            await socket.send_bytes(b"\x02" + " ".join(argv).encode() + b": not here\n")
            status = 7
        await socket.send_json({"exit": status})
        await socket.close()

    return app


@contextmanager
def serving(state: State, layout: Layout) -> Iterator[Layout]:
    """Serve it where `Client.local(layout)` looks."""
    layout.prepare()
    layout.token.write_text(TOKEN + "\n")
    config = uvicorn.Config(
        application(state),
        uds=str(layout.control_socket),
        log_config=None,
        lifespan="off",
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        yield layout
    finally:
        server.should_exit = True
        thread.join()
