"""Logs: what was printed, what is being printed, across rotations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bench import Bench, until
from studiolo.backends.backend import LogLine
from studiolo.backends.local.logs import KEPT, LIMIT


async def test_both_streams_are_logged_and_kept_after_a_stop(bench: Bench) -> None:
    await bench.up(bench.launch())
    await bench.get("/print/hello")
    await bench.backend.stop("w1", 5)
    lines = [line async for line in bench.backend.logs("w1")]
    assert lines == [LogLine("web", text) for text in ("begins", "socket", "hello")]
    assert [line.text async for line in bench.backend.logs("w1", tail=1)] == ["hello"]
    assert [line async for line in bench.backend.logs("w1", tail=0)] == []


async def test_each_app_has_its_own(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app(name="one"), bench.app(name="two")))
    await bench.get("/print/from-two", name="two")
    assert {line.app async for line in bench.backend.logs("w1")} == {"one", "two"}
    lines = [line async for line in bench.backend.logs("w1", app="two")]
    assert lines[-1] == LogLine("two", "from-two")
    assert {line.app for line in lines} == {"two"}


async def test_nothing_is_logged_of_who_never_ran(bench: Bench) -> None:
    assert [line async for line in bench.backend.logs("nobody")] == []


async def test_following_sees_new_lines_as_they_come(bench: Bench) -> None:
    await bench.up(bench.launch())
    lines = bench.backend.logs("w1", follow=True, tail=1)
    assert await anext(lines) == LogLine("web", "socket")
    for number in range(3):
        await bench.get(f"/print/line-{number}")
        assert await asyncio.wait_for(anext(lines), 10) == LogLine("web", f"line-{number}")
    await _close(lines)


async def test_logs_are_rotated_and_read_across_rotations(bench: Bench) -> None:
    await bench.up(bench.launch())
    lines = bench.backend.logs("w1", follow=True, tail=0)
    reading = asyncio.create_task(_until(lines, "the-end"))
    log = bench.layout.workspace_logs("w1") / "web.log"
    for round_ in range(KEPT + 1):
        await bench.get(f"/print/round-{round_}")
        await bench.get(f"/fill/{(LIMIT >> 20) + 1}")

        async def cut() -> bool:
            return log.stat().st_size < LIMIT

        await until(cut)
    await bench.get("/print/the-end")
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == ["web.log", *(f"web.log.{number}" for number in range(1, KEPT + 1))]
    rotated = [line.text async for line in bench.backend.logs("w1", tail=20000)]
    assert len(rotated) == 20000
    assert rotated[-2:] == ["filled", "the-end"]
    seen = await reading
    rounds = [f"round-{round_}" for round_ in range(KEPT + 1)]
    assert [text for text in seen if text.startswith("round")] == rounds
    assert seen.count("filled") == len(rounds)


async def _until(lines: AsyncIterator[LogLine], last: str) -> list[str]:
    """What a follower saw, up to a line."""
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for line in lines:
            seen.append(line.text)
            if line.text == last:
                break
    await _close(lines)
    return seen


async def _close(lines: AsyncIterator[LogLine]) -> None:
    await lines.aclose()  # type: ignore[attr-defined]
