"""Workspaces as the API shows them: rows, observations and tools put together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from studiolo.apps.app import AppKind
from studiolo.backends.backend import Ahead, AppObservation, Observation
from studiolo.control.launch import app_url, wanted_tools
from studiolo.control.tools import ToolInstaller
from studiolo.layout import Layout
from studiolo.names import Label
from studiolo.resources import AppStatus, Pool, Reason, Stage, UsagePoint, Workspace
from studiolo.spec.document import App, Resolved
from studiolo.store.tables import WorkspaceRow


def show(
    row: WorkspaceRow,
    owner: str,
    *,
    layout: Layout,
    origin: str,
    kinds: Mapping[str, AppKind],
    tools: ToolInstaller,
    seen: Observation | None,
    progress: str,
    usage: UsagePoint | None,
    pool: Pool | None,
) -> Workspace:
    document = Resolved.model_validate(row.document)
    wanted = wanted_tools(document, kinds)
    # While what replaces it is built, the former run goes on and can be used.
    ours = seen is not None and (seen.run == row.run or (row.phase in ("pending", "building") and not seen.stopping))
    observed = {app.name: app for app in seen.apps} if seen is not None and ours else {}

    def status(app: App) -> AppStatus:
        found = observed.get(app.name)
        needed = wanted[app.name]
        installation = tools.installation(needed) if needed is not None else None
        state, reason = "stopped", ""
        if found is not None:
            state, reason = _state(found, row.phase), found.reason
        elif installation is not None and installation.generation is None and row.desired == "running":
            state = "failed" if installation.problem else "installing"
            reason = str(installation.problem) if installation.problem else installation.progress
        elif row.phase in ("pending", "building", "starting", "running"):
            state = "starting"
        return AppStatus(
            name=app.name,
            kind=app.kind,
            url=app_url(origin, Label(app.name, row.name, owner)) + "/",
            state=state,
            reason=reason,
            restarts=found.restarts if found else 0,
        )

    return Workspace(
        id=row.id,
        name=row.name,
        owner=owner,
        project=row.project,
        backend=row.backend,
        phase=row.phase,
        desired=row.desired,
        reason=Reason(**row.reason) if row.reason else None,
        apps=tuple(status(app) for app in document.apps),
        generation=row.generation,
        pinned=row.pinned,
        rescue=row.rescue,
        renewing=row.relock is not None,
        trouble=Reason(**row.trouble) if row.trouble else None,
        environment=row.environment,
        repository=document.repository,
        home=str(layout.workspace_home(row.id)),
        document=document.model_dump(mode="json", exclude_defaults=True, exclude={"template"}),
        stages=tuple(Stage(**stage) for stage in row.stages),
        progress=progress,
        notes=tuple(row.notes),
        created=datetime.fromtimestamp(row.created, UTC),
        started=datetime.fromtimestamp(row.started, UTC) if row.started is not None else None,
        usage=usage,
        pool=pool,
    )


def _state(found: AppObservation, phase: str) -> str:
    # While a workspace stops, its apps may still answer; nobody should be sent there.
    return "stopped" if phase in ("stopping", "deleting") else found.state


def imported_ahead(verdict: Mapping[str, str], ahead: Ahead | None) -> dict[str, str]:
    """The modules to import ahead in a generation, each with why it is left out; empty where it is not.

    `verdict` is what was found when it was built; `ahead` how it is for the workspace that runs in it, which may leave
    out what can be imported well, as it cannot be shared.
    """
    if ahead is None:
        return dict(verdict)
    if not ahead.ready:
        expected = {**verdict, **dict.fromkeys(ahead.modules, "")}
        return {**{module: why or "not yet" for module, why in expected.items()}, **ahead.left_out}
    failed = {module: why for module, why in verdict.items() if why}
    return {**failed, **dict.fromkeys(ahead.modules, ""), **ahead.left_out}
