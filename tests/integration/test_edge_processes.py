"""The edge's processes on bad days: killed, orphaned, in another's way, in odd places."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from edge_harness import LAB, Site, free_port, running_site
from studiolo import daemon
from studiolo.edge import ports
from studiolo.edge.edge import Edge
from studiolo.layout import Layout
from studiolo.problem import StudioloError


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as site:
        yield site


def workers(master: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def pids(edge: Edge) -> tuple[int, int]:
    nginx, relay = edge.pid(), edge.relay_pid()
    assert nginx is not None
    assert relay is not None
    return nginx, relay


async def dead(pid: int) -> None:
    assert await daemon.wait_until(lambda: daemon.Identity.of(pid) is None, 5)


async def test_ensure_leaves_alone_what_runs(site: Site) -> None:
    before = pids(site.edge), workers(pids(site.edge)[0])
    await site.edge.ensure(site.port)
    await Edge(site.layout).ensure(site.port)
    assert (pids(site.edge), workers(pids(site.edge)[0])) == before


async def test_it_lives_in_a_session_of_its_own(site: Site) -> None:
    for pid in pids(site.edge):
        assert os.getsid(pid) == pid


async def test_a_killed_master_is_replaced_and_its_orphans_are_ended(site: Site) -> None:
    master, relay = pids(site.edge)
    orphans = workers(master)
    os.kill(master, signal.SIGKILL)
    await dead(master)
    assert all(daemon.Identity.of(orphan) for orphan in orphans)  # and they hold the port

    await site.edge.ensure(site.port)

    assert pids(site.edge)[0] != master
    assert pids(site.edge)[1] == relay
    assert not any(daemon.Identity.of(orphan) for orphan in orphans)
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_orphans_are_found_without_a_pid_file(site: Site) -> None:
    master, _ = pids(site.edge)
    os.kill(master, signal.SIGKILL)
    await dead(master)
    (site.layout.run / "edge.pid").unlink()
    await site.edge.ensure(site.port)
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_a_killed_worker_is_replaced_by_its_master(site: Site) -> None:
    master, _ = pids(site.edge)
    (worker,) = workers(master)
    os.kill(worker, signal.SIGKILL)
    assert await daemon.wait_until(lambda: workers(master) not in ([], [worker]), 5)
    await site.edge.ensure(site.port)
    assert pids(site.edge)[0] == master
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_a_killed_relay_is_replaced_and_nginx_left_alone(site: Site) -> None:
    master, relay = pids(site.edge)
    os.kill(relay, signal.SIGKILL)
    await dead(relay)
    upgrade = [site.cookie(), ("Upgrade", "websocket"), ("Origin", site.origin())]
    assert (await site.ask(headers=upgrade)).by == "control"

    await site.edge.ensure(site.port)

    assert pids(site.edge)[0] == master
    assert pids(site.edge)[1] != relay
    assert (await site.ask(headers=upgrade)).by == "lab"


async def test_a_relay_that_hangs_is_replaced(site: Site) -> None:
    _, relay = pids(site.edge)
    os.kill(relay, signal.SIGSTOP)
    site.layout.relay_socket.unlink()
    await site.edge.ensure(site.port)
    assert pids(site.edge)[1] != relay


async def test_a_relay_that_was_being_started_when_its_starter_was_cancelled_is_ended_too(site: Site) -> None:
    await site.edge.stop()
    starting = asyncio.create_task(site.edge.ensure(site.port))

    def begun() -> list[int]:
        return [pid for pid in ports.processes() if _is_relay_of(pid, site.layout)]

    assert await daemon.wait_until(lambda: bool(begun()), 10, 0.001)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert site.edge.relay_pid() is None
    assert begun()

    await Edge(site.layout).stop()

    assert begun() == []


def _is_relay_of(pid: int, layout: Layout) -> bool:
    try:
        return f"--grants\0{layout.grants}\0" in Path(f"/proc/{pid}/cmdline").read_text()
    except (OSError, UnicodeDecodeError):
        return False


async def test_a_stale_pid_file_deceives_nobody(site: Site) -> None:
    await site.edge.stop()
    me = daemon.Identity.of(os.getpid())
    assert me is not None
    for name in ("edge.pid", "relay.pid"):
        (site.layout.run / name).write_text(f'{{"pid": {me.pid}, "started": {me.started - 1}}}')
    assert site.edge.pid() is None
    await site.edge.ensure(site.port)
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_a_grants_folder_that_was_replaced_is_used(site: Site) -> None:
    shutil.rmtree(site.layout.grants)
    site.layout.grants.mkdir()
    site.grants.link(LAB, site.key, site.lab.path)
    await site.edge.ensure(site.port)
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_another_port_is_taken_over_without_cutting_anybody(site: Site) -> None:
    master, relay = pids(site.edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"GET /events HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 5)

    old, site.port = site.port, free_port()
    await site.edge.ensure(site.port)

    assert pids(site.edge) == (master, relay)
    assert (await site.ask(headers=[site.cookie()])).by == "lab"
    site.lab.go_on.set()
    await asyncio.wait_for(reader.readuntil(b"data: 2\n\n"), 5)
    writer.close()
    assert await daemon.wait_until(lambda: ports.listeners(old) == [], 5)


async def test_a_taken_port_names_its_owner_and_a_way_out(site: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(StudioloError) as error:
            await site.edge.ensure(taken)
        problem = error.value.problem
        assert problem.code == "port-taken"
        assert f"(pid {os.getpid()})" in problem.message
        assert problem.hint.startswith("studiolo up --port ")
        await site.edge.stop()
        with pytest.raises(StudioloError):
            await site.edge.ensure(taken)
        assert site.edge.pid() is None
    await site.edge.ensure(taken)


async def test_a_refused_port_change_leaves_the_old_one_serving(site: Site) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        with pytest.raises(StudioloError):
            await site.edge.ensure(other.getsockname()[1])
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_another_installation_on_the_port_is_another_program(site: Site) -> None:
    async with running_site() as second:
        with pytest.raises(StudioloError) as error:
            await second.edge.ensure(site.port)
        assert error.value.problem.code == "port-taken"
        assert "nginx" in error.value.problem.message
    assert (await site.ask(headers=[site.cookie()])).by == "lab"


async def test_two_at_once_start_one(site: Site) -> None:
    await site.edge.stop()
    second = Edge(site.layout)
    await asyncio.gather(site.edge.ensure(site.port), second.ensure(site.port), site.edge.ensure(site.port))
    assert pids(site.edge) == pids(second)
    everything = [pid for pid in ports.processes() if _works_in(pid, site.layout.grants)]
    assert sorted(everything) == sorted([*pids(second), *workers(pids(second)[0])])
    await second.stop()


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


async def test_stop_leaves_nothing_and_may_be_repeated(site: Site) -> None:
    running = [*pids(site.edge), *workers(pids(site.edge)[0])]
    await site.edge.stop()
    assert not any(daemon.Identity.of(pid) for pid in running)
    assert (site.edge.pid(), site.edge.relay_pid()) == (None, None)
    assert ports.listeners(site.port) == []
    await site.edge.stop()
    await Edge(Layout(Path("/nonexistent/studiolo"))).stop()


@pytest.mark.parametrize("name", ["with space", "quo'te\"d", "$HOME", "semi;colon {x}", "back\\slash", "ü", "l" * 200])
async def test_the_data_folder_may_be_called_anything(name: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    try:
        async with running_site(folder / name) as site:
            assert (await site.ask(headers=[site.cookie()])).by == "lab"
            assert (await site.ask(None)).by == "control"
    finally:
        shutil.rmtree(folder)
