"""What the pages ask of Studiolo: the part of `control.studio.Studio` that a person can see and press."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from studiolo.control.access import Account
from studiolo.resources import (
    Block,
    BlockKind,
    Difference,
    Event,
    Exported,
    Generation,
    GenerationDetail,
    Machine,
    Status,
    UsagePoint,
    Workspace,
    WorkspaceCreate,
)


class Line(Protocol):
    """A line of an app's log."""

    @property
    def app(self) -> str: ...

    @property
    def text(self) -> str: ...


class Environments(Protocol):
    """What may be asked of workspaces' environments: the part of `control.environments.Environments` that is shown."""

    async def of_workspace(self, account: Account, ref: str) -> Sequence[Generation]: ...

    async def show(self, account: Account, ref: str, number: int | None = None) -> GenerationDetail: ...

    async def compare(
        self, account: Account, ref: str, before: int | None = None, after: int | None = None
    ) -> Difference: ...

    def log(
        self, account: Account, ref: str, number: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]: ...

    async def export(self, account: Account, ref: str, form: str, number: int | None = None) -> Exported: ...

    async def bom(self, account: Account, ref: str, number: int | None = None) -> str: ...

    async def update(self, account: Account, ref: str) -> None: ...

    async def rollback(self, account: Account, ref: str, number: int | None = None) -> None: ...

    async def pin(self, account: Account, ref: str, number: int | None) -> None: ...

    async def cancel(self, account: Account, ref: str) -> bool: ...

    async def adopt(self, account: Account, ref: str, names: Sequence[str] = ()) -> tuple[str, ...]: ...


class Studio(Protocol):
    """Every call is made for an account and raises `StudioloError` for what a person can mend."""

    @property
    def environments(self) -> Environments: ...

    async def workspaces(self, account: Account) -> Sequence[Workspace]: ...

    async def workspace(self, account: Account, ref: str) -> Workspace: ...

    async def create(self, account: Account, wish: WorkspaceCreate) -> Workspace: ...

    async def start(self, account: Account, ref: str, *, rescue: bool = False) -> Workspace: ...

    async def stop(self, account: Account, ref: str) -> Workspace: ...

    async def restart(self, account: Account, ref: str) -> Workspace: ...

    async def delete(self, account: Account, ref: str, purge: bool) -> Workspace: ...

    async def history(self, account: Account, ref: str, after: int = 0, limit: int = 200) -> Sequence[Event]: ...

    async def usage(self, account: Account, ref: str) -> Sequence[UsagePoint]: ...

    async def blocks(self, account: Account, kind: BlockKind) -> Sequence[Block]: ...

    async def put_block(self, account: Account, kind: BlockKind, name: str, document: dict[str, Any]) -> Block: ...

    async def delete_block(self, account: Account, kind: BlockKind, name: str) -> None: ...

    async def machine(self, account: Account) -> Machine: ...

    async def status(self, account: Account) -> Status: ...

    def logs(self, account: Account, ref: str, app: str | None, follow: bool, tail: int) -> AsyncIterator[Line]: ...

    def events(self, account: Account, after: int | None, workspace: str | None) -> AsyncIterator[Event]: ...
