"""What may be asked of environments: list, compare, go back, stay, renew, take over, check, hand on.

Each call is made for an account and sees that account's workspaces only. What takes effect in a workspace is written
down as desired, and the control loop brings it about.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from packaging.utils import canonicalize_name
from sqlalchemy.ext.asyncio import AsyncSession

from studiolo.backends.backend import Observation
from studiolo.control.access import Account
from studiolo.control.adoption import adopt
from studiolo.control.carry_out import Steps
from studiolo.control.lineage import Line
from studiolo.control.renewal import Relock, in_words
from studiolo.control.subject import as_reason, new_run
from studiolo.control.verification import rebuilt
from studiolo.control.view import imported_ahead
from studiolo.environments import overlay
from studiolo.environments.difference import difference
from studiolo.environments.generations import Generation as Built
from studiolo.environments.kind import ExportFormat, Lock, Package, Upgrade
from studiolo.environments.sbom import bom
from studiolo.problem import Conflict, NotFound, Problem, WrongInput
from studiolo.resources import (
    Change,
    Difference,
    Exported,
    Generation,
    GenerationDetail,
    OverlayPackage,
    Verification,
)
from studiolo.resources import Package as PackageResource
from studiolo.spec.document import Resolved
from studiolo.store.tables import NumberedGenerationRow, WorkspaceRow

_POLL = 0.2

Observed = Callable[[str], Observation | None]
Find = Callable[[Account, str], Awaitable[WorkspaceRow]]


class Environments:
    def __init__(self, steps: Steps, wake: Callable[[], None], find: Find, observed: Observed) -> None:
        """`find` gives a workspace by id or name, or raises `NotFound`; `observed` what a backend says of it."""
        self._steps = steps
        self._renewal = steps.renewal
        self._lineage = steps.renewal.lineage
        self._generations = steps.renewal.generations
        self._wake = wake
        self._find = find
        self._observed = observed

    # Looking

    async def of_workspace(self, account: Account, ref: str) -> list[Generation]:
        """A workspace's, from the first to the latest."""
        row = await self._find(account, ref)
        return [await self._show(each, row) for each in await self._lineage.all(_line(row))]

    async def of_template(self, account: Account, name: str) -> list[Generation]:
        """What workspaces that were made from this stored environment have had."""
        return [await self._show(each, None) for each in await self._lineage.all(Line("template", name))]

    async def show(self, account: Account, ref: str, number: int | None = None) -> GenerationDetail:
        """One generation (default: the current one) with all that is in it."""
        row = await self._find(account, ref)
        found = await self._numbered(row, number)
        lock = await self._lock(found)
        verdict = self._generations.verdict(found.generation) or {}
        seen = self._observed(row.id) if found.generation == row.generation else None
        return GenerationDetail(
            **(await self._show(found, row)).model_dump(),
            contents=tuple(_package(each) for each in await self._packages(lock)),
            exports=self._renewal.kinds[lock.kind].exports,
            kernel=str(verdict.get("kernel", "")),
            preload=imported_ahead(verdict.get("preload", {}), seen.ahead if seen is not None else None),
            notes=tuple(str(note) for note in lock.facts.get("notes", ())),
        )

    async def compare(
        self, account: Account, ref: str, before: int | None = None, after: int | None = None
    ) -> Difference:
        """From generation `before` (default: the current one) to `after`; without `after` to what is in use, the
        current one with what was installed by hand on top."""
        row = await self._find(account, ref)
        one = await self._numbered(row, before)
        other = await self._numbered(row, after)
        locks = [await self._lock(each) for each in (one, other)]
        packages = [list(await self._packages(lock)) for lock in locks]
        installed: tuple[overlay.OverlayPackage, ...] = ()
        if after is None:
            installed = await asyncio.to_thread(overlay.packages, self._steps.layout.workspace_home(row.id))
            on_top = {
                canonicalize_name(each.name): Package(each.name, each.version) for each in installed if each.active
            }
            below = [each for each in packages[1] if canonicalize_name(each.name) not in on_top]
            packages[1] = [*below, *on_top.values()]
        found = difference(packages[0], packages[1])
        return Difference(
            before=one.number,
            after=after,
            added=tuple(_package(each) for each in found.added),
            removed=tuple(_package(each) for each in found.removed),
            changed=tuple(
                Change(
                    name=each.name,
                    before=each.before,
                    after=each.after,
                    licence_before=each.licence_before,
                    licence_after=each.licence_after,
                )
                for each in found.changed
            ),
            overlay=tuple(
                OverlayPackage(name=each.name, version=each.version, requested=each.requested, active=each.active)
                for each in installed
            ),
        )

    async def log(
        self, account: Account, ref: str, number: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """The lines of a build's log: of that generation, else of the build under way, of the one that failed last, or
        of the current generation. With `follow`, new ones as they come until the build ends."""
        row = await self._find(account, ref)
        while follow and number is None and row.id not in self._renewal.building and await self._is_renewing(row.id):
            await asyncio.sleep(_POLL)  # what is built is known once it is locked
        under_way = self._renewal.building.get(row.id)
        lock = (await self._numbered(row, number)).generation if number is not None or under_way is None else under_way
        path, at, rest = self._generations.log(lock), 0, b""
        while True:
            building = self._renewal.building.get(row.id) == lock and await self._is_renewing(row.id)
            # a build's log moves with its folder, and keeps what it said
            path = self._generations.log(lock) or path
            data = await asyncio.to_thread(_read_from, path, at)
            at += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
            if not follow or not building:
                if rest:
                    yield rest.decode(errors="replace")
                return
            await asyncio.sleep(_POLL)

    async def export(self, account: Account, ref: str, form: str, number: int | None = None) -> Exported:
        """The lock of a generation as files for other tools."""
        row = await self._find(account, ref)
        lock = await self._lock(await self._numbered(row, number))
        kind = self._renewal.kinds[lock.kind]
        if form not in kind.exports:
            known = ", ".join(kind.exports) or "nothing"
            raise WrongInput(
                Problem(
                    "export-unknown",
                    f"an environment of kind {lock.kind} cannot be written as {form}",
                    f"one of {known}",
                )
            )
        indexes = await self._renewal.indexes(row.owner_id, Resolved.model_validate(row.document).environment)
        return Exported(files=dict(await kind.export(lock, form, indexes)))

    async def bom(self, account: Account, ref: str, number: int | None = None) -> str:
        """The CycloneDX bill of materials of a generation, as JSON."""
        row = await self._find(account, ref)
        found = await self._numbered(row, number)
        lock = await self._lock(found)
        packages = await self._packages(lock)
        return await asyncio.to_thread(bom, row.name, lock, packages, found.at)

    async def verify(self, account: Account, ref: str, number: int | None = None) -> AsyncIterator[Verification]:
        """Build a generation again from nothing and compare: lines of progress, then the result. Given up where nobody
        listens any more."""
        row = await self._find(account, ref)
        found = await self._numbered(row, number)
        built = self._generations.find(found.generation)
        if built is None:
            raise Conflict(
                Problem(
                    "generation-removed",
                    f"the files of generation {found.number} were removed, so there is nothing to compare with",
                    f"studiolo env rollback {found.number} builds it again",
                )
            )
        indexes = await self._renewal.indexes(row.owner_id, Resolved.model_validate(row.document).environment)
        kind, scratch = self._renewal.kinds[built.kind], self._steps.layout.cache / "scratch"
        async with aclosing(rebuilt(kind, built, scratch, indexes)) as lines:
            async for line in lines:
                yield line

    # Changing

    async def update(self, account: Account, ref: str, packages: Sequence[str] = ()) -> None:
        """Lock again with the newest versions of these packages (none: of all) that fit. A running workspace goes on
        until they are built, and then restarts in them."""
        row = await self._find(account, ref)
        self._refuse_pinned(row)
        words = ", ".join(packages) or "all packages"
        async with self._steps.store.write() as session:
            self._ask(await _fresh(session, row), Relock(upgrade=Upgrade(tuple(packages))))
        await self._asked(row, account, f"asked for newer versions of {words}")

    async def rollback(self, account: Account, ref: str, number: int | None = None) -> None:
        """Go to generation `number` (default: the good one before the current). Those after it are not gone to again by
        themselves."""
        row = await self._find(account, ref)
        self._refuse_pinned(row)
        rows = await self._lineage.all(_line(row))
        current = next((each.number for each in rows if each.generation == row.generation), None)
        if number is None:
            earlier = [each for each in rows if each.state == "good" and (current is None or each.number < current)]
            if not earlier:
                raise Conflict(Problem("nothing-before", "there is no good generation before it", "studiolo env ls"))
            number = earlier[-1].number
        wanted = await self._lineage.get(_line(row), number)
        _refuse_bad(wanted)
        if self._generations.find(wanted.generation) is not None:  # else not before it is built again
            await self._lineage.roll_back(_line(row), number)
        await self._go_to(row, account, wanted, f"asked to roll back to generation {number}")

    async def pin(self, account: Account, ref: str, number: int | None) -> None:
        """Stay on generation `number`, whatever the repository says; None: no longer."""
        row = await self._find(account, ref)
        if number is None:
            async with self._steps.store.write() as session:
                (await _fresh(session, row)).pinned = None
            await self._record(row, account, "environment", "not pinned any more")
            return
        wanted = await self._lineage.get(_line(row), number)
        _refuse_bad(wanted)
        await self._go_to(row, account, wanted, f"pinned to generation {number}", pin=True)

    async def cancel(self, account: Account, ref: str) -> bool:
        """Give up the build under way; whether there was one. What is in use stays in use."""
        row = await self._find(account, ref)
        async with self._steps.store.write() as session:
            fresh = await _fresh(session, row)
            had = fresh.relock is not None or fresh.phase == "building"
            if fresh.relock is not None:  # who waits for it hears of it
                fresh.relock, fresh.trouble = None, as_reason(_given_up(row.name))
            if fresh.desired == "running" and not fresh.rescue and self._built(fresh) is None:
                fresh.desired = "stopped"  # it has nothing to run in
        if had:
            await self._record(row, account, "environment", "asked to give up the build")
        self._wake()
        return had

    async def adopt(self, account: Account, ref: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Take what somebody installed by hand (`names`; none: all that was asked for by name) into the declaration, as
        exact versions, and build the generation that has it. Returns the requirements that were added."""
        row = await self._find(account, ref)
        self._refuse_pinned(row)
        installed = await asyncio.to_thread(overlay.packages, self._steps.layout.workspace_home(row.id))
        async with self._steps.store.write() as session:
            fresh = await _fresh(session, row)
            now = self._built(fresh)
            kind = now.kind if now is not None else None
            adopted = adopt(Resolved.model_validate(fresh.document), installed, names, kind)
            fresh.document = adopted.document.model_dump(mode="json")
            self._ask(fresh, Relock(adopted=adopted.names))
        await self._asked(row, account, f"adopts {', '.join(adopted.requirements)}")
        return adopted.requirements

    async def _go_to(
        self, row: WorkspaceRow, account: Account, wanted: NumberedGenerationRow, why: str, *, pin: bool = False
    ) -> None:
        async with self._steps.store.write() as session:
            fresh = await _fresh(session, row)
            if pin:
                fresh.pinned = wanted.number
            # within the transaction: what is cleared away is chosen in one too
            found = self._generations.find(wanted.generation)
            if found is None:
                self._ask(fresh, Relock(number=wanted.number))
            else:
                self._move(fresh, found, wanted.source)
        await self._asked(row, account, why)

    def _move(self, fresh: WorkspaceRow, found: Built, source: str) -> None:
        """Be on a generation that is there."""
        moved = fresh.generation != found.id
        fresh.generation, fresh.relock, fresh.trouble, fresh.remarks = found.id, None, None, []
        fresh.environment = in_words(found, source)
        if moved:
            fresh.stages = []
        if moved and fresh.desired == "running" and not fresh.rescue:
            self._anew(fresh)  # it restarts in it, or, where it failed in another one, starts

    def _ask(self, fresh: WorkspaceRow, relock: Relock) -> None:
        """Have the environment looked at anew."""
        fresh.relock, fresh.trouble = relock.data, None
        if fresh.desired == "running" and fresh.phase == "failed":
            self._anew(fresh)

    def _anew(self, fresh: WorkspaceRow) -> None:
        fresh.run, fresh.phase, fresh.reason = new_run(), "pending", None
        fresh.phase_since = self._steps.clock()

    async def _asked(self, row: WorkspaceRow, account: Account, why: str) -> None:
        await self._record(row, account, "environment", why)
        self._wake()

    def _built(self, row: WorkspaceRow) -> Built | None:
        return self._generations.find(row.generation or "")

    async def _is_renewing(self, workspace_id: str) -> bool:
        async with self._steps.store.read() as session:
            row = await session.get(WorkspaceRow, workspace_id)
        return row is not None and (row.relock is not None or row.phase == "building")

    def _refuse_pinned(self, row: WorkspaceRow) -> None:
        if row.pinned is not None:
            raise Conflict(
                Problem(
                    "pinned",
                    f"{row.name} is pinned to generation {row.pinned}",
                    "studiolo env pin --none",
                )
            )

    async def _numbered(self, row: WorkspaceRow, number: int | None) -> NumberedGenerationRow:
        if number is not None:
            return await self._lineage.get(_line(row), number)
        found = await self._lineage.find(_line(row), row.generation)
        if found is None:
            raise NotFound(
                Problem("generation-none", f"{row.name} has no environment yet", f"studiolo start {row.name}")
            )
        return found

    async def _lock(self, row: NumberedGenerationRow) -> Lock:
        return await self._renewal.known_lock(row.generation)

    async def _packages(self, lock: Lock) -> Sequence[Package]:
        built = self._generations.find(lock.id)
        return await asyncio.to_thread(
            self._renewal.kinds[lock.kind].describe, lock, built.folder if built is not None else None
        )

    async def _show(self, row: NumberedGenerationRow, workspace: WorkspaceRow | None) -> Generation:
        built = await asyncio.to_thread(self._generations.find, row.generation)
        lock = built.lock if built is not None else await self._lineage.lock(row.generation)
        packages = built.packages if built is not None else len(await self._packages(lock)) if lock is not None else 0
        return Generation(
            number=row.number,
            id=row.generation,
            kind=lock.kind if lock is not None else "",
            state=row.state,
            reason=row.reason,
            current=workspace is not None and workspace.generation == row.generation,
            pinned=workspace is not None and workspace.pinned == row.number,
            built=built is not None,
            at=datetime.fromtimestamp(row.at, UTC),
            by=row.by,
            source=row.source,
            inputs=dict(row.inputs),
            interpreter=lock.interpreter if lock is not None else "",
            platform=lock.platform if lock is not None else "",
            packages=packages,
            seconds=built.seconds if built is not None else None,
            builder=built.builder if built is not None else "",
        )

    async def _record(self, row: WorkspaceRow, account: Account, kind: str, message: str) -> None:
        await self._steps.journal.record(kind, message, account_id=account.id, workspace=(row.id, row.name))


def as_export_format(text: str) -> ExportFormat:
    """Raises `WrongInput` for what is none."""
    known: tuple[ExportFormat, ...] = get_args(ExportFormat)
    for form in known:
        if form == text:
            return form
    raise WrongInput(
        Problem("export-unknown", f"{text[:40]!r} is not a format", f"one of {', '.join(known)}", "format")
    )


async def _fresh(session: AsyncSession, row: WorkspaceRow) -> WorkspaceRow:
    """The row as it is in this transaction. Raises `Conflict` where the workspace is going."""
    fresh = await session.get(WorkspaceRow, row.id)
    if fresh is None or fresh.desired == "deleted":
        raise Conflict(Problem("deleting", f"{row.name} is being deleted", "wait a moment, then make it anew"))
    return fresh


def _given_up(name: str) -> Problem:
    return Problem("build-given-up", "its build was given up, as somebody asked", f"studiolo restart {name}")


def _refuse_bad(wanted: NumberedGenerationRow) -> None:
    if wanted.state == "bad":
        message = f"generation {wanted.number} is marked bad: {wanted.reason}"
        raise Conflict(Problem("generation-bad", message, "a restart that asks for it looks at it again"))


def _line(row: WorkspaceRow) -> Line:
    return Line("workspace", row.id)


def _package(package: Package) -> PackageResource:
    return PackageResource(name=package.name, version=package.version, licence=package.licence, purl=package.purl)


def _read_from(path: Path | None, at: int) -> bytes:
    """What a log holds after byte `at`."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read()
    except OSError:
        return b""
