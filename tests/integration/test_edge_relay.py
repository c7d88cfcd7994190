"""WebSockets through nginx and the relay: they work, and end when the grant does."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge_harness import LAB, Site, running_site
from studiolo import daemon
from studiolo.edge.grants import new_key

HEADERS: list[str] = []
ENDED: list[int] = []


async def echo(connection: ServerConnection) -> None:
    assert connection.request is not None
    HEADERS.extend(connection.request.headers)
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass
    finally:
        ENDED.append(1)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """The first app speaks WebSocket: what it is sent it sends back."""
    HEADERS.clear()
    ENDED.clear()
    async with running_site() as site:
        path = site.layout.app_sockets("w") / "echo.sock"
        async with unix_serve(echo, str(path), max_size=None):
            site.grants.link(LAB, site.key, path)
            yield site


def opened(site: Site, key: str | None = None, *, by_header: bool = False) -> connect:
    key = key or site.key
    return connect(
        f"ws://{site.host()}/api/kernels/1/channels?x=y",
        host="127.0.0.1",
        port=site.port,
        origin=None if by_header else site.origin(),  # type: ignore[arg-type]  # NewType of str
        additional_headers={"Authorization": f"token {key}"} if by_header else {"Cookie": f"studiolo-grant={key}; a=1"},
        max_size=None,
        proxy=None,
        ping_interval=None,
    )


async def ends_within(connection: ClientConnection, seconds: float) -> None:
    async def until_closed() -> None:
        while True:
            await connection.recv()

    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(until_closed(), seconds)


async def test_messages_of_all_sizes_come_back(site: Site) -> None:
    async with opened(site) as connection:
        for message in ("", "a", b"\x00" * 125, b"b" * 126, "c" * 65535, b"d" * 65536, os.urandom(5_000_000)):
            await connection.send(message)
            assert await connection.recv() == message
    assert not [name for name in HEADERS if "studiolo" in name.lower()]


async def test_a_program_may_open_one_by_header(site: Site) -> None:
    async with opened(site, by_header=True) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
    assert "authorization" not in [name.lower() for name in HEADERS]


async def test_taking_the_grant_away_cuts_within_a_second_and_leaves_others(site: Site) -> None:
    other = new_key()
    echo_socket = site.layout.app_sockets("w") / "echo.sock"
    site.grants.link(LAB, other, echo_socket)
    async with opened(site) as connection, opened(site, other) as others:
        await connection.send("hello")
        await connection.recv()
        site.grants.unlink(LAB, site.key)
        began = time.monotonic()
        await ends_within(connection, 5)
        assert time.monotonic() - began < 1
        await others.send("still here")
        assert await others.recv() == "still here"
        site.grants.unlink_label(LAB)
        await ends_within(others, 1)


async def test_a_grant_that_leads_elsewhere_cuts_too(site: Site) -> None:
    async with opened(site) as connection:
        site.grants.link(LAB, site.key, site.code.path)
        await ends_within(connection, 1)


async def test_writing_the_same_grants_anew_cuts_nothing(site: Site) -> None:
    echo_socket = site.layout.app_sockets("w") / "echo.sock"
    async with opened(site) as connection:
        for _ in range(30):
            site.grants.rebuild([(LAB, site.key, echo_socket)])
            await connection.send("hello")
            assert await connection.recv() == "hello"
            await asyncio.sleep(0.05)  # over more than two of the relay's looks


async def test_a_flood_is_cut_as_well(site: Site) -> None:
    """Full buffers in both directions must not keep the way to the app open."""
    async with opened(site) as connection:

        async def flood() -> None:
            while True:
                await connection.send(b"x" * 1_000_000)  # and never reads the echo

        flooding = asyncio.create_task(flood())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(flooding), 1)  # until everything is full
        site.grants.unlink(LAB, site.key)
        assert await daemon.wait_until(lambda: ENDED == [1], 1)
        flooding.cancel()
        await ends_within(connection, 5)


async def test_without_a_working_grant_the_control_plane_answers(site: Site) -> None:
    with pytest.raises(InvalidStatus) as unknown:
        async with opened(site, "k" * 43):
            pass
    assert unknown.value.response.status_code == 200  # the harness's control plane answers everything
    site.grants.link(LAB, site.key, Path("/nowhere.sock"))
    with pytest.raises(InvalidStatus):
        async with opened(site):
            pass
    assert len(site.control.requests) == 2


async def test_an_app_that_refuses_is_heard(site: Site) -> None:
    site.grants.link(LAB, site.key, site.lab.path)
    headers = [site.cookie(), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Origin", site.origin())]
    answer = await site.ask(path="/status/404", headers=headers)
    assert (answer.status, answer.by) == (404, "lab")
    assert not [name for name, _ in answer.seen["headers"] if "studiolo" in name]


async def test_an_app_that_ends_closes_the_browsers_end(site: Site) -> None:
    async with opened(site) as connection:
        await connection.send("hello")
        await connection.recv()
        await connection.close()
        await ends_within(connection, 2)


async def test_input_is_stamped_and_upkeep_is_not(site: Site) -> None:
    stamp = site.layout.activity / str(LAB)
    async with opened(site) as connection:
        async with asyncio.timeout(5):
            await (await connection.ping())
        async with asyncio.timeout(5):
            await (await connection.ping())
        assert not stamp.exists()
        await connection.send("key stroke")
        await connection.recv()
        assert abs(stamp.stat().st_mtime - time.time()) < 5


@asynccontextmanager
async def directly(site: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(site.layout.relay_socket)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "X-Studiolo-Grant: \r\n",
        "X-Studiolo-Grant: {label}/../{label}/{key}\r\n",
        "X-Studiolo-Grant: ../grants/{label}/{key}\r\n",
        "X-Studiolo-Grant: {label}/{key}.ws\r\n",
        "X-Studiolo-Grant: {label}/{key}\r\nX-Studiolo-Grant: {label}/{key}\r\n",
        "X-Studiolo-Grant: {label}/{unknown}\r\n",
        "X-Other: X-Studiolo-Grant: {label}/{key}\r\n",
    ],
)
async def test_the_relay_itself_believes_only_a_whole_grant(site: Site, header: str) -> None:
    filled = header.replace("{label}", str(LAB)).replace("{key}", site.key).replace("{unknown}", "k" * 43)
    async with directly(site) as (reader, writer):
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{filled}\r\n".encode())
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_head_without_end_is_not_kept(site: Site) -> None:
    async def endless() -> None:
        async with directly(site) as (_, writer):
            while True:
                writer.write(b"X: " + b"y" * 65536 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(endless(), 10)


async def test_a_head_in_pieces_is_understood(site: Site) -> None:
    site.grants.link(LAB, site.key, site.lab.path)
    async with directly(site) as (reader, writer):
        for byte in f"GET /p HTTP/1.1\r\nHost: x\r\nX-Studiolo-Grant: {LAB}/{site.key}\r\nA: b\r\n\r\n".encode():
            writer.write(bytes([byte]))
            await writer.drain()
        answer = (await asyncio.wait_for(reader.read(), 5)).decode()
    assert '"headers": [["host", "x"], ["a", "b"]]' in answer
