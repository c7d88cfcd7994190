"""Spares made, kept and handed over, as `pool` plans it.

A spare is a row among the workspaces, so the control loop builds, starts, watches and removes it like any of them, and
a control plane that is started anew finds it. Its name is no name, so no address leads to it; who lists or looks up
workspaces leaves it out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

import psutil
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from studiolo.control import repository
from studiolo.control.access import Account
from studiolo.control.carry_out import Steps
from studiolo.control.pool import RESERVE, Plan, Spare, State, Wanted, next_try, plan, pool_of, refusal
from studiolo.control.reconcile import Reconciler
from studiolo.control.subject import Subject, ask_to_run, load_subjects, new_row
from studiolo.control.usage import UsageSampler
from studiolo.problem import StudioloError
from studiolo.resources import MachineUse, Pool
from studiolo.spec.document import Resolved
from studiolo.spec.quantity import format_size
from studiolo.store.tables import WorkspaceRow

log = structlog.get_logger()

# Seconds between two looks at the pools, at whether spares have the environment that would be built now, and at
# whether the repositories that they were cloned from have gone on.
_EVERY = 2.0
_CURRENT_EVERY = 60.0
_HEAD_EVERY = 300.0
# After one was taken over: whoever has it now wants to see its first page.
_CALM = 3.0
# Bytes, until it is known what the document's workspaces really take.
_LIKELY = 256 << 20


class Spares:
    def __init__(self, steps: Steps, reconciler: Reconciler, usage: UsageSampler) -> None:
        self._steps = steps
        self._reconciler = reconciler
        self._usage = usage
        self._outdated: frozenset[str] = frozenset()
        """Those whose environment is not what would be built now."""
        self._behind: frozenset[str] = frozenset()
        """Those whose repository has gone on."""
        self._pools: dict[str, Pool] = {}
        self._kept: Sequence[WorkspaceRow] = ()
        self._closed = False
        self._taken = 0.0
        """When one was last taken over, in loop time."""

    async def run(self) -> None:
        """Until cancelled; the spares go on."""
        checked = cloned = -_HEAD_EVERY
        while True:
            try:
                now = asyncio.get_running_loop().time()
                if now - checked >= _CURRENT_EVERY:
                    self._outdated, checked = await self._find_outdated(), now
                if now - cloned >= _HEAD_EVERY:
                    self._behind, cloned = await self._find_behind(), now
                await self.keep()
            except Exception:
                # One bad look must not end the loop: the next one sees the same world.
                log.exception("the pools were not looked after")
            await asyncio.sleep(_EVERY)

    async def keep(self) -> None:
        """Look at all pools once, and want what is missing or too many."""
        async with self._steps.store.read() as session:
            rows = list(await session.scalars(select(WorkspaceRow)))
            if not any(row.spare is not None or row.document.get("warm") for row in rows):
                self._pools, self._kept = {}, ()
                return
        async with self._steps.store.write() as session:
            if self._closed:
                return
            rows = [row for row in await session.scalars(select(WorkspaceRow)) if row.desired != "deleted"]
            spares = [row for row in rows if row.spare is not None]
            examples = _examples([row for row in rows if row.spare is None])
            wanted = {
                name: Wanted(example.document["warm"], self._likely(name, example, spares))
                for name, example in examples.items()
            }
            available, now = psutil.virtual_memory().available, self._steps.clock()
            step = plan(wanted, [self._as_spare(row) for row in spares], available, now)
            for row in spares:
                if row.id in step.remove:
                    row.desired, row.purge = "deleted", True
                elif row.id in step.retry:
                    ask_to_run(row, now, relock=True)
            if step.make is not None and asyncio.get_running_loop().time() - self._taken >= _CALM:
                session.add(_like(examples[step.make], step.make, now))
        if step != Plan():
            self._reconciler.wake()
        self._kept = [row for row in spares if row.desired != "deleted"]
        self._pools = {name: self._show(name, wish, available, now) for name, wish in wanted.items()}

    async def ready(self, owner_id: str, backend: str, document: Resolved) -> list[str]:
        """The ids of those that a workspace of this document could take over, the best first."""
        async with self._steps.store.read() as session:
            query = select(WorkspaceRow).where(WorkspaceRow.spare == pool_of(owner_id, backend, document))
            rows = list(await session.scalars(query.order_by(WorkspaceRow.created)))
        answering = {row.id for row in rows if self._answers(row, document)}
        if not answering:
            return []
        subjects = [each for each in await load_subjects(self._steps.store) if each.id in answering]
        current = {each.id for each in subjects if await self._is_current(each)}
        self._outdated |= answering - current
        return [row.id for row in rows if row.id in current]

    async def take(
        self, session: AsyncSession, ids: Sequence[str], document: Resolved, project: str
    ) -> WorkspaceRow | None:
        """Make the first that is still there a workspace of this document; None where all have gone to others."""
        for spare_id in ids:
            row = await session.get(WorkspaceRow, spare_id)
            if row is None or row.spare is None or (row.desired, row.phase) != ("running", "running"):
                continue
            now = self._steps.clock()
            made, row.spare = row.created, None
            self._taken = asyncio.get_running_loop().time()
            row.name, row.project, row.document = document.name, project, document.model_dump(mode="json")
            row.created = row.started = row.phase_since = now
            # all was done ahead: nobody has waited for it
            done = [{**stage, "seconds": 0.0} for stage in row.stages if stage["name"] != "ready"]
            row.stages = [*done, {"name": "ready", "seconds": 0.0, "message": "it was kept ready"}]
            if document.repository is not None:
                cloned = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%d %H:%M UTC")
                row.notes = [
                    *row.notes,
                    f"its repository was cloned ahead, at {cloned}: `git pull` brings what is newer",
                ]
            return row
        return None

    def pool_of(self, row: WorkspaceRow) -> Pool | None:
        """The pool that a workspace asks for, as it was at the last look."""
        wanted = int(row.document.get("warm") or 0)
        if not wanted or row.desired == "deleted":
            return None
        document = Resolved.model_validate(row.document)
        why_not = refusal(document)
        if why_not is not None:
            return Pool(wanted=wanted, reason=why_not)
        return self._pools.get(pool_of(row.owner_id, row.backend, document), Pool(wanted=wanted))

    def uses(self, account: Account) -> Sequence[MachineUse]:
        """What this account's spares use of the machine, each under the name of a workspace like it."""
        return [
            MachineUse(
                workspace=row.document["name"],
                owner=account.name,
                spare=True,
                cpu=point.cpu,
                memory=point.memory,
                disk=point.disk,
            )
            for row in self._kept
            if row.owner_id == account.id and (point := self._usage.latest.get(row.id)) is not None
        ]

    async def close(self) -> None:
        """Want none any more: they are removed, and none is made by this control plane."""
        self._closed = True
        async with self._steps.store.write() as session:
            for row in await session.scalars(select(WorkspaceRow).where(WorkspaceRow.spare.is_not(None))):
                row.desired, row.purge = "deleted", True

    async def there(self) -> bool:
        """Whether there is any, also one that is being removed."""
        async with self._steps.store.read() as session:
            return await session.scalar(select(WorkspaceRow.id).where(WorkspaceRow.spare.is_not(None))) is not None

    def _answers(self, row: WorkspaceRow, document: Resolved) -> bool:
        if row.desired != "running" or row.phase != "running" or (document.setup and not row.prepared):
            return False
        seen = self._reconciler.seen.get(row.id)
        return seen is not None and seen.run == row.run and all(app.state == "ready" for app in seen.apps)

    async def _running(self) -> list[Subject]:
        subjects = await load_subjects(self._steps.store)
        return [each for each in subjects if each.spare is not None and each.phase == "running"]

    async def _find_outdated(self) -> frozenset[str]:
        return frozenset([each.id for each in await self._running() if not await self._is_current(each)])

    async def _find_behind(self) -> frozenset[str]:
        """Those whose clone is not what is cloned now. A repository that does not answer is taken to be as it was."""
        heads: dict[str, str | None] = {}
        found = set()
        for spare in await self._running():
            address, home = spare.document.repository, self._steps.layout.workspace_home(spare.id)
            folder = repository.folder_of(address, home)
            if address is None or folder is None:
                continue
            if address not in heads:
                heads[address] = await repository.head_of(address, home)
            if heads[address] is not None and await repository.head_in(folder, home) != heads[address]:
                found.add(spare.id)
        return frozenset(found)

    async def _is_current(self, spare: Subject) -> bool:
        folder = repository.folder_of(spare.document.repository, self._steps.layout.workspace_home(spare.id))
        with contextlib.suppress(StudioloError, OSError):
            return await self._steps.renewal.is_current(spare.tenant, spare.document.environment, folder)
        return False

    def _as_spare(self, row: WorkspaceRow) -> Spare:
        assert row.spare is not None, "others are no spares"
        state: State = "coming"
        if row.phase == "failed":
            state = "failed"
        elif row.phase == "running":
            state = "ready"
        return Spare(row.id, row.spare, state, row.created, row.phase_since, row.id in self._outdated | self._behind)

    def _likely(self, name: str, example: WorkspaceRow, spares: Sequence[WorkspaceRow]) -> int:
        """What one more will take: as much as the largest there is."""
        alike = [example.id, *(row.id for row in spares if row.spare == name)]
        return max((self._usage.latest[each].memory for each in alike if each in self._usage.latest), default=_LIKELY)

    def _show(self, name: str, wish: Wanted, available: int, now: float) -> Pool:
        spares = [row for row in self._kept if row.spare == name]
        ready = [row for row in spares if row.phase == "running"]
        failed = [row for row in spares if row.phase == "failed"]
        reason = ""
        if failed:
            wait = max(0.0, next_try(self._as_spare(failed[0])) - now)
            why = (failed[0].reason or {}).get("message", "it failed")
            reason = f"{why}; it is tried again in {max(1, round(wait / 60))} min"
        elif len(spares) > len(ready):
            reason = "one is on its way"
        elif len(ready) < wish.spares and available - wish.memory < RESERVE:
            needed = format_size(wish.memory + RESERVE)
            reason = f"only {format_size(available)} of memory are available, and one more is made from {needed} on"
        memory = sum(point.memory for row in spares if (point := self._usage.latest.get(row.id)) is not None)
        return Pool(wanted=wish.spares, ready=len(ready), memory=memory, reason=reason)


def _examples(workspaces: Sequence[WorkspaceRow]) -> dict[str, WorkspaceRow]:
    """For each pool that is wanted, the workspace that wants the most spares."""
    found: dict[str, WorkspaceRow] = {}
    for row in sorted(workspaces, key=lambda row: int(row.document.get("warm") or 0)):
        if not row.document.get("warm"):
            continue
        document = Resolved.model_validate(row.document)
        if refusal(document) is None:
            found[pool_of(row.owner_id, row.backend, document)] = row
    return found


def _like(example: WorkspaceRow, name: str, now: float) -> WorkspaceRow:
    """A spare for the document of this workspace."""
    document = Resolved.model_validate(example.document)
    made = new_row(example.owner_id, document, example.backend, example.project, now, start=True)
    made.spare, made.name = name, f"spare--{made.id}"  # with two hyphens no person can call a workspace so
    return made
