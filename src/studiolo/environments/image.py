"""Environments that are images: named and pinned by digest, or built from a Dockerfile with the engine that is there.

The image itself lies in the engine, kept by a name of its own (`localhost/studiolo-environment:<lock id>`); the
generation's folder says which it is and what is in it. A Dockerfile's lock holds its text, the digests of the images it
starts from and the hash of the files it copies, so that it is built from the same again. What its instructions download
may differ each time: only the packages that come out are compared when it is verified.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studiolo.environments import image_context, image_features
from studiolo.environments.build_log import BuildLog
from studiolo.environments.engine import BuildFailed, Engine, repository_digest
from studiolo.environments.image_dockerfile import Dockerfile
from studiolo.environments.image_packages import read_packages
from studiolo.environments.image_progress import BuildProgress
from studiolo.environments.image_reference import Reference
from studiolo.environments.image_source import Source, find
from studiolo.environments.kind import (
    Activation,
    Detection,
    ExportFormat,
    Index,
    Lock,
    Package,
    Progress,
    Report,
    Request,
)
from studiolo.problem import Problem, StudioloError, Unavailable, WrongInput

_NAME = "localhost/studiolo-environment"
_BASE = "localhost/studiolo-base"
_BUILD_LIMIT = 4 * 3600.0


class ImageKind:
    """`cache` keeps the files that images are built from; images and layers are the engine's to keep."""

    name = "image"
    in_place = False
    exports: tuple[ExportFormat, ...] = ("dockerfile",)
    unlike: tuple[str, ...] = ("build.log", "build.json", "image.json")

    def __init__(self, cache: Path) -> None:
        self._contexts = cache / "contexts"

    def detect(self, folder: Path) -> Detection | None:
        source = find(folder)
        return Detection(self.name, f"{source} found", source) if source else None

    def inputs(self, request: Request) -> Mapping[str, str]:
        source = Source.of(request)
        found = dict(source.digests)
        if source.dockerfile is not None:
            found[source.shown_context] = image_context.digest(source.entries())
        if source.features:
            features, entries, _ = source.added()
            found[", ".join(feature.folder for feature in features)] = image_context.digest(entries)
        return found

    async def lock(self, request: Request, report: Report) -> Lock:
        source = await asyncio.to_thread(Source.of, request)
        before = _pins(request)
        async with await Engine.find() as engine:
            if source.dockerfile is None:
                pinned = await self._pin(engine, source.image, source.where, before, report)
                document: dict[str, Any] = {"kind": "image", "reference": source.image, "image": pinned.text}
            else:
                bases = {}
                for base in source.dockerfile.bases:
                    where = f"{source.dockerfile.where}:{base.line}:1"
                    pinned = await self._pin(engine, base.reference, where, before, report)
                    await _refuse_triggers(engine, pinned, where)
                    bases[base.reference] = pinned.text
                report(Progress("collecting the files that the image is built from"))
                context = await asyncio.to_thread(lambda: image_context.keep(source.entries(), self._contexts))
                document = {
                    "kind": "dockerfile",
                    "file": source.dockerfile.where,
                    "name": source.name,
                    "dockerfile": source.dockerfile.text,
                    "arguments": dict(source.arguments),
                    "target": source.target,
                    "bases": bases,
                    "context": context,
                }
            facts: dict[str, Any] = {"source": source.shown, "engine": engine.name}
            if source.features:
                features, entries, places = await asyncio.to_thread(source.added)
                document["features"] = image_features.as_data(features)
                document["features_context"] = await asyncio.to_thread(image_context.keep, entries, self._contexts)
                facts["features"] = list(places)
            text = json.dumps({**document, "platform": engine.platform}, indent=1, sort_keys=True) + "\n"
            return Lock(self.name, text, "", engine.platform, facts)

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        await self._build(lock, folder, report, f"{_NAME}:{lock.id}", fresh=False)

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        name = f"{_NAME}:{lock.id}-again"
        try:
            await self._build(lock, folder, report, name, fresh=True)
        finally:
            await asyncio.shield(_remove(name))

    async def forget(self, lock: Lock) -> None:
        """Let the engine forget the image, once its generation is gone. Idempotent."""
        await _remove(f"{_NAME}:{lock.id}")

    def activate(self, lock: Lock, folder: Path) -> Activation:
        """The image's own variables. The interpreter, if any, is in the image."""
        return Activation(env=_image(folder).get("env", {}))

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        document = json.loads(lock.text)
        images = [document["image"]] if document["kind"] == "image" else document["bases"].values()
        references = {Reference.parse(text) for text in images}
        found = {Package(each.name, each.digest, "", each.purl) for each in references}
        if folder is not None:
            try:
                listed = json.loads((folder / "packages.json").read_text(encoding="utf-8"))
                found |= {Package(**each) for each in listed}
            except (OSError, ValueError, TypeError):
                pass
        return tuple(sorted(found, key=lambda package: (package.name, package.version, package.purl)))

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        document = json.loads(lock.text)
        if document["kind"] == "image":
            return {"Dockerfile": f"FROM {document['image']}\n"}
        return {"Dockerfile": _dockerfile(document).pinned(document["bases"])}

    async def close(self) -> None:
        """Nothing goes on after a build."""

    async def _pin(self, engine: Engine, text: str, where: str, before: Mapping[str, str], report: Report) -> Reference:
        """The image that a name stands for now, or stood for when it was locked before."""
        reference = Reference.parse(text, where)
        if reference.digest and reference.repository:
            return reference
        if text in before:
            return Reference.parse(before[text])
        try:
            if not reference.repository or reference.local:
                raise Unavailable(_gone(reference, where))
            return reference.at(await engine.pull(reference, report, where))
        except (Unavailable, WrongInput):
            found = await engine.inspect(reference.text)
            if found is None:
                raise
            digest = repository_digest(found, reference)
            report(Progress(f"{reference.shown} is taken as the engine has it, for it cannot be downloaded"))
            return reference.at(digest) if digest and reference.repository else Reference("", "", str(found["Id"]))

    async def _build(self, lock: Lock, folder: Path, report: Report, name: str, *, fresh: bool) -> None:
        document = json.loads(lock.text)
        build = _Build(document, lock.facts, self._contexts, BuildLog(folder), report, name, fresh)
        async with await Engine.find() as engine:
            image = await build.run(engine)
            facts = await engine.inspect(image)
            if facts is None:
                raise StudioloError(_gone(Reference("", "", image)))
            known = _facts(facts, name, document)
            report(Progress("reading which packages are in the image"))
            packages = await read_packages(engine, image, known["env"])
        for file, content in (("image.json", known), ("packages.json", [vars(each) for each in packages])):
            (folder / file).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@dataclass
