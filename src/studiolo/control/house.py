"""The whole installation put together: what `python -m studiolo.server` runs, and what `down` ends."""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from studiolo.apps.kinds import KINDS as APPS
from studiolo.backends.local.backend import LocalBackend
from studiolo.control.access import Access, Account
from studiolo.control.carry_out import STOP_GRACE, Steps
from studiolo.control.journal import Journal
from studiolo.control.lineage import Lineage
from studiolo.control.queue import FairQueue
from studiolo.control.reconcile import Reconciler
from studiolo.control.renewal import Renewal
from studiolo.control.secrets import Secrets
from studiolo.control.studio import DEFAULT_BACKEND, Studio
from studiolo.control.tools import ToolInstaller, default_tools
from studiolo.control.usage import UsageSampler
from studiolo.control.warming import Warming
from studiolo.control.watch import Watcher
from studiolo.edge.edge import Edge
from studiolo.environments.generations import Generations
from studiolo.environments.kinds import kinds
from studiolo.layout import Layout
from studiolo.names import as_name
from studiolo.problem import StudioloError
from studiolo.process import end_orphans
from studiolo.store.database import Store

log = structlog.get_logger()

# Seconds between looks at nginx and the relay.
_EDGE_EVERY = 1.0
# The slug of a person's name, so that labels stay within a host name.
_OWNER_LENGTH = 16


@dataclass(frozen=True)
class House:
    layout: Layout
    port: int
    studio: Studio
    owner: Account
    edge: Edge
    backend: LocalBackend

    @property
    def origin(self) -> str:
        return origin_of(self.port)

    async def stop_workspaces(self) -> None:
        """Stop every workspace. Raises `TimeoutError` where one does not end."""
        await self.studio.stop_all("Studiolo was shut down")
        async with asyncio.timeout(STOP_GRACE + 15):
            await self.studio.until_all_rest()

    async def close(self) -> None:
        """End the host agent and the edge. Only after `open_house` has ended: until then they are kept up."""
        await self.backend.shutdown()
        await self.edge.stop()


def origin_of(port: int) -> str:
    """Where the dashboard is. Browsers resolve *.localhost by themselves, so no DNS is needed."""
    return "http://localhost" if port == 80 else f"http://localhost:{port}"


@asynccontextmanager
async def open_house(layout: Layout, port: int, report: Callable[[str], None]) -> AsyncIterator[House]:
    """Bring everything up and keep it up; `report` hears what is being done. What runs already is adopted.

    At the end only the control plane's own work ends: workspaces, host agent and edge go on.
    """
    clock = time.time
    report("opening the store")
    store = await Store.open(layout.database)
    try:
        journal = Journal(store, clock)
        await journal.open()
        access = Access(store, layout, clock)
        owner = await access.first_account(as_name(getpass.getuser(), "me")[:_OWNER_LENGTH].strip("-"))
        await access.keep_local_token(owner)
        environments = kinds(layout.cache)
        generations = Generations(layout.generations, layout.cache, environments)
        if orphans := await asyncio.to_thread(end_orphans):
            log.info("ended what an earlier control plane left", processes=orphans)
        await asyncio.to_thread(generations.sweep)
        backend = LocalBackend(layout)
        backends = {DEFAULT_BACKEND: backend}
        tools = ToolInstaller(store, generations, environments, clock, changed=lambda: reconciler.wake())
        steps = Steps(
            store=store,
            layout=layout,
            journal=journal,
            access=access,
            backends=backends,
            renewal=Renewal(Lineage(store, clock), generations, environments, Secrets(store, layout, clock), layout),
            apps=APPS,
            tools=tools,
            queue=FairQueue(max(2, os.cpu_count() or 2)),
            origin=origin_of(port),
            clock=clock,
        )
        reconciler = Reconciler(steps)
        usage = UsageSampler(store, layout, backends, clock)
        edge = Edge(layout)
        warming = Warming(steps, owner.name, DEFAULT_BACKEND)
        studio = Studio(steps, reconciler, usage, edge, warming, backend.agent_pid)
        watcher = Watcher(store, layout, APPS, usage, studio.stop_idle)
        report("starting the host agent")
        agent = backend.agent_pid()
        await backend.ensure()
        await warming.begin()  # as soon as may be: it takes a second, beside all that follows
        report("starting the edge")
        try:
            await edge.ensure(port)
        except BaseException:
            if agent is None:  # nothing ran before, so nothing is left running
                await backend.shutdown()
                await edge.stop()
            raise
        await access.rebuild()
        await reconciler.round()
        for default in default_tools(APPS).values():
            if await tools.find(default) is None:
                tools.want(default)
        tasks = [
            asyncio.create_task(reconciler.run(), name="reconcile"),
            asyncio.create_task(watcher.run(), name="watch"),
            asyncio.create_task(studio.spares.run(), name="spares"),
            asyncio.create_task(warming.run(), name="warm"),
            asyncio.create_task(_keep_edge(edge, port), name="edge"),
        ]
        try:
            yield House(layout, port, studio, owner, edge, backend)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await steps.close()
            await tools.close()
            await generations.settle()
            for kind in environments.values():
                await kind.close()
    finally:
        await store.close()


async def _keep_edge(edge: Edge, port: int) -> None:
    while True:
        await asyncio.sleep(_EDGE_EVERY)
        try:
            await edge.ensure(port)
        except StudioloError as error:
            log.error("the edge cannot be kept up", problem=str(error.problem))
