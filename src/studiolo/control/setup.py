"""A workspace's `setup` commands: shell lines of its owner, run inside it like anything they type in a terminal."""

from __future__ import annotations

from pathlib import Path

from studiolo.backends.backend import Backend


async def run(backend: Backend, workspace: str, command: str, log: Path) -> int:
    """Run one to its end, what it prints appended to `log`, and return its exit status. Ends it when cancelled."""
    execution = await backend.exec(workspace, ["/bin/sh", "-c", command])
    try:
        await execution.write(b"")  # nobody is there to be asked
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {command}\n".encode())
            async for output in execution:
                file.write(output.data)
                file.flush()
    finally:
        await execution.close()
    return execution.status if execution.status is not None else 1
