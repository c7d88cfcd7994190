"""Start, ready, stop, delete: and each of them again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from bench import Bench, alive, until


async def test_an_app_starts_answers_on_its_socket_and_stops(bench: Bench) -> None:
    observation = await bench.up(bench.launch())
    (app,) = observation.apps
    about = await bench.get()
    assert (observation.id, observation.run, app.name, app.pid) == ("w1", "run-1", "web", about["pid"])
    assert app.restarts == 0
    assert about["sid"] == app.pid, "each app leads a session of its own"
    await bench.backend.stop("w1", 5)
    assert await bench.observation() is None
    assert bench.processes() == []
    assert not (bench.layout.app_sockets("w1") / "web.sock").exists()


async def test_a_workspace_is_listed_from_the_first_checkpoint(bench: Bench) -> None:
    stages = []
    async for checkpoint in bench.backend.start(bench.launch()):
        assert checkpoint.message
        stages.append((checkpoint.stage, await bench.observation() is not None))
    assert stages
    assert all(listed for _, listed in stages)


async def test_starting_the_same_run_again_changes_nothing(bench: Bench) -> None:
    before = await bench.up(bench.launch())
    await asyncio.gather(*(bench.start(bench.launch()) for _ in range(3)))
    assert await bench.seen() == before
    assert len(bench.servers()) == 1


async def test_an_app_that_comes_later_joins_the_run(bench: Bench) -> None:
    (first,) = (await bench.up(bench.launch())).apps
    both = bench.launch("w1", "run-1", bench.app(), bench.app(name="late"))
    observation = await bench.up(both)
    assert [app.name for app in observation.apps] == ["web", "late"]
    assert observation.apps[0] == first
    assert (await bench.get(name="late"))["pid"] == observation.apps[1].pid


async def test_many_starts_of_one_run_at_once_make_one(bench: Bench) -> None:
    await asyncio.gather(*(bench.start(bench.launch()) for _ in range(4)))
    await bench.ready()
    assert len(bench.servers()) == 1


async def test_another_run_takes_the_place_of_the_first(bench: Bench) -> None:
    (first,) = (await bench.up(bench.launch())).apps
    observation = await bench.up(bench.launch(run="run-2"))
    assert observation.run == "run-2"
    assert first.pid is not None
    assert not alive(first.pid)
    assert bench.processes(run="run-1") == []
    assert len(bench.servers()) == 1


async def test_workspaces_do_not_touch_each_other(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "a", bench.app(id="w1")))
    (other,) = (await bench.up(bench.launch("w2", "b", bench.app(id="w2")))).apps
    await bench.backend.delete("w1")
    assert (await bench.get(id="w2"))["pid"] == other.pid
    assert [found.id for found in await bench.backend.observe()] == ["w2"]


async def test_stop_and_delete_succeed_where_nothing_runs(bench: Bench) -> None:
    await bench.backend.stop("nobody", 1)
    await bench.backend.delete("nobody")
    await bench.up(bench.launch())
    await bench.backend.stop("w1", 5)
    await bench.backend.stop("w1", 5)
    await bench.backend.delete("w1")
    await bench.backend.delete("w1")
    assert await bench.backend.usage("w1") is None


async def test_stopping_gives_an_app_its_grace_and_then_kills_it(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app("--behave", "deaf")))
    begun = time.monotonic()
    stop = asyncio.create_task(bench.backend.stop("w1", 1.0))
    assert await until(_stopping(bench))
    await stop
    assert 0.9 <= time.monotonic() - begun < 5
    assert bench.processes() == []


async def test_a_second_stop_can_be_more_urgent(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app("--behave", "deaf")))
    patient = asyncio.create_task(bench.backend.stop("w1", 300))
    await until(_stopping(bench))
    await bench.backend.delete("w1")
    await asyncio.wait_for(patient, 5)
    assert bench.processes() == []


async def test_a_stop_during_the_start_wins(bench: Bench) -> None:
    starting = asyncio.create_task(bench.start(bench.launch("w1", "run-1", bench.app("--after", "20"))))
    await until(lambda: bench.observation())
    await bench.backend.stop("w1", 5)
    await starting
    assert await bench.observation() is None
    assert bench.processes() == []


async def test_several_apps_are_watched_each_for_itself(bench: Bench) -> None:
    apps = (bench.app(name="one"), bench.app(name="two", port=True), bench.app(name="three"))
    observation = await bench.up(bench.launch("w1", "run-1", *apps))
    assert [app.name for app in observation.apps] == ["one", "two", "three"]
    pids = {(await bench.get(name=name))["pid"] for name in ("one", "two", "three")}
    assert pids == {app.pid for app in observation.apps}


async def test_an_app_on_a_port_is_reached_at_its_socket(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app(port=True)))
    answers = await asyncio.gather(*(bench.get() for _ in range(50)))
    assert len({answer["pid"] for answer in answers}) == 1


async def test_the_way_to_a_port_is_mended(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app(port=True)))
    (server,) = bench.servers()
    for pid in set(bench.processes()) - {server}:
        os.kill(pid, signal.SIGKILL)

    async def answers() -> bool:
        try:
            return bool((await bench.get())["pid"] == server)
        except OSError:
            return False

    assert await until(answers)
    assert (await bench.seen()).apps[0].restarts == 0


@pytest.mark.parametrize("options", [(), ("--behave", "daemon")])
async def test_no_process_survives_a_stop(bench: Bench, options: tuple[str, ...]) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app(*options)))
    daemons = [await bench.get("/daemon") for _ in range(3)]
    assert all(alive(pid) for pid in daemons)
    await bench.backend.stop("w1", 3)
    assert not any(alive(pid) for pid in daemons)
    assert bench.processes() == []


async def test_what_a_dead_app_left_behind_ends_too(bench: Bench) -> None:
    await bench.up(bench.launch())
    daemon = await bench.get("/daemon")
    os.kill((await bench.get())["pid"], signal.SIGKILL)
    await bench.app_when(lambda app: app.state == "restarting")
    await bench.backend.delete("w1")
    assert not alive(daemon)


def _stopping(bench: Bench) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        found = await bench.observation()
        return found is not None and found.stopping

    return look
