"""The workspace that a step is about."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from studiolo.control.renewal import Tenant
from studiolo.problem import Problem, StudioloError
from studiolo.resources import Phase
from studiolo.spec.document import Resolved
from studiolo.store.database import Store
from studiolo.store.tables import AccountRow, WorkspaceRow


@dataclass(frozen=True)
class Subject:
    """The workspace a step is about, as loaded; `run` and `document` are what the step was decided on."""

    id: str
    name: str
    owner_id: str
    owner: str
    backend: str
    run: str
    phase: Phase
    document: Resolved
    generation: str | None
    desired: str
    purge: bool
    relock: dict[str, Any] | None = None
    pinned: int | None = None
    rescue: bool = False
    prepared: bool = False

    @property
    def tenant(self) -> Tenant:
        return Tenant(self.id, self.owner_id, self.owner, self.document.template, self.generation, self.pinned)


def new_run() -> str:
    return secrets.token_hex(6)


def as_reason(problem: Problem) -> dict[str, Any]:
    """A problem as the store keeps it."""
    message = f"{problem.where}: {problem.message}" if problem.where else problem.message
    return {"code": problem.code, "message": message, "hint": problem.hint}


def as_problem(error: Exception) -> Problem:
    """What to tell of the error that a step ended with."""
    if isinstance(error, StudioloError):
        return error.problem
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return Problem("system", f"the machine refused: {error.strerror}{where}", "studiolo doctor")
    return Problem("internal", f"Studiolo made a mistake: {error!r}", "see logs/control-plane.log")


async def load_subjects(store: Store) -> list[Subject]:
    """All workspaces, as steps see them."""
    async with store.read() as session:
        rows = (
            await session.execute(
                select(WorkspaceRow, AccountRow.name).join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
            )
        ).all()
    return [
        Subject(
            id=row.id,
            name=row.name,
            owner_id=row.owner_id,
            owner=owner,
            backend=row.backend,
            run=row.run,
            phase=row.phase,  # type: ignore[arg-type]
            document=Resolved.model_validate(row.document),
            generation=row.generation,
            desired=row.desired,
            purge=row.purge,
            relock=row.relock,
            pinned=row.pinned,
            rescue=row.rescue,
            prepared=row.prepared,
        )
        for row, owner in rows
    ]


async def count_phases(store: Store) -> dict[str, int]:
    async with store.read() as session:
        found = await session.execute(select(WorkspaceRow.phase, func.count()).group_by(WorkspaceRow.phase))
        return dict(found.tuples().all())