class _Build:
    """One build of a lock. Names that it gives to images on the way are taken away again."""

    document: Mapping[str, Any]
    facts: Mapping[str, Any]
    contexts: Path
    log: BuildLog
    report: Report
    name: str
    fresh: bool
    borrowed: list[str] = field(default_factory=list)

    async def run(self, engine: Engine) -> str:
        """The id of the image, which then has its name."""
        features = self.document.get("features")
        try:
            first = self._borrow() if features else self.name
            if self.document["kind"] == "image":
                image = await self._have(engine, Reference.parse(self.document["image"]))
                await engine.tag(image, first)
            else:
                image = await self._from_dockerfile(engine, first)
            return await self._with_features(engine, features, image, first) if features else image
        finally:
            for each in self.borrowed:
                await asyncio.shield(engine.remove(each))

    def _borrow(self) -> str:
        self.borrowed.append(f"{_BASE}:{self.name.rpartition(':')[2]}-{len(self.borrowed)}")
        return self.borrowed[-1]

    async def _from_dockerfile(self, engine: Engine, name: str) -> str:
        digests: dict[str, str] = {}
        for written, text in self.document["bases"].items():
            base = Reference.parse(text)
            image = await self._have(engine, base)
            if base.repository:
                digests[written] = base.text
            else:
                # BuildKit takes no bare ids
                digests[written] = self._borrow()
                await engine.tag(image, digests[written])
        original = _dockerfile(self.document)
        text = original.pinned(digests)
        shown = [(each.text, original.place(each)) for each in original.instructions]
        progress = BuildProgress(Dockerfile.parse(text, original.where), shown, self.log, self.report)
        return await self._send(
            engine,
            progress,
            name,
            self.document["context"],
            self.document["name"],
            text,
            arguments=self.document["arguments"],
            target=self.document["target"],
            buildkit=engine.buildkit or original.needs_buildkit,
        )

    async def _with_features(self, engine: Engine, features: Sequence[Mapping[str, Any]], image: str, name: str) -> str:
        found = await engine.inspect(image) or {}
        user = str((found.get("Config") or {}).get("User") or "")
        text, of = image_features.dockerfile(features, name, user)
        source = str(self.facts.get("source", ""))
        places = self.facts.get("features", ())
        shown = [
            ("the image", source)
            if index is None
            else (f"feature {features[index]['folder']}", str(places[index]) if index < len(places) else source)
            for index in of
        ]
        progress = BuildProgress(Dockerfile.parse(text, source), shown, self.log, self.report)
        context = self.document["features_context"]
        return await self._send(engine, progress, self.name, context, "Dockerfile", text, buildkit=engine.buildkit)

    async def _send(
        self,
        engine: Engine,
        progress: BuildProgress,
        name: str,
        context: str,
        file: str,
        text: str,
        *,
        buildkit: bool,
        arguments: Mapping[str, str] | None = None,
        target: str = "",
    ) -> str:
        archive = image_context.kept(self.contexts, context)
        try:
            async with asyncio.timeout(_BUILD_LIMIT):
                return await engine.build(
                    _sent(file, text, archive),
                    tag=name,
                    file=file,
                    arguments=arguments or {},
                    target=target,
                    fresh=self.fresh,
                    buildkit=buildkit,
                    on_step=progress.step,
                    on_line=progress.line,
                )
        except BuildFailed as error:
            raise progress.explain(error) from error
        except TimeoutError as error:
            raise StudioloError(
                Problem("image-build-timeout", f"the image was not built within {_BUILD_LIMIT / 3600:g} hours")
            ) from error

    async def _have(self, engine: Engine, reference: Reference) -> str:
        """The id of a pinned image, downloaded unless the engine has it (`fresh`: asked for in any case)."""
        found = await engine.inspect(reference.text)
        if reference.repository and (found is None or (self.fresh and not reference.local)):
            await engine.pull(reference, self.report)
            found = await engine.inspect(reference.text)
        if found is None:
            raise StudioloError(_gone(reference))
        return str(found["Id"])


