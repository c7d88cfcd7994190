"""What a person asks for: the models of `studiolo.yaml`. Frozen, without side effects, and importing nothing of ours
but names and problems.

A building block may be written in place or named (`compute: cpu-small`); `Workspace` holds both, and `resolve`
in `spec.resolve` turns names into blocks.

A validator's ValueError reads `what is wrong; what to write`: `spec.check` makes the message and the hint of it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from studiolo.names import NAME_LENGTH, as_name, is_name
from studiolo.spec.quantity import Cores, Duration, Size
from studiolo.spec.repository import check_repository
from studiolo.spec.value import Type, Value, as_text, parse_value
from studiolo.spec.wording import quoted

NAMED, IN_PLACE = "<name>", "<block>"
MOST_WARM = 20

_VERSION = re.compile(r"3(?:\.[0-9]{1,2}){0,2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]*", re.ASCII)
_INDEX_URL = re.compile(r"https://[^/@\s?#]+/[^@\s?#]*|http://(?:localhost|127\.0\.0\.1)(?::\d+)?/[^@\s?#]*")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*[^\x00-\x1f\x7f]*")


def _name(text: str) -> str:
    if not is_name(text):
        near = as_name(text, "")
        write = (
            f"write {near}"
            if near
            else "use lower-case letters, digits and single hyphens between them, 40 characters at most"
        )
        raise ValueError(f"{quoted(text)} is not a name; {write}")
    return text


def _python(value: Any) -> Any:
    # From YAML it is the text as written; from JSON a number, where 3.1 can only be meant so.
    text = as_text(value)
    if not _VERSION.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a Python version; write 3.12")
    return text


def _port(value: Any) -> int:
    text = as_text(value)
    port = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    if not 1024 <= port <= 65535:
        raise ValueError(f"{quoted(text)} is not a port that a program of yours may listen on; write 1024 to 65535")
    return port


def _warm(value: Any) -> int:
    text = as_text(value)
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > MOST_WARM:
        raise ValueError(f"{quoted(text)} is not a number of starts to keep ready; write 0 to {MOST_WARM}")
    return int(text)


def _requirement(text: str) -> str:
    # A line break or a leading hyphen would be an option to the installer.
    if not _REQUIREMENT.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a package; write a name, such as polars or polars>=1")
    return text


def _module(text: str) -> str:
    if not _MODULE.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a module; write what comes after `import`, such as sklearn.linear_model"
        )
    return text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a variable's name; use letters, digits and _, and begin with a letter or _"
        )
    return text


def _param_name(text: str) -> str:
    if not _PARAM.fullmatch(text) or len(text) > NAME_LENGTH:
        raise ValueError(
            f"{quoted(text)} is not a parameter's name; use letters, digits, _ and -, and begin with a letter"
        )
    return text


def _below(what: str, text: str) -> str:
    if text.startswith(("/", "~")) or ".." in text.split("/") or not text.isprintable():
        raise ValueError(f"{quoted(text)} does not lie in the {what}; write a path below it, such as data/raw")
    return text


Name = Annotated[
    str,
    AfterValidator(_name),
    Field(json_schema_extra={"pattern": "^[a-z0-9](-?[a-z0-9])*$", "maxLength": NAME_LENGTH}),
]
Requirement = Annotated[str, AfterValidator(_requirement)]
Module = Annotated[str, AfterValidator(_module)]
VariableName = Annotated[
    str, AfterValidator(_variable), Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})
]
ParamName = Annotated[
    str, AfterValidator(_param_name), Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"})
]
Text = Annotated[
    str, BeforeValidator(as_text), WithJsonSchema({"type": ["string", "number", "boolean"], "examples": ["text"]})
]


class Document(BaseModel):
    """The base of all documents: frozen, and unknown keys are errors. A known key without a value is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, regex_engine="rust-regex")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        # `compute:` with all its lines commented out.
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


def _named_or_in_place(value: Any) -> str:
    return NAMED if isinstance(value, str | int | float) else IN_PLACE


class Index(Document):
    """Where packages are downloaded from."""

    url: str = Field(description="the index's https address, as `uv --index` takes it")
    default: bool = Field(False, description="in place of the machine's own index, rather than beside it")
    secret: Name | None = Field(None, description="the secret that holds `user:password` for it")

    @field_validator("url")
    @classmethod
    def _is_index(cls, value: str) -> str:
        if "@" in value.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "the address holds a user name or password; put them into a secret and name it in `secret`"
            )
        if not _INDEX_URL.fullmatch(value):
            raise ValueError(f"{quoted(value)} is not an index's address; write https://HOST/simple/")
        return value


EnvironmentKind = Literal["uv", "flake", "conda", "image"]


