"""Renewing a workspace's environment: what it should be now, locked, built, looked at, and numbered.

While what is asked for stays the same (the request, and the files it reads), the lock stays the same: a restart brings
no new versions. `Relock.upgrade` asks for them. A generation whose kernel does not start is marked bad and never gone
to, until it does when it is asked for again; one that somebody rolled back from is not gone to again until somebody
asks for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studiolo.control.lineage import Entry, Line, Lineage
from studiolo.control.secrets import Secrets
from studiolo.control.software import refuse_off_host
from studiolo.environments.generations import Generation, Generations
from studiolo.environments.health import examine
from studiolo.environments.kind import Detection, Index, Kind, Lock, Report, Request, Upgrade
from studiolo.environments.kinds import ON_HOST, detect, kind_of_file
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.spec.document import Environment

# How people are told what an environment was made from, where that is not a file.
_SOURCES = {"default": "the default packages", "packages": "the packages in studiolo.yaml"}
_LAST_LINES = 12


@dataclass(frozen=True)
class Relock:
    """How to look at the environment anew. As data: `WorkspaceRow.relock`."""

    upgrade: Upgrade | None = None
    number: int | None = None
    """Go to this generation, and build it again if its files are gone."""
    adopted: tuple[str, ...] = ()
    """Packages that have been taken from the overlay into the declaration."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Relock:
        upgrade = data.get("upgrade")
        return cls(
            Upgrade(tuple(upgrade)) if upgrade is not None else None,
            data.get("number"),
            tuple(data.get("adopted", ())),
        )

    @property
    def data(self) -> dict[str, Any]:
        return {
            **({"upgrade": list(self.upgrade.packages)} if self.upgrade is not None else {}),
            **({"number": self.number} if self.number is not None else {}),
            **({"adopted": list(self.adopted)} if self.adopted else {}),
        }


@dataclass(frozen=True)
class Tenant:
    """Whose environment it is: a workspace, the account it belongs to, and what it has had."""

    id: str
    account_id: str
    account: str
    template: str | None
    generation: str | None
    """The one it has now."""
    pinned: int | None

    @property
    def line(self) -> Line:
        return Line("workspace", self.id)


@dataclass(frozen=True)
class Renewed:
    generation: Generation
    number: int
    source: str
    notes: tuple[str, ...] = ()
    """What a person should know: that it is not the generation that was asked for, and why."""


@dataclass(frozen=True)
class _Asked:
    """What an environment is locked from."""

    kind: str
    reason: str
    """Why it is of that kind."""
    request: Request
    inputs: Mapping[str, str]
    digest: str
    remembered: str
    """Under which its lock is remembered: what somebody got by logging in leads nobody else to it."""


Stage = Callable[[str, float, str], Awaitable[None]]
"""Told when `locked` and `built` have ended: which, when it began (loop time), and words."""


