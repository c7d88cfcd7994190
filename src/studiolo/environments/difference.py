"""What has changed between two environments. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from studiolo.environments.kind import Package


@dataclass(frozen=True)
class Change:
    """A package that both have. `before` and `after` are versions, the licences are empty where unknown."""

    name: str
    before: str
    after: str
    licence_before: str = ""
    licence_after: str = ""


@dataclass(frozen=True)
class Difference:
    """Each sorted by name."""

    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    changed: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(before: Sequence[Package], after: Sequence[Package]) -> Difference:
    """From one list of packages to another. Names are compared as Python's installers do: `Foo_Bar` is `foo-bar`.

    Where a list has a name more than once (npm, Nix), versions that only one side has are told apart: one for one
    they are a change, the rest are added or removed. A licence counts only where both sides know it.
    """
    old, new = _by_name(before), _by_name(after)
    added: list[Package] = []
    removed: list[Package] = []
    changed: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        gone, come = old.get(name, {}), new.get(name, {})
        both = sorted(gone.keys() & come.keys())
        changed += [_change(gone[each], come[each]) for each in both if _relicensed(gone[each], come[each])]
        left = [gone[version] for version in gone if version not in come]
        fresh = [come[version] for version in come if version not in gone]
        pairs = min(len(left), len(fresh))
        changed += [_change(one, other) for one, other in zip(left[:pairs], fresh[:pairs], strict=True)]
        removed += left[pairs:]
        added += fresh[pairs:]
    return Difference(tuple(added), tuple(removed), tuple(changed))


def _by_name(packages: Sequence[Package]) -> dict[str, dict[str, Package]]:
    found: dict[str, dict[str, Package]] = {}
    for package in sorted(packages, key=lambda each: (each.name, each.version)):
        found.setdefault(canonicalize_name(package.name), {})[package.version] = package
    return found


def _relicensed(one: Package, other: Package) -> bool:
    return bool(one.licence and other.licence and one.licence != other.licence)


def _change(one: Package, other: Package) -> Change:
    return Change(other.name, one.version, other.version, one.licence, other.licence)
