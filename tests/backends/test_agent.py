"""The local backend's agent: killed at every phase, doubled, replaced. Nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import Bench, alive, command, until
from studiolo.backends.local.backend import LocalBackend
from studiolo.backends.local.cgroup import Hierarchy
from studiolo.daemon import Identity
from studiolo.problem import Unavailable


async def kill_agent(bench: Bench) -> None:
    assert isinstance(bench.backend, LocalBackend)
    pid = bench.backend.agent_pid()
    assert pid is not None
    identity = Identity.of(pid)
    os.kill(pid, signal.SIGKILL)

    async def gone() -> bool:
        return identity is None or not identity.alive

    await until(gone)
    assert bench.backend.agent_pid() is None


async def test_what_runs_is_adopted(bench: Bench) -> None:
    apps = (bench.app(name="web"), bench.app(name="ported", port=True))
    before = await bench.up(bench.launch("w1", "run-1", *apps))
    processes = bench.processes()
    used = await bench.backend.usage("w1")
    await kill_agent(bench)
    assert (await bench.get(name="web"))["pid"] == before.apps[0].pid, "apps answer without the agent"
    assert (await bench.get(name="ported"))["pid"] == before.apps[1].pid
    with pytest.raises(Unavailable):
        await bench.backend.observe()
    begun = time.monotonic()
    await bench.backend.ensure()
    assert await bench.seen() == before
    assert time.monotonic() - begun < 2
    assert bench.processes() == processes
    await bench.start(bench.launch("w1", "run-1", *apps))
    assert bench.processes() == processes
    after = await bench.backend.usage("w1")
    assert used is not None
    assert after is not None
    assert after.cpu_seconds >= used.cpu_seconds


async def test_an_app_that_joined_is_adopted_too(bench: Bench) -> None:
    await bench.up(bench.launch())
    before = await bench.up(bench.launch("w1", "run-1", bench.app(), bench.app(name="late")))
    await kill_agent(bench)
    await bench.backend.ensure()
    assert await bench.seen() == before


async def test_adopted_apps_are_restarted_and_stopped_like_others(bench: Bench) -> None:
    (app,) = (await bench.up(bench.launch())).apps
    daemon = await bench.get("/daemon")
    await kill_agent(bench)
    await bench.backend.ensure()
    assert app.pid is not None
    os.kill(app.pid, signal.SIGKILL)
    await bench.app_when(lambda app: app.state == "ready" and app.restarts == 1)
    assert len(bench.servers()) == 1
    await kill_agent(bench)
    await bench.backend.ensure()
    await bench.backend.stop("w1", 3)
    assert bench.processes() == []
    assert not alive(daemon)


async def test_an_app_that_ended_meanwhile_is_restarted(bench: Bench) -> None:
    (app,) = (await bench.up(bench.launch())).apps
    await kill_agent(bench)
    assert app.pid is not None
    os.kill(app.pid, signal.SIGKILL)
    await bench.backend.ensure()
    after = await bench.app_when(lambda app: app.state == "ready" and app.restarts == 1)
    assert after.pid != app.pid


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 8, 12, 16, 24, 40, 80, 150])
async def test_killed_during_a_start(bench: Bench, milliseconds: int) -> None:
    launch = bench.launch("w1", "run-1", bench.app(name="web"), bench.app(name="ported", port=True))
    starting = asyncio.create_task(bench.start(launch))
    await asyncio.wait({starting}, timeout=milliseconds / 1000)
    await kill_agent(bench)
    with contextlib.suppress(Unavailable):
        await starting
    await bench.backend.ensure()
    known = await bench.observation()
    assert known is not None or bench.processes() == [], "what was not recorded has not been started"
    await bench.start(launch)
    await bench.ready()
    assert len(bench.servers()) == 2
    assert len(bench.processes()) == 3


@pytest.mark.parametrize("stage", ["recorded", "prepared", "app"])
async def test_killed_at_each_checkpoint(bench: Bench, stage: str) -> None:
    launch = bench.launch()
    with contextlib.suppress(Unavailable):
        async for checkpoint in bench.backend.start(launch):
            if checkpoint.stage == stage:
                await kill_agent(bench)
    await bench.backend.ensure()
    await bench.ready()
    assert len(bench.servers()) == 1, "the next agent carries the start on by itself"


async def test_killed_while_stopping(bench: Bench) -> None:
    await bench.up(bench.launch("w1", "run-1", bench.app("--behave", "deaf")))
    stop = asyncio.create_task(bench.backend.stop("w1", 1.5))

    async def stopping() -> bool:
        return (await bench.seen()).stopping

    await until(stopping)
    await kill_agent(bench)
    with pytest.raises(Unavailable):
        await stop
    assert len(bench.servers()) == 1
    await bench.backend.ensure()

    async def over() -> bool:
        return await bench.observation() is None

    assert await until(over), "the next agent carries the stop on by itself"
    assert bench.processes() == []


async def test_killed_while_backing_off(bench: Bench) -> None:
    await bench.start(bench.launch("w1", "run-1", bench.app("--behave", "exit-7")))
    await bench.app_when(lambda app: app.restarts >= 1)
    await kill_agent(bench)
    await bench.backend.ensure()
    app = await bench.app_when(lambda app: app.state == "failed")
    assert "exited with status 7" in app.reason
    await kill_agent(bench)
    await bench.backend.ensure()
    assert (await bench.seen()).apps == (app,)


async def test_ensuring_at_once_from_several_processes_makes_one_agent(local: Bench) -> None:
    await local.up(local.launch())
    await kill_agent(local)
    script = (
        "import asyncio, sys; from pathlib import Path; from studiolo.layout import Layout;"
        "from studiolo.backends.local.backend import LocalBackend; b = LocalBackend(Layout(Path(sys.argv[1])));"
        "asyncio.run(b.ensure()); print(b.agent_pid())"
    )
    argv = [sys.executable, "-c", script, str(local.layout.home)]
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(3)]
    ours = asyncio.gather(local.backend.ensure(), local.backend.ensure())
    printed = await asyncio.gather(*(asyncio.to_thread(child.communicate, timeout=30) for child in children))
    await ours
    assert isinstance(local.backend, LocalBackend)
    pids = {int(out) for out, _ in printed}
    assert pids == {local.backend.agent_pid()}
    assert len(_agents(local)) == 1


async def test_a_stale_pid_file_deceives_nobody(local: Bench) -> None:
    await kill_agent(local)
    innocent = subprocess.Popen(["sleep", "300"])
    try:
        other = Identity.of(innocent.pid)
        assert other is not None
        record = {"pid": other.pid, "started": other.started - 1}
        (local.layout.run / "agent.pid").write_text(json.dumps(record))
        await local.backend.shutdown()
        await local.backend.ensure()
        assert isinstance(local.backend, LocalBackend)
        assert local.backend.agent_pid() not in (None, innocent.pid)
        await local.backend.shutdown()
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_a_stale_record_deceives_nobody(local: Bench) -> None:
    """A recorded pid that belongs to another program by now is neither adopted nor killed."""
    await local.up(local.launch())
    await kill_agent(local)
    innocent = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        other = Identity.of(innocent.pid)
        assert other is not None
        path = local.layout.run / "agent/w1.json"
        record = json.loads(path.read_text())
        os.kill(record["apps"]["web"]["process"]["pid"], signal.SIGKILL)
        record["apps"]["web"]["process"] = {"pid": other.pid, "started": other.started - 1}
        path.write_text(json.dumps(record))
        await local.backend.ensure()
        await local.app_when(lambda app: app.state == "ready" and app.restarts == 1)
        await local.backend.delete("w1")
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": "another"}'])
async def test_a_broken_record_does_not_keep_the_agent_from_coming_up(local: Bench, text: str) -> None:
    await local.backend.shutdown()
    folder = local.layout.run / "agent"
    folder.mkdir(exist_ok=True)
    (folder / "w9.json").write_text(text)
    await local.backend.ensure()
    assert await local.backend.observe() == []
    assert not (folder / "w9.json").exists()


async def test_an_agent_that_does_not_answer_is_replaced(local: Bench) -> None:
    assert isinstance(local.backend, LocalBackend)
    (app,) = (await local.up(local.launch())).apps
    first = local.backend.agent_pid()
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    await local.backend.ensure()
    assert local.backend.agent_pid() not in (None, first)
    assert (await local.seen()).apps == (app,)


async def test_the_agent_is_private_light_and_quiet(local: Bench) -> None:
    assert isinstance(local.backend, LocalBackend)
    for number in range(5):
        await local.up(local.launch(f"w{number}", "run-1", local.app(id=f"w{number}")))
    assert local.layout.agent_socket.stat().st_mode & 0o077 == 0
    assert (local.layout.run / "agent/w1.json").stat().st_mode & 0o077 == 0
    pid = local.backend.agent_pid()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 30_000, f"{resident} KiB"
    assert "hello" not in (local.layout.logs / "host-agent.log").read_text(), "environments are not logged"


async def test_groups_are_removed_with_their_workspace(local: Bench) -> None:
    features = await local.backend.features()
    await local.up(local.launch(cpu=1.0, memory=1 << 30))
    folders = json.loads((local.layout.run / "agent/w1.json").read_text())["group_folders"]
    if features.limits_memory:
        assert Path(folders["memory"]).is_dir()
    await local.backend.stop("w1", 5)
    assert not any(Path(folder).exists() for folder in folders.values())


def test_the_machine_without_control_groups_says_so() -> None:
    hierarchy = Hierarchy.absent("none here")
    assert (hierarchy.limits_cpu, hierarchy.limits_memory, hierarchy.explanation) == (False, False, "none here")
    assert hierarchy.workspaces() == set()


def _agents(bench: Bench) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and f"local.agent {bench.layout.home}" in command(int(path.name))
    ]
