"""`up`, `down`, `status` and `link`: the installation as a whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from studiolo.cli.options import Json, NoBrowser, Yes, examples
from studiolo.cli.output import (
    Live,
    confirm,
    note,
    open_in_browser,
    print_fields,
    print_json,
)

if TYPE_CHECKING:
    from studiolo.client import Client
    from studiolo.layout import Layout
    from studiolo.resources import Event, Status

commands = typer.Typer()


@commands.command(
    epilog=examples("studiolo up", "studiolo up --detach --port 9000", "STUDIOLO_HOME=/data/studiolo studiolo up")
)
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is up.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the dashboard; default: the one used last, at first 8800."),
    ] = None,
    no_browser: NoBrowser = False,
    no_link: Annotated[bool, typer.Option("--no-link", help="Print no sign-in link; `studiolo link` does.")] = False,
    json: Json = False,
) -> None:
    """Start Studiolo and print a link that signs you in, once.

    Stays in the foreground and shows what happens; Ctrl-C stops the workspaces and everything else, as `down` does.
    With --detach, and where Studiolo runs already, it returns.
    """
    from studiolo.cli.control_plane import bring_up
    from studiolo.client import Client
    from studiolo.layout import Layout

    layout = Layout.from_environment()
    live = Live(quiet=json)
    with _termination_as_interrupt():
        ready = bring_up(layout, port, lambda stage: live.line(f"  {stage}"))
        with Client.local(layout) as client:
            link = None if no_link else client.link().url
            if ready.already and port is not None and not ready.url.endswith(f":{port}"):
                note(f"port {port} is not used: `studiolo down` first")
            live.line(f"Studiolo {'runs already' if ready.already else 'is up'} at {ready.url}")
            if json:
                print_json({"url": ready.url, "already": ready.already, "link": link})
            elif link is not None:
                live.line("Sign in with this link; it works once:")
                print(link, flush=True)
                if not no_browser:
                    open_in_browser(link)
            if not detach and not ready.already:
                _stay(layout, client, live)


def _stay(layout: Layout, client: Client, live: Live) -> None:
    from studiolo.cli.control_plane import shut_down
    from studiolo.problem import Problem, Unavailable

    live.line("Ctrl-C stops it.")
    try:
        for event in client.events():
            _tell(live, event)
    except KeyboardInterrupt:
        live.line("stopping")
        shut_down(layout, workspaces=True, on_stage=lambda stage: live.line(f"  {stage}"))
        return
    except Unavailable:
        pass  # told below, as when the stream just ends
    live.clear()
    if _was_shut_down(layout):
        live.line("Studiolo was shut down.")
        return
    raise Unavailable(
        Problem("control-plane-ended", "the control plane has ended; workspaces go on", "run `studiolo up` again")
    )


def _was_shut_down(layout: Layout) -> bool:
    """Whether the control plane ended in order: it takes its pid file with it then."""
    import asyncio

    from studiolo.daemon import wait_until

    return asyncio.run(wait_until(lambda: not (layout.run / "control.pid").exists(), 5))


def _tell(live: Live, event: Event) -> None:
    name = event.workspace_name or "studiolo"
    if event.kind == "progress":
        live.now(f"{name}: {event.message}")
        return
    took = f" ({event.seconds:.1f} s)" if event.seconds is not None else ""
    live.line(f"{event.at.astimezone():%H:%M:%S} {name}: {event.kind}{took}  {event.message}".rstrip())


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a foreground `up` as Ctrl-C does. A closed terminal (SIGHUP) ends only the watching."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@commands.command(epilog=examples("studiolo down", "studiolo down --yes", "studiolo down --keep-workspaces"))
def down(
    yes: Yes = False,
    keep_workspaces: Annotated[
        bool, typer.Option("--keep-workspaces", help="End the control plane only; what is open goes on.")
    ] = False,
) -> None:
    """Stop the workspaces, then Studiolo. Files are kept. Does nothing where nothing runs."""
    from studiolo.cli.control_plane import shut_down
    from studiolo.layout import Layout

    layout = Layout.from_environment()
    if not keep_workspaces:
        busy = _busy(layout)
        if busy:
            confirm(f"{busy}. Stop everything?", yes=yes)
    live = Live()
    ran = shut_down(layout, workspaces=not keep_workspaces, on_stage=lambda stage: live.line(f"  {stage}"))
    live.line("Studiolo is down." if ran else "Nothing was running.")


def _busy(layout: Layout) -> str:
    """What would be interrupted, in words; empty where nothing would be."""
    from studiolo.cli.control_plane import running_parts
    from studiolo.client import Client
    from studiolo.problem import Unavailable

    try:
        with Client.local(layout) as client:
            phases = client.status().workspaces
    except Unavailable:
        return (
            "workspaces may be running, and the control plane does not answer"
            if "agent" in running_parts(layout)
            else ""
        )
    active = sum(count for phase, count in phases.items() if phase not in ("stopped", "failed", "deleting"))
    return "" if active == 0 else f"{active} {'workspace is' if active == 1 else 'workspaces are'} running"


@commands.command(epilog=examples("studiolo status", "studiolo status --json"))
def status(json: Json = False) -> None:
    """Say which parts of Studiolo run. Exit status 1 where the control plane does not."""
    from studiolo.client import Client
    from studiolo.layout import Layout
    from studiolo.problem import Unavailable

    layout = Layout.from_environment()
    problem = None
    try:
        with Client.local(layout) as client:
            found = client.status()
    except Unavailable as error:
        problem, found = error.problem, _from_pid_files(layout)
    if json:
        print_json(found)
    else:
        parts = {
            "control plane": found.control_plane,
            "host agent": found.host_agent,
            "edge": found.edge,
            "relay": found.relay,
        }
        print_fields(
            [
                ("Studiolo", found.version),
                ("dashboard", found.url),
                ("data", found.home),
                *((name, f"pid {part.pid}" if part.running else "not running") for name, part in parts.items()),
                ("workspaces", ", ".join(f"{count} {phase}" for phase, count in found.workspaces.items() if count)),
                *((f"{name} tools", state) for name, state in found.tools.items()),
            ]
        )
    if problem is not None:
        if not json:
            from studiolo.cli.output import print_problems

            print_problems([problem])
        raise typer.Exit(1)


def _from_pid_files(layout: Layout) -> Status:
    from studiolo import __version__
    from studiolo.cli.control_plane import running_parts
    from studiolo.resources import PidStatus, Status

    running = running_parts(layout)
    control, agent, edge, relay = (
        PidStatus(pid=running[part].pid if part in running else None, running=part in running)
        for part in ("control", "agent", "edge", "relay")
    )
    return Status(
        version=__version__,
        url="",
        home=str(layout.home),
        control_plane=control,
        host_agent=agent,
        edge=edge,
        relay=relay,
        workspaces={},
        tools={},
    )


@commands.command(epilog=examples("studiolo link", "studiolo link --json"))
def link(json: Json = False) -> None:
    """Print a link that signs one browser in to the dashboard, once."""
    from studiolo.client import Client

    with Client.local() as client:
        made = client.link()
    if json:
        print_json(made)
    else:
        print(made.url)
