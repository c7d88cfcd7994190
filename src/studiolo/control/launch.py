"""From what is desired to what a backend is handed: paths, variables, apps. Reads a little of the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studiolo.apps.app import AppKind, Place, Process, Tools
from studiolo.backends.backend import AppLaunch, Launch, Mount, SeedFile
from studiolo.control import forking
from studiolo.control.software import Software
from studiolo.layout import Layout
from studiolo.names import Label
from studiolo.problem import Problem, StudioloError
from studiolo.spec.document import Resolved

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the host's variables a workspace sees these and no others: language, time zone, and the way out of the network.
_PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PASSED_ANY_CASE = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True)
class Room:
    """One workspace as it is about to be started."""

    id: str
    run: str
    name: str
    owner: str
    document: Resolved
    folder: Path | None
    """The repository."""
    software: Software
    tools: Mapping[str, Path | None]
    """For each app to start, by name: where its tools lie; None where it needs none."""
    rescue: bool = False
    """Settings lie outside the home: it cannot be written (full, read-only), or what is in it is not to be trusted."""
    notes: tuple[str, ...] = ()
    """What a person should know of this start."""


def compose(room: Room, layout: Layout, kinds: Mapping[str, AppKind], origin: str) -> tuple[Launch, tuple[str, ...]]:
    """The launch, and what a person should know of it. `origin` is the control host, such as http://localhost:8800.

    Raises `StudioloError` where a data source's folder is missing.
    """
    home = layout.workspace_home(room.id)
    folder = room.folder or home
    env = variables(room, home, os.environ)
    common, declared = common_variables(os.environ), room.document.env
    own = {**room.software.activation.env, **declared}
    apps: list[AppLaunch] = []
    seeds: list[SeedFile] = []
    notes = list(room.notes)
    for app in room.document.apps:
        if app.name not in room.tools:
            continue
        state = layout.app_state(room.id, app.name)
        place = Place(
            workspace=room.name,
            home=home,
            folder=folder,
            settings=layout.workspace(room.id) / "state" / "rescue" if room.rescue else home,
            state=state,
            socket=layout.app_sockets(room.id) / f"{app.name}.sock",
            tools=room.tools[app.name],
            interpreter=room.software.activation.interpreter,
            prefixes=room.software.prefixes,
            url=app_url(origin, Label(app.name, room.name, room.owner)),
            environment=room.software.title,
        )
        process: Process = kinds[app.kind].process(app, place)
        notes += process.notes
        beginning = kinds[app.kind].beginning(place.tools)
        path = ":".join([*process.path, env["PATH"]])
        apps.append(
            AppLaunch(
                name=app.name,
                argv=process.argv,
                env={**env, **process.env, "PATH": path},
                socket=str(place.socket),
                cwd=str(folder),
                ready=process.ready,
                timeout=process.timeout,
                zygote=forking.for_app(beginning, common, own, room.owner) if beginning is not None else None,
            )
        )
        seeds += [SeedFile(str(seed.path), seed.text, seed.keep) for seed in process.seeds]
    base = room.software.base
    launch = Launch(
        id=room.id,
        run=room.run,
        name=room.name,
        owner=room.owner,
        home=str(home),
        logs=str(layout.workspace_logs(room.id)),
        apps=tuple(apps),
        env=env,
        cwd=str(folder),
        mounts=tuple(_mounts(room.document)),
        seeds=tuple(seeds),
        cpu=room.document.compute.cpu,
        memory=room.document.compute.memory,
        kernels=forking.for_kernels(base, room.software.ahead, common, declared, room.owner) if base else None,
    )
    return launch, tuple(notes)


def variables(room: Room, home: Path, host: Mapping[str, str]) -> dict[str, str]:
    """The complete environment of a workspace's processes; the document's own variables win."""
    return {
        **common_variables(host),
        "HOME": str(home),
        "USER": room.owner,
        "LOGNAME": room.owner,
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
        **room.software.activation.env,
        **room.document.env,
        "PATH": ":".join([*room.software.activation.path, room.document.env.get("PATH", _SYSTEM_PATH)]),
    }


def common_variables(host: Mapping[str, str]) -> dict[str, str]:
    """What every workspace's processes get of the host's environment."""
    passed = {name: value for name, value in host.items() if name in _PASSED or name.lower() in _PASSED_ANY_CASE}
    return {"LANG": "C.UTF-8", **passed, "PATH": _SYSTEM_PATH}


def app_url(origin: str, label: Label) -> str:
    """An app's own origin: the control host's, with the label in front."""
    scheme, _, host = origin.partition("://")
    return f"{scheme}://{label}.{host}"


def can_write(home: Path) -> bool:
    """Whether a file can be made and filled there: a full disk still makes empty files."""
    probe = home / ".studiolo-probe"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def wanted_tools(document: Resolved, kinds: Mapping[str, AppKind]) -> dict[str, Tools | None]:
    """What each app needs installed, by the app's name. Pure."""
    return {app.name: kinds[app.kind].tools(app) for app in document.apps}


def _mounts(document: Resolved) -> list[Mount]:
    mounts = []
    for source in document.data:
        if source.folder is None:
            continue
        folder = Path(source.folder).expanduser()
        if not folder.is_dir():
            raise StudioloError(
                Problem(
                    "data-missing",
                    f"the data source {source.name} is the folder {folder}, which does not exist",
                    "make the folder, or change `data` in studiolo.yaml",
                )
            )
        mounts.append(Mount(str(folder), source.place))
    return mounts
