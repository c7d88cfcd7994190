"""A notebook's part: a kernel is started and a cell run in it, by the same calls as JupyterLab's page makes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2
import websockets

from benchmarks.installation import Door

_PATIENCE = 120.0


async def first_cell(door: Door, kernel: str, code: str) -> float:
    """Seconds from asking for a kernel to the end of the first cell run in it. The kernel is ended afterwards."""
    async with door.http() as http:
        began = time.perf_counter()
        kernel_id = await start(http, kernel)
        await run(door, kernel_id, code)
        seconds = time.perf_counter() - began
        (await http.delete(f"/api/kernels/{kernel_id}")).raise_for_status()
    return seconds


async def start(http: httpx2.AsyncClient, kernel: str) -> str:
    """The id of a new kernel of this name."""
    answer = await http.post("/api/kernels", json={"name": kernel})
    return str(answer.raise_for_status().json()["id"])


async def run(door: Door, kernel_id: str, code: str) -> None:
    """Returns when the cell has been run. Raises `RuntimeError` where it fails."""
    session = uuid.uuid4().hex
    address = f"ws://{door.address}/api/kernels/{kernel_id}/channels?session_id={session}"
    async with (
        asyncio.timeout(_PATIENCE),
        websockets.connect(
            address,
            host="127.0.0.1",
            port=door.port,
            additional_headers=door.authorization,
            proxy=None,
            max_size=None,
            open_timeout=None,  # the server opens it once the kernel has said something
        ) as socket,
    ):
        asked = _execute(session, code)
        await socket.send(json.dumps(asked))
        async for message in socket:
            heard = json.loads(message)
            if heard["parent_header"].get("msg_id") == asked["header"]["msg_id"] and heard["channel"] == "shell":
                if heard["content"]["status"] != "ok":
                    raise RuntimeError(f"the cell failed: {heard['content']}")
                return
    raise RuntimeError("the connection to the kernel ended before the cell did")


def _execute(session: str, code: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": session,
        "date": datetime.now(UTC).isoformat(),
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
