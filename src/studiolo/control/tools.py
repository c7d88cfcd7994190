"""The software that apps themselves are made of: installed once per machine, in the background, one after the other.

What is asked for first is installed first, so JupyterLab (seconds) never waits for VS Code (minutes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from studiolo.apps.app import AppKind, Tools
from studiolo.environments.generations import Generation, Generations
from studiolo.environments.kind import Kind, Lock, Progress, Request
from studiolo.problem import Problem, StudioloError
from studiolo.spec.document import App
from studiolo.spec.resolve import KNOWN_APPS
from studiolo.store.database import Store
from studiolo.store.tables import ToolsRow

log = structlog.get_logger()

# Seconds until a failed installation is tried again by a workspace that wants it.
RETRY_AFTER = 600.0


@dataclass
class Installation:
    """The state of one set of tools. Exactly one of the three says something once it has begun."""

    generation: Generation | None = None
    progress: str = ""
    problem: Problem | None = None
    failed_at: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def words(self) -> str:
        """`ready`, `installing: 12 of 165 packages`, `failed: why`, `not installed`."""
        if self.generation is not None:
            return "ready"
        if self.problem is not None:
            return f"failed: {self.problem}"
        return f"installing: {self.progress or 'waiting'}" if self.task is not None else "not installed"


def default_tools(apps: Mapping[str, AppKind]) -> dict[str, Tools]:
    """The tools of each app that needs no more than its name, as it is without extensions. Pure."""
    wanted = {name: apps[kind].tools(App(name=name, kind=kind)) for name, kind in KNOWN_APPS.items()}
    return {name: tools for name, tools in wanted.items() if tools is not None}


class ToolInstaller:
    def __init__(
        self,
        store: Store,
        generations: Generations,
        kinds: Mapping[str, Kind],
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._generations = generations
        self._kinds = kinds
        self._clock = clock
        self._changed = changed
        self._known: dict[Tools, Installation] = {}
        self._turn = asyncio.Lock()

    def installation(self, tools: Tools) -> Installation:
        return self._known.setdefault(tools, Installation())

    def generation(self, tools: Tools) -> Generation | None:
        return self.installation(tools).generation

    async def find(self, tools: Tools) -> Generation | None:
        """The generation, if these tools were installed before, by this control plane or an earlier one."""
        state = self.installation(tools)
        if state.generation is None:
            async with self._store.read() as session:
                row = await session.get(ToolsRow, (tools.kind, " ".join(tools.packages)))
            if row is not None:
                state.generation = self._generations.find(row.generation)
        return state.generation

    def want(self, tools: Tools) -> asyncio.Task[None] | None:
        """Begin to install, unless it is there, has begun, or failed a short while ago. Returns what to wait for."""
        state = self.installation(tools)
        if state.generation is not None:
            return None
        retry = state.problem is not None and asyncio.get_running_loop().time() - state.failed_at > RETRY_AFTER
        if state.task is None or (state.task.done() and retry):
            state.problem = None
            state.task = asyncio.create_task(self._install(tools, state), name=f"install {tools.packages[0]}")
        return state.task

    async def _install(self, tools: Tools, state: Installation) -> None:
        def report(progress: Progress) -> None:
            count = f" ({progress.done} of {progress.total})" if progress.done and progress.total else ""
            state.progress = f"{progress.message}{count}"

        try:
            async with self._turn:
                if await self.find(tools) is None:
                    kind = self._kinds[tools.kind]
                    lock: Lock = await kind.lock(Request(packages=tools.packages), report)
                    # before it is built: what is written down here is never removed
                    async with self._store.write() as session:
                        await session.merge(
                            ToolsRow(
                                kind=tools.kind,
                                packages=" ".join(tools.packages),
                                generation=lock.id,
                                at=self._clock(),
                            )
                        )
                    generation = await self._generations.build(lock, report)
                    state.generation = generation
                    log.info("tools installed", packages=tools.packages, seconds=round(generation.seconds, 1))
        except StudioloError as error:
            state.problem = error.problem
            state.failed_at = asyncio.get_running_loop().time()
            log.warning("tools cannot be installed", packages=tools.packages, problem=str(error.problem))
        except Exception as error:
            # Whatever it was, it must be told and tried again, not look like an installation for ever.
            log.exception("installing tools failed", packages=tools.packages)
            state.problem = Problem(
                "tools-failed", f"they cannot be installed: {error!r}", "see logs/control-plane.log"
            )
            state.failed_at = asyncio.get_running_loop().time()
        finally:
            self._changed()

    def default_states(self, apps: Mapping[str, AppKind]) -> dict[str, Installation]:
        """How it stands with the tools of each app kind as it is without extensions."""
        return {name: self.installation(tools) for name, tools in default_tools(apps).items()}

    async def close(self) -> None:
        """Cancel what is being installed; half an installation is never seen."""
        tasks = [state.task for state in self._known.values() if state.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
