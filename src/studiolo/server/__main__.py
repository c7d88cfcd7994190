"""`python -m studiolo.server --port N`: the control plane.

While it starts it reports on standard output, a JSON object a line: `{"stage": ...}`, then `{"ready": {"url",
"already"}}` or `{"problem": {"code", "message", "hint"}}`. Then it closes standard output and goes on. One per data
folder: a second one reports the first and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from studiolo.control.house import House, open_house, origin_of
from studiolo.daemon import wait_until, write_pid_file
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.server import app

log = structlog.get_logger()

DEFAULT_PORT = 8800
# Seconds. Streams that stay open (events, logs) are cut when the server ends.
_GRACE = 1


def report(**message: Any) -> None:
    with contextlib.suppress(OSError):
        print(json.dumps(message), flush=True)  # noqa: T201  the start-up report is this program's output


def main() -> int:
    parser = argparse.ArgumentParser(prog="studiolo.server")
    parser.add_argument("--port", type=int, default=None)
    port = parser.parse_args().port
    _configure_log()
    os.umask(0o077)
    layout = Layout.from_environment()
    try:
        layout.prepare()
        with (layout.run / "control.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return _report_other(layout)
            return asyncio.run(serve(layout, port or _port_before(layout)))
    except StudioloError as error:
        report(problem={"code": error.problem.code, "message": error.problem.message, "hint": error.problem.hint})
        return 1
    except Exception as error:
        log.exception("the control plane failed")
        report(problem={"code": "internal", "message": repr(error), "hint": f"see {layout.logs}/control-plane.log"})
        return 1


async def serve(layout: Layout, port: int) -> int:
    async with open_house(layout, port, lambda stage: report(stage=stage)) as house:
        ending: set[asyncio.Task[None]] = set()

        async def shut_down(workspaces: bool) -> None:
            ending.add(asyncio.create_task(_end(workspaces)))

        async def _end(workspaces: bool) -> None:
            try:
                if workspaces:
                    await house.stop_workspaces()
            except TimeoutError:
                log.warning("not every workspace has ended in time")
            finally:
                everything.append(workspaces)
                server.should_exit = True

        everything: list[bool] = []
        server = uvicorn.Server(
            uvicorn.Config(
                app.create(house, shut_down),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_GRACE,
                ws="websockets-sansio",
                forwarded_allow_ips="",
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[_listen(layout.control_socket)]))
        if not await wait_until(lambda: server.started or serving.done(), 30):
            raise StudioloError(Problem("server-silent", "the control plane did not start within 30 s"))
        write_pid_file(layout.run / "control.pid")
        layout.settings.write_text(json.dumps({"port": port}))
        _report_ready(house)
        await serving
        for file in (layout.control_socket, layout.run / "control.pid"):
            file.unlink(missing_ok=True)
    if any(everything):
        await house.close()
    return 0


def _listen(path: Path) -> socket.socket:
    # The lock is held, so a socket that lies here is a dead one's.
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


def _report_ready(house: House) -> None:
    report(ready={"url": house.origin, "already": False})
    # Whoever started us has read it; from here on nothing is written there.
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _report_other(layout: Layout) -> int:
    """Another one holds the lock: report it once it answers."""

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.connect(str(layout.control_socket))
            return True
        return False

    report(stage="another `studiolo up` is at it")
    if not asyncio.run(wait_until(answers, 60, 0.1)):
        report(
            problem={
                "code": "control-plane-silent",
                "message": "a control plane runs already, but does not answer",
                "hint": "studiolo down, then studiolo up",
            }
        )
        return 1
    report(ready={"url": origin_of(_port_before(layout)), "already": True})
    return 0


def _port_before(layout: Layout) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(json.loads(layout.settings.read_text())["port"])
    return DEFAULT_PORT


def _configure_log() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
