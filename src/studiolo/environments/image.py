"""Environments that are images: named and pinned by digest, or built from a Dockerfile with the engine that is there.

The image itself lies in the engine, kept by a name of its own (`localhost/studiolo-environment:<lock id>`); the
generation's folder says which it is and what is in it. A Dockerfile's lock holds its text, the digests of the images it
starts from and the hash of the files it copies, so that it is built from the same again. What its instructions download
may differ each time: only the packages that come out are compared when it is verified.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studiolo.environments import image_context
from studiolo.environments.build_log import BuildLog
from studiolo.environments.engine import BuildFailed, Engine, repository_digest
from studiolo.environments.image_dockerfile import Dockerfile
from studiolo.environments.image_packages import read_packages
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
_LARGEST_LOG = 32 << 20
_CHATTER = re.compile(
    r"\s*$| ?---?> |Step \d+/\d+ : |(\[\d+/\d+\] )?STEP \d+/\d+: |Removing intermediate container |\[.*\d+/\d+\] "
)


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
        if source.dockerfile is None:
            return source.digests
        files = image_context.digest(source.entries())
        return {**source.digests, source.shown_context: files}

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
            facts = {"source": source.shown, "engine": engine.name}
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

    async def remove(self, lock: Lock) -> None:
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

    async def export(self, lock: Lock, form: ExportFormat) -> Mapping[str, str]:
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
            if not reference.repository or reference.repository.startswith("localhost/"):
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
        async with await Engine.find() as engine:
            if document["kind"] == "image":
                image = await _have(engine, Reference.parse(document["image"]), report, fresh=fresh)
                await engine.tag(image, name)
            else:
                image = await self._build_dockerfile(engine, document, folder, report, name, fresh=fresh)
            facts = await engine.inspect(image)
            if facts is None:
                raise StudioloError(_gone(Reference("", "", image)))
            known = _facts(facts, name, document)
            report(Progress("reading which packages are in the image"))
            packages = await read_packages(engine, image, known["env"])
        for file, content in (("image.json", known), ("packages.json", [vars(each) for each in packages])):
            (folder / file).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    async def _build_dockerfile(
        self, engine: Engine, document: Mapping[str, Any], folder: Path, report: Report, name: str, *, fresh: bool
    ) -> str:
        digests: dict[str, str] = {}
        for written, text in document["bases"].items():
            base = Reference.parse(text)
            image = await _have(engine, base, report, fresh=fresh)
            if base.repository:
                digests[written] = base.text
            else:
                # BuildKit takes no bare ids
                digests[written] = f"{_BASE}:{base.digest[7:23]}"
                await engine.tag(image, digests[written])
        original = _dockerfile(document)
        text = original.pinned(digests)
        steps = _Progress(Dockerfile.parse(text, document["file"]), original, BuildLog(folder), report)
        archive = image_context.kept(self._contexts, document["context"])
        try:
            async with asyncio.timeout(_BUILD_LIMIT):
                return await engine.build(
                    _sent(document["name"], text, archive),
                    tag=name,
                    file=document["name"],
                    arguments=document["arguments"],
                    target=document["target"],
                    fresh=fresh,
                    buildkit=engine.buildkit or original.needs_buildkit,
                    on_step=steps.step,
                    on_line=steps.line,
                )
        except BuildFailed as error:
            raise steps.explain(error) from error
        except TimeoutError as error:
            raise StudioloError(
                Problem("image-build-timeout", f"the image was not built within {_BUILD_LIMIT / 3600:g} hours")
            ) from error


class _Progress:
    """Tells of a build's steps, keeps its log and, when it fails, says where."""

    def __init__(self, sent: Dockerfile, original: Dockerfile, log: BuildLog, report: Report) -> None:
        self._sent = sent
        self._original = original
        self._log = log
        self._report = report
        self._room = _LARGEST_LOG
        self._last: deque[str] = deque(maxlen=12)
        self._at = -1

    def step(self, text: str) -> None:
        index = self._sent.find(text, self._at)
        if index is not None:
            self._at = index
            total = len(self._original.instructions)
            self._report(Progress(self._original.instructions[index].text[:120], index + 1, total))

    def line(self, line: str) -> None:
        if not _CHATTER.match(line):
            self._last.append(line[:1000])
        if self._room > 0:
            self._log.add(line)
            self._room -= max(len(line), 63) + 1  # a million empty lines take their time too
            if self._room <= 0:
                self._log.add(f"(what was printed after {_LARGEST_LOG >> 20} MiB is left out)")

    def explain(self, error: BuildFailed) -> StudioloError:
        """A step that failed, or a Dockerfile that the engine refuses."""
        message = error.problem.message
        self._log.add(message)
        where = self._original.where
        refused = re.search(r"parse error (?:on )?line (\d+)", message)
        if error.refused or refused:
            place = f"{where}:{refused[1]}:1" if refused else where
            return WrongInput(Problem("dockerfile-syntax", f"the engine refuses it: {message}", "", place))
        # the one that began last, unless BuildKit had several under way
        index = self._sent.find(error.step, self._at - 1)
        if index is None:
            return StudioloError(Problem("image-build-failed", f"the image cannot be built: {message}", "", where))
        step = self._original.instructions[index]
        count = f"step {index + 1} of {len(self._original.instructions)}"
        output = "\n".join(["", *self._last]) if self._last else ""
        return StudioloError(
            Problem(
                "image-build-failed",
                f"{count}, {step.text[:200]}, failed: {message}{output}",
                "correct this line",
                self._original.place(step),
            )
        )


async def _have(engine: Engine, reference: Reference, report: Report, *, fresh: bool) -> str:
    """The id of a pinned image, downloaded unless the engine has it (`fresh`: asked for in any case)."""
    found = await engine.inspect(reference.text)
    if reference.repository and (found is None or fresh):
        await engine.pull(reference, report)
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
