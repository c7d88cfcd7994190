"""The Python SDK: everything the API can do, blocking (`Client`) and for asyncio (`AsyncClient`).

    with studiolo.Client.local() as client:
        for workspace in client.workspaces():
            print(workspace.name, workspace.phase)

Each call is described once, in `calls`; a description holds no connection. `connection` carries descriptions out, in
two thin classes that differ only in waiting. Errors are the `StudioloError` the server raised, with all its problems.
"""

from __future__ import annotations

from studiolo.client.address import Address
from studiolo.client.calls import LogLine
from studiolo.client.connection import AsyncClient, Client
from studiolo.client.execution import AsyncExecution, Execution, Output

__all__ = ["Address", "AsyncClient", "AsyncExecution", "Client", "Execution", "LogLine", "Output"]
