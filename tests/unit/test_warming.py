"""Warming goes on, whatever happens to one try."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from studiolo.apps.kinds import KINDS
from studiolo.backends.backend import Zygote
from studiolo.control import warming
from studiolo.control.warming import Warming
from studiolo.spec.document import App, Resolved


class Trips:
    """A backend that makes a mistake when it is first asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.again = asyncio.Event()

    async def warm(self, zygotes: list[Zygote]) -> None:
        self.asked += 1
        if self.asked == 1:
            raise OSError("no such socket")
        self.again.set()


async def none_installed(*_: object) -> None:
    return None


def a_warming(backend: Trips) -> Warming:
    generations = SimpleNamespace(find=lambda _: None)
    steps: Any = SimpleNamespace(
        apps=KINDS,
        tools=SimpleNamespace(find=none_installed),
        backends={"local": backend},
        renewal=SimpleNamespace(generations=generations),
    )
    return Warming(steps, "ada", "local")


async def test_warming_goes_on_after_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "_AGAIN", 0.0)
    backend = Trips()
    running = asyncio.create_task(a_warming(backend).run())
    async with asyncio.timeout(30):
        await backend.again.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_mistake_while_a_workspace_is_expected_is_kept_to_itself() -> None:
    backend = Trips()
    found = a_warming(backend)
    document = Resolved(name="board", apps=(App(name="lab", kind="jupyterlab"),))
    for _ in range(2):
        found.expect(document, None, "ada", "local")
        (task,) = found._under_way
        await task
    assert backend.again.is_set()
