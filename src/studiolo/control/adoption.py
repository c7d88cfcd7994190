"""Taking what somebody installed by hand into the declaration of a workspace. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from studiolo.environments.overlay import OverlayPackage
from studiolo.problem import Conflict, NotFound, Problem
from studiolo.spec.document import Resolved


@dataclass(frozen=True)
class Adoption:
    """The document that declares them, what was added to it, and the packages' normal names."""

    document: Resolved
    requirements: tuple[str, ...]
    names: tuple[str, ...]


def adopt(
    document: Resolved, installed: Sequence[OverlayPackage], names: Sequence[str], kind: str | None = None
) -> Adoption:
    """Declare these packages (`names`; none: all that were asked for by name) in the versions that are installed, in
    place of what was declared of the same name. What came from a folder or an address is no release, so it is left out.
    `kind` is that of the environment in use, which may have been detected.

    Raises `Conflict` where there is nothing to adopt or the environment takes no packages, `NotFound` for a name that
    was not installed.
    """
    asked = document.environment
    kind = asked.kind or ("image" if asked.image is not None else kind)
    if kind in ("flake", "image"):
        raise Conflict(
            Problem(
                "adopt-impossible",
                f"an environment of kind {kind} takes no packages of ours",
                "write them into the file that declares it",
            )
        )
    released = [each for each in installed if each.active and not each.editable and not each.origin]
    active = {canonicalize_name(each.name): each for each in released}
    unknown = [name for name in names if canonicalize_name(name) not in active]
    if unknown:
        there = ", ".join(sorted(active)) or "nothing"
        raise NotFound(
            Problem(
                "overlay-unknown",
                f"{', '.join(unknown)} was not installed by hand from an index; {there} was",
                "studiolo env diff",
            )
        )
    chosen = [active[canonicalize_name(name)] for name in names]
    chosen = chosen or [each for each in active.values() if each.requested]
    if not chosen:
        raise Conflict(Problem("overlay-empty", "nothing was installed by hand", "pip install in a terminal"))
    added = tuple(f"{each.name}=={each.version}" for each in chosen)
    stale = {canonicalize_name(each.name) for each in chosen}
    kept = [each for each in asked.packages if canonicalize_name(Requirement(each).name) not in stale]
    environment = asked.model_copy(update={"packages": (*kept, *added)})
    return Adoption(document.model_copy(update={"environment": environment}), added, tuple(sorted(stale)))
