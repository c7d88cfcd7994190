"""What a person asks for: the models of `studiolo.yaml`. Frozen, without side effects, and importing nothing of ours
but names and problems.

A building block may be written in place or named (`compute: cpu-small`); `Workspace` holds both, and `resolve`
in `spec.resolve` turns names into blocks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from studiolo.names import is_name
from studiolo.spec.quantity import Cores, Duration, Size


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(
            "is not a name; use lower-case letters, digits and single hyphens between them, 40 characters at most"
        )
    return text


Name = Annotated[
    str,
    AfterValidator(_name),
    Field(json_schema_extra={"pattern": "^[a-z0-9](-?[a-z0-9])*$", "maxLength": 40}),
]


class Document(BaseModel):
    """The base of all documents: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Environment(Document):
    """Which software. Everything left out is detected from the repository."""

    python: str | None = Field(None, description="Python version, such as 3.12", pattern=r"^3(\.\d{1,2}){0,2}$")
    packages: tuple[str, ...] = Field((), description="PyPI requirements, such as polars>=1")
    project: str | None = Field(
        None, description="folder of a pyproject.toml or requirements.txt, relative to the repository"
    )

    @field_validator("python", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        # YAML reads 3.12 as a number, and 3.10 as 3.1: the loader keeps the text, so a number never gets here
        # except from JSON, where 3.1 can only be meant as written.
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class DataSource(Document):
    """Which storage: the workspace's home, or a folder of the host."""

    name: Name
    folder: str | None = Field(None, description="a folder of the host; left out: a folder kept in the home")
    path: str | None = Field(None, description="where it appears, relative to the home; default: data/<name>")

    @field_validator("path")
    @classmethod
    def _inside_home(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith(("/", "~")) or ".." in value.split("/") or not value.strip("/. ")):
            raise ValueError("must be a path below the home, such as data/raw")
        return value


class Compute(Document):
    """How much machine. Left out: no limit."""

    cpu: Cores | None = Field(None, description="cores, such as 2 or 500m")
    memory: Size | None = Field(None, description="memory, such as 8GiB")


class App(Document):
    """What opens in the browser: `jupyterlab`, `vscode`, or any HTTP command."""

    name: Name
    kind: Literal["jupyterlab", "vscode", "command"] = "command"
    command: tuple[str, ...] = Field(
        (), description="the program and its arguments; {port} or {socket} stands for where it must listen"
    )
    ready: str = Field("/", description="a path that answers below 500 once the app is up", pattern=r"^/")
    timeout: Duration = Field(120.0, description="how long it may take to become ready", validate_default=True)
    extensions: tuple[str, ...] = Field((), description="JupyterLab extensions (PyPI) or VS Code extensions (ids)")

    @model_validator(mode="after")
    def _command_where_needed(self) -> App:
        if self.kind == "command":
            if not self.command:
                raise ValueError("needs a command, such as [streamlit, run, app.py, --server.port, '{port}']")
            if not any("{port}" in word or "{socket}" in word for word in self.command):
                raise ValueError("the command must use {port} or {socket}, so that it listens where the edge looks")
            if self.extensions:
                raise ValueError("extensions belong to jupyterlab and vscode")
        elif self.command:
            raise ValueError(f"{self.kind} brings its own command; use kind: command for another program")
        return self


class Param(Document):
    """A value given with -P when the workspace is made."""

    type: Literal["str", "int", "float", "bool"] = "str"
    default: str | int | float | bool | None = None
    description: str = ""


class Idle(Document):
    """When an unused workspace stops."""

    after: Duration | None = Field(None, description="stop after this long without activity; null: never")


class Workspace(Document):
    """`studiolo.yaml`. References to named blocks are plain strings."""

    name: Name | None = None
    params: dict[str, Param] = {}
    repository: str | None = Field(None, description="a folder of the host, or an https:// Git URL")
    environment: Name | Environment = Environment()
    apps: tuple[Name | App, ...] = ("jupyterlab", "vscode")
    data: tuple[Name | DataSource, ...] = ()
    compute: Name | Compute = Compute()
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    idle: Idle = Idle()


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
    apps: tuple[App, ...]
    data: tuple[DataSource, ...] = ()
    compute: Compute = Compute()
    env: dict[str, str] = {}
    idle: Idle = Idle()
