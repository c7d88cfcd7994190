"""`exec` over a WebSocket: argv first, then bytes both ways, then the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from studiolo.control.house import House
from studiolo.control.studio import Execution
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.server.auth import SignedOut, by_bearer
from studiolo.server.problems import details

router = APIRouter()


@router.websocket("/api/v1/workspaces/{ref}/exec")
async def run_inside(socket: WebSocket, ref: str) -> None:
    """The client sends `{"argv": [...], "tty": [columns, rows] | null}`, then stdin as binary (empty: end of file) and
    `{"resize": [columns, rows]}`. It gets binary messages, whose first byte is 1 (stdout) or 2 (stderr), and at the end
    `{"exit": status}` or `{"problem": ...}`. Only an API token lets in: a browser's cookie does not reach here."""
    house: House = socket.app.state.house
    account = await by_bearer(socket)
    await socket.accept()
    try:
        if account is None:
            raise SignedOut
        argv, tty = _asked(await socket.receive_json())
        execution = await house.studio.exec(account, ref, argv, tty)
        try:
            hearing = asyncio.create_task(_hear(socket, execution))
            async for output in execution:
                await socket.send_bytes(bytes([output.stream]) + output.data)
            hearing.cancel()
            await socket.send_text(json.dumps({"exit": execution.status}))
        finally:
            await execution.close()
    except StudioloError as error:
        await socket.send_text(json.dumps({"problem": details(error.http_status, *error.problems).model_dump()}))
    except (WebSocketDisconnect, RuntimeError):
        return  # the other side has gone; what ran has been closed
    with contextlib.suppress(RuntimeError):
        await socket.close()


def _asked(message: Any) -> tuple[list[str], tuple[int, int] | None]:
    match message:
        case {"argv": [*argv], "tty": [int(columns), int(rows)]} if all(isinstance(word, str) for word in argv):
            return argv, (columns, rows)
        case {"argv": [*argv]} if all(isinstance(word, str) for word in argv):
            return argv, None
    raise WrongInput(Problem("exec-malformed", "the first message must be an object with argv, a list of text"))


async def _hear(socket: WebSocket, execution: Execution) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                await execution.close()
                return
            if message.get("bytes") is not None:
                await execution.write(message["bytes"])
            elif message.get("text"):
                match json.loads(message["text"]):
                    case {"resize": [int(columns), int(rows)]}:
                        await execution.resize(columns, rows)
    except (StudioloError, ValueError):
        await execution.close()