@dataclass
class Renewal:
    lineage: Lineage
    generations: Generations
    kinds: Mapping[str, Kind]
    secrets: Secrets
    layout: Layout
    building: dict[str, str] = field(default_factory=dict)
    """The lock that is being built for each workspace, by its id, or that could not be built last."""
    needed: dict[str, str] = field(default_factory=dict)
    """The generation that each workspace whose environment is being renewed is about to go to. Whoever carries the
    renewal out removes it, once that is written down."""

    async def renew(
        self,
        tenant: Tenant,
        asked: Environment,
        folder: Path | None,
        relock: Relock | None,
        report: Report,
        stage: Stage,
    ) -> Renewed:
        """Raises `StudioloError` where it cannot be had; then nothing has changed but that a bad generation is marked.

        Without `relock` the lock it has is built again. What may have been removed meanwhile is.
        """
        begun = asyncio.get_running_loop().time()
        self.building.pop(tenant.id, None)
        self.needed[tenant.id] = tenant.generation or ""
        before = await self.lineage.find(tenant.line, tenant.generation)
        indexes = await self.indexes(tenant.account_id, asked)
        chosen = tenant.pinned if tenant.pinned is not None else relock.number if relock else None
        if chosen is not None:
            row = await self.lineage.get(tenant.line, chosen)
            entry = Entry(row.generation, tenant.account, row.source, row.request, row.inputs)
            lock = await self.known_lock(row.generation)
        elif before is not None and relock is None:
            entry = Entry(before.generation, tenant.account, before.source, before.request, before.inputs)
            lock = await self.known_lock(before.generation)
        else:
            lock, entry = await self._lock(tenant, asked, folder, relock or Relock(), indexes, report)
        self.needed[tenant.id] = lock.id
        await stage("locked", begun, entry.source)
        known = await self.lineage.find(tenant.line, lock.id)
        explicit = chosen is not None or (relock is not None and relock.upgrade is not None)
        if known is not None and before is not None and known.number != before.number:
            now = self.generations.find(before.generation)
            if known.state == "left" and not explicit and now is not None:
                note = (
                    f"still generation {before.number}: {entry.source} asks for generation {known.number}, which was "
                    f"rolled back from; `studiolo env rollback {known.number}` goes to it"
                )
                return Renewed(now, before.number, before.source, (note,))
        begun = asyncio.get_running_loop().time()
        found = self.generations.find(lock.id)
        generation = found or await self._build(tenant, lock, report, indexes)
        notes, broken = await self._examine(generation, asked.preload or ())
        line, entry = tenant.line, replace(entry, generation=generation.id)
        number = await self.lineage.record(line, entry, "bad" if broken else "good", broken)
        if tenant.template is not None:
            await self.lineage.record(Line("template", tenant.template), entry, "bad" if broken else "good", broken)
        if broken:
            raise StudioloError(
                Problem(
                    "kernel-broken",
                    f"generation {number} was built, but its kernel does not start, so it is marked bad: {broken}",
                    "change the packages, then restart; a restart looks at it again",
                )
            )
        refuse_off_host(generation)
        if tenant.pinned is None and relock is not None and relock.number is not None:
            await self.lineage.roll_back(line, relock.number)
        await stage("built", begun, f"{generation.packages} packages" + (", shared" if found else ""))
        return Renewed(generation, number, entry.source, notes)

    async def fallback(self, tenant: Tenant) -> Renewed | None:
        """The generation to stay on where another cannot be had: the one it has, else its latest good one."""
        rows = await self.lineage.all(tenant.line)
        now = [row for row in rows if row.generation == tenant.generation]
        good = [row for row in reversed(rows) if row.state == "good"]
        for row in (*now, *good):
            found = self.generations.find(row.generation)
            if found is not None and row.state != "bad":
                return Renewed(found, row.number, row.source)
        return None

    async def is_current(self, tenant: Tenant, asked: Environment, folder: Path | None) -> bool:
        """Whether somebody who asks for the same now would get the generation that it has, as far as that is known
        without asking an index. Raises `StudioloError` where it cannot be asked for any more."""
        now = await self.lineage.find(tenant.line, tenant.generation)
        wanted = await self._asked(tenant, asked, folder, await self.indexes(tenant.account_id, asked))
        lock = await self.lineage.remembered(wanted.remembered)
        same = now is not None and now.request == wanted.digest
        return same and (lock is None or lock.id == tenant.generation)

    def log_end(self, tenant_id: str) -> tuple[str, ...]:
        """The last lines of the log of its latest build; none where nothing was built."""
        lock = self.building.get(tenant_id)
        path = self.generations.log(lock) if lock is not None else None
        if path is None:
            return ()
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        return tuple(line[:400] for line in lines if line.strip())[-_LAST_LINES:]

    async def _lock(
        self,
        tenant: Tenant,
        asked: Environment,
        folder: Path | None,
        relock: Relock,
        indexes: Sequence[Index],
        report: Report,
    ) -> tuple[Lock, Entry]:
        wanted = await self._asked(tenant, asked, folder, indexes)
        kind, digest = self.kinds[wanted.kind], wanted.digest
        rows = await self.lineage.all(tenant.line)
        before = next((row for row in rows if row.generation == tenant.generation), None)
        lock: Lock | None = None
        if relock.upgrade is None:
            # Of several that the same request led to, the latest: an update went beyond what the others hold.
            same = [row for row in rows if row.request == digest and row.state != "bad"]
            lock = await (
                self.lineage.lock(same[-1].generation) if same else self.lineage.remembered(wanted.remembered)
            )
        if lock is None:
            previous = await self.lineage.lock(before.generation) if before is not None else None
            fitting = previous if previous is not None and previous.kind == wanted.kind else None
            lock = await kind.lock(replace(wanted.request, previous=fitting, upgrade=relock.upgrade), report)
            await self.lineage.keep(lock, wanted.remembered)
        source = str(lock.facts.get("source", "")) or wanted.reason
        return lock, Entry(lock.id, tenant.account, _SOURCES.get(source, source), digest, wanted.inputs)

    async def _asked(self, tenant: Tenant, asked: Environment, folder: Path | None, indexes: Sequence[Index]) -> _Asked:
        detection = await asyncio.to_thread(choose, asked, folder)
        request = Request(folder, asked.project, asked.packages, asked.python, asked.file, asked.image, tuple(indexes))
        inputs = await asyncio.to_thread(self.kinds[detection.kind].inputs, request)
        digest = digest_of(detection.kind, asked, inputs)
        remembered = digest if all(index.login is None for index in indexes) else f"{digest}:{tenant.account_id}"
        return _Asked(detection.kind, detection.reason, request, inputs, digest, remembered)

    async def _build(self, tenant: Tenant, lock: Lock, report: Report, indexes: Sequence[Index]) -> Generation:
        self.building[tenant.id] = lock.id
        try:
            generation = await self.generations.build(lock, report, indexes)
        except asyncio.CancelledError:
            self.building.pop(tenant.id, None)
            raise
        self.building.pop(tenant.id, None)  # kept where it failed: whose log it is
        return generation

    async def known_lock(self, generation: str) -> Lock:
        """The lock of a generation, whether its files are there or not."""
        found = self.generations.find(generation)
        lock = found.lock if found is not None else await self.lineage.lock(generation)
        if lock is None:
            raise StudioloError(
                Problem(
                    "lock-lost", "its lock is not known any more, so it cannot be built again", "studiolo env update"
                )
            )
        return lock

    async def _examine(self, generation: Generation, preload: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """Notes for people, and why its kernel does not start (empty: it does, or there is none). Looked at once for
        each generation; again for modules that nobody asked about yet, and where its kernel did not start: it may have
        been the machine's doing."""
        verdict = self.generations.verdict(generation.id)
        known = verdict.get("preload", {}) if verdict else {}
        if verdict is None or verdict["kernel"] == "failed" or not set(preload) <= set(known):
            kind = self.kinds[generation.kind]
            activation = kind.activate(generation.lock, generation.folder)
            scratch = self.layout.cache / "scratch"
            scratch.mkdir(parents=True, exist_ok=True)
            health = await examine(activation, tuple(preload), scratch)
            known = {**known, **health.preload}
            verdict = {"kernel": health.kernel, "reason": health.reason, "preload": known}
            await asyncio.to_thread(self.generations.judge, generation.id, verdict)
        notes = [*generation.lock.facts.get("notes", ())]
        notes += [f"preload: {module} is left out: {known[module]}" for module in preload if known.get(module)]
        if verdict["kernel"] == "none":
            notes.append(f"no notebook kernel: {verdict['reason']}")
        return tuple(str(note) for note in notes), verdict["reason"] if verdict["kernel"] == "failed" else ""

    async def indexes(self, account_id: str, asked: Environment) -> tuple[Index, ...]:
        """Where packages come from, with the account's log-ins. Raises `StudioloError` for a secret there is not."""
        found = []
        for index in asked.indexes:
            login = None
            if index.secret is not None:
                user, colon, password = (await self.secrets.get(account_id, index.secret)).partition(":")
                if not colon:
                    raise WrongInput(
                        Problem(
                            "secret-form",
                            f"the secret {index.secret} does not read user:password",
                            f"studiolo secret set {index.secret}",
                            "environment.indexes",
                        )
                    )
                login = (user, password.rstrip("\n"))
            found.append(Index(index.url, index.default, login))
        return tuple(found)


def in_words(generation: Generation, source: str) -> str:
    """An environment in a line: `Python 3.12.4, 48 packages, from uv.lock`."""
    version = f"Python {generation.lock.interpreter}, " if generation.lock.interpreter else ""
    return f"{version}{generation.packages} packages, from {source}"


def choose(asked: Environment, folder: Path | None) -> Detection:
    """The kind that a workspace of this machine uses, and why."""
    where = folder if folder is None or asked.project is None else folder / asked.project
    if asked.kind is not None:
        return Detection(asked.kind, "environment.kind says so", asked.file or "")
    if asked.image is not None:
        return Detection("image", "environment.image names one")
    if asked.file is not None:
        return Detection(kind_of_file(asked.file), f"environment.file names {asked.file}", asked.file)
    # Python, packages and indexes are for kinds that take some on top of what the repository says.
    takes_more = ON_HOST - {"flake"} if asked.packages or asked.python or asked.indexes else ON_HOST
    return detect(where, takes_more)


def digest_of(kind: str, asked: Environment, inputs: Mapping[str, str]) -> str:
    """SHA-256 of all that a lock depends on, but for what the indexes answer. Who may log in there is no part of it."""
    wanted = asked.model_dump(mode="json", exclude={"preload", "indexes"})
    indexes = [[index.url, index.default] for index in asked.indexes]
    material = json.dumps([kind, wanted, indexes, dict(inputs), sysconfig.get_platform()], sort_keys=True)
    return hashlib.sha256(material.encode()).hexdigest()
