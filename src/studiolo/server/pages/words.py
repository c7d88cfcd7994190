"""Figures and states in words, as the pages say them. Pure."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape
from ruamel.yaml import YAML

from studiolo.resources import AppStatus, Block, Package, Reason, Stage, Workspace
from studiolo.spec.quantity import format_size

_APP_NAMES = {"jupyterlab": "JupyterLab", "vscode": "VS Code"}
_PHASES = {
    "pending": "Waiting its turn",
    "building": "Building",
    "starting": "Starting",
    "running": "Running",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "failed": "Failed",
    "deleting": "Deleting",
}
# While it lasts, and once it is done.
STAGES = {
    "locked": ("Locking", "Locked"),
    "built": ("Building", "Built"),
    "started": ("Starting", "Started"),
    "ready": ("Getting ready", "Ready"),
}
UNDERWAY = ("pending", "building", "starting")
# Control sequences (ECMA-48), and what remains of control characters but tab.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")


def size(count: float | None) -> str:
    """Bytes as a person reads them: `1.4 GiB`."""
    return "–" if count is None else format_size(count).replace(".0 ", " ")


def cores(value: float) -> str:
    """CPU as cores: `0.42`, `1.5`, `12`."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}".removesuffix(".0")


def seconds(value: float | None) -> str:
    """How long something took: `0.34 s`, `4.2 s`, `1 min 15 s`, `2 h 10 min`."""
    if value is None:
        return ""
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return span(value)


def span(value: float) -> str:
    """How long something has lasted, coarsely: `less than a minute`, `12 min`, `3 h 5 min`, `4 days`."""
    minutes = int(value // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} days"


def ago(then: datetime, now: datetime) -> str:
    elapsed = (now - then).total_seconds()
    return "just now" if elapsed < 60 else f"{span(elapsed)} ago"


def app_title(app: AppStatus) -> str:
    return _APP_NAMES.get(app.kind, app.name)


def phase(workspace: Workspace) -> str:
    return _PHASES[workspace.phase]


def generation(identifier: str | None) -> str:
    """A generation's id, short enough to read out."""
    return identifier[:8] if identifier else ""


def repository(address: str | None) -> str:
    """Where the files come from, without what everybody knows: `github.com/ada/tides`, `~/work/tides`."""
    if not address:
        return ""
    short = re.sub(r"^https?://(?:[^@/]*@)?", "", address).removesuffix(".git").rstrip("/")
    return short if len(short) <= 48 else "…" + short[-47:]


def sentence(text: str) -> Markup:
    """The words of a problem or an event as a sentence: a capital first, and what is in backquotes as code."""
    parts = text.strip().split("`")
    parts[0] = parts[0][:1].upper() + parts[0][1:]
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    shown = (Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts))
    return Markup("").join(shown)


def tally(workspaces: Sequence[Workspace]) -> str:
    """`3 running, 1 building, 2 stopped`."""
    counts: dict[str, int] = {}
    for workspace in workspaces:
        counts[workspace.phase] = counts.get(workspace.phase, 0) + 1
    return ", ".join(f"{counts[name]} {_PHASES[name].lower()}" for name in (*_ORDER,) if name in counts)


_ORDER = ("running", "starting", "building", "pending", "stopping", "failed", "stopped", "deleting")


def stages(workspace: Workspace) -> list[dict[str, Any]]:
    """All four stages of a start: `done` with its seconds, `current`, `failed` or `ahead`."""
    known: Mapping[str, Stage] = {stage.name: stage for stage in workspace.stages}
    found: list[dict[str, Any]] = []
    met = False
    for name, (doing, done_title) in STAGES.items():
        stage = known.get(name)
        done = stage is not None and stage.seconds is not None
        state = "done" if done else "ahead"
        if not done and not met:
            met = True
            if workspace.phase in UNDERWAY:
                state = "current"
            elif workspace.phase == "failed":
                state = "failed"
        found.append(
            {
                "name": name,
                "title": doing if state == "current" else done_title,
                "done": done_title,
                "doing": doing,
                "state": state,
                "seconds": stage.seconds if stage else None,
                "message": stage.message if stage else "",
            }
        )
    return found


def took(workspace: Workspace) -> float | None:
    """Seconds from the wish to ready, once it was."""
    known = [stage.seconds for stage in workspace.stages]
    return sum(value for value in known if value is not None) if known and None not in known else None


def trouble(workspace: Workspace) -> Reason | None:
    """Why its environment is not the one that was asked for, where that is not why it failed, which is told already."""
    found = workspace.trouble
    told = workspace.reason
    return None if found is None or (told is not None and told.message == found.message) else found


def notes(workspace: Workspace) -> list[str]:
    """What a person should know of the run, without what its trouble says better."""
    found = trouble(workspace)
    return [note for note in workspace.notes if found is None or found.message not in note]


def package_words(package: Package) -> str:
    """What a package is found by."""
    return f"{package.name} {package.version} {package.licence}".lower()


def finds(package: Package, query: str) -> bool:
    return query.strip().lower() in package_words(package)


def block(found: Block) -> str:
    """What a block is, in a few words."""
    document = found.document
    if found.kind == "compute":
        parts = []
        if "cpu" in document:
            count = float(document["cpu"])
            parts.append(f"{cores(count)} {'core' if count == 1 else 'cores'}")
        if "memory" in document:
            parts.append(size(document["memory"]))
        return ", ".join(parts) or "no limit"
    if found.kind == "environment":
        parts = [f"Python {document['python']}"] if document.get("python") else []
        packages = document.get("packages") or ()
        if packages:
            shown = ", ".join(str(package) for package in packages[:4])
            parts.append(shown if len(packages) <= 4 else f"{shown} and {len(packages) - 4} more")
        if document.get("project"):
            parts.append(f"from {document['project']}")
        return ", ".join(parts) or "detected from the repository"
    return str(document.get("folder") or "a folder kept in the home")


def breakable(path: str) -> Markup:
    """A path or an address that may go on in the next line after each slash."""
    return Markup("/<wbr>").join(path.split("/"))


def plain(text: str) -> str:
    """A log line without the sequences that colour a terminal."""
    return _ESCAPES.sub("", text.rstrip("\r\n"))


def as_yaml(document: Mapping[str, Any]) -> str:
    """A document as people write it: sizes and durations with their units again."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(_as_written(document), stream)
    return stream.getvalue()


def _as_written(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        if key == "apps" and set(value) == {"name", "kind"} and value["name"] == value["kind"]:
            return value["name"]
        return {name: _as_written(child, str(name)) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_as_written(child, key) for child in value]
    if key == "memory" and isinstance(value, int):
        for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if value % scale == 0:
                return f"{value // scale}{unit}"
    if key in ("after", "timeout") and isinstance(value, int | float) and value == int(value):
        whole = int(value)
        for letter, scale in (("h", 3600), ("m", 60)):
            if whole and whole % scale == 0:
                return f"{whole // scale}{letter}"
        return f"{whole}s"
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value
