"""Requests to the agent, one per connection: read, carried out, answered. Errors go back as problems."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from studiolo.backends.backend import Features
from studiolo.backends.local.cgroup import Hierarchy
from studiolo.backends.local.execution import execute
from studiolo.backends.local.residents import Residents
from studiolo.backends.local.wire import (
    VERSION,
    encode,
    error_to,
    launch_from,
    plain,
    plain_observation,
    receive,
    zygote_from,
)
from studiolo.problem import Problem, StudioloError

_LAST_WORDS = 5.0  # seconds
log = logging.getLogger("studiolo.agent")


class Service:
    def __init__(self, residents: Residents, hierarchy: Hierarchy) -> None:
        self._residents = residents
        self._hierarchy = hierarchy

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. What was asked is done to its end even where the one who asked hangs up (but `exec`)."""
        try:
            request = await receive(reader)
            if request is not None:
                writer.write(encode(await self._outcome(request, reader, writer)))
                await writer.drain()
                await _heard_out(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _outcome(
        self, request: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        try:
            return {"done": await self._carry_out(request, reader, writer)}
        except StudioloError as error:
            return {"error": error_to(error)}
        except Exception as error:
            log.exception("%s failed", request.get("op"))
            problem = Problem("agent-failed", f"the host agent failed: {error}", "see `studiolo doctor`")
            return {"error": error_to(StudioloError(problem))}

    async def _carry_out(
        self, request: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Any:
        residents = self._residents
        match request["op"]:
            case "hello":
                return {"version": VERSION, "pid": os.getpid()}
            case "features":
                hierarchy = self._hierarchy
                return plain(Features(hierarchy.limits_cpu, hierarchy.limits_memory, hierarchy.explanation))
            case "warm":
                for zygote in map(zygote_from, request["zygotes"]):
                    if zygote is not None:
                        residents.zygotes.warm(zygote)
                return None
            case "start":
                async for checkpoint in residents.start(launch_from(request["launch"])):
                    writer.write(encode({"item": plain(checkpoint)}))
                return None
            case "stop":
                return await residents.stop(request["id"], request["grace"])
            case "observe":
                return [plain_observation(observation) for observation in residents.observe()]
            case "usage":
                workspace = residents.find(request["id"])
                return plain(workspace.usage()) if workspace is not None else None
            case "exec":
                workspace = residents.running(request["id"])
                tty = (request["tty"][0], request["tty"][1]) if request["tty"] else None
                return await execute(workspace, request["argv"], tty, reader, writer)
            case other:
                raise StudioloError(Problem("agent-request", f"the host agent does not know {other!r}"))


async def _heard_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait for the client to hang up: closing a socket with input unread would take our last words from it (unix(7):
    ECONNRESET), and somebody may still be typing when a program ends."""
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            while await reader.read(1 << 16):
                pass
