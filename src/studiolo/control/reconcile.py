"""The control loop: observe, decide, carry out; again and again, for all workspaces.

One task at most is under way for a workspace. Building and starting are given up when something else is desired;
stopping is not. Nothing here relies on having seen an event: `wake` only makes the next round come sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from studiolo.backends.backend import AppObservation, Observation
from studiolo.control import decide
from studiolo.control.carry_out import Steps
from studiolo.control.launch import wanted_tools
from studiolo.control.subject import Subject, as_problem, load_subjects
from studiolo.problem import Problem, StudioloError, Unavailable

log = structlog.get_logger()

# Seconds between rounds when nothing asks for one sooner.
INTERVAL = 1.0
# While an app is on its way: somebody waits for it.
_INTERVAL_STARTING = 0.1


@dataclass
class _Work:
    """What is under way for one workspace."""

    task: asyncio.Task[None]
    step: decide.Step
    subject: Subject


class Reconciler:
    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._work: dict[str, _Work] = {}
        self._starts: dict[str, tuple[str, int]] = {}
        self._apps: dict[str, Mapping[str, AppObservation]] = {}
        """How the apps of each workspace were at the last look."""
        self._sooner = asyncio.Event()
        self.seen: dict[str, Observation] = {}
        """The latest observation of each workspace that runs."""

    def wake(self) -> None:
        self._sooner.set()

    async def run(self) -> None:
        """Until cancelled; then what is under way is given up, and what runs goes on running."""
        try:
            while True:
                self._sooner.clear()
                begun = asyncio.get_running_loop().time()
                try:
                    await self.round()
                except Exception:
                    # One bad round must not end the loop: the next one sees the same world.
                    log.exception("round failed")
                # However often it is woken, half of the time is left to what is under way.
                await asyncio.sleep(min(INTERVAL, asyncio.get_running_loop().time() - begun))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval()):
                        await self._sooner.wait()
        finally:
            tasks = [work.task for work in self._work.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _interval(self) -> float:
        awaited = any(app.state in ("starting", "restarting") for seen in self.seen.values() for app in seen.apps)
        return _INTERVAL_STARTING if awaited else INTERVAL

    async def round(self) -> None:
        """Observe all, decide for each, and set going what is to be done."""
        busy = set(self._work)
        observed: dict[str, Observation] = {}
        silent: set[str] = set()
        for name, backend in self._steps.backends.items():
            try:
                await backend.ensure()
                observed.update({seen.id: seen for seen in await backend.observe()})
            except StudioloError as error:
                # Unknown is not gone: its workspaces are left as they are until it answers again.
                log.warning("backend does not answer", backend=name, problem=str(error.problem))
                silent.add(name)
        subjects = await load_subjects(self._steps.store)
        self.seen = observed if not silent else {**self.seen, **observed}
        for subject in subjects:
            work = self._work.get(subject.id)
            if work is not None:
                self._give_up_if_unwanted(subject, work)
            elif subject.id not in busy and subject.backend not in silent:
                await self._advance(subject, observed.get(subject.id))
        known = {subject.id for subject in subjects}
        for name, backend in self._steps.backends.items():
            for stray in [seen for seen in observed.values() if seen.id not in known] if name not in silent else []:
                log.warning("ending what belongs to no workspace", id=stray.id)
                await backend.delete(stray.id)

    def _give_up_if_unwanted(self, subject: Subject, work: _Work) -> None:
        begun_for = work.subject
        asked = (subject.desired, subject.run, subject.relock, subject.pinned, subject.rescue)
        unwanted = asked != (
            begun_for.desired,
            begun_for.run,
            begun_for.relock,
            begun_for.pinned,
            begun_for.rescue,
        )
        in_the_way = subject.spare is not None and self._somebody_waits
        if (unwanted or in_the_way) and isinstance(work.step, decide.Build | decide.Start):
            work.task.cancel()
            if in_the_way:
                self._starts.pop(subject.id, None)  # that it was not started is no fault of its own

    @property
    def _somebody_waits(self) -> bool:
        """Whether a workspace, which is no spare, is on its way."""
        return any(
            work.subject.spare is None and isinstance(work.step, decide.Build | decide.Start)
            for work in self._work.values()
        )

    async def _advance(self, subject: Subject, seen: Observation | None) -> None:
        await self._note_changes(subject, seen)
        startable = await self._startable(subject)
        run, starts = self._starts.get(subject.id, (subject.run, 0))
        step = decide.next_step(
            decide.Desired(subject.desired, subject.run),  # type: ignore[arg-type]
            decide.Observed(
                phase=subject.phase,
                runtime=decide.Runtime(seen.run, {app.name: app.state for app in seen.apps}, seen.stopping)
                if seen
                else None,
                built=subject.rescue or self._steps.renewal.generations.find(subject.generation or "") is not None,
                startable=startable,
                starts=starts if run == subject.run else 0,
                relock=subject.relock is not None and not _keeps_waiting(subject),
            ),
        )
        if isinstance(step, decide.Wait):
            return
        if subject.spare is not None and isinstance(step, decide.Build | decide.Start) and self._somebody_waits:
            return
        if isinstance(step, decide.Start) and seen is None:
            self._starts[subject.id] = (subject.run, (starts if run == subject.run else 0) + 1)
        task = asyncio.create_task(self._carry_out(subject, seen, step), name=f"{type(step).__name__} {subject.name}")
        self._work[subject.id] = _Work(task, step, subject)

    async def _startable(self, subject: Subject) -> frozenset[str]:
        names = []
        for name, tools in wanted_tools(subject.document, self._steps.apps).items():
            if tools is None or await self._steps.tools.find(tools) is not None:
                names.append(name)
            elif subject.desired == "running":
                self._steps.tools.want(tools)
        return frozenset(names)

    async def _carry_out(self, subject: Subject, seen: Observation | None, step: decide.Step) -> None:
        steps = self._steps
        try:
            match step:
                case decide.Build():
                    await steps.build(subject)
                case decide.Start(apps):
                    await steps.start(subject, apps)
                case decide.Ready():
                    assert seen is not None
                    await steps.ready(subject, seen)
                case decide.Fail(apps, code):
                    await steps.fail(subject, seen, apps, code)
                case decide.Stop():
                    await steps.stop(subject)
                case decide.Stopped():
                    await steps.stopped(subject)
                case decide.Remove():
                    await steps.remove(subject)
                    self._starts.pop(subject.id, None)
                    self._apps.pop(subject.id, None)
        except Unavailable as error:
            log.warning("will try again", workspace=subject.name, problem=str(error.problem))
            await asyncio.sleep(INTERVAL / 4)
        except (StudioloError, OSError) as error:
            await self._step_failed(subject, as_problem(error))
        except Exception as error:
            log.exception("step failed", workspace=subject.name, step=type(step).__name__)
            await self._step_failed(subject, as_problem(error))
        finally:
            self._work.pop(subject.id, None)
            self.wake()

    async def _step_failed(self, subject: Subject, problem: Problem) -> None:
        """Write down why; what runs already is left running. A pause keeps a step that fails again from spinning."""
        if subject.phase == "running" and subject.desired == "running":
            log.warning("an app could not join", workspace=subject.name, problem=str(problem))
        else:
            await self._steps.failed(subject, problem)
        await asyncio.sleep(INTERVAL)

    async def _note_changes(self, subject: Subject, seen: Observation | None) -> None:
        """Tell of apps that became ready or were restarted since the last look."""
        now = {app.name: app for app in seen.apps} if seen is not None and seen.run == subject.run else {}
        before = self._apps.get(subject.id)
        self._apps[subject.id] = now
        if before is None:
            return  # this control plane's first look: what it sees may be long past
        for name, app in now.items():
            last = before.get(name)
            if last is not None and app.restarts > last.restarts:
                await self._tell(subject, "app-restarted", f"{name} is restarted: {app.reason or 'it ended'}")
            if app.state == "ready" and (last is None or last.state != "ready"):
                await self._tell(subject, "app-ready", f"{name} answers")

    async def _tell(self, subject: Subject, kind: str, message: str) -> None:
        await self._steps.journal.record(
            kind, message, account_id=subject.audience, workspace=(subject.id, subject.name)
        )


def _keeps_waiting(subject: Subject) -> bool:
    """Rescue waits for nothing to be built; once it runs, or is stopped, what is broken can be mended."""
    return subject.rescue and subject.desired == "running" and subject.phase != "running"
