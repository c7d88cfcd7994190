"""Usage and limits: kept where the backend says so, and said plainly where not."""

from __future__ import annotations

import asyncio
import contextlib
import time

from bench import Bench, until

_MIB = 1 << 20


async def test_usage_is_counted(bench: Bench) -> None:
    await bench.up(bench.launch())
    first = await bench.backend.usage("w1")
    assert first is not None
    assert first.processes == 1
    await bench.get("/eat/60")
    await bench.get("/spin")

    async def grown() -> bool:
        usage = await bench.backend.usage("w1")
        assert usage is not None
        return usage.memory > first.memory + 55 * _MIB and usage.cpu_seconds > first.cpu_seconds + 0.3

    assert await until(grown)


async def test_cpu_seconds_never_fall_when_an_app_ends(bench: Bench) -> None:
    await bench.up(bench.launch())
    await bench.get("/spin")

    async def spun() -> float | None:
        usage = await bench.backend.usage("w1")
        return usage.cpu_seconds if usage is not None and usage.cpu_seconds > 0.5 else None

    spent = await until(spun)
    with contextlib.suppress(OSError):
        await bench.get("/exit/1")
    await bench.app_when(lambda app: app.restarts == 1 and app.state == "ready")
    usage = await bench.backend.usage("w1")
    assert usage is not None
    assert usage.cpu_seconds >= spent


async def test_memory_is_limited_where_the_backend_says_so(bench: Bench) -> None:
    observation = await bench.up(bench.launch(memory=100 * _MIB))
    features = await bench.backend.features()
    if not features.limits_memory:
        assert features.explanation
        assert f"memory is not limited: {features.explanation}" in observation.notes
        return
    assert observation.notes == ()
    with contextlib.suppress(OSError):
        await bench.get("/eat/300")
    app = await bench.app_when(lambda app: app.state == "restarting")
    assert app.reason.startswith("was killed: it needed more than its 100 MiB of memory")
    observation = await bench.ready()
    assert any("100 MiB" in note for note in observation.notes)


async def test_cpu_is_limited_where_the_backend_says_so(bench: Bench) -> None:
    observation = await bench.up(bench.launch(cpu=0.25))
    features = await bench.backend.features()
    if not features.limits_cpu:
        assert f"cpu is not limited: {features.explanation}" in observation.notes
        return
    await bench.get("/spin")
    before, begun = await bench.backend.usage("w1"), time.monotonic()
    assert before is not None

    async def enough() -> float | None:
        usage = await bench.backend.usage("w1")
        assert usage is not None
        spent = usage.cpu_seconds - before.cpu_seconds
        return spent if spent > 0.5 else None

    spent = await until(enough)
    assert spent / (time.monotonic() - begun) < 0.35


async def test_programs_run_inside_share_the_limit(bench: Bench) -> None:
    if not (await bench.backend.features()).limits_memory:
        return
    await bench.up(bench.launch(memory=100 * _MIB))
    execution = await bench.backend.exec("w1", ["/usr/bin/env", "python3", "-c", "b'x' * (300 << 20)"])
    async with asyncio.timeout(20):
        async for _ in execution:
            pass
    assert execution.status == 137
    assert (await bench.seen()).apps[0].state == "ready"
