"""How both sides are waited for, so that neither is asked more often than the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Mapping

import httpx2


async def first_ok(http: httpx2.AsyncClient, url: str, headers: Mapping[str, str], began: float) -> float:
    """Seconds since `began` when JupyterLab's own page comes. Asks every 10 ms; waiting pages do not count."""
    while time.perf_counter() - began < 120:
        with contextlib.suppress(httpx2.TransportError):
            answer = await http.get(url, headers=headers)
            if answer.status_code == 200 and "jupyter-config-data" in answer.text:
                return time.perf_counter() - began
        await asyncio.sleep(0.01)
    raise TimeoutError(f"no JupyterLab at {url} within 120 s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
