"""Waiting for what only asking tells, as seldom as it can be told to a hundredth of a second."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import httpx2


async def first_ok(http: httpx2.AsyncClient, url: str, began: float, has: str = "jupyter-config-data") -> float:
    """Seconds since `began` when a page with these words in it comes. Asks every 10 ms; waiting pages do not count."""
    while time.perf_counter() - began < 120:
        with contextlib.suppress(httpx2.TransportError):
            answer = await http.get(url)
            if answer.status_code == 200 and has in answer.text:
                return time.perf_counter() - began
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{url} did not answer within 120 s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
