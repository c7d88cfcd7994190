"""What a workspace's kernels and terminals run in: its generation with the person's overlay on top, or in rescue the
least there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studiolo.apps.app import AppKind
from studiolo.control.tools import ToolInstaller
from studiolo.environments import overlay
from studiolo.environments.generations import Generation
from studiolo.environments.kind import Activation, Kind
from studiolo.environments.kinds import ON_HOST
from studiolo.environments.preload import proposed
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.spec.document import App


@dataclass(frozen=True)
class Software:
    title: str
    """What it is called in a list of kernels."""
    activation: Activation
    prefixes: tuple[Path, ...]
    """Where its Python's packages keep shared files, what counts first in front."""
    base: Activation | None = None
    """How the generation alone is entered; None where kernels run in something else."""
    ahead: tuple[str, ...] = ()
    """The modules that are worth importing ahead of need."""


def of(
    generation: Generation,
    kind: Kind,
    name: str,
    home: Path | None,
    layout: Layout,
    ahead: tuple[str, ...] = (),
) -> Software:
    """The generation's, with the overlay in `home` on top (None: without). Makes the overlay where there is none.

    `ahead` are modules worth importing ahead of need.
    Raises `StudioloError` where processes of the host cannot enter it.
    """
    refuse_off_host(generation)
    activation = kind.activate(generation.lock, generation.folder)
    title = f"Python {generation.lock.interpreter} ({name})" if generation.lock.interpreter else f"Python ({name})"
    if activation.interpreter is None:
        return Software(title, activation, ())
    prefix = Path(activation.interpreter).parents[1]
    alone = Software(title, activation, (prefix,), activation, ahead)
    if home is None:
        return alone
    try:
        made = overlay.prepare(home, activation.interpreter, overlay.ensure_shared(layout.cache))
    except OSError:
        return alone  # a home that fills up right now: without what was installed
    entered = Activation((*made.path, *activation.path), {**activation.env, **made.env}, made.interpreter)
    return replace(alone, activation=entered, prefixes=(made.folder, prefix))


def worth_importing(
    generation: Generation, kind: Kind, preload: tuple[str, ...] | None, verdict: Mapping[str, Any] | None
) -> tuple[str, ...]:
    """The modules to import ahead: those of the document, or what is proposed; without what, by the verdict on the
    generation, cannot be imported."""
    wanted = proposed(kind.describe(generation.lock)) if preload is None else preload
    failed = {module for module, why in (verdict or {}).get("preload", {}).items() if why}
    return tuple(module for module in wanted if module not in failed)


def refuse_off_host(generation: Generation) -> None:
    """Raises `StudioloError` for a generation that processes of the host cannot enter."""
    if generation.kind not in ON_HOST:
        raise StudioloError(
            Problem(
                "image-needs-container",
                "its environment is an image, and this machine runs workspaces as processes of its own",
                "say `kind: uv` under environment in studiolo.yaml, or run it where a container backend is",
            )
        )


async def minimal(tools: ToolInstaller, apps: Mapping[str, AppKind]) -> Software:
    """JupyterLab's own Python, which has a kernel and is never built for one workspace. Never fails: where it is not
    installed, there are terminals only."""
    wanted = apps["jupyterlab"].tools(App(name="jupyterlab", kind="jupyterlab"))
    found = await tools.find(wanted) if wanted is not None else None
    if found is None:
        return Software("rescue", Activation(), ())
    programs = found.folder / "bin"
    return Software("rescue", Activation((str(programs),), {}, str(programs / "python")), (found.folder,))