class Environment(Document):
    """Which software. Everything left out is detected from the repository."""

    kind: EnvironmentKind | None = Field(None, description="uv, flake, conda or image; left out: detected")
    python: Annotated[str, BeforeValidator(_python)] | None = Field(
        None,
        description="Python version, such as 3.12",
        json_schema_extra={
            "anyOf": [{"type": "string", "pattern": r"^3(\.\d{1,2}){0,2}$"}, {"type": "number"}, {"type": "null"}]
        },
    )
    packages: tuple[Requirement, ...] = Field((), description="PyPI requirements, such as polars>=1")
    project: str | None = Field(None, description="folder that declares the environment, relative to the repository")
    file: str | None = Field(
        None, description="the file that declares it, relative to the repository or project; left out: detected"
    )
    image: str | None = Field(None, description="an image's reference, such as python:3.12-slim, for kind image")
    indexes: tuple[Index, ...] = Field((), description="where packages come from, beside the machine's own index")
    preload: tuple[Module, ...] | None = Field(
        None, description="modules to import ahead, checked when it is built; left out: those of well-known packages"
    )

    @field_validator("project", "file")
    @classmethod
    def _inside_repository(cls, value: str | None) -> str | None:
        return value if value is None else _below("repository", value)

    @field_validator("image")
    @classmethod
    def _is_image(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.fullmatch(value):
            raise ValueError(f"{quoted(value)} is not an image; write it such as python:3.12-slim")
        return value

    @field_validator("indexes", mode="before")
    @classmethod
    def _plain_addresses(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"url": each} if isinstance(each, str) else each for each in value]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Environment:
        if self.image is not None and self.kind not in (None, "image"):
            raise ValueError(f"an image is no environment of kind {self.kind}; use kind: image, or leave image out")
        if (self.kind == "image" or self.image is not None) and (self.packages or self.python or self.indexes):
            raise ValueError("an image brings its own packages; put them into the Dockerfile, or use another kind")
        if self.kind == "flake" and (self.packages or self.python or self.indexes):
            raise ValueError("a flake says by itself which packages; put them into flake.nix, or use another kind")
        return self


class DataSource(Document):
    """Which storage: the workspace's home, or a folder of the host."""

    name: Name = Field(description="what it is called")
    folder: str | None = Field(None, description="a folder of the host; left out: a folder kept in the home")
    path: str | None = Field(None, description="where it appears, relative to the home; default: data/<name>")

    @field_validator("folder")
    @classmethod
    def _is_folder(cls, value: str | None) -> str | None:
        # In a file it may be relative to the file; whoever reads the file completes it, and `resolve` insists on that.
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError(f"{quoted(value)} is not a folder of the host; write its path, such as /srv/data")
        return value

    @field_validator("path")
    @classmethod
    def _inside_home(cls, value: str | None) -> str | None:
        if value is not None and not value.strip("/. "):
            raise ValueError(f"{quoted(value)} is the home itself; write a path below it, such as data/raw")
        return value if value is None else _below("home", value)

    @property
    def place(self) -> str:
        """Where it appears, relative to the home."""
        return "/".join(part for part in (self.path or f"data/{self.name}").split("/") if part not in ("", "."))


class Compute(Document):
    """How much machine. Left out: no limit."""

    cpu: Cores | None = Field(None, description="cores, such as 2 or 500m")
    memory: Size | None = Field(None, description="memory, such as 8GiB")


class App(Document):
    """What opens in the browser: `jupyterlab`, `vscode`, any HTTP command, or what a person runs on a port."""

    name: Name = Field(description="its part of the host name")
    kind: Literal["jupyterlab", "vscode", "command", "port"] = Field("command", description="which app it is")
    command: tuple[Text, ...] = Field(
        (), description="the program and its arguments; {port} or {socket} stands for where it must listen"
    )
    port: Annotated[int, BeforeValidator(_port)] | None = Field(
        None,
        description="for kind port: the loopback port on which somebody runs a program",
        json_schema_extra={
            "anyOf": [{"type": ["integer", "string"], "minimum": 1024, "maximum": 65535}, {"type": "null"}]
        },
    )
    ready: str = Field(
        "/",
        description="a path that answers below 500 once the app is up",
        json_schema_extra={"pattern": "^/"},
    )
    timeout: Duration = Field(
        120.0, description="how long it may take to become ready", json_schema_extra={"default": "2m"}
    )
    extensions: tuple[Requirement, ...] = Field(
        (), description="JupyterLab extensions (PyPI) or VS Code extensions (ids)"
    )

    @field_validator("ready")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError(f"{quoted(value)} is not a path; write / or /health")
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> App:
        if self.kind == "command":
            if not self.command or not self.command[0]:
                raise ValueError("needs a command; write [streamlit, run, app.py, --server.port, '{port}']")
            if not any("{port}" in word or "{socket}" in word for word in self.command):
                raise ValueError("the command does not say where to listen; use {port} or {socket} in it")
        elif self.command and self.kind == "port":
            raise ValueError("a port has no command; start the program in a terminal, or use kind: command")
        elif self.command:
            raise ValueError(f"{self.kind} brings its own command; use kind: command for another program")
        if self.extensions and self.kind in ("command", "port"):
            raise ValueError("extensions belong to jupyterlab and vscode; leave them out, or change the kind")
        if self.kind == "port" and self.port is None:
            raise ValueError("needs a port; write port: 3000")
        if self.kind != "port" and self.port is not None:
            raise ValueError(f"{self.kind} has no port of its own; use kind: port for a program that you run yourself")
        return self


