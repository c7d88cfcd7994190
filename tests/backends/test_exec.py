"""Programs run inside a running workspace."""

from __future__ import annotations

import asyncio
import signal

import pytest

from bench import ENV, Bench, until
from studiolo.backends.backend import Execution
from studiolo.problem import NotFound, StudioloError


async def _printed(execution: Execution) -> dict[int, bytes]:
    out = {1: b"", 2: b""}
    async with asyncio.timeout(20):
        async for piece in execution:
            out[piece.stream] += piece.data
    return out


async def test_output_and_exit_status_come_back(bench: Bench) -> None:
    await bench.up(bench.launch())
    execution = await bench.backend.exec("w1", ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert execution.status is None
    assert await _printed(execution) == {1: b"out\n", 2: b"err\n"}
    assert execution.status == 3


async def test_it_has_the_workspaces_environment_and_folder(bench: Bench) -> None:
    await bench.up(bench.launch())
    out = await _printed(await bench.backend.exec("w1", ["env"]))
    env = dict(line.split("=", 1) for line in out[1].decode().splitlines())
    assert env == {**ENV, "STUDIOLO_WORKSPACE": "w1", "STUDIOLO_RUN": "run-1"}
    out = await _printed(await bench.backend.exec("w1", ["pwd"]))
    assert out[1].decode().strip() == str(bench.layout.workspace_home("w1"))


async def test_input_reaches_it_and_ends(bench: Bench) -> None:
    await bench.up(bench.launch())
    execution = await bench.backend.exec("w1", ["cat"])
    data = bytes(range(256)) * 4000

    async def feed() -> None:
        for start in range(0, len(data), 50000):
            await execution.write(data[start : start + 50000])
        await execution.write(b"")

    feeding = asyncio.create_task(feed())
    assert (await _printed(execution))[1] == data
    await feeding
    assert execution.status == 0


async def test_a_signal_is_told_as_a_shell_does(bench: Bench) -> None:
    await bench.up(bench.launch())
    execution = await bench.backend.exec("w1", ["sh", "-c", "kill -TERM $$"])
    await _printed(execution)
    assert execution.status == 128 + signal.SIGTERM


async def test_a_terminal_has_a_size_that_changes(bench: Bench) -> None:
    await bench.up(bench.launch())
    script = "stty size; trap 'stty size; exit 4' WINCH; echo set; while :; do sleep 0.05; done"
    execution = await bench.backend.exec("w1", ["sh", "-c", script], tty=(100, 30))
    out = b""
    async with asyncio.timeout(20):
        async for piece in execution:
            out += piece.data
            if b"set" in out and b"50 120" not in out:
                await execution.resize(120, 50)
    assert out.split() == [b"30", b"100", b"set", b"50", b"120"]
    assert execution.status == 4


async def test_a_terminal_carries_typing_and_interrupts(bench: Bench) -> None:
    await bench.up(bench.launch())
    execution = await bench.backend.exec("w1", ["sh", "-c", "read line; echo got $line; exec sleep 300"], tty=(80, 24))
    await execution.write(b"typed\n")
    out = b""
    async with asyncio.timeout(20):
        async for piece in execution:
            out += piece.data
            if b"got typed" in out:
                await execution.write(b"\x03")
    assert execution.status == 128 + signal.SIGINT


@pytest.mark.parametrize("tty", [None, (80, 24)])
@pytest.mark.parametrize("script", ["sleep 300", "trap '' HUP TERM; while :; do sleep 0.1; done"])
async def test_closing_ends_it(bench: Bench, tty: tuple[int, int] | None, script: str) -> None:
    await bench.up(bench.launch())
    before = set(bench.processes())
    execution = await bench.backend.exec("w1", ["sh", "-c", script], tty=tty)

    async def runs() -> bool:
        return bool(set(bench.processes()) - before)

    async def over() -> bool:
        return set(bench.processes()) == before

    await until(runs)
    await execution.close()
    await execution.close()
    assert await until(over)


async def test_closing_ends_what_never_reads_its_input(bench: Bench) -> None:
    await bench.up(bench.launch())
    before = set(bench.processes())
    execution = await bench.backend.exec("w1", ["sleep", "300"])
    feeding = asyncio.create_task(execution.write(bytes(4 << 20)))
    await asyncio.wait({feeding}, timeout=0.5)
    await execution.close()

    async def over() -> bool:
        return set(bench.processes()) == before

    assert await until(over)
    await feeding


async def test_a_stop_ends_it(bench: Bench) -> None:
    await bench.up(bench.launch())
    execution = await bench.backend.exec("w1", ["sleep", "300"])
    printing = asyncio.create_task(_printed(execution))
    await bench.backend.stop("w1", 5)
    await printing
    assert execution.status in (128 + signal.SIGTERM, 128 + signal.SIGKILL)


async def test_problems_are_named(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.backend.exec("w1", ["true"])
    await bench.up(bench.launch())
    with pytest.raises(StudioloError, match="no-such-program"):
        await bench.backend.exec("w1", ["no-such-program"])
