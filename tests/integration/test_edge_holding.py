"""What the edge does with a request whose app is not there yet: nothing of it is read until it may go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, unix_serve

from edge_harness import LAB, Site, receive, running_site
from studiolo import daemon

GO_ON = "204 Yes\r\n"


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Its first app does not run yet; the control plane is asked, and answers when the test says so."""
    async with running_site() as site:
        await site.lab.stop()
        site.lab.path.unlink()
        site.control.holds = True
        site.control.hold = GO_ON
        yield site


async def asked(site: Site, count: int = 1) -> dict[str, str]:
    assert await daemon.wait_until(lambda: len(site.control.asked) >= count, 10)
    return site.control.asked[count - 1]


async def starts(site: Site) -> None:
    await site.lab.__aenter__()
    site.control.go_on.set()


@pytest.mark.parametrize("size", [0, 10, 20_000, 30_000_000])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_waits_and_arrives_as_it_was_sent(site: Site, method: str, size: int) -> None:
    headers = [site.cookie(), ("Content-Type", "a/b"), ("X-Mine", "1"), ("Origin", site.origin())]
    waiting = asyncio.create_task(site.ask(LAB, "/a%2Fb?c=d", headers, method=method, body=b"x" * size))
    told = await asked(site)
    assert told["x-studiolo-missed"] == method
    assert told["x-studiolo-label"] == str(LAB)
    assert "content-length" not in told
    await starts(site)

    answer = await waiting
    assert answer.by == "lab"
    assert answer.seen["line"] == f"{method} /a%2Fb?c=d HTTP/1.1"
    assert answer.seen["body"] == size
    assert {"content-type", "x-mine", "origin"} <= {name for name, _ in answer.seen["headers"]}
    assert not [name for name, _ in answer.seen["headers"] if "studiolo" in name]
    assert site.control.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 418, 419, 420, 500, 502, 504])
async def test_what_an_app_answers_to_who_waited_is_its_own(site: Site, status: int) -> None:
    waiting = asyncio.create_task(site.ask(LAB, f"/status/{status}", [site.cookie()], method="POST", body=b"four"))
    await asked(site)
    await starts(site)
    answer = await waiting
    assert (answer.status, answer.by) == (status, "lab")


async def test_an_app_cannot_steer_the_edge_after_a_wait(site: Site) -> None:
    waiting = asyncio.create_task(site.ask(LAB, "/steer", [site.cookie()]))
    await asked(site)
    await starts(site)
    answer = await waiting
    assert answer.by == "lab"
    assert "x-accel-redirect" not in answer.headers


async def test_a_body_in_chunks_waits_too(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST / HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\n"
    writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + b"x" * 4096 + b"\r\n")
    await asked(site)
    await starts(site)
    writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n")
    answer = await receive(reader)
    assert (answer.by, answer.seen["body"]) == ("lab", 8192)
    writer.close()


async def test_nothing_of_a_body_is_kept_while_it_waits(site: Site) -> None:
    """The sender is held back: its body is not read, so there is nothing to bound."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    size = 200_000_000
    head = f"POST / HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\nContent-Length: {size}\r\n"
    writer.write(head.encode() + b"\r\n")

    async def send() -> None:
        for _ in range(size // 1_000_000):
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    sending = asyncio.create_task(send())
    await asked(site)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sending), 1)
    kept = [path for path in (site.layout.run / "edge" / "client_body").rglob("*") if path.is_file()]
    assert kept == []
    assert _memory(site.edge.pid()) < 100_000_000
    await starts(site)
    answer = await receive(reader)
    await sending
    assert (answer.by, answer.seen["body"]) == ("lab", size)
    writer.close()


def _memory(master: int | None) -> int:
    """Resident bytes of nginx's workers."""
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in workers)


async def test_a_websocket_waits_and_is_opened(site: Site) -> None:
    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            async for message in connection:
                await connection.send(message)

    opening = asyncio.create_task(
        connect(
            f"ws://{site.host()}/channels?x=y",
            host="127.0.0.1",
            port=site.port,
            origin=site.origin(),  # type: ignore[arg-type]  # NewType of str
            additional_headers={"Cookie": f"studiolo-grant={site.key}"},
            proxy=None,
        ).__aenter__()
    )
    assert (await asked(site))["x-studiolo-missed"] == "WEBSOCKET"
    async with unix_serve(echo, str(site.lab.path)):
        site.control.go_on.set()
        connection = await opening
        await connection.send("hello")
        assert await connection.recv() == "hello"
        await connection.close()


