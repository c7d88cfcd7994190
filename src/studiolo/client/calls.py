"""Every call of `/api/v1`, described once for both clients. A `ref` is a workspace's id or name."""

from __future__ import annotations

from typing import Any

from studiolo.client.call import Call, Stream, endpoint, stream
from studiolo.client.environments import EnvironmentCalls
from studiolo.client.paths import word, workspace_path
from studiolo.client.secrets import SecretCalls
from studiolo.resources import (
    Account,
    Block,
    BlockKind,
    Event,
    Link,
    Machine,
    Resource,
    Status,
    Token,
    UsagePoint,
    Workspace,
    WorkspaceCreate,
)


class LogLine(Resource):
    """A line that an app printed."""

    app: str
    text: str


class Calls(EnvironmentCalls, SecretCalls):
    """What a client can ask for. Errors are `StudioloError`; those a call expects are named where it is described."""

    @endpoint
    def status(self) -> Call[Status]:
        """Which parts run, and how many workspaces are in which phase."""
        return Call("GET", "/status", Status)

    @endpoint
    def machine(self) -> Call[Machine]:
        """Capacity of the host and what uses it."""
        return Call("GET", "/machine", Machine)

    @endpoint
    def me(self) -> Call[Account]:
        """Whose token this is."""
        return Call("GET", "/me", Account)

    @endpoint
    def schema(self) -> Call[dict[str, Any]]:
        """The JSON Schema of `studiolo.yaml`."""
        return Call("GET", "/schema", dict[str, Any])

    @endpoint
    def workspaces(self) -> Call[list[Workspace]]:
        """All workspaces that this account may see."""
        return Call("GET", "/workspaces", list[Workspace])

    @endpoint
    def workspace(self, ref: str) -> Call[Workspace]:
        """One workspace. Raises `NotFound`."""
        return Call("GET", workspace_path(ref), Workspace)

    @endpoint
    def create(self, wish: WorkspaceCreate) -> Call[Workspace]:
        """Make a workspace, and start it unless told otherwise; returns before it is ready.

        Raises `WrongInput` with all problems of the document, `Conflict` where the name is taken.
        """
        return Call("POST", "/workspaces", Workspace, body=wish)

    @endpoint
    def delete(self, ref: str, *, purge: bool = False) -> Call[Workspace]:
        """Delete a workspace; its home stays unless `purge`. Returns before it is gone."""
        return Call("DELETE", workspace_path(ref), Workspace, query={"purge": purge})

    @endpoint
    def start(self, ref: str, *, rescue: bool = False) -> Call[Workspace]:
        """Wish it running; changes nothing where it runs. Returns before it is ready.

        `rescue`: in a minimal environment that needs nothing to be built, anew where it runs.
        """
        return Call("POST", workspace_path(ref, "start"), Workspace, query={"rescue": rescue or None})

    @endpoint
    def stop(self, ref: str) -> Call[Workspace]:
        """Wish it stopped; changes nothing where it is. Returns before it has stopped."""
        return Call("POST", workspace_path(ref, "stop"), Workspace)

    @endpoint
    def restart(self, ref: str) -> Call[Workspace]:
        """Stop it where it runs, and start it. Returns before it is ready."""
        return Call("POST", workspace_path(ref, "restart"), Workspace)

    @endpoint
    def history(self, ref: str, *, after: int | None = None) -> Call[list[Event]]:
        """What happened to it and why, oldest first."""
        return Call("GET", workspace_path(ref, "history"), list[Event], query={"after": after})

    @endpoint
    def usage(self, ref: str) -> Call[list[UsagePoint]]:
        """Sampled CPU, memory and disk, oldest first."""
        return Call("GET", workspace_path(ref, "usage"), list[UsagePoint])

    @endpoint
    def token(self, ref: str, app: str | None = None) -> Call[Token]:
        """What lets a program into an app (default: the first)."""
        return Call("POST", workspace_path(ref, "tokens"), Token, body={"app": app})

    @endpoint
    def link(self, ref: str | None = None, app: str | None = None) -> Call[Link]:
        """A link that signs one browser in, once: to an app of a workspace, or to the dashboard."""
        return Call("POST", "/links", Link, body={"workspace": ref, "app": app})

    @endpoint
    def blocks(self, kind: BlockKind) -> Call[list[Block]]:
        """Stored and built-in building blocks of one kind."""
        return Call("GET", f"/blocks/{kind}", list[Block])

    @endpoint
    def block(self, kind: BlockKind, name: str) -> Call[Block]:
        """One building block. Raises `NotFound`."""
        return Call("GET", _block(kind, name), Block)

    @endpoint
    def put_block(self, kind: BlockKind, name: str, document: dict[str, Any]) -> Call[Block]:
        """Store a building block, replacing one of that name. Raises `WrongInput`, `Conflict` for a built-in one."""
        return Call("PUT", _block(kind, name), Block, body=document)

    @endpoint
    def delete_block(self, kind: BlockKind, name: str) -> Call[None]:
        """Forget a building block. Workspaces made with it keep what they have."""
        return Call("DELETE", _block(kind, name), type(None))

    @endpoint
    def shutdown(self, *, workspaces: bool = True) -> Call[dict[str, bool]]:
        """End the control plane; with `workspaces`, all workspaces and the other parts before it. Returns at once."""
        return Call("POST", "/shutdown", dict[str, bool], body={"workspaces": workspaces})

    @stream
    def events(
        self, *, after: int | None = None, workspace: str | None = None, quiet: float | None = None
    ) -> Stream[Event]:
        """Events after the one with id `after` (default: from now on), as they happen.

        `quiet`: end after so many seconds of silence.
        """
        return Stream("/events", _event, query={"after": after, "workspace": workspace}, quiet=quiet)

    @stream
    def logs(
        self, ref: str, *, app: str | None = None, follow: bool = False, tail: int | None = None
    ) -> Stream[LogLine]:
        """The last `tail` lines of each app, oldest first; with `follow`, then new ones as they come."""
        query = {"app": app, "follow": follow, "tail": tail}
        return Stream(workspace_path(ref, "logs"), _log_line, query=query)


def _block(kind: BlockKind, name: str) -> str:
    return f"/blocks/{kind}/{word(name, kind)}"


def _event(line: str) -> Event | None:
    # The data of our messages is one line and holds the id and the kind too, so the other fields say nothing new.
    field, _, value = line.partition(":")
    return Event.model_validate_json(value) if field == "data" else None


def _log_line(line: str) -> LogLine | None:
    return LogLine.model_validate_json(line) if line.strip() else None
