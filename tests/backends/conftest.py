"""One suite for all backends: a new one adds itself to `BACKENDS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bench import Bench, new_layout
from studiolo.backends.backend import Backend
from studiolo.backends.local.backend import LocalBackend
from studiolo.layout import Layout

BACKENDS: dict[str, Callable[[Layout], Backend]] = {
    "local": LocalBackend,
    "local-without-cgroups": lambda layout: LocalBackend(layout, cgroups=False),
    "local-forked": LocalBackend,
}


@pytest.fixture(params=BACKENDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    layout = new_layout()
    bench = Bench(BACKENDS[request.param](layout), layout, forked=request.param == "local-forked")
    await bench.backend.ensure()
    yield bench
    async with asyncio.timeout(60):
        await bench.clear()


@pytest.fixture
async def local() -> AsyncIterator[Bench]:
    """For what only the local backend has: an agent."""
    layout = new_layout()
    bench = Bench(LocalBackend(layout), layout)
    await bench.backend.ensure()
    yield bench
    async with asyncio.timeout(60):
        await bench.clear()