async def test_who_gives_up_is_not_waited_for(site: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\n\r\n".encode())
    await asked(site)
    writer.close()
    assert await daemon.wait_until(lambda: site.control.hung_up == 1, 10)


async def test_a_no_is_told_in_the_control_planes_words(site: Site) -> None:
    site.control.go_on.set()
    for status, again in ((401, ""), (404, ""), (503, "7")):
        told = f'{{"code": "c{status}"}}'
        site.control.hold = f"403 No\r\nX-Studiolo-Told: {told}\r\nX-Studiolo-Status: {status}\r\n"
        site.control.hold += f"Retry-After: {again}\r\n" if again else ""
        for method, body in (("GET", b""), ("POST", b"x" * 100_000)):
            answer = await site.ask(headers=[site.cookie()], method=method, body=body)
            assert (answer.status, answer.seen["code"]) == (status, f"c{status}")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers.get("retry-after", "") == again
    assert site.control.requests == []


async def test_a_no_without_words_is_a_page_of_the_control_planes(site: Site) -> None:
    site.control.go_on.set()
    site.control.hold = "403 No\r\n"
    answer = await site.ask(path="/lab?x", headers=[site.cookie()])
    assert answer.by == "control"
    assert answer.seen["line"] == "GET /lab?x HTTP/1.1"


async def test_an_app_that_cannot_be_reached_is_asked_for_once_more_and_no_oftener(site: Site) -> None:
    await site.lab.__aenter__()
    await site.lab.stop()  # the socket's file is there, and nobody listens
    site.control.go_on.set()
    answer = await site.ask(headers=[site.cookie()])
    assert (answer.status, answer.seen["code"]) == (503, "app-lost")
    assert answer.headers["retry-after"] == "1"
    assert [each["x-studiolo-missed"] for each in site.control.asked] == ["GET lost"]
    page = await site.ask(headers=[site.cookie(), ("Sec-Fetch-Mode", "navigate")])
    assert page.by == "control"


async def test_what_an_app_may_have_begun_with_is_not_sent_again(site: Site) -> None:
    await site.lab.__aenter__()
    await site.lab.stop()
    for method, body in (("POST", b"x" * 10), ("PUT", b"x" * 1_000_000), ("DELETE", b"")):
        answer = await site.ask(headers=[site.cookie()], method=method, body=body)
        assert (answer.status, answer.seen["code"]) == (503, "app-lost")
    assert site.control.asked == []


async def test_an_app_that_is_not_ready_yet_is_not_sent_anything(site: Site) -> None:
    await site.lab.__aenter__()
    site.lab.path.chmod(0o600)  # it listens; nobody has said that it is ready
    waiting = asyncio.create_task(site.ask(headers=[site.cookie()], method="POST", body=b"four"))
    await asked(site)
    assert site.lab.requests == []
    site.control.go_on.set()
    assert (await waiting).by == "lab"


async def test_without_the_control_plane_an_app_that_listens_is_reached(site: Site) -> None:
    await site.lab.__aenter__()
    site.lab.path.chmod(0o600)
    await site.control.stop()
    answer = await site.ask(headers=[site.cookie()], method="POST", body=b"x" * 100_000)
    assert (answer.by, answer.seen["body"]) == ("lab", 100_000)


async def test_who_has_no_key_is_answered_before_a_body_is_read(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST / HTTP/1.1\r\nHost: {site.host()}\r\nContent-Length: 900000000\r\n\r\n".encode())
    answer = await receive(reader)
    assert (answer.status, answer.seen["code"]) == (401, "no-grant")
    assert site.control.requests == []
    assert site.control.asked == []
    writer.close()


@pytest.mark.parametrize("path", ["/.studiolo/hold", "/.studiolo/%68old", "/.studiolo/x/../hold"])
async def test_nobody_else_can_ask_the_question(site: Site, path: str) -> None:
    site.control.go_on.set()
    assert (await site.ask(path=path, headers=[site.cookie(), ("X-Studiolo-Missed", "GET")])).status == 404
    assert site.control.asked == []
