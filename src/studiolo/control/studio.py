"""The whole of Studiolo behind one door: what the API and the pages may ask for.

Every call is made for an account, and sees and touches that account's workspaces only. A call that changes what is
desired returns at once; the control loop brings it about.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from studiolo import __version__
from studiolo.backends.backend import Backend, Execution, LogLine, Observation
from studiolo.control import machine
from studiolo.control.access import Access, Account
from studiolo.control.blocks import Library
from studiolo.control.carry_out import Steps
from studiolo.control.collect import KEEP, collect
from studiolo.control.environments import Environments
from studiolo.control.reconcile import Reconciler
from studiolo.control.spares import Spares
from studiolo.control.subject import ask_to_run, count_phases, new_row, refuse_long_labels, runs_alike
from studiolo.control.usage import UsageSampler
from studiolo.control.view import show
from studiolo.control.warming import Warming
from studiolo.daemon import read_pid_file
from studiolo.edge.edge import Edge
from studiolo.names import Label
from studiolo.problem import Conflict, Denied, NotFound, Problem, Unavailable, WrongInput
from studiolo.resources import (
    Block,
    BlockKind,
    Collected,
    Event,
    Machine,
    MachineUse,
    PidStatus,
    Status,
    UsagePoint,
    Workspace,
    WorkspaceCreate,
)
from studiolo.spec.document import Resolved
from studiolo.spec.load import check_workspace
from studiolo.spec.resolve import resolve
from studiolo.store.tables import AccountRow, WorkspaceRow

__all__ = ["Account", "Execution", "LogLine", "Studio"]

DEFAULT_BACKEND = "local"
_POLL = 0.1


class Studio:
    def __init__(
        self,
        steps: Steps,
        reconciler: Reconciler,
        usage: UsageSampler,
        edge: Edge,
        warming: Warming,
        agent_pid: Callable[[], int | None],
    ) -> None:
        self._steps = steps
        self._store = steps.store
        self._journal = steps.journal
        self._reconciler = reconciler
        self._usage = usage
        self._edge = edge
        self._agent_pid = agent_pid
        self._library = Library(steps.store)
        self.environments = Environments(steps, reconciler.wake, self._row, lambda id: reconciler.seen.get(id))
        """What may be asked of workspaces' environments."""
        self.secrets = steps.renewal.secrets
        self.spares = Spares(steps, reconciler, usage)
        self._warming = warming
        self._ending = False  # everything is being shut down

    @property
    def access(self) -> Access:
        return self._steps.access

    # Workspaces

    async def create(self, account: Account, wish: WorkspaceCreate) -> Workspace:
        """Make a workspace and start it. Raises `WrongInput` with all that is wrong, `Conflict` where the name is
        taken (with `replace`: it takes the new document instead, and restarts only if something changed)."""
        document = check_workspace(wish.document, wish.params)
        resolved = resolve(document, await self._library.all(), name=wish.name, repository=wish.repository)
        refuse_long_labels(resolved, account.name)
        stored = resolved.model_dump(mode="json")
        now = self._steps.clock()
        ready = await self.spares.ready(account.id, DEFAULT_BACKEND, resolved) if wish.start else []
        made = ""
        async with self._store.write() as session:
            if wish.start:
                self._refuse_while_ending()
            row = await session.scalar(
                select(WorkspaceRow).where(WorkspaceRow.owner_id == account.id, WorkspaceRow.name == resolved.name)
            )
            if row is None:
                row = await self.spares.take(session, ready, resolved, wish.project)
                made = "taken from those kept ready" if row is not None else "made"
                if row is None:
                    row = new_row(account.id, resolved, DEFAULT_BACKEND, wish.project, now, start=wish.start)
                    session.add(row)
            elif not wish.replace or row.desired == "deleted":
                raise Conflict(
                    Problem(
                        "name-taken",
                        f"there is a workspace named {resolved.name} already",
                        f"studiolo start {resolved.name}, or choose another name with --name",
                    )
                )
            else:
                unchanged = runs_alike(row.document, stored) and row.desired == "running" and row.phase != "failed"
                row.document, row.project = stored, wish.project
                if wish.start and not unchanged:
                    ask_to_run(row, now, relock=True)
        if made:
            await self._record(row, account, "created", f"{made} in project {row.project}")
        return await self._changed(account, row.id)

    async def workspaces(self, account: Account) -> list[Workspace]:
        query = select(WorkspaceRow).where(WorkspaceRow.owner_id == account.id, WorkspaceRow.spare.is_(None))
        async with self._store.read() as session:
            return [self._show(row, account) for row in await session.scalars(query.order_by(WorkspaceRow.name))]

    async def workspace(self, account: Account, ref: str) -> Workspace:
        """By id or name. Raises `NotFound`, also for what belongs to somebody else."""
        return self._show(await self._row(account, ref), account)

    async def expect(self, account: Account, ref: str) -> None:
        """Somebody looks at a workspace that rests, so it will probably be started soon."""
        row = await self._row(account, ref)
        if row.desired == "stopped":
            self._warming.expect(Resolved.model_validate(row.document), row.generation, account.name, row.backend)

    async def observe(self) -> dict[str, Observation]:
        """What runs right now, by workspace id, for who cannot wait for the control loop. Raises `Unavailable`."""
        return {seen.id: seen for backend in self._steps.backends.values() for seen in await backend.observe()}

    async def as_observed(self, account: Account, ref: str, seen: Observation | None) -> Workspace:
        """The workspace with its apps as `observe` saw them. Raises `NotFound`."""
        return self._show_as(await self._row(account, ref), account, seen)

    async def start(
        self, account: Account, ref: str, why: str = "asked to start", *, rescue: bool = False
    ) -> Workspace:
        """Start it, in the environment it had. What runs already is left alone, but for `rescue`: then it starts anew
        in the minimal environment, which needs nothing to be built."""
        if rescue:
            return await self._ask(account, ref, "asked to start in rescue mode", rescue=True, even_if_running=True)
        return await self._ask(account, ref, why)

    async def wake(self, account: Account, ref: str, why: str) -> Workspace:
        """Start it if it was stopped. What has failed stays so until somebody asks for it: a request must not bring an
        app that crashes back again and again. Raises `Unavailable` while everything is being shut down."""
        if (await self._row(account, ref)).desired != "stopped":
            return await self.workspace(account, ref)
        return await self._ask(account, ref, why)

    async def restart(self, account: Account, ref: str) -> Workspace:
        """Start it anew; the environment is looked at again, so what changed in the repository is taken up."""
        return await self._ask(account, ref, "asked to restart", relock=True, even_if_running=True)

    async def _ask(
        self,
        account: Account,
        ref: str,
        why: str,
        *,
        relock: bool = False,
        rescue: bool = False,
        even_if_running: bool = False,
    ) -> Workspace:
        found = await self._row(account, ref)
        async with self._store.write() as session:
            self._refuse_while_ending()
            row = await session.get_one(WorkspaceRow, found.id)
            if row.desired == "deleted":
                raise Conflict(Problem("deleting", f"{row.name} is being deleted", "wait a moment, then make it anew"))
            alive = row.desired == "running" and row.phase != "failed"
            asked = even_if_running or not alive
            if asked:
                ask_to_run(row, self._steps.clock(), relock=relock, rescue=rescue)
        if asked:
            await self._record(row, account, "asked", why)
        return await self._changed(account, row.id)

    async def stop(self, account: Account, ref: str, why: str = "asked to stop") -> Workspace:
        """Stop it. Its files stay, and opening its link wakes it."""
        found = await self._row(account, ref)
        await self._stop(found.id, account.id, None, why)
        return await self._changed(account, found.id)

    async def stop_idle(self, workspace_id: str, run: str, why: str) -> None:
        """Stop this run, if it is still the one that is wanted."""
        async with self._store.read() as session:
            row = await session.get(WorkspaceRow, workspace_id)
        if row is not None:
            await self._stop(workspace_id, row.owner_id, run, why, kind="idle")
            self._reconciler.wake()

    async def stop_all(self, why: str) -> None:
        """Stop every workspace, whoever it belongs to, and keep none ready any more. From now on none is started."""
        self._ending = True
        await self.spares.close()
        async with self._store.read() as session:
            rows = list(await session.scalars(select(WorkspaceRow).where(WorkspaceRow.desired == "running")))
        for row in rows:
            await self._stop(row.id, row.owner_id, None, why)
        self._reconciler.wake()

    async def until_all_rest(self) -> None:
        """Wait until no workspace runs or is on its way to, and no spare is left."""
        while any(phase not in ("stopped", "failed") for phase in await self.phases()) or await self.spares.there():
            await asyncio.sleep(_POLL)

    def _refuse_while_ending(self) -> None:
        """Raises `Unavailable`. Within the transaction that would start something: it comes before all are stopped."""
        if self._ending:
            raise Unavailable(Problem("shutting-down", "everything is being shut down", "studiolo up, then ask again"))

    async def _stop(self, workspace_id: str, owner_id: str, run: str | None, why: str, kind: str = "asked") -> None:
        async with self._store.write() as session:
            row = await session.get_one(WorkspaceRow, workspace_id)
            if row.desired == "deleted" or (run is not None and row.run != run):
                return
            row.desired = "stopped"
            row.relock = None  # who stops it does not want to wait for what was being built
            if row.phase == "failed":
                row.phase, row.reason = "stopped", None
        await self._journal.record(kind, why, account_id=owner_id, workspace=(row.id, row.name))

    async def delete(self, account: Account, ref: str, purge: bool = False) -> Workspace:
        """Stop and forget it. The home is kept unless `purge`."""
        found = await self._row(account, ref)
        async with self._store.write() as session:
            row = await session.get_one(WorkspaceRow, found.id)
            row.desired, row.purge = "deleted", row.purge or purge
        await self._record(row, account, "asked", "asked to delete" + (", files and all" if purge else ""))
        return await self._changed(account, row.id)

    # What goes on in them

    async def history(self, account: Account, ref: str, after: int = 0, limit: int = 200) -> list[Event]:
        row = await self._row(account, ref)
        return await self._journal.history(account.id, row.id, after, limit)

    async def asked(self, account: Account, ref: str) -> datetime | None:
        """When it was last asked to start; None where the history does not go back that far."""
        row = await self._row(account, ref)
        return await self._journal.latest(row.id, ("created", "asked"))

    async def events(self, account: Account, after: int | None, workspace: str | None) -> AsyncIterator[Event]:
        """Events as they happen. Raises `NotFound` for an unknown workspace at the first step."""
        workspace_id = (await self._row(account, workspace)).id if workspace is not None else None
        async for event in self._journal.follow(account.id, after, workspace_id):
            yield event

    async def usage(self, account: Account, ref: str, seconds: float = 3600.0) -> list[UsagePoint]:
        """The points of the last `seconds`, oldest first."""
        row = await self._row(account, ref)
        return await self._usage.points(row.id, self._steps.clock() - seconds)

    async def logs(
        self, account: Account, ref: str, app: str | None = None, follow: bool = False, tail: int = 200
    ) -> AsyncIterator[LogLine]:
        row = await self._row(account, ref)
        names = [found["name"] for found in row.document["apps"]]
        if app is not None and app not in names:
            raise NotFound(Problem("app-unknown", f"{row.name} has no app named {app}", f"one of {', '.join(names)}"))
        async for line in self._backend(row).logs(row.id, app=app, follow=follow, tail=tail):
            yield line

    async def exec(
        self, account: Account, ref: str, argv: Sequence[str], tty: tuple[int, int] | None = None
    ) -> Execution:
        """Run a program inside. Raises `Conflict` where the workspace does not run."""
        row = await self._row(account, ref)
        # While what replaces it is built, the former run goes on.
        goes_on = row.phase in ("pending", "building") and row.id in self._reconciler.seen
        if row.phase != "running" and not goes_on:
            raise Conflict(
                Problem(
                    "not-running",
                    f"{row.name} is {row.phase}, so nothing can be run in it",
                    f"studiolo start {row.name}",
                )
            )
        if not argv:
            raise WrongInput(Problem("no-command", "there is no command to run", f"studiolo exec {row.name} -- python"))
        return await self._backend(row).exec(row.id, argv, tty=tty)

    # The machine

    async def machine(self, account: Account) -> Machine:
        """Capacity, and what this account's workspaces use of it."""
        features = await self._steps.backends[DEFAULT_BACKEND].features()
        why_not = features.explanation or "not supported here"
        limits = {
            "cpu": "enforced" if features.limits_cpu else f"not enforced: {why_not}",
            "memory": "enforced" if features.limits_memory else f"not enforced: {why_not}",
        }
        uses = [
            MachineUse(workspace=found.name, owner=found.owner, cpu=point.cpu, memory=point.memory, disk=point.disk)
            for found in await self.workspaces(account)
            if (point := found.usage) is not None
        ]
        generations = self._steps.renewal.generations
        every, size = await asyncio.to_thread(generations.all), await asyncio.to_thread(generations.disk_usage)
        uses += self.spares.uses(account)
        return machine.describe(self._steps.layout, limits, (len(every), size), tuple(uses))

    async def status(self, account: Account) -> Status:
        layout = self._steps.layout
        control = read_pid_file(layout.run / "control.pid")
        return Status(
            version=__version__,
            url=self._steps.origin,
            home=str(layout.home),
            control_plane=_pid_status(control.pid if control else None),
            host_agent=_pid_status(self._agent_pid()),
            edge=_pid_status(self._edge.pid()),
            relay=_pid_status(self._edge.relay_pid()),
            workspaces=await self.phases(),
            tools={kind: state.words for kind, state in self._steps.tools.default_states(self._steps.apps).items()},
        )

    async def phases(self) -> dict[str, int]:
        return await count_phases(self._store)

    async def collect(
        self, account: Account, keep: int = KEEP, dry_run: bool = False, downloads: bool = False
    ) -> Collected:
        """Remove generations that nobody needs. For the owner of the installation: they are everybody's."""
        if account.role != "owner":
            raise Denied(Problem("not-owner", "only the owner may remove environments, which are everybody's"))
        return await collect(self._steps, keep, dry_run, downloads)

    # Building blocks

    async def blocks(self, account: Account, kind: BlockKind) -> list[Block]:
        """By name, those built in first."""
        return await self._library.list(kind)

    async def block(self, account: Account, kind: BlockKind, name: str) -> Block:
        return await self._library.get(kind, name)

    async def put_block(self, account: Account, kind: BlockKind, name: str, document: Mapping[str, Any]) -> Block:
        """Make or replace. Workspaces that were made from it keep what they were made with."""
        return await self._library.put(kind, name, document)

    async def delete_block(self, account: Account, kind: BlockKind, name: str) -> None:
        await self._library.delete(kind, name)

    # Apps by their address

    async def find(self, label: Label) -> tuple[Account, Workspace] | None:
        """The workspace that a host name speaks of, and its owner."""
        query = (
            select(WorkspaceRow, AccountRow)
            .join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
            .where(AccountRow.name == label.owner, WorkspaceRow.name == label.workspace, WorkspaceRow.spare.is_(None))
        )
        async with self._store.read() as session:
            found = (await session.execute(query)).first()
        if found is None or label.app not in [app["name"] for app in found[0].document["apps"]]:
            return None
        row, owner = found
        account = Account(owner.id, owner.name, owner.role)
        return account, self._show(row, account)

    async def app_label(self, account: Account, ref: str, app: str | None) -> tuple[Label, Workspace]:
        """The label of one app (default: the first). Raises `NotFound`."""
        found = await self.workspace(account, ref)
        names = [status.name for status in found.apps]
        if app is not None and app not in names:
            raise NotFound(Problem("app-unknown", f"{found.name} has no app named {app}", f"one of {', '.join(names)}"))
        return Label(app or names[0], found.name, found.owner), found

    async def _row(self, account: Account, ref: str) -> WorkspaceRow:
        query = select(WorkspaceRow).where(
            WorkspaceRow.owner_id == account.id,
            WorkspaceRow.spare.is_(None),
            or_(WorkspaceRow.name == ref, WorkspaceRow.id == ref),
        )
        async with self._store.read() as session:
            rows = list(await session.scalars(query))
        if not rows:
            raise NotFound(
                Problem("workspace-unknown", f"there is no workspace named {ref}", "studiolo ps shows those there are")
            )
        return next((row for row in rows if row.name == ref), rows[0])

    def _show(self, row: WorkspaceRow, owner: Account) -> Workspace:
        return self._show_as(row, owner, self._reconciler.seen.get(row.id))

    def _show_as(self, row: WorkspaceRow, owner: Account, seen: Observation | None) -> Workspace:
        return show(
            row,
            owner.name,
            layout=self._steps.layout,
            origin=self._steps.origin,
            kinds=self._steps.apps,
            tools=self._steps.tools,
            seen=seen,
            progress=self._steps.progress.get(row.id, ""),
            usage=self._usage.latest.get(row.id),
            pool=self.spares.pool_of(row),
        )

    def _backend(self, row: WorkspaceRow) -> Backend:
        return self._steps.backends[row.backend]

    async def _record(self, row: WorkspaceRow, account: Account, kind: str, message: str) -> None:
        await self._journal.record(kind, message, account_id=account.id, workspace=(row.id, row.name))

    async def _changed(self, account: Account, workspace_id: str) -> Workspace:
        self._reconciler.wake()
        return await self.workspace(account, workspace_id)


def _pid_status(pid: int | None) -> PidStatus:
    return PidStatus(pid=pid, running=pid is not None)
