"""What of an earlier lock stays when an environment is locked again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name

from studiolo.environments import package_index, uv_lockfile
from studiolo.environments.kind import Index, Lock, Upgrade
from studiolo.environments.pins import Pin, parse
from studiolo.environments.uv_sources import Place
from studiolo.problem import Problem, WrongInput


@dataclass(frozen=True)
class Preference:
    """`pins` are kept as long as they fit, but for those in `moving`."""

    pins: tuple[Pin, ...] = ()
    moving: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def preference(
    previous: Lock | None,
    upgrade: Upgrade | None,
    *,
    place: Place | None,
    fixed: Collection[str],
    free: Collection[str],
    indexes: Sequence[Index],
) -> Preference:
    """What to hold on to. The repository's own lock has fixed the packages `fixed`: they move where it is kept, not
    here. `free` are those that are asked for beside it. Raises `WrongInput` for a package that cannot move."""
    known = _pins(previous, indexes)
    if upgrade is None:
        return Preference(known)
    if not upgrade.packages:
        if not fixed or place is None:
            return Preference()
        if not free:
            raise _decided_elsewhere(place, "its packages are", "--upgrade")
        return Preference(notes=(f"{place.shown} still decides on its packages: {_way(place, '--upgrade')}",))
    names = tuple(dict.fromkeys(canonicalize_name(each) for each in upgrade.packages))
    for name in names:
        if name in fixed and place is not None:
            raise _decided_elsewhere(place, f"{name} is", f"--upgrade-package {name}")
        if name not in free and name not in {pin.name for pin in known}:
            raise WrongInput(
                Problem("package-not-locked", f"{name} is not in this environment", "`studiolo env show` lists what is")
            )
    return Preference(known, names)


def _pins(previous: Lock | None, indexes: Sequence[Index]) -> tuple[Pin, ...]:
    if previous is None or previous.kind != "uv":
        return ()
    try:
        pins = tuple(pin for pin in parse(previous.text) if pin.version)
    except ValueError:
        return ()
    if package_index.facts(indexes).get("indexes") == previous.facts.get("indexes"):
        return pins
    # the same version may be other files on another index
    return tuple(replace(pin, hashes=()) for pin in pins)


def _decided_elsewhere(place: Place, what: str, option: str) -> WrongInput:
    return WrongInput(
        Problem("locked-in-repository", f"{what} locked by the repository itself", _way(place, option), place.shown)
    )


def _way(place: Place, option: str) -> str:
    command = uv_lockfile.command(place.path, f" {option}") if place.is_uv_lock else f"uv pip compile {option}"
    return f"run `{command}` in the repository and commit the result"