async def _refuse_triggers(engine: Engine, pinned: Reference, where: str) -> None:
    found = await engine.inspect(pinned.text)
    if found is not None and (found.get("Config") or {}).get("OnBuild"):
        raise WrongInput(
            Problem(
                "image-onbuild",
                f"{pinned.shown} brings instructions of its own (ONBUILD), which copy files that no line here names",
                "write these instructions into the Dockerfile, and start from an image without them",
                where,
            )
        )


async def _sent(name: str, dockerfile: str, archive: Path) -> AsyncIterator[bytes]:
    yield image_context.file_entry(name, dockerfile.encode())
    with await asyncio.to_thread(archive.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, 1 << 20):
            yield piece


async def _remove(name: str) -> None:
    async with await Engine.find() as engine:
        await engine.remove(name)


def _pins(request: Request) -> Mapping[str, str]:
    """What was locked before and stays so: image by name as written."""
    if request.previous is None or request.previous.kind != ImageKind.name:
        return {}
    document = json.loads(request.previous.text)
    pins = {document["reference"]: document["image"]} if document["kind"] == "image" else dict(document["bases"])
    moving = request.upgrade
    # an image that came from no repository is looked at each time: it is somebody's work in progress
    return {
        name: text
        for name, text in pins.items()
        if "@" in text and (moving is None or (moving.packages and not _named(name, moving.packages)))
    }


def _named(text: str, packages: Sequence[str]) -> bool:
    reference = Reference.parse(text)
    return any(each in (text, reference.name, reference.shown) for each in packages)


def _dockerfile(document: Mapping[str, Any]) -> Dockerfile:
    return Dockerfile.parse(document["dockerfile"], document["file"], document["arguments"])


def _facts(image: Mapping[str, Any], name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    config = image.get("Config") or {}
    env = dict(str(each).partition("=")[::2] for each in config.get("Env") or ())
    return {
        "name": name,
        "id": image["Id"],
        "digest": Reference.parse(document["image"]).digest if document["kind"] == "image" else "",
        "size": image.get("Size", 0),
        "architecture": image.get("Architecture", ""),
        "os": image.get("Os", ""),
        "env": env,
        "entrypoint": config.get("Entrypoint") or [],
        "command": config.get("Cmd") or [],
        "user": config.get("User", ""),
        "workdir": config.get("WorkingDir", ""),
    }


def _image(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _gone(reference: Reference, where: str = "") -> Problem:
    return Problem(
        "image-missing",
        f"the engine has no image {reference.shown}, and it came from no registry",
        "make it again, then lock the environment anew: studiolo env update",
        where,
    )
