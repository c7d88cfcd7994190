"""The host agent: `python -m studiolo.backends.local.agent <data folder> [--without-cgroups]`.

It owns the processes of all workspaces on this host and outlives the control plane. There is one per run folder: it
holds a lock there for as long as it lives. It goes into the background by itself and its caller ends once requests are
accepted (status 0, also where another agent runs already). Ended by any means, it touches no workspace; the next one
adopts what the records say. Single-threaded throughout: it forks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from studiolo.backends.local import logs
from studiolo.backends.local.cgroup import Hierarchy
from studiolo.backends.local.launching import reap_orphans
from studiolo.backends.local.record import Records
from studiolo.backends.local.residents import Residents
from studiolo.backends.local.service import Service
from studiolo.backends.local.wire import LINE_LIMIT
from studiolo.backends.local.zygotes import Zygotes
from studiolo.daemon import write_pid_file
from studiolo.layout import Layout

_TEND = 1.0  # seconds between looks at logs and memory kills
log = logging.getLogger("studiolo.agent")


def main() -> None:
    parser = argparse.ArgumentParser(prog="studiolo-agent", description="Studiolo's host agent")
    parser.add_argument("home", type=Path)
    parser.add_argument("--without-cgroups", action="store_true", help="limit nothing, and find processes by /proc")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.umask(0o077)
    layout = Layout(arguments.home)
    layout.prepare()
    lock = os.open(layout.run / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    door = _listen(layout.agent_socket)
    # The lock and the socket belong to the open files, so they pass to the child and do not go with the parent.
    if (child := os.fork()) != 0:
        write_pid_file(layout.run / "agent.pid", child)
        os._exit(0)
    os.setsid()
    os.chdir("/")
    installation = hashlib.sha256(os.fsencode(layout.run)).hexdigest()[:10]
    without = Hierarchy.absent("control groups are switched off")
    hierarchy = without if arguments.without_cgroups else Hierarchy.find(installation)
    try:
        asyncio.run(_serve(layout, door, hierarchy))
    except Exception:
        log.exception("the agent ends")
        raise


def _listen(path: Path) -> socket.socket:
    """A socket that only its owner may connect to. It takes its name once it listens: nobody is refused meanwhile."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX)
    door.bind(os.fspath(draft))
    draft.chmod(0o600)
    door.listen(128)
    draft.replace(path)
    return door


async def _serve(layout: Layout, door: socket.socket, hierarchy: Hierarchy) -> None:
    zygotes = Zygotes(layout.run / "zygotes", hierarchy)
    residents = Residents(Records(layout.run / "agent"), hierarchy, zygotes)
    adopted = residents.adopt()
    log.info("started, version %d of control groups, %d workspaces adopted", hierarchy.version, adopted)
    service = Service(residents, hierarchy)
    server = await asyncio.start_unix_server(service.answer, sock=door, limit=LINE_LIMIT)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    own_log = layout.logs / "host-agent.log"
    before: set[int] = set()
    while not over.is_set():
        await residents.tend()
        before = reap_orphans(before)
        logs.rotate(own_log)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _TEND)
    await zygotes.close()
    hierarchy.tidy()
    log.info("ends; what runs goes on running")
    server.close()


if __name__ == "__main__":
    main()
