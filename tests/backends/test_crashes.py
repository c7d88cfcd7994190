"""Apps that end, never begin, or are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from bench import Bench
from studiolo.backends.local.app import backoff


@pytest.mark.parametrize("status", [0, 3])
async def test_an_app_that_exits_is_restarted_and_says_why(bench: Bench, status: int) -> None:
    (before,) = (await bench.up(bench.launch())).apps
    await bench.get("/print/last-words")
    with contextlib.suppress(OSError):
        await bench.get(f"/exit/{status}")
    app = await bench.app_when(lambda app: app.state == "restarting")
    assert f"exited with status {status}" in app.reason
    assert "last-words" in app.reason
    app = await bench.app_when(lambda app: app.state == "ready")
    assert app.restarts == 1
    assert app.pid != before.pid
    assert len(bench.servers()) == 1


async def test_an_app_that_is_killed_is_restarted(bench: Bench) -> None:
    (before,) = (await bench.up(bench.launch())).apps
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    app = await bench.app_when(lambda app: app.state == "restarting")
    assert "SIGKILL" in app.reason
    await bench.ready()


async def test_an_app_that_keeps_ending_is_given_up(bench: Bench) -> None:
    begun = time.monotonic()
    await bench.start(bench.launch("w1", "run-1", bench.app("--behave", "exit-7")))
    app = await bench.app_when(lambda app: app.state == "failed")
    assert "exited with status 7" in app.reason
    assert "cannot go on" in app.reason
    assert app.pid is None
    assert app.restarts == 4
    assert time.monotonic() - begun > sum(backoff(failures) for failures in range(1, 5))
    assert bench.processes() == []
    await bench.start(bench.launch("w1", "run-1", bench.app("--behave", "exit-7")))
    assert (await bench.seen()).apps == (app,)


async def test_an_app_that_never_becomes_ready_fails_with_its_last_lines(bench: Bench) -> None:
    app = bench.app("--behave", "never-ready", timeout=1.0, ready="/health")
    await bench.start(bench.launch("w1", "run-1", app))
    seen = await bench.app_when(lambda app: app.state == "failed")
    assert "/health" in seen.reason
    assert "within 1 s" in seen.reason
    assert "begins" in seen.reason
    assert bench.processes() == []


async def test_one_failed_app_leaves_the_others_alone(bench: Bench) -> None:
    apps = (bench.app(name="good"), bench.app("--behave", "never-ready", name="bad", timeout=0.5))
    await bench.start(bench.launch("w1", "run-1", *apps))
    await bench.app_when(lambda app: app.state == "failed", name="bad")
    await bench.app_when(lambda app: app.state == "ready", name="good")
    assert (await bench.get(name="good"))["pid"]


async def test_a_program_that_does_not_exist_fails_at_once(bench: Bench) -> None:
    app = bench.app()
    missing = type(app)(**{**vars(app), "argv": ("no-such-program",)})
    await bench.start(bench.launch("w1", "run-1", missing))
    seen = await bench.app_when(lambda app: app.state == "failed")
    assert "no-such-program: No such file" in seen.reason


def test_back_off_grows_to_half_a_minute() -> None:
    assert [backoff(failures) for failures in (1, 2, 3, 7, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
