"""Requests for an app that does not answer yet are held until it does: bounded in number and in time.

Held is what the edge asked, never the request: its body stays with who sent it. Many requests may be held for one
workspace, which is looked at once for all of them: whenever the journal tells something of it, or the backend sees its
apps in another state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from studiolo.backends.backend import Observation
from studiolo.control import waking
from studiolo.control.access import Account
from studiolo.control.studio import Studio
from studiolo.problem import Conflict, NotFound, Problem, StudioloError, Unavailable
from studiolo.resources import Workspace

log = structlog.get_logger()

PER_WORKSPACE = 64
IN_ALL = 512
"""Requests held at once."""

# Seconds between looks at the backend while an app that somebody waits for is starting; and at most this share of the
# time is spent on them. Otherwise, and after a look that failed, they may take longer.
_EVERY = 0.01
_SHARE = 0.2
_SELDOM = 0.25
# Seconds in which the host agent has noticed that an app is gone which somebody could not reach.
_NOTICED = 0.25


class Holding:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._vigils: dict[str, _Vigil] = {}
        self._looking: asyncio.Task[None] | None = None
        self._sooner = asyncio.Event()

    async def hold(
        self, account: Account, workspace: Workspace, app: str, what: waking.Intent, *, lost: bool = False
    ) -> waking.GoOn | waking.Refuse:
        """Start the workspace if this request does, and return once the app answers or it is known that it will not.

        `lost`: the app was thought to answer, and could not be reached. Safe to cancel; what was started goes on.
        """
        if sum(vigil.held for vigil in self._vigils.values()) >= IN_ALL:
            return waking.too_many("workspaces")
        if workspace.id in self._vigils and self._vigils[workspace.id].held >= PER_WORKSPACE:
            return waking.too_many(workspace.name)
        loop = asyncio.get_running_loop()
        patience = waking.PATIENCE[what]
        deadline = loop.time() + patience
        async with self._watched(account, workspace) as vigil:
            if lost:
                await asyncio.sleep(_NOTICED)
            waited = False
            while True:
                news, found = vigil.news, vigil.answer(what, app, waited=waited)
                waited = vigil.workspace is not None
                if isinstance(found, waking.Wake):
                    why = "its link was opened" if what == "opens" else f"{app} was used"
                    try:
                        await self._studio.wake(account, workspace.id, why)
                    except Unavailable as error:
                        return waking.Refuse(error.problem)
                    except (Conflict, NotFound):
                        pass  # it is being deleted
                    await vigil.look()
                elif isinstance(found, waking.Wait):
                    try:
                        async with asyncio.timeout_at(deadline):
                            await asyncio.shield(news)
                    except TimeoutError:
                        return waking.too_late(vigil.workspace or workspace, app, patience)
                else:
                    return found

    @asynccontextmanager
    async def _watched(self, account: Account, workspace: Workspace) -> AsyncIterator[_Vigil]:
        """Have the workspace watched for as long as somebody waits for it."""
        vigil = self._vigils.get(workspace.id)
        if vigil is None:
            vigil = self._vigils[workspace.id] = _Vigil(self._studio, account, workspace.id, self._sooner)
        vigil.held += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="waking")
        try:
            yield vigil
        finally:
            vigil.held -= 1
            if vigil.held == 0:
                del self._vigils[workspace.id]
                vigil.close()
            if not self._vigils and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        """Show each vigil what runs of its workspace, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            self._sooner.clear()
            try:
                seen = await self._studio.observe()
                for workspace_id, vigil in self._vigils.items():
                    vigil.see(seen.get(workspace_id))
            except StudioloError:
                pass  # the host agent is being brought up again
            except Exception:
                # One bad look must not end the loop: everybody who is held waits for the next.
                log.exception("what runs could not be looked at")
                await asyncio.sleep(_SELDOM)
            await asyncio.sleep(max(_EVERY, (loop.time() - begun) * (1 - _SHARE) / _SHARE))
            if not any(vigil.starting for vigil in self._vigils.values()):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._sooner.wait(), _SELDOM)


class _Vigil:
    """One workspace that somebody waits for, as it was at the last look."""

    def __init__(self, studio: Studio, account: Account, workspace_id: str, sooner: asyncio.Event) -> None:
        """Sets `sooner` when its apps are about to answer."""
        self.held = 0
        self.workspace: Workspace | None = None
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._studio = studio
        self._account = account
        self._id = workspace_id
        self._sooner = sooner
        self._seen: Observation | None = None
        self._looked = False
        self._gone = False
        self._poked = asyncio.Event()
        self._one = asyncio.Lock()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._follow())]

    def answer(self, what: waking.Intent, app: str, *, waited: bool) -> waking.Answer:
        if self._gone:
            return waking.Refuse(Problem("deleted", "this workspace is deleted"), status=404)
        if self.workspace is None:
            return waking.Wait()
        return waking.answer(what, self.workspace, app, waited=waited)

    @property
    def starting(self) -> bool:
        """Whether an app of it may answer at any moment: what is being built, installed or queued will not."""
        if self.workspace is None:
            return not self._gone
        under_way = any(app.state in ("starting", "restarting") for app in self.workspace.apps)
        return under_way and self.workspace.phase in ("starting", "running")

    def see(self, seen: Observation | None) -> None:
        """This runs of it now."""
        if not self._looked or seen != self._seen:
            self._seen, self._looked = seen, True
            self._poked.set()

    async def look(self) -> None:
        async with self._one:  # or an earlier look could come after a later one
            try:
                self.workspace = await self._studio.as_observed(self._account, self._id, self._seen)
            except NotFound:
                self._gone = True
        if self.starting:
            self._sooner.set()
        heard, self.news = self.news, asyncio.get_running_loop().create_future()
        heard.set_result(None)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.news.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                async for event in self._studio.events(self._account, None, self._id):
                    # Where each stands in the queue is told to all at every step, and changes no answer.
                    if self._looked and event.kind != "progress":
                        self._poked.set()
            except NotFound:
                return
            except Exception:
                log.exception("listening for a workspace that is waited for failed", id=self._id)
            await asyncio.sleep(_SELDOM)  # it fell behind; what was told meanwhile is looked at
            self._poked.set()

    async def _follow(self) -> None:
        while True:
            await self._poked.wait()
            self._poked.clear()
            try:
                await self.look()
            except Exception:
                log.exception("looking at a workspace that is waited for failed", id=self._id)
                await asyncio.sleep(_SELDOM)
