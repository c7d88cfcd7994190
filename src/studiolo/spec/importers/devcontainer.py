"""devcontainer.json to a `studiolo.yaml` as data, with a list of all that is not honoured. Pure.

The file is described at containers.dev/implementors/json_reference. What it says is taken where Studiolo has a word for
it; everything else, down to the single port or extension, is listed with its place and the reason.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from studiolo.names import as_name
from studiolo.problem import Problem
from studiolo.spec.check import checked
from studiolo.spec.document import Workspace
from studiolo.spec.importers.devcontainer_reasons import ELSEWHERE, PRESENT, PUBLISHED, REASONS
from studiolo.spec.importers.devcontainer_text import commands, literal
from studiolo.spec.jsonc import read_jsonc
from studiolo.spec.wording import FieldPath, did_you_mean, dotted, quoted
from studiolo.spec.yaml import Positions

# Keys that may be left alone: they ask for nothing that is not done anyway.
_INERT = frozenset({"$schema"})
_EXTENSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\.[A-Za-z0-9][A-Za-z0-9._-]*")
_MEMORY = re.compile(r"([0-9]{1,15})(?:([kmgt])b)?", re.IGNORECASE)
_LOCAL_PORT = re.compile(r"(?:localhost:|127\.0\.0\.1:)?([0-9]{1,5})")
# `app--workspace--owner` is limited (names.LABEL_LENGTH); longer names would leave too little for the workspace's.
_APP_NAME = len("jupyterlab")


@dataclass(frozen=True)
class Build:
    """What an image is built from, relative to the repository."""

    dockerfile: str
    context: str
    args: Mapping[str, str]
    target: str


@dataclass(frozen=True)
class Feature:
    """`folder`: where a local one lies, relative to the repository. `where`: its place in the file."""

    id: str
    options: Mapping[str, str | bool]
    folder: str | None
    where: str

    @property
    def local(self) -> bool:
        return self.folder is not None


@dataclass(frozen=True)
class Imported:
    document: dict[str, Any]
    """A `studiolo.yaml` as data: it passes `check_workspace`."""
    image: str | None
    """What local features are installed on top of, where nothing is built."""
    build: Build | None
    features: tuple[Feature, ...]
    """Local ones, in the order of the file."""
    unhonoured: tuple[Problem, ...]
    """From the top of the file to its end, `where` is `file:line:column`."""


def read(text: str, file: str, shown: str | None = None) -> Imported:
    """Read one. `file` is its path relative to the repository, which paths inside it are completed with; `shown` is
    what problems call it, where that is something else.

    Raises `WrongInput` where it is no object in JSON with comments, or a hostile one.
    """
    tree = read_jsonc(text, shown or file)
    reader = _Reader(file, tree.positions)
    reader.take(tree.data)
    unhonoured = sorted(reader.unhonoured, key=lambda each: each[0])
    return Imported(
        reader.document(),
        reader.image,
        reader.build,
        tuple(reader.features),
        tuple(each for _, each in unhonoured),
    )


class _Reader:
    """Takes the file's keys one by one. What is taken has been checked as the part of a document that it will be."""

    def __init__(self, file: str, positions: Positions) -> None:
        self.image: str | None = None
        self.build: Build | None = None
        self.features: list[Feature] = []
        self.unhonoured: list[tuple[tuple[int, int], Problem]] = []
        self._file = file
        self._positions = positions
        self._name: dict[str, Any] = {}
        self._extensions: list[str] = []
        self._ports: list[dict[str, Any]] = []
        self._compute: dict[str, Any] = {}
        self._env: dict[str, str] = {}
        self._setup: list[str] = []

    def document(self) -> dict[str, Any]:
        document = dict(self._name)
        if self.image is not None and not self.features:
            document["environment"] = {"kind": "image", "image": self.image}
        elif self.image is not None or self.build is not None:
            document["environment"] = {"kind": "image", "file": self._file}
        if self._extensions or self._ports:
            editor = {"name": "vscode", "kind": "vscode", "extensions": self._extensions}
            document["apps"] = ["jupyterlab", editor if self._extensions else "vscode", *self._ports]
        parts = {"compute": self._compute, "env": self._env, "setup": self._setup}
        return {**document, **{key: part for key, part in parts.items() if part}}

    def take(self, data: dict[str, Any]) -> None:
        taken: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "name": self._take_name,
            "image": self._take_software,
            "features": self._take_features,
            "customizations": self._take_customizations,
            "forwardPorts": self._take_ports,
            "hostRequirements": self._take_compute,
            "containerEnv": self._take_variables,
            "onCreateCommand": self._take_commands,
        }
        for take in taken.values():
            take(data)
        done = {*taken, *_TAKEN_TOGETHER, *_INERT}
        for key, value in data.items():
            if key in done or _asks_for_nothing(value):
                continue
            if key in REASONS:
                self._leave((key,), *REASONS[key])
            else:
                known = [*done, *REASONS]
                self._leave((key,), "unknown key", did_you_mean(key, known, "known are those of containers.dev"))

    def _leave(self, path: FieldPath, why: str, hint: str = "") -> None:
        where = self._positions.locate(path)
        line, column = (int(number) for number in where.rsplit(":", 2)[1:])
        problem = Problem("not-honoured", f"{dotted(path)}: {why}", hint, where)
        self.unhonoured.append(((line, column), problem))

    def _fits(self, path: FieldPath, part: dict[str, Any]) -> bool:
        """Whether it may stand in a document; otherwise it is left with the reason."""
        _, problems = checked(Workspace, part)
        for problem in problems:
            self._leave(path, problem.message, problem.hint)
        return not problems

    def _text(self, path: FieldPath, value: Any, known: Mapping[str, str] | None = None) -> str | None:
        """A text with its variables filled in; None, and left, where that cannot be."""
        if isinstance(value, bool | int | float):
            value = str(value).lower()
        if not isinstance(value, str):
            self._leave(path, f"must be text, not {quoted(value)}")
            return None
        try:
            filled = literal(value, known or {})
        except ValueError as error:
            self._leave(path, str(error))
            return None
        return filled

    def _mapping(self, data: dict[str, Any], *path: str) -> Iterator[tuple[FieldPath, str, Any]]:
        """Path, key and value of each entry of the mapping at `path`; nothing, and left, where it is none."""
        value: Any = data
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, dict):
            yield from (((*path, key), key, each) for key, each in value.items())
        elif not _asks_for_nothing(value):
            self._leave(path, f"must be an object, not {quoted(value)}")

    def _list(self, data: dict[str, Any], key: str, path: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
        value = data.get(key)
        if isinstance(value, list):
            yield from (((*path, index), each) for index, each in enumerate(value))
        elif not _asks_for_nothing(value):
            self._leave(path, f"must be a list, not {quoted(value)}")

    def _path(self, path: FieldPath, written: Any) -> str | None:
        """A path as the file means it, relative to the repository; None, and left, where it leads out of it."""
        text = self._text(path, written)
        if text is None:
            return None
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(self._file), text))
        if whole.startswith(("/", "..")) or not text.isprintable():
            self._leave(path, f"{quoted(text)} does not lie in the repository")
            return None
        return whole

    # One method for what belongs together ----------------------------------------------------------------------------

    def _take_name(self, data: dict[str, Any]) -> None:
        if _asks_for_nothing(data.get("name")):
            return
        text = self._text(("name",), data["name"])
        name = as_name(text or "", "")
        if name:
            self._name = {"name": name}
        elif text is not None:
            self._leave(("name",), f"{quoted(text)} holds neither letters nor digits that a name can be made of")

    def _take_software(self, data: dict[str, Any]) -> None:
        """The image, or what it is built from: `build`, or the older keys beside it."""
        build = {key: value for _, key, value in self._mapping(data, "build")}
        paths: dict[str, FieldPath] = {}
        for key, older in (("dockerfile", "dockerFile"), ("context", "context")):
            if key in build:
                paths[key] = ("build", key)
                if data.get(older) is not None:
                    self._leave((older,), f"build.{key} counts")
            elif data.get(older) is not None:
                paths[key], build[key] = (older,), data[older]
        args: dict[str, str] = {}
        for path, key, value in self._mapping(data, "build", "args"):
            if (text := self._text(path, value)) is not None:
                args[key] = text
        target = None if _asks_for_nothing(build.get("target")) else self._text(("build", "target"), build["target"])
        for key in build.keys() - {"dockerfile", "context", "args", "target"}:
            if not _asks_for_nothing(build[key]):
                self._leave(("build", key), "not handed to the engine that builds")
        if "dockerfile" in paths:
            dockerfile = self._path(paths["dockerfile"], build["dockerfile"])
            context = self._path(paths["context"], build["context"]) if "context" in paths else self._path((), ".")
            if dockerfile is not None and context is not None:
                self.build = Build(dockerfile, context, args, target or "")
        elif build:
            self._leave(("build",) if "build" in data else paths["context"], "no Dockerfile is named to build")
        image = data.get("image")
        if image is not None and "dockerfile" in paths:
            self._leave(("image",), "the Dockerfile counts")
        elif image is not None:
            text = self._text(("image",), image)
            if text is not None and self._fits(("image",), {"environment": {"kind": "image", "image": text}}):
                self.image = text

    def _take_features(self, data: dict[str, Any]) -> None:
        for path, name, value in self._mapping(data, "features"):
            if not name.startswith(("./", "../")):
                plain = re.sub(r"[:@][^/]*$", "", name)
                self._leave(path, PRESENT.get(plain, PUBLISHED), ELSEWHERE.get(plain, ""))
                continue
            folder = self._path(path, name)
            if folder is None:
                continue
            if self.image is None and self.build is None:
                self._leave(path, "there is no image that it could be installed into")
                continue
            options: dict[str, str | bool] = {}
            given = value if isinstance(value, dict) else {"version": value} if isinstance(value, str) else {}
            for key, option in given.items():
                if isinstance(option, bool):
                    options[key] = option
                elif (text := self._text((*path, key) if isinstance(value, dict) else path, option)) is not None:
                    options[key] = text
            self.features.append(Feature(name, options, folder, self._positions.locate(path)))

    def _take_customizations(self, data: dict[str, Any]) -> None:
        for path, tool, _ in self._mapping(data, "customizations"):
            if tool != "vscode":
                self._leave(path, "it is for another tool")
        editor = {key: value for _, key, value in self._mapping(data, "customizations", "vscode")}
        for key in editor:
            if key != "extensions" and not _asks_for_nothing(editor[key]):
                self._leave(("customizations", "vscode", key), *REASONS.get(key, ("not handed to the editor",)))
        listed = [
            *self._list(editor, "extensions", ("customizations", "vscode", "extensions")),
            *self._list(data, "extensions", ("extensions",)),
        ]
        for path, value in listed:
            name, _, version = value.partition("@") if isinstance(value, str) else ("", "", "")
            if name.startswith("-"):
                self._leave(path, "only what is named is installed, so there is nothing to leave out")
            elif not _EXTENSION.fullmatch(name):
                self._leave(path, f"{quoted(value)} is not an extension's id, such as ms-python.python")
            else:
                if version:
                    self._leave(path, "the newest version is installed")
                if name not in self._extensions:
                    self._extensions.append(name)

    def _take_ports(self, data: dict[str, Any]) -> None:
        about = self._port_attributes(data)
        app_ports = data.get("appPort")
        single = {"appPort": app_ports if isinstance(app_ports, list) or app_ports is None else [app_ports]}
        listed = [
            *self._list(data, "forwardPorts", ("forwardPorts",)),
            *self._list(single, "appPort", ("appPort",)),
        ]
        names = {"", "jupyterlab", "vscode"}
        for path, value in listed:
            match = _LOCAL_PORT.fullmatch(str(value)) if not isinstance(value, bool) else None
            if match is None:
                self._leave(path, f"{quoted(value)} is not a port of the workspace itself")
                continue
            port = int(match[1])
            attributes = about.pop(match[1], {})
            if any(each["port"] == port for each in self._ports):
                continue
            label = attributes.get("label")
            name = _short_name(label) if isinstance(label, str) else ""
            name = name if name not in names and not name.startswith("port-") else f"port-{port}"
            app: dict[str, Any] = {"name": name, "kind": "port", "port": port}
            if attributes.get("protocol") == "https":
                self._leave(path, "the program on it speaks TLS, and the edge speaks plain HTTP to apps")
            elif self._fits(path, {"apps": [app]}):
                names.add(name)
                self._ports.append(app)
        for other in about:
            self._leave(("portsAttributes", other), "only ports in forwardPorts are reached", "name it there")

    def _port_attributes(self, data: dict[str, Any]) -> dict[str, dict[str, Any]]:
        about: dict[str, dict[str, Any]] = {}
        for path, port, value in self._mapping(data, "portsAttributes"):
            if not isinstance(value, dict):
                self._leave(path, f"must be an object, not {quoted(value)}")
                continue
            about[port] = value
            for key in value:
                if key not in ("label", "protocol") and not _asks_for_nothing(value[key]):
                    self._leave((*path, key), "nothing is announced or opened by itself: each port has a link")
        return about

    def _take_compute(self, data: dict[str, Any]) -> None:
        for path, key, value in self._mapping(data, "hostRequirements"):
            if key == "cpus" and self._fits(path, {"compute": {"cpu": value}}):
                self._compute["cpu"] = value
            elif key == "memory":
                match = _MEMORY.fullmatch(str(value))
                # Like the reference implementation, by 1024.
                size = f"{match[1]}{match[2].upper()}iB" if match and match[2] else match[1] + "B" if match else value
                if self._fits(path, {"compute": {"memory": size}}):
                    self._compute["memory"] = size
            elif key != "cpus":
                self._leave(path, "a workspace does not ask for it")

    def _take_variables(self, data: dict[str, Any]) -> None:
        """`remoteEnv` comes second: it is of all that a person runs, and that is what `env` is of."""
        for section in ("containerEnv", "remoteEnv"):
            for path, name, value in self._mapping(data, section):
                if value is None:
                    self._leave(path, "a variable cannot be taken away")
                    continue
                text = self._text(path, value, self._env)
                if text is not None and self._fits(path, {"env": {name: text}}):
                    self._env[name] = text

    def _take_commands(self, data: dict[str, Any]) -> None:
        """In the order in which they are run when a container is made."""
        for key in ("onCreateCommand", "updateContentCommand", "postCreateCommand"):
            if _asks_for_nothing(data.get(key)):
                continue
            try:
                self._setup += commands(data[key])
            except ValueError as error:
                # One of several may need the others, so none of them is run.
                self._leave((key,), f"not run: {error}")


_TAKEN_TOGETHER = frozenset(
    {"build", "dockerFile", "context", "extensions", "appPort", "portsAttributes", "remoteEnv"}
    | {"updateContentCommand", "postCreateCommand"}
)


def _asks_for_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _short_name(label: str) -> str:
    """A label's first words, as many as an app's name has room for; empty where there is none."""
    name = ""
    for word in as_name(label, "").split("-"):
        longer = f"{name}-{word}" if name else word
        if len(longer) > _APP_NAME:
            break
        name = longer
    return name
