"""The environments of the small Studio: generations as data, moved at once when a button asks for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from studiolo.control.access import Account
from studiolo.problem import Conflict, NotFound, Problem, StudioloError
from studiolo.resources import (
    Change,
    Difference,
    Exported,
    Generation,
    GenerationDetail,
    OverlayPackage,
    Package,
)

if TYPE_CHECKING:
    from pages_studio import FakeStudio

_PACKAGES = """\
altair 5.5.0 BSD-3-Clause
anywidget 0.9.21 MIT
asttokens 3.0.1 Apache-2.0
attrs 25.4.0 MIT
bottleneck 1.6.0 BSD-2-Clause
cartopy 0.25.0 BSD-3-Clause
certifi 2026.8.4 MPL-2.0
contourpy 1.3.3 BSD-3-Clause
dask 2026.9.0 BSD-3-Clause
fonttools 4.62.0 MIT
ipykernel 7.2.0 BSD-3-Clause
jinja2 3.1.6 BSD-3-Clause
matplotlib 3.11.0 PSF-2.0
narwhals 2.18.1 MIT
netcdf4 1.7.4 MIT
numba 0.65.0 BSD-2-Clause AND Apache-2.0 WITH LLVM-exception
numpy 2.4.2 BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0
pandas 3.0.1 BSD-3-Clause
pillow 12.2.0 MIT-CMU
polars 1.38.0 MIT
pyarrow 24.0.0 Apache-2.0
scipy 1.17.1 BSD-3-Clause
tidal-constituents 0.4.2
utide 0.4.0 MIT
xarray 2026.8.0 Apache-2.0
zarr 3.2.0 MIT"""


def contents(without: Sequence[str] = (), **versions: str) -> tuple[Package, ...]:
    """What an everyday environment holds; `versions` are others than the latest."""
    found = []
    for line in _PACKAGES.splitlines():
        name, version, licence = f"{line} ".split(" ", 2)
        if name not in without:
            found.append(Package(name=name, version=versions.get(name, version), licence=licence.strip()))
    return tuple(found)


def a_generation(number: int, packages: Sequence[Package], **changes: Any) -> GenerationDetail:
    given: dict[str, Any] = {
        "number": number,
        "id": f"{number}f41c2d07be35a18"[:16],
        "kind": "uv",
        "state": "good",
        "built": True,
        "at": datetime.now(UTC) - timedelta(days=3 * (6 - number), hours=3),
        "by": "ada",
        "source": "uv.lock",
        "inputs": {"pyproject.toml": "5d2c" * 16, "uv.lock": f"{number}a9e" * 16},
        "interpreter": "3.12.8",
        "platform": "linux-x86_64",
        "packages": len(packages),
        "seconds": 6.4,
        "builder": "0.3.0",
        "contents": tuple(packages),
        "exports": ("pylock", "requirements", "dockerfile", "flake"),
        "kernel": "ok",
    }
    return GenerationDetail(**{**given, **changes})


def a_long_line() -> list[GenerationDetail]:
    """One generation in each state a person meets; the fifth is in use."""
    first = contents(["zarr", "dask", "numba"], numpy="2.3.5", pandas="2.3.3", utide="0.3.0")
    second = contents(["zarr", "dask"], numpy="2.3.5", pandas="2.3.3")
    third = contents(["zarr"], numpy="2.4.0", pandas="2.3.3")
    relicensed = tuple(
        each.model_copy(update={"version": "1.36.0", "licence": "Apache-2.0"}) if each.name == "polars" else each
        for each in contents(["zarr"], numpy="2.4.1", pandas="3.0.0")
    )
    return [
        a_generation(1, first, built=False, interpreter="3.11.2", seconds=31.8),
        a_generation(2, second, by="grace", seconds=None),
        a_generation(
            3,
            third,
            state="bad",
            kernel="failed",
            reason="its kernel does not start: `import zmq` finds no libzmq.so.5",
        ),
        a_generation(4, relicensed, source="the packages in studiolo.yaml", inputs={}, seconds=8.2),
        a_generation(5, contents(["bottleneck"]), current=True, preload={"pandas": "", "torch": "no such module"}),
        a_generation(6, contents(), state="left", seconds=0.61),
    ]


BY_HAND = (
    OverlayPackage(name="seaborn", version="0.13.2", requested=True, active=True),
    OverlayPackage(name="statsmodels", version="0.14.6", requested=True, active=True),
    OverlayPackage(name="patsy", version="1.0.2", requested=False, active=True),
    OverlayPackage(name="black", version="26.1.0", requested=True, active=False),
)


@dataclass
class FakeEnvironments:
    studio: FakeStudio
    lines: dict[str, list[GenerationDetail]] = field(default_factory=dict)
    by_hand: dict[str, tuple[OverlayPackage, ...]] = field(default_factory=dict)
    written: dict[str, list[str]] = field(default_factory=dict)
    """The log of the latest build."""
    lost: set[int] = field(default_factory=set)
    """Generations whose lock nobody knows any more."""

    def _line(self, ref: str) -> list[GenerationDetail]:
        return self.lines.get(self.studio.known(ref).name, [])

    def _numbered(self, ref: str, number: int | None) -> GenerationDetail:
        for each in self._line(ref):
            if each.number == number or (number is None and each.current):
                if each.number in self.lost:
                    raise StudioloError(Problem("lock-lost", f"the lock of generation {each.number} is not known"))
                return each
        raise NotFound(Problem("generation-unknown", f"there is no generation {number}", "studiolo env ls"))

    async def of_workspace(self, account: Account, ref: str) -> Sequence[Generation]:
        return self._line(ref)

    async def show(self, account: Account, ref: str, number: int | None = None) -> GenerationDetail:
        return self._numbered(ref, number)

    async def compare(
        self, account: Account, ref: str, before: int | None = None, after: int | None = None
    ) -> Difference:
        one = {each.name: each for each in self._numbered(ref, before).contents}
        other = {each.name: each for each in self._numbered(ref, after).contents}
        on_top = self.by_hand.get(self.studio.known(ref).name, ()) if after is None else ()
        other |= {each.name: Package(name=each.name, version=each.version) for each in on_top if each.active}
        return Difference(
            before=self._numbered(ref, before).number,
            after=after,
            added=tuple(other[name] for name in sorted(other.keys() - one.keys())),
            removed=tuple(one[name] for name in sorted(one.keys() - other.keys())),
            changed=tuple(
                Change(
                    name=name,
                    before=one[name].version,
                    after=other[name].version,
                    licence_before=one[name].licence,
                    licence_after=other[name].licence,
                )
                for name in sorted(one.keys() & other.keys())
                if one[name].version != other[name].version
            ),
            overlay=on_top,
        )

    async def log(
        self, account: Account, ref: str, number: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        workspace = self.studio.known(ref)
        if number is not None:
            yield f"built generation {self._numbered(ref, number).number}"
            return
        if workspace.name not in self.written:
            raise NotFound(Problem("generation-none", f"{workspace.name} has no environment yet"))
        seen = 0
        while True:
            news = self.studio.news
            lines = self.written[workspace.name]
            for line in lines[seen:]:
                yield line
            seen = len(lines)
            if not follow or not self.studio.known(ref).renewing:
                return
            await news.wait()

    def wrote(self, name: str, line: str) -> None:
        self.written[name].append(line)
        self.studio.change(self.studio.found[name], "progress", "still at it")

    async def export(self, account: Account, ref: str, form: str, number: int | None = None) -> Exported:
        lines = [f"{each.name}=={each.version}" for each in self._numbered(ref, number).contents]
        if form == "dockerfile":
            return Exported(files={"Dockerfile": "FROM python", "requirements.txt": "\n".join(lines)})
        return Exported(files={"requirements.txt": "\n".join(lines)})

    async def bom(self, account: Account, ref: str, number: int | None = None) -> str:
        components = [{"name": each.name} for each in self._numbered(ref, number).contents]
        return json.dumps({"bomFormat": "CycloneDX", "components": components})

    async def update(self, account: Account, ref: str) -> None:
        self.renewing(ref, "update", progress="resolving 26 packages")

    async def cancel(self, account: Account, ref: str) -> bool:
        workspace = self.studio.known(ref)
        self.studio.asked.append(("cancel", workspace.name))
        self.studio.change(workspace.model_copy(update={"renewing": False, "progress": ""}), "environment", "given up")
        return workspace.renewing

    async def rollback(self, account: Account, ref: str, number: int | None = None) -> None:
        self._move(ref, number, f"rollback {number}")

    async def pin(self, account: Account, ref: str, number: int | None) -> None:
        workspace = self.studio.known(ref)
        self.studio.found[workspace.name] = workspace.model_copy(update={"pinned": number})
        self._move(ref, number, f"pin {number}")
        line = self._line(ref)
        line[:] = [each.model_copy(update={"pinned": each.number == number}) for each in line]

    async def adopt(self, account: Account, ref: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        self.renewing(ref, f"adopt {' '.join(names)}", progress="resolving")
        return tuple(names)

    def renewing(self, ref: str, verb: str, *, progress: str) -> None:
        workspace = self.studio.known(ref)
        if self.studio.refusal is not None:
            raise self.studio.refusal
        if workspace.pinned is not None:
            raise Conflict(Problem("pinned", f"{workspace.name} is pinned", "studiolo env pin --none"))
        self.studio.asked.append((verb, workspace.name))
        changed = workspace.model_copy(update={"renewing": True, "progress": progress})
        self.studio.change(changed, "environment", verb)

    def _move(self, ref: str, number: int | None, verb: str) -> None:
        workspace = self.studio.known(ref)
        if self.studio.refusal is not None:
            raise self.studio.refusal
        if number is not None and self._numbered(ref, number).state == "bad":
            raise Conflict(Problem("generation-bad", f"generation {number} is marked bad"))
        self.studio.asked.append((verb, workspace.name))
        if number is not None:
            line = self._line(ref)
            line[:] = [each.model_copy(update={"current": each.number == number}) for each in line]
        self.studio.change(self.studio.known(ref), "environment", verb)
