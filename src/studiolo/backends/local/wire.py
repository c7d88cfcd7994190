"""What is said on the agent's socket: one JSON object per line, in both directions, one connection per request.

The request is `{"op": ..., ...}`. The answer is any number of `{"item": ...}` lines and then `{"done": ...}` or
`{"error": {...}}`. During `exec` both sides go on talking: the agent sends `{"out": 1 | 2, "data": base64}` and at
last `{"done": status}`; the client sends `{"in": base64}` (empty: end of input) or `{"size": [columns, rows]}`, and
hangs up to have it ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from studiolo.backends.backend import (
    Ahead,
    AppLaunch,
    AppObservation,
    Launch,
    Mount,
    Observation,
    SeedFile,
    Zygote,
)
from studiolo.problem import Conflict, Denied, NotFound, Problem, StudioloError, Unavailable, WrongInput

VERSION = 2
"""Raised with every change of these messages: an agent of another version is replaced, and what runs is adopted. So
what is kept in records must be understood when an older one has written it."""

LINE_LIMIT = 64 << 20
_ERRORS: dict[str, type[StudioloError]] = {
    kind.__name__: kind for kind in (StudioloError, WrongInput, NotFound, Conflict, Denied, Unavailable)
}


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None where the other side has gone."""
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    message = json.loads(line)
    return message if isinstance(message, dict) else None


def plain(value: Any) -> Any:
    """A frozen record as JSON data."""
    return dataclasses.asdict(value)


def plain_observation(observation: Observation) -> dict[str, Any]:
    """As `plain`, in a tenth of the time: it is asked for many times a second, of everything that runs."""
    ahead = observation.ahead
    return {
        **vars(observation),
        "apps": [vars(app) for app in observation.apps],
        "ahead": vars(ahead) if ahead is not None else None,
    }


def launch_from(data: Mapping[str, Any]) -> Launch:
    return Launch(
        **{
            **data,
            "apps": tuple(
                AppLaunch(**{**app, "argv": tuple(app["argv"]), "zygote": zygote_from(app.get("zygote"))})
                for app in data["apps"]
            ),
            "mounts": tuple(Mount(**mount) for mount in data["mounts"]),
            "seeds": tuple(SeedFile(**seed) for seed in data["seeds"]),
            "kernels": zygote_from(data.get("kernels")),
        }
    )


def zygote_from(data: Mapping[str, Any] | None) -> Zygote | None:
    if data is None:
        return None
    return Zygote(**{**data, **{name: tuple(data[name]) for name in ("python", "begin", "ahead")}})


def observation_from(data: Mapping[str, Any]) -> Observation:
    apps = tuple(AppObservation(**app) for app in data["apps"])
    ahead = Ahead(**{**data["ahead"], "modules": tuple(data["ahead"]["modules"])}) if data["ahead"] else None
    return Observation(**{**data, "apps": apps, "notes": tuple(data["notes"]), "ahead": ahead})


def error_to(error: StudioloError) -> dict[str, Any]:
    kind = next(name for name in (cls.__name__ for cls in type(error).__mro__) if name in _ERRORS)
    return {"kind": kind, "problems": [dataclasses.asdict(problem) for problem in error.problems]}


def error_from(data: Mapping[str, Any]) -> StudioloError:
    return _ERRORS[data["kind"]](*(Problem(**problem) for problem in data["problems"]))
