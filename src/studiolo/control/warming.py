"""What is done before it is asked for: what will probably be started has what it is forked from ready."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from studiolo.apps.app import AppKind
from studiolo.backends.backend import Zygote
from studiolo.control import forking, software
from studiolo.control.carry_out import Steps
from studiolo.control.launch import common_variables
from studiolo.environments.kinds import ON_HOST
from studiolo.problem import StudioloError
from studiolo.spec.document import App, Resolved
from studiolo.spec.resolve import KNOWN_APPS

log = structlog.get_logger()

_AGAIN = 30.0
"""Seconds; backends keep what they were asked for longer than this."""


class Warming:
    def __init__(self, steps: Steps, owner: str, backend: str) -> None:
        """`owner` and `backend` are those of workspaces that are not there yet."""
        self._steps = steps
        self._owner = owner
        self._backend = backend
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled: what every workspace begins with is ready."""
        try:
            while True:
                await self.begin()
                await asyncio.sleep(_AGAIN)
        finally:
            for task in self._under_way:
                task.cancel()

    async def begin(self) -> None:
        """Have ready what every workspace begins with. Never fails."""
        with _costing_speed_only():
            apps = [App(name=name, kind=kind) for name, kind in KNOWN_APPS.items()]
            wanted = [zygote for app in apps for zygote in await self._of_app(app, {}, self._owner)]
            await self._steps.backends[self._backend].warm(wanted)

    def expect(self, document: Resolved, generation: str | None, owner: str, backend: str) -> None:
        """A workspace like this will probably be started soon. Returns at once."""
        task = asyncio.create_task(self._prepare(document, generation, owner, backend))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _prepare(self, document: Resolved, generation: str | None, owner: str, backend: str) -> None:
        with _costing_speed_only():
            wanted, own = [], dict(document.env)
            renewal = self._steps.renewal
            built = renewal.generations.find(generation or "")
            if built is not None and built.kind in ON_HOST:
                kind, verdict = renewal.kinds[built.kind], renewal.generations.verdict(built.id)
                ahead = software.worth_importing(built, kind, document.environment.preload, verdict)
                base = kind.activate(built.lock, built.folder)
                own = {**base.env, **own}
                kernels = forking.for_kernels(base, ahead, common_variables(os.environ), document.env, owner)
                wanted += [kernels] if kernels is not None else []
            apps = [zygote for app in document.apps for zygote in await self._of_app(app, own, owner)]
            await self._steps.backends[backend].warm([*apps, *wanted])

    async def _of_app(self, app: App, own: Mapping[str, str], owner: str) -> list[Zygote]:
        """`own` are the variables of its workspace."""
        kind: AppKind = self._steps.apps[app.kind]
        tools = kind.tools(app)
        found = await self._steps.tools.find(tools) if tools is not None else None
        if tools is not None and found is None:
            return []
        beginning = kind.beginning(found.folder if found is not None else None)
        if beginning is None:
            return []
        return [forking.for_app(beginning, common_variables(os.environ), own, owner)]


@contextmanager
def _costing_speed_only() -> Iterator[None]:
    """What fails here is told in the log, and nobody misses it."""
    try:
        yield
    except StudioloError as error:
        log.info("nothing is warmed", problem=str(error.problem))
    except Exception:
        log.exception("nothing is warmed")