class Param(Document):
    """A value given with -P when the workspace is made."""

    type: Type = Field("str", description="str, int, float or bool")
    default: Value | None = Field(None, description="left out: it must be given")
    description: str = Field("", description="what it is for")

    @field_validator("default", mode="before")
    @classmethod
    def _of_its_type(cls, value: Any, info: ValidationInfo) -> Any:
        kind: Type | None = info.data.get("type")
        return value if kind is None else parse_value(kind, value)


class Idle(Document):
    """When an unused workspace stops."""

    after: Duration | None = Field(None, description="stop after this long without activity; null: never")


NamedEnvironment = Annotated[
    Annotated[Name, Tag(NAMED)] | Annotated[Environment, Tag(IN_PLACE)], Discriminator(_named_or_in_place)
]
NamedApp = Annotated[Annotated[Name, Tag(NAMED)] | Annotated[App, Tag(IN_PLACE)], Discriminator(_named_or_in_place)]
NamedData = Annotated[
    Annotated[Name, Tag(NAMED)] | Annotated[DataSource, Tag(IN_PLACE)], Discriminator(_named_or_in_place)
]
NamedCompute = Annotated[
    Annotated[Name, Tag(NAMED)] | Annotated[Compute, Tag(IN_PLACE)], Discriminator(_named_or_in_place)
]
RepositoryText = Annotated[str, AfterValidator(check_repository)]


class Workspace(Document):
    """`studiolo.yaml`. References to named blocks are plain strings."""

    name: Name | None = Field(None, description="default: the repository's name")
    params: dict[ParamName, Param] = Field({}, description="values given with -P, used as ${params.NAME}")
    repository: RepositoryText | None = Field(None, description="a folder of the host, or an https:// Git URL")
    environment: NamedEnvironment = Field(Environment(), description="which software, or a stored environment's name")
    apps: tuple[NamedApp, ...] = Field(("jupyterlab", "vscode"), description="what opens in the browser")
    data: tuple[NamedData, ...] = Field((), description="which storage, or stored data sources' names")
    compute: NamedCompute = Field(Compute(), description="how much machine, or a stored compute resource's name")
    env: dict[VariableName, Text] = Field({}, description="environment variables of all that runs in the workspace")
    idle: Idle = Field(Idle(), description="when an unused workspace stops")
    setup: tuple[Text, ...] = Field(
        (), description="shell commands run once in a new workspace, in the repository, after its first start"
    )
    warm: Annotated[int, BeforeValidator(_warm)] = Field(
        0,
        description="how many starts to keep ready for further workspaces made from this document",
        json_schema_extra={"minimum": 0, "maximum": MOST_WARM},
    )

    @field_validator("warm")
    @classmethod
    def _apps_can_wait(cls, value: int, info: ValidationInfo) -> int:
        # an app that failed its own check is told of there
        apps: tuple[str | App, ...] = info.data.get("apps", ())
        others = [
            app if isinstance(app, str) else app.name for app in apps if isinstance(app, str) or app.kind != "command"
        ]
        if value and others:
            raise ValueError(
                f"starts are kept ready of apps of kind command only, and {others[0]} is none; "
                "leave out `warm`, or list other apps"
            )
        return value


class Blocks(Document):
    """Named building blocks, as `resolve` sees them."""

    environment: dict[str, Environment] = {}
    data: dict[str, DataSource] = {}
    compute: dict[str, Compute] = {}


class Resolved(Document):
    """A workspace with every name looked up and every parameter filled in: what the store keeps as desired."""

    name: Name
    repository: str | None = None
    environment: Environment = Environment()
    template: str | None = None
    """The stored environment that it was made from, where it was."""
    apps: tuple[App, ...]
    data: tuple[DataSource, ...] = ()
    compute: Compute = Compute()
    env: dict[str, str] = {}
    idle: Idle = Idle()
    setup: tuple[str, ...] = ()
    warm: int = 0
