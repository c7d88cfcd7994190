"""The workspace that a step is about."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from studiolo.control.renewal import Tenant
from studiolo.names import LABEL_LENGTH, Label
from studiolo.problem import Problem, StudioloError, WrongInput
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
    spare: str | None = None
    """The pool that it is a spare of."""

    @property
    def audience(self) -> str | None:
        """The account that is told what happens to it; nobody where it is a spare."""
        return self.owner_id if self.spare is None else None

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
    """All workspaces, as steps see them; spares come last."""
    query = (
        select(WorkspaceRow, AccountRow.name)
        .join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
        .order_by(WorkspaceRow.spare.is_not(None))
    )
    async with store.read() as session:
        rows = (await session.execute(query)).all()
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
            spare=row.spare,
        )
        for row, owner in rows
    ]


async def count_phases(store: Store) -> dict[str, int]:
    """How many workspaces are in each phase."""
    query = select(WorkspaceRow.phase, func.count()).where(WorkspaceRow.spare.is_(None)).group_by(WorkspaceRow.phase)
    async with store.read() as session:
        return dict((await session.execute(query)).tuples().all())


def new_row(owner_id: str, document: Resolved, backend: str, project: str, now: float, *, start: bool) -> WorkspaceRow:
    """A workspace that has just been made, with an id of its own. `now` is Unix seconds."""
    return WorkspaceRow(
        id=secrets.token_hex(5),
        owner_id=owner_id,
        name=document.name,
        project=project,
        backend=backend,
        document=document.model_dump(mode="json"),
        created=now,
        desired="running" if start else "stopped",
        run=new_run(),
        phase="pending" if start else "stopped",
        phase_since=now,
        reason=None,
        started=None,
        generation=None,
        relock=None,
        pinned=None,
        stages=[],
        notes=[],
    )


def refuse_long_labels(document: Resolved, owner: str) -> None:
    """Raises `WrongInput` where an app's address would be longer than a host name's label may be."""
    longest = max((str(Label(app.name, document.name, owner)) for app in document.apps), key=len)
    if len(longest) > LABEL_LENGTH:
        raise WrongInput(
            Problem(
                "name-too-long",
                f"the address {longest} would have {len(longest)} characters, and {LABEL_LENGTH} is the limit",
                f"shorten the name by {len(longest) - LABEL_LENGTH} with --name",
                "name",
            )
        )


def runs_alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a workspace need not be restarted for the new document, both as the store keeps them: how many spares
    there are of it changes nothing for itself."""
    return {**before, "warm": 0} == {**after, "warm": 0}


def ask_to_run(row: WorkspaceRow, now: float, *, relock: bool, rescue: bool = False) -> None:
    """Want a new run of it, with `relock` in an environment that is looked at anew."""
    row.desired, row.run, row.reason, row.rescue = "running", new_run(), None, rescue
    row.stages = [] if relock else [stage for stage in row.stages if stage["name"] in ("locked", "built")]
    if relock:
        row.relock, row.trouble = {}, None
    row.phase, row.phase_since = "pending", now
